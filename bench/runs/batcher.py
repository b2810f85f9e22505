"""Copies of several images in each forward pass, so that batches stay full: the one path that draws a run's copies.

An image's verdict cannot depend on its company: noise is keyed by image and copy, and it stops by its own votes alone.
A row is given as soon as its image is decided; an image that is under way when a run dies is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from bench.runs.image_state import ImageState, Unit, started
from bench.runs.passes import PassQueue
from bench.types import BaseClassifier, Image, Row, RunSpec

# An image that has taken so many batches is hard: its looks fill batches by themselves.
YOUNG_BATCHES = 4
# Hard images kept to fill what young ones leave of a batch. With none, the last young ones have batches to themselves;
# with all of them, a killed run would lose the samples of every hard image.
WAITING = 8


@dataclass(slots=True, kw_only=True)
class Batcher:
    """Certifies images of a spec on one device, several at once."""

    spec: RunSpec
    classifier: BaseClassifier
    device: str
    batch: int
    shrunk: Callable[[int], None] = lambda _batch: None  # told the batch that fits, after one that did not
    ahead: int | None = None  # passes; None: as the device likes it
    given: Mapping[int, Row] = field(default_factory=dict)  # rows of fewer copies, whose votes are taken over
    passes: int = 0  # forward passes so far
    slots: int = 0  # copies that these had room for
    copies: int = 0  # copies that were in them

    def rows(self, images: Iterable[Image]) -> Iterator[Row]:
        """One row an image, each as soon as it is decided; in order where all take the same n.

        Raises: MethodError if the classifier breaks its protocol; DeviceError where a single copy does not fit.
        """
        queue: PassQueue[ImageState] = PassQueue(
            spec=self.spec,
            classifier=self.classifier,
            device=self.device,
            batch=self.batch,
            shrunk=self._shrink,
            ahead=self.ahead,
        )
        waiting = iter(images)
        states: list[ImageState] = []
        more = True
        while True:
            while more and self._wants_more(states):
                image = next(waiting, None)
                more = image is not None
                if image is not None:
                    queue.hold(image)
                    states.append(started(self.spec, image.index, self.given))
            if not states:
                return
            # Ahead of votes that may ask for more copies only full batches are begun: the others would be fuller later.
            ready = sum(state.pending for state in states)
            begun = bool(ready) and (ready >= self.batch or not queue.under_way) and self._begin(queue, states)
            if queue.full or (queue.under_way and not begun):
                for state in self._end(queue):
                    image = queue.image(state.index)
                    reason = state.decide(image.label)
                    if reason is not None:
                        states.remove(state)
                        queue.release(state.index)
                        yield state.row(image.fingerprint, image.label, reason)

    def _wants_more(self, states: list[ImageState]) -> bool:
        if not self.spec.stops:  # each will take all that it asks for: what is begun is ended before more is begun
            return sum(state.pending for state in states) < self.batch
        hard = sum(not self._young(state) for state in states)
        return hard < WAITING and sum(state.pending for state in states if self._young(state)) < self.batch

    def _young(self, state: ImageState) -> bool:
        return not self.spec.stops or state.drawn < YOUNG_BATCHES * self.batch

    def _begin(self, queue: PassQueue[ImageState], states: list[ImageState]) -> bool:
        """One forward pass, if it fits the memory."""
        # Young ones first: they must grow hard, or be done, while there are hard ones to fill their batches.
        work = self._taken(chain(filter(self._young, states), (state for state in states if not self._young(state))))
        if queue.start(work):
            used = sum(unit.copies for _, unit in work)
            self.passes, self.slots, self.copies = self.passes + 1, self.slots + self.batch, self.copies + used
            return True
        for state, unit in reversed(work):
            state.put_back(unit)
        return False

    def _end(self, queue: PassQueue[ImageState]) -> list[ImageState]:
        """The votes of the earliest pass under way; the images that have all that they asked for."""
        done: dict[int, ImageState] = {}
        for state, unit, counts, seconds in queue.finish():
            state.add(unit, counts, seconds)
            if state.complete:
                done[state.index] = state
        return list(done.values())

    def _shrink(self, batch: int) -> None:
        self.batch = batch
        self.shrunk(batch)

    def _taken(self, states: Iterable[ImageState]) -> list[tuple[ImageState, Unit]]:
        """What of the copies asked for goes into one batch; it is no longer asked for."""
        room = self.batch
        taken: list[tuple[ImageState, Unit]] = []
        for state in states:
            units = state.take(room)
            taken += [(state, unit) for unit in units]
            room -= sum(unit.copies for unit in units)
            if not room:
                break
        return taken
