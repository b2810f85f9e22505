"""Pieces of a batch as workers send them: finished views, or decoded pictures for the device; draws no noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.types import Dataset
from methods.training.augment import Name
from methods.training.rng import generator, seeded_globals
from methods.training.views import Recipe, pil_view, rand_augment, recipe

CAPACITY = 750_000  # bytes a picture of a shared buffer: more than 500x500; larger pieces are sent otherwise

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some pictures of a share, which a worker sends together."""

    step: int
    number: int  # of the piece, counted from 0
    slots: list[int]  # places in the step's batch
    indices: list[int]  # places in the data set


@dataclass(frozen=True, slots=True)
class Items:
    """Pictures in their views, keyed by step and slot, so that the number of workers changes nothing."""

    dataset: Dataset
    augment: Name
    seed: int
    packer: Packer | None  # sends decoded pictures and what was drawn for their views; None: the views are sent

    def __getitems__(self, piece: Piece) -> Any:
        """What is sent of a piece; torch asks for all pictures of a batch by this name."""
        labels = np.array([self.dataset.label(index) for index in piece.indices], dtype=np.int64)
        made = recipe(self.augment, self.dataset.shape[1])
        if self.packer is None or made is None:
            return self._views(piece, made), labels
        return self.packer.pack(self._drawn(piece, made), piece.number), labels

    def _drawn(self, piece: Piece, made: Recipe) -> Iterator[tuple[_Array, list[list[float]]]]:
        for slot, index in zip(piece.slots, piece.indices, strict=True):
            stored = decoded(self.dataset, index)
            height, width = stored.shape[:2]
            draws = made.draw(height, width, generator("cpu", "view", self.seed, piece.step, slot))
            yield stored, [draw.as_numbers() for draw in draws]

    def _views(self, piece: Piece, made: Recipe | None) -> tuple[Tensor, ...]:
        """Each view of all pictures."""
        items = [
            self._views_of(piece.step, slot, index, made)
            for slot, index in zip(piece.slots, piece.indices, strict=True)
        ]
        return tuple(torch.stack(list(view)) for view in zip(*items, strict=True))

    def _views_of(self, step: int, slot: int, index: int, made: Recipe | None) -> tuple[Tensor, ...]:
        from PIL import Image

        if self.dataset.shape[0] != 3:
            return (torch.from_numpy(self.dataset[index].pixels.copy()),)
        stored, side = decoded(self.dataset, index), self.dataset.shape[1]
        if made is None:
            with seeded_globals("view", self.seed, step, slot):
                return (_bytes(rand_augment(side)(Image.fromarray(stored))),)
        height, width = stored.shape[:2]
        draws = made.draw(height, width, generator("cpu", "view", self.seed, step, slot))
        crop, picture = getattr(self.dataset, "crop", None), Image.fromarray(stored)
        return tuple(_bytes(pil_view(picture, draw, side, crop, bicubic=made.bicubic)) for draw in draws)


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

    They are written to one of the buffers in turn, each as soon as it is decoded, and what is sent is their place: to
    hold all of a piece first costs a sixth of the time of decoding it in memory that is new to the process.
    """

    buffers: Sequence[Tensor] = ()

    def pack(
        self, items: Iterable[tuple[_Array, list[list[float]]]], number: int = 0
    ) -> tuple[Tensor | tuple[int, int], _Array, _Array]:
        """What is sent of the pictures and draws of the piece of that number."""
        turn = number % len(self.buffers) if self.buffers else 0
        buffer = self.buffers[turn].numpy() if self.buffers else np.empty(0, dtype=np.uint8)
        total, sizes, drawn = 0, [], []
        beyond: list[_Array] = []  # from the first that did not fit
        for picture, draws in items:
            row = picture.reshape(-1)
            if beyond or total + len(row) > len(buffer):
                beyond.append(row)
            else:
                buffer[total : total + len(row)] = row
                total += len(row)
            sizes.append(picture.shape[:2])
            drawn.append(draws)
        sent = torch.from_numpy(np.concatenate([buffer[:total], *beyond])) if beyond else (turn, total)
        return sent, np.array(sizes), np.array(drawn, dtype=np.float64)

    def flat(self, sent: Tensor | tuple[int, int], device: str) -> Tensor:
        """The bytes that were sent, on a device; until the next piece is asked for."""
        if isinstance(sent, Tensor):
            return sent.to(device, non_blocking=True)
        turn, total = sent
        # Waits for the copy: a worker writes to the buffer again.
        return self.buffers[turn][:total].to(device)


def _bytes(picture: Any) -> Tensor:
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)
