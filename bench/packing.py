"""Copies of many images in each forward pass: batches stay full while images stop at looks of their own.

An image's verdict cannot depend on its company: noise is keyed by image and copy, and it stops by its own votes alone.
A row is given as soon as its image is decided; what is in flight when a run dies is drawn again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from bench.smoothing import ESTIMATE, SELECT, NoiseKey, Segment, draw_packed, half
from bench.stopping import stop
from bench.types import BaseClassifier, Counts, Image, Row, RunSpec

if TYPE_CHECKING:
    from torch import Tensor

# An image that has taken so many batches is hard: its looks fill batches by themselves.
YOUNG_BATCHES = 4
# Hard images kept to fill what young ones leave of a batch. With none, the last young ones have batches to themselves;
# with all of them, a killed run would lose the samples of every hard image.
WAITING = 8
NOTHING = Counts((), 0)


@dataclass(slots=True)
class Flight:
    """An image under way: what it has, and which copies it asks for."""

    image: Image
    x: Tensor
    asked: deque[tuple[str, int, int]] = field(default_factory=deque)  # stage, first copy, copies
    selection: Counts = NOTHING
    looks: list[Counts] = field(default_factory=list)
    look: Counts = NOTHING  # what the present look has so far
    estimation: Counts = NOTHING  # of the looks taken
    drawn: int = 0
    seconds: float = 0.0

    @property
    def pending(self) -> int:
        """Copies asked for and not yet drawn."""
        return sum(copies for _, _, copies in self.asked)


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
        flights: list[Flight] = []
        more = True
        while True:
            while more and self._wants_more(flights):
                image = next(waiting, None)
                more = image is not None
                if image is not None:
                    flights.append(self._admitted(image))
            if not flights:
                return
            for flight in self._pass(flights):
                reason = self._reason(flight)
                if reason is None:
                    continue
                flights.remove(flight)
                yield Row(
                    flight.image.index,
                    flight.image.fingerprint,
                    flight.image.label,
                    flight.selection,
                    flight.estimation,
                    flight.seconds,
                    tuple(flight.looks) if self.spec.certifier == "sequential" else (),
                    reason,
                )

    def _wants_more(self, flights: list[Flight]) -> bool:
        hard = sum(not self._young(flight) for flight in flights)
        return hard < WAITING and sum(flight.pending for flight in flights if self._young(flight)) < self.batch

    def _young(self, flight: Flight) -> bool:
        return flight.drawn < YOUNG_BATCHES * self.batch

    def _admitted(self, image: Image) -> Flight:
        import torch

        flight = Flight(image, torch.from_numpy(image.pixels).to(self.device))
        if self.spec.n0:
            flight.asked.append((SELECT, 0, self.spec.n0))
        flight.asked.append((ESTIMATE, 0, self.spec.looks[0]))
        return flight

    def _pass(self, flights: list[Flight]) -> list[Flight]:
        """One forward pass; the flights that have all that they asked for."""
        import torch

        started = time.perf_counter()
        # Young ones first: they must grow hard, or be done, while there are hard ones to fill their batches.
        taken = self._taken(chain(filter(self._young, flights), (f for f in flights if not self._young(f))))
        segments = [
            Segment(flight.x, NoiseKey(self.spec.seed, flight.image.fingerprint, self.spec.sigma, stage), first, copies)
            for flight, stage, first, copies in taken
        ]
        used, unfit = sum(segment.copies for segment in segments), None
        try:
            counted = draw_packed(self.classifier, segments, precision=self.spec.precision)
        except torch.OutOfMemoryError as error:
            unfit = str(error)
        # Not in the handler: its traceback keeps the tensors of the failed pass alive.
        if unfit is not None:
            for flight, stage, first, copies in reversed(taken):
                flight.asked.appendleft((stage, first, copies))
            self.batch = half(used, segments[0].x, unfit)
            self.shrunk(self.batch)
            return []
        self.passes, self.slots, self.copies = self.passes + 1, self.slots + self.batch, self.copies + used
        seconds = (time.perf_counter() - started) / used
        done: dict[int, Flight] = {}
        for (flight, stage, _, copies), counts in zip(taken, counted, strict=True):
            flight.drawn += copies
            flight.seconds += seconds * copies
            if stage == SELECT:
                flight.selection += counts
            else:
                flight.look += counts
            if not flight.asked:
                done[id(flight)] = flight
        return list(done.values())

    def _taken(self, flights: Iterable[Flight]) -> list[tuple[Flight, str, int, int]]:
        """What of the copies asked for goes into one batch; it is no longer asked for."""
        room = self.batch
        taken: list[tuple[Flight, str, int, int]] = []
        for flight in flights:
            while flight.asked and room:
                stage, first, copies = flight.asked.popleft()
                now = min(copies, room)
                taken.append((flight, stage, first, now))
                if now < copies:
                    flight.asked.appendleft((stage, first + now, copies - now))
                room -= now
            if not room:
                break
        return taken

    def _reason(self, flight: Flight) -> str | None:
        """Why an image stops after the look that it has just completed; None, and its next look asked for, if not."""
        flight.looks.append(flight.look)
        flight.estimation += flight.look
        flight.look = NOTHING
        reason = stop(self.spec, flight.image.label, flight.selection, flight.looks, flight.estimation)
        if reason is None:
            before, after = self.spec.looks[len(flight.looks) - 1], self.spec.looks[len(flight.looks)]
            flight.asked.append((ESTIMATE, before, after - before))
        return reason
