"""Copies of many images in each forward pass: batches stay full while images stop at looks of their own.

An image's verdict cannot depend on its company: noise is keyed by image and copy, and it stops by its own votes alone.
A row is given as soon as its image is decided; what is in image state when a run dies is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from bench.runs.image_state import ImageState, Unit
from bench.runs.passes import Lane, Part, passes_ahead
from bench.smoothing.voting import placed
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
    state: ImageState


@dataclass(slots=True, kw_only=True)
class Packer:
    """Certifies images of a spec that lets them stop, several at once on one device."""

    spec: RunSpec
    classifier: BaseClassifier
    device: str
    batch: int
    shrunk: Callable[[int], None] = lambda _batch: None  # told the batch that fits, after one that did not
    ahead: int | None = None  # passes; None: as the device likes it
    passes: int = 0  # forward passes so far
    slots: int = 0  # copies that these had room for
    copies: int = 0  # copies that were in them

    def rows(self, images: Iterable[Image]) -> Iterator[Row]:
        """One row an image, each as soon as it is decided, in any order.

        Raises: MethodError if the classifier breaks its protocol; DeviceError where a single copy does not fit.
        """
        lane: Lane[Packed] = Lane(
            spec=self.spec,
            classifier=self.classifier,
            batch=self.batch,
            shrunk=self._shrink,
            ahead=passes_ahead(self.device) if self.ahead is None else self.ahead,
        )
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
            # Ahead of votes that may ask for more copies only full batches are begun: the others would be fuller later.
            ready = sum(each.state.pending for each in packed)
            begun = bool(ready) and (ready >= self.batch or not lane.under_way) and self._begin(lane, packed)
            if lane.full or (lane.under_way and not begun):
                for each in self._end(lane):
                    reason = each.state.decide(each.image.label)
                    if reason is not None:
                        packed.remove(each)
                        yield each.state.row(each.image.fingerprint, each.image.label, reason)

    def _wants_more(self, packed: list[Packed]) -> bool:
        hard = sum(not self._young(each) for each in packed)
        return hard < WAITING and sum(each.state.pending for each in packed if self._young(each)) < self.batch

    def _young(self, each: Packed) -> bool:
        return each.state.drawn < YOUNG_BATCHES * self.batch

    def _admitted(self, image: Image) -> Packed:
        import torch

        x = placed(torch.from_numpy(image.pixels), self.device)
        return Packed(image, x, ImageState(self.spec, image.index))

    def _begin(self, lane: Lane[Packed], packed: list[Packed]) -> bool:
        """One forward pass, if it fits the memory."""
        # Young ones first: they must grow hard, or be done, while there are hard ones to fill their batches.
        taken = self._taken(chain(filter(self._young, packed), (each for each in packed if not self._young(each))))
        if lane.start([Part(each, each.x, each.image.fingerprint, unit) for each, unit in taken]):
            used = sum(unit.copies for _, unit in taken)
            self.passes, self.slots, self.copies = self.passes + 1, self.slots + self.batch, self.copies + used
            return True
        for each, unit in reversed(taken):
            each.state.put_back(unit)
        return False

    def _end(self, lane: Lane[Packed]) -> list[Packed]:
        """The votes of the earliest pass under way; the images that have all that they asked for."""
        done: dict[int, Packed] = {}
        for part, counts, seconds in lane.finish():
            state = part.owner.state
            state.add(part.unit, counts, seconds)
            if state.complete:
                done[part.unit.index] = part.owner
        return list(done.values())

    def _shrink(self, batch: int) -> None:
        self.batch = batch
        self.shrunk(batch)

    def _taken(self, packed: Iterable[Packed]) -> list[tuple[Packed, Unit]]:
        """What of the copies asked for goes into one batch; it is no longer asked for."""
        room = self.batch
        taken: list[tuple[Packed, Unit]] = []
        for each in packed:
            units = each.state.take(room)
            taken += [(each, unit) for unit in units]
            room -= sum(unit.copies for unit in units)
            if not room:
                break
        return taken
