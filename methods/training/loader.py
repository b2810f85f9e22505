"""Batches of a training set in an order that the seed alone decides; no loss, no noise."""

from __future__ import annotations

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
from methods.training.augment import Name, View, batch_views, colour_views
from methods.training.rng import generator, seeded_globals
from methods.training.sharding import Share

IN_MEMORY = 2**28  # values; CIFAR-10 fits (0.6 GiB), ImageNet does not


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
            chosen = self.indices(step, self.device)
            source = generator("cpu", "view", self.seed, step)
            # The whole batch, for its views are one draw; these images are small.
            whole = tuple(view(images[chosen], source) for view in views)
            for share in self.shares:
                yield Batch(tuple(share.take(view) for view in whole), share.take(labels[chosen]))
            step += 1

    def _streamed(self, step: int) -> Iterator[Batch]:
        views = colour_views(self.augment, self.dataset.shape[1])
        if views is None:
            raise TrainingError(
                f"augment={self.augment!r} works in memory only, got {self.count} images of shape "
                f"{self.dataset.shape}; give --set augment=none"
            )
        loader: Any = torch.utils.data.DataLoader(
            cast("Any", _Items(self.dataset, views, self.seed)),  # a data set by its methods, not by descent
            batch_sampler=_Slots(self, step),
            num_workers=min(self.workers, os.cpu_count() or 1),  # torch warns of more, and their number changes nothing
            collate_fn=_collate,
            pin_memory=self.device.startswith("cuda"),
            generator=generator("cpu", "loader", self.seed),  # else it draws from the global one
        )
        for images, labels in loader:
            moved = tuple(view.to(self.device, non_blocking=True) for view in images)
            yield Batch(moved, labels.to(self.device, non_blocking=True))


@lru_cache(maxsize=2)
def _epoch_order(count: int, seed: int, epoch: int, device: str) -> Tensor:
    """The permutation of an epoch: drawn once, and sent once to the device, where a copy a step would wait for it."""
    return torch.randperm(count, generator=generator("cpu", "order", seed, epoch)).to(device)


def load(dataset: Dataset, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,) of a range of a data set."""
    items = [dataset[index] for index in range(first, first + count)]
    images = torch.from_numpy(np.stack([item.pixels for item in items]))
    return images, torch.tensor([item.label for item in items], dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class _Slots:
    """Endless lists of (step, slot, index), for a loader."""

    loader: BatchLoader
    first: int

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        step = self.first
        while True:
            indices = self.loader.indices(step).tolist()
            for share in self.loader.shares:
                yield [(step, slot, indices[slot]) for slot in share.slots(len(indices)).tolist()]
            step += 1


@dataclass(frozen=True, slots=True)
class _Items:
    """Views of single images, keyed by step and slot, so that the number of workers changes nothing."""

    dataset: Dataset
    views: tuple[View, ...]
    seed: int

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[tuple[Tensor, ...], int]:
        from PIL import Image

        step, slot, index = key
        item = self.dataset[index]
        if self.dataset.shape[0] != 3:
            return (torch.from_numpy(item.pixels.copy()),), item.label
        stored = np.rint(item.pixels.transpose(1, 2, 0) * 255).astype(np.uint8)  # exact: pixels are bytes over 255
        image = Image.fromarray(stored)
        with seeded_globals("view", self.seed, step, slot):
            return tuple(_tensor(view(image)) for view in self.views), item.label


def _tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255))


def _collate(items: list[tuple[tuple[Tensor, ...], int]]) -> tuple[tuple[Tensor, ...], Tensor]:
    views = tuple(torch.stack(list(view)) for view in zip(*(item[0] for item in items), strict=True))
    return views, torch.tensor([item[1] for item in items], dtype=torch.int64)
