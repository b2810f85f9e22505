"""Batches of a training set in an order that the seed alone decides; no loss, no noise.

Workers decode each picture once and send bytes: the pictures themselves where views are made on the device, else the
finished views.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bench.types import Dataset
from bench.types.errors import TrainingError
from methods.training.augment import Name, batch_views
from methods.training.device_views import make_views
from methods.training.rng import generator, seeded_globals
from methods.training.sharding import Share
from methods.training.views import Recipe, pil_view, rand_augment, recipe

IN_MEMORY = 2**28  # values; CIFAR-10 fits (0.6 GiB), ImageNet does not
PIECE = 64  # pictures that a worker sends together: 36 MB of 500x375, so that little shared memory is in use


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one step, or of a share of it, each in one or more views."""

    views: tuple[Tensor, ...]  # each (B, C, H, W) float32 in [0, 1]
    labels: Tensor  # (B,) int64


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLoader:
    """Endless batches of a training set: each epoch is a permutation, whose last incomplete batch is left out.

    Each step yields the shares of its batch that this process trains on, one after the other.
    """

    dataset: Dataset
    count: int  # the first `count` images are used
    batch: int
    augment: Name
    seed: int
    workers: int
    device: str
    shares: tuple[Share, ...] = (Share(),)
    on_device: bool = False  # colour views are made on the device, not by the workers

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training set."""
        return self.count // self.batch

    def indices(self, step: int) -> Tensor:
        """Positions in the data set of the images of a step."""
        epoch, part = divmod(step, self.steps_per_epoch)
        order = _order(self.count, self.seed, epoch)
        return order[part * self.batch : (part + 1) * self.batch]

    def batches(self, step: int) -> Iterator[Batch]:
        """The batches from a step on, the same whatever was drawn before."""
        self.check()
        if batch_views(self.augment) is not None and self.count * int(np.prod(self.dataset.shape)) <= IN_MEMORY:
            return self._from_memory(step)
        return self._streamed(step)

    def check(self) -> None:
        """Refuse a batch or an augmentation that does not fit the images.

        Raises: TrainingError.
        """
        if self.batch > self.count:
            raise TrainingError(
                f"a batch needs at most the {max(self.count, 0)} training images that are not held out, "
                f"got batch={self.batch}; lower it (--set batch=...)"
            )
        grey, for_digits = self.dataset.shape[0] == 1, self.augment.startswith("digits")
        if self.augment != "none" and for_digits != grey:
            raise TrainingError(
                f"augment={self.augment!r} does not fit images of shape {self.dataset.shape}; colour images take none, "
                "flip, crop_flip, resized_crop_flip, strong, rand_augment or moco; grey ones digits or digits_moco"
            )

    def _from_memory(self, step: int) -> Iterator[Batch]:
        images, labels = load(self.dataset, self.count)
        images, labels = images.to(self.device), labels.to(self.device)
        views = batch_views(self.augment) or ()
        while True:
            chosen = self.indices(step).to(self.device)
            source = generator("cpu", "view", self.seed, step)
            # The whole batch, for its views are one draw; these images are small.
            whole = tuple(view(images[chosen], source) for view in views)
            for share in self.shares:
                yield Batch(tuple(share.take(view) for view in whole), share.take(labels[chosen]))
            step += 1

    @property
    def makes_views_on_device(self) -> bool:
        """Whether the device makes the views: of colour pictures, and not by timm's RandAugment."""
        return self.on_device and self.dataset.shape[0] == 3 and recipe(self.augment, 1) is not None

    def _streamed(self, step: int) -> Iterator[Batch]:
        side = self.dataset.shape[1]
        made = recipe(self.augment, side)
        if made is None and self.augment != "rand_augment":
            raise TrainingError(
                f"augment={self.augment!r} works in memory only, got {self.count} images of shape "
                f"{self.dataset.shape}; give --set augment=none"
            )
        items = Items(self.dataset, self.augment, self.seed, packed=self.makes_views_on_device)
        loader: Any = torch.utils.data.DataLoader(
            cast("Any", items),  # a data set by its methods, not by descent
            batch_sampler=_Slots(self, step),
            num_workers=min(self.workers, os.cpu_count() or 1),  # torch warns of more, and their number changes nothing
            collate_fn=collate_pictures if self.makes_views_on_device else _collate,
            pin_memory=self.device.startswith("cuda"),
            generator=generator("cpu", "loader", self.seed),  # else it draws from the global one
        )
        pieces = iter(loader)
        pieces_of = [-(-(self.batch // share.of) // PIECE) for share in self.shares]
        while True:
            for count in pieces_of:
                yield self._whole([self._piece(piece, made) for piece in islice(pieces, count)])

    def _piece(self, piece: Any, made: Recipe | None) -> tuple[list[Tensor], Tensor]:
        """Views as they were sent, or of what was sent; on the device."""
        sent, labels = piece
        labels = labels.to(self.device, non_blocking=True)
        if not self.makes_views_on_device or made is None:
            return [view.to(self.device, non_blocking=True) for view in sent], labels
        flat, sizes, draws = sent
        crop, side = getattr(self.dataset, "crop", None), self.dataset.shape[1]
        flat = flat.to(self.device, non_blocking=True)
        return make_views(flat, sizes, draws, side, crop, bicubic=made.bicubic), labels

    def _whole(self, pieces: list[tuple[list[Tensor], Tensor]]) -> Batch:
        views = tuple(_unit(torch.cat(list(parts))) for parts in zip(*(views for views, _ in pieces), strict=True))
        return Batch(views, torch.cat([labels for _, labels in pieces]))


def load(dataset: Dataset, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,) of a range of a data set."""
    items = [dataset[index] for index in range(first, first + count)]
    images = torch.from_numpy(np.stack([item.pixels for item in items]))
    return images, torch.tensor([item.label for item in items], dtype=torch.int64)


@lru_cache(maxsize=2)  # an epoch's order is asked for at every step of it
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator("cpu", "order", seed, epoch))


@dataclass(frozen=True, slots=True)
class _Slots:
    """Endless lists of (step, slot, index), for a loader; each is a piece of a share."""

    loader: BatchLoader
    first: int

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        step = self.first
        while True:
            indices = self.loader.indices(step).tolist()
            for share in self.loader.shares:
                slots = share.slots(len(indices)).tolist()
                for first in range(0, len(slots), PIECE):
                    yield [(step, slot, indices[slot]) for slot in slots[first : first + PIECE]]
            step += 1


@dataclass(frozen=True, slots=True)
class Items:
    """Single pictures in their views, keyed by step and slot, so that the number of workers changes nothing."""

    dataset: Dataset
    augment: Name
    seed: int
    packed: bool  # the decoded picture and what was drawn for its views, instead of these

    def __getitem__(self, key: tuple[int, int, int]) -> Any:
        from PIL import Image

        step, slot, index = key
        label = self.dataset.label(index)
        if self.dataset.shape[0] != 3:
            return (torch.from_numpy(self.dataset[index].pixels.copy()),), label
        stored, side = decoded(self.dataset, index), self.dataset.shape[1]
        made = recipe(self.augment, side)
        if made is None:
            with seeded_globals("view", self.seed, step, slot):
                return (_bytes(rand_augment(side)(Image.fromarray(stored))),), label
        height, width = stored.shape[:2]
        draws = made.draw(height, width, generator("cpu", "view", self.seed, step, slot))
        if self.packed:
            return stored, [draw.as_numbers() for draw in draws], label
        crop, picture = getattr(self.dataset, "crop", None), Image.fromarray(stored)
        return tuple(_bytes(pil_view(picture, draw, side, crop, bicubic=made.bicubic)) for draw in draws), label


def decoded(dataset: Dataset, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The whole picture of a colour image, (H, W, 3), where the data set has it; else its pixels."""
    whole = getattr(dataset, "decoded", None)
    if whole is not None:
        found: np.ndarray[Any, np.dtype[np.uint8]] = whole(index)
        return found
    pixels = dataset[index].pixels.transpose(1, 2, 0)
    stored: np.ndarray[Any, np.dtype[np.uint8]] = np.rint(pixels * 255).astype(np.uint8)  # exact: bytes over 255
    return stored


def collate_pictures(items: list[Any]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Decoded pictures one after the other, their sizes, and what was drawn for their views; and their labels."""
    pictures, draws, labels = zip(*items, strict=True)
    flat = torch.from_numpy(np.concatenate([picture.reshape(-1) for picture in pictures]))
    sizes = torch.tensor([picture.shape[:2] for picture in pictures])
    return (flat, sizes, torch.tensor(draws, dtype=torch.float64)), torch.tensor(labels)


def _bytes(picture: Any) -> Tensor:
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)


def _unit(view: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; other pixels as they are."""
    if view.dtype != torch.uint8:
        return view
    # By a tensor: CUDA multiplies by the inverse of a number, which is another pixel in the last bit.
    return view.float() / torch.full((), 255.0, device=view.device)


def _collate(items: list[Any]) -> tuple[tuple[Tensor, ...], Tensor]:
    views = tuple(torch.stack(list(view)) for view in zip(*(item[0] for item in items), strict=True))
    return views, torch.tensor([item[1] for item in items], dtype=torch.int64)
