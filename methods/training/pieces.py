"""Pieces of a batch as workers send them: finished views, or decoded pictures for the device; draws no noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.types import Dataset
from methods.training.augment import Name
from methods.training.rng import generator, seeded_globals
from methods.training.views import pil_view, rand_augment, recipe

CAPACITY = 750_000  # bytes a picture of a shared buffer: more than 500x500; larger pieces are sent otherwise

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Items:
    """Single pictures in their views, keyed by step and slot, so that the number of workers changes nothing."""

    dataset: Dataset
    augment: Name
    seed: int
    packed: bool  # the decoded picture and what was drawn for its views, instead of these

    def __getitem__(self, key: tuple[int, int, int, int]) -> Any:
        from PIL import Image

        step, slot, index, piece = key
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
            return stored, [draw.as_numbers() for draw in draws], label, piece
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


def shared_buffers(pieces: int, pictures: int) -> tuple[Tensor, ...]:
    """Memory for so many pieces, which workers that start after this see."""
    made = [torch.empty(pictures * CAPACITY, dtype=torch.uint8) for _ in range(pieces)]
    for buffer in made:
        buffer.share_memory_()  # type: ignore[no-untyped-call]
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Packer:
    """Decoded pictures one after the other, their sizes, and what was drawn for their views; and their labels.

    They are written to one of the buffers in turn, and what is sent is their place: shared memory that is new for each
    piece costs a third of the time of decoding it, and freeing it holds up the main process.
    """

    buffers: Sequence[Tensor] = ()

    def pack(self, items: list[Any]) -> tuple[tuple[Tensor | tuple[int, int], _Array, _Array], _Array]:
        """What is sent of the items of a piece."""
        pictures, draws, labels, pieces = zip(*items, strict=True)
        rows = [picture.reshape(-1) for picture in pictures]
        total = sum(map(len, rows))
        sizes = np.array([picture.shape[:2] for picture in pictures])
        drawn, classes = np.array(draws, dtype=np.float64), np.array(labels, dtype=np.int64)
        turn = pieces[0] % len(self.buffers) if self.buffers else 0
        if not self.buffers or total > len(self.buffers[turn]):
            return (torch.from_numpy(np.concatenate(rows)), sizes, drawn), classes
        np.concatenate(rows, out=self.buffers[turn][:total].numpy())
        return ((turn, total), sizes, drawn), classes

    def flat(self, sent: Tensor | tuple[int, int], device: str) -> Tensor:
        """The bytes that were sent, on a device; until the next piece is asked for."""
        if isinstance(sent, Tensor):
            return sent.to(device, non_blocking=True)
        turn, total = sent
        # Waits for the copy: a worker writes to the buffer again.
        return self.buffers[turn][:total].to(device)


def _bytes(picture: Any) -> Tensor:
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)


def collate_views(items: list[Any]) -> tuple[tuple[Tensor, ...], _Array]:
    """Views as one batch each, and the labels."""
    views = tuple(torch.stack(list(view)) for view in zip(*(item[0] for item in items), strict=True))
    return views, np.array([item[1] for item in items], dtype=np.int64)
