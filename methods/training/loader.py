"""Batches of a training set in an order that the seed alone decides; no loss, no noise.

Workers decode each picture once and send bytes: the pictures themselves where views are made on the device, else the
finished views.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bench.types import Dataset
from bench.types.errors import TrainingError
from methods.training.augment import Name, batch_views
from methods.training.device_views import make_views
from methods.training.pieces import Items, Packer, Piece, shared_buffers
from methods.training.resident import resident_batches, unit
from methods.training.rng import generator
from methods.training.sharding import Share
from methods.training.views import Recipe, recipe

IN_MEMORY = 2**28  # values; CIFAR-10 fits (0.6 GiB), ImageNet does not
# Pictures that a worker sends together: 144 MB of 500x375. A piece costs the main process 0.5 to 0.8 ms, whatever is in
# it; twice as many would cost a step less, and memory.
PIECE = 256


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

    def indices(self, step: int, device: str = "cpu") -> Tensor:
        """Positions in the data set of the images of a step."""
        epoch, part = divmod(step, self.steps_per_epoch)
        order = _epoch_order(self.count, self.seed, epoch, device)
        return order[part * self.batch : (part + 1) * self.batch]

    def batches(self, step: int) -> Iterator[Batch]:
        """The batches from a step on, the same whatever was drawn before."""
        self.check()
        small = self.count * int(np.prod(self.dataset.shape)) <= IN_MEMORY
        if small and batch_views(self.augment) is not None:
            return self._from_memory(step)
        return self._resident(step) if self.resident else self._streamed(step)

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
            chosen = self.indices(step, self.device)
            source = generator("cpu", "view", self.seed, step)
            # The whole batch, for its views are one draw; these images are small.
            whole = tuple(view(images[chosen], source) for view in views)
            for share in self.shares:
                yield Batch(tuple(share.take(view) for view in whole), share.take(labels[chosen]))
            step += 1

    @property
    def resident(self) -> bool:
        """Whether the device makes the views, of images that it holds whole: no worker is started then."""
        small = self.count * int(np.prod(self.dataset.shape)) <= IN_MEMORY
        return small and self.makes_views_on_device and bool(getattr(self.dataset, "has_blocks", False))

    def _resident(self, step: int) -> Iterator[Batch]:
        for views, labels in resident_batches(self, step):
            for share in self.shares:
                yield Batch(tuple(share.take(view) for view in views), share.take(labels))

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
        packer = self.packer()
        pieces = iter(self.pieces(step, packer))
        pieces_of = [-(-(self.batch // share.of) // PIECE) for share in self.shares]
        while True:
            for count in pieces_of:
                yield self._whole([self._piece(piece, made, packer) for piece in itertools.islice(pieces, count)])

    @property
    def processes(self) -> int:
        """Workers that are started: torch warns of more than there are cores, and their number changes nothing."""
        return min(self.workers, os.cpu_count() or 1)

    def packer(self) -> Packer:
        """The one that workers send pictures by; none of its buffers is written to while its piece is in use."""
        # Asked for ahead are two pieces a worker (torch's prefetch_factor), beside the one that is in use.
        ahead = 2 * self.processes + 2 if self.makes_views_on_device and self.processes else 0
        return Packer(shared_buffers(ahead, min(PIECE, self.batch)))

    def pieces(self, step: int, packer: Packer) -> Any:
        """A torch DataLoader of what workers send, from a step on, endlessly: `PIECE` pictures of a share at most."""
        items = Items(self.dataset, self.augment, self.seed, packer if self.makes_views_on_device else None)
        return torch.utils.data.DataLoader(
            cast("Any", items),  # a data set by its methods, not by descent
            batch_sampler=cast("Any", _Pieces(self, step)),
            num_workers=self.processes,
            collate_fn=_as_it_is,
            pin_memory=self.device.startswith("cuda"),
            generator=generator("cpu", "loader", self.seed),  # else it draws from the global one
        )

    def _piece(self, piece: Any, made: Recipe | None, packer: Packer) -> tuple[list[Tensor], Tensor]:
        """Views as they were sent, or of what was sent; on the device."""
        sent, labels = piece
        labels = torch.from_numpy(labels).to(self.device, non_blocking=True)
        if not self.makes_views_on_device or made is None:
            return [view.to(self.device, non_blocking=True) for view in sent], labels
        bytes_, sizes, draws = sent
        flat, crop, side = packer.flat(bytes_, self.device), getattr(self.dataset, "crop", None), self.dataset.shape[1]
        views = make_views(flat, torch.from_numpy(sizes), torch.from_numpy(draws), side, crop, bicubic=made.bicubic)
        return views, labels

    def _whole(self, pieces: list[tuple[list[Tensor], Tensor]]) -> Batch:
        views = tuple(unit(torch.cat(list(parts))) for parts in zip(*(views for views, _ in pieces), strict=True))
        return Batch(views, torch.cat([labels for _, labels in pieces]))


@lru_cache(maxsize=2)
def _epoch_order(count: int, seed: int, epoch: int, device: str) -> Tensor:
    """The permutation of an epoch: drawn once, and sent once to the device, where a copy a step would wait for it."""
    return torch.randperm(count, generator=generator("cpu", "order", seed, epoch)).to(device, non_blocking=True)


def load(dataset: Dataset, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,) of a range of a data set."""
    source: Any = dataset
    if getattr(dataset, "has_blocks", False):
        pixels, classes = source.block(first, count)
        return torch.from_numpy(pixels), torch.from_numpy(classes)
    items = [dataset[index] for index in range(first, first + count)]
    images = torch.from_numpy(np.stack([item.pixels for item in items]))
    return images, torch.tensor([item.label for item in items], dtype=torch.int64)


def _as_it_is(sent: Any) -> Any:
    return sent


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Pieces of the shares of every step from the first on, endlessly."""

    loader: BatchLoader
    first: int

    def __iter__(self) -> Iterator[Piece]:
        numbers = itertools.count()
        for step in itertools.count(self.first):
            indices = self.loader.indices(step)
            for share in self.loader.shares:
                for slots in torch.split(share.slots(len(indices)), PIECE):
                    yield Piece(step, next(numbers), slots.tolist(), indices[slots].tolist())
