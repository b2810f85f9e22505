"""Copies of many images in each forward pass: batches stay full while images stop at looks of their own.

An image's verdict cannot depend on its company: noise is keyed by image and copy, and it stops by its own votes alone.
A row is given as soon as its image is decided; what is in flight when a run dies is drawn again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from bench.counting import one_pass
from bench.flight import Flight, Unit
from bench.types import BaseClassifier, Image, Row, RunSpec

if TYPE_CHECKING:
    from torch import Tensor

# An image that has taken so many batches is hard: its looks fill batches by themselves.
YOUNG_BATCHES = 4
# Hard images kept to fill what young ones leave of a batch. With none, the last young ones have batches to themselves;
# with all of them, a killed run would lose the samples of every hard image.
WAITING = 8


@dataclass(slots=True, eq=False)
class Packed:
    """An image under way and its pixels on the device."""

    image: Image
    x: Tensor
    flight: Flight


@dataclass(slots=True, kw_only=True)
class Packer:
    """Certifies images of a spec that lets them stop, several at once on one device."""

    spec: RunSpec
    classifier: BaseClassifier
    device: str
    batch: int
    shrunk: Callable[[int], None] = lambda _batch: None  # told the batch that fits, after one that did not
    passes: int = 0  # forward passes so far
    slots: int = 0  # copies that these had room for
    copies: int = 0  # copies that were in them

    def rows(self, images: Iterable[Image]) -> Iterator[Row]:
        """One row an image, each as soon as it is decided, in any order.

        Raises: MethodError if the classifier breaks its protocol; DeviceError where a single copy does not fit.
        """
        waiting = iter(images)
        packed: list[Packed] = []
        more = True
        while True:
            while more and self._wants_more(packed):
                image = next(waiting, None)
                more = image is not None
                if image is not None:
                    packed.append(self._admitted(image))
            if not packed:
                return
            for each in self._pass(packed):
                reason = each.flight.decide(each.image.label)
                if reason is not None:
                    packed.remove(each)
                    yield each.flight.row(each.image.fingerprint, each.image.label, reason)

    def _wants_more(self, packed: list[Packed]) -> bool:
        hard = sum(not self._young(each) for each in packed)
        return hard < WAITING and sum(each.flight.pending for each in packed if self._young(each)) < self.batch

    def _young(self, each: Packed) -> bool:
        return each.flight.drawn < YOUNG_BATCHES * self.batch

    def _admitted(self, image: Image) -> Packed:
        import torch

        return Packed(image, torch.from_numpy(image.pixels).to(self.device), Flight(self.spec, image.index))

    def _pass(self, packed: list[Packed]) -> list[Packed]:
        """One forward pass; the images that have all that they asked for."""
        started = time.perf_counter()
        # Young ones first: they must grow hard, or be done, while there are hard ones to fill their batches.
        taken = self._taken(chain(filter(self._young, packed), (each for each in packed if not self._young(each))))
        used = sum(unit.copies for _, unit in taken)
        counted, smaller = one_pass(
            self.classifier, self.spec, [(each.x, each.image.fingerprint, unit) for each, unit in taken]
        )
        if smaller:
            for each, unit in reversed(taken):
                each.flight.put_back(unit)
            self.batch = smaller
            self.shrunk(self.batch)
            return []
        self.passes, self.slots, self.copies = self.passes + 1, self.slots + self.batch, self.copies + used
        seconds = (time.perf_counter() - started) / used
        done: dict[int, Packed] = {}
        for (each, unit), counts in zip(taken, counted, strict=True):
            each.flight.add(unit, counts, seconds * unit.copies)
            if each.flight.complete:
                done[unit.index] = each
        return list(done.values())

    def _taken(self, packed: Iterable[Packed]) -> list[tuple[Packed, Unit]]:
        """What of the copies asked for goes into one batch; it is no longer asked for."""
        room = self.batch
        taken: list[tuple[Packed, Unit]] = []
        for each in packed:
            units = each.flight.take(room)
            taken += [(each, unit) for unit in units]
            room -= sum(unit.copies for unit in units)
            if not room:
                break
        return taken
