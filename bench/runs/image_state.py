"""An image under way: the copies that it asks for, the votes that it has, and its row once they decide it; no pixels.

Whoever counts a unit of work counts the same votes, so that units may come back in any order, from any machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from bench.certification.sequential import Decision
from bench.certification.stopping_rule import is_sequential, stop
from bench.smoothing.noise import ESTIMATE, SELECT
from bench.types import Counts, Row, RunSpec
from bench.types.errors import StoreError

NOTHING = Counts((), 0)


@dataclass(frozen=True, slots=True)
class Unit:
    """Some copies of one image in one stage: the smallest work that is handed out."""

    index: int  # of the image
    stage: str  # SELECT or ESTIMATE
    first: int  # of the copies
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The votes on a unit, and which image it was that they were counted on."""

    unit: Unit
    counts: Counts
    fingerprint: str  # of the pixels
    label: int
    stored: str  # sha256 of the image as stored: tells a machine with other files
    seconds: float


@dataclass(slots=True, eq=False)
class ImageState:
    """What an image of a run has, and which copies it asks for."""

    spec: RunSpec
    index: int
    asked: deque[Unit] = field(default_factory=deque)
    out: int = 0  # copies taken and not yet counted
    selection: Counts = NOTHING
    looks: list[Counts] = field(default_factory=list)
    look: Counts = NOTHING  # what the present look has so far
    estimation: Counts = NOTHING  # of the looks taken
    known: Decision | None = None  # sequential: what the looks taken decide
    drawn: int = 0
    seconds: float = 0.0
    given: Row | None = None  # of fewer copies, which are not drawn again

    def __post_init__(self) -> None:
        if self.given is not None:
            self.selection, self.look, self.seconds = self.given.selection, self.given.estimation, self.given.seconds
            self.asked.append(Unit(self.index, ESTIMATE, self.look.n, self.spec.n - self.look.n))
            return
        if self.spec.n0:
            self.asked.append(Unit(self.index, SELECT, 0, self.spec.n0))
        self.asked.append(Unit(self.index, ESTIMATE, 0, self._sizes()[0]))

    @property
    def pending(self) -> int:
        """Copies asked for and not yet taken."""
        return sum(unit.copies for unit in self.asked)

    @property
    def complete(self) -> bool:
        """Whether it has all that it asked for."""
        return not self.asked and not self.out

    def take(self, room: int) -> list[Unit]:
        """At most `room` of the copies asked for, which are then no longer asked for."""
        taken = []
        while self.asked and room:
            unit = self.asked.popleft()
            now = min(unit.copies, room)
            taken.append(Unit(unit.index, unit.stage, unit.first, now))
            if now < unit.copies:
                self.asked.appendleft(Unit(unit.index, unit.stage, unit.first + now, unit.copies - now))
            room -= now
            self.out += now
        return taken

    def put_back(self, unit: Unit) -> None:
        """Ask again for copies that were taken and not counted."""
        self.out -= unit.copies
        self.asked.appendleft(unit)

    def add(self, unit: Unit, counts: Counts, seconds: float) -> None:
        """The votes on copies that were taken.

        Raises: ValueError for votes on another number of copies.
        """
        if counts.n != unit.copies:
            raise ValueError(f"image {self.index}: {unit.copies} copies were asked for, {counts.n} were counted")
        self.out -= unit.copies
        self.drawn += unit.copies
        self.seconds += seconds
        if unit.stage == SELECT:
            self.selection += counts
        else:
            self.look += counts

    def decide(self, label: int) -> str | None:
        """Why it stops after the look that it has just completed; None, and its next look asked for, if not."""
        self.looks.append(self.look)
        self.estimation += self.look
        self.look = NOTHING
        reason, self.known = stop(self.spec, label, self.selection, self.estimation, self.known)
        if reason is None:
            before, after = list(pairwise(self._sizes()))[len(self.looks) - 1]
            self.asked.append(Unit(self.index, ESTIMATE, before, after - before))
        return reason

    def row(self, fingerprint: str, label: int, reason: str) -> Row:
        """The row of a decided image.

        Raises: StoreError where the row that was given is of another image.
        """
        if self.given is not None and (self.given.fingerprint, self.given.label) != (fingerprint, label):
            raise StoreError(
                f"image {self.index} is another here than in the run to top up: pixels {fingerprint[:10]} and label "
                f"{label}, expected {self.given.fingerprint[:10]} and {self.given.label}; leave --top-up out"
            )
        looks = tuple(self.looks) if is_sequential(self.spec.certifier) else ()
        return Row(self.index, fingerprint, label, self.selection, self.estimation, self.seconds, looks, reason)

    def _sizes(self) -> tuple[int, ...]:
        """Samples drawn by each look; a fixed n is one."""
        return self.spec.looks or (self.spec.n,)


def started(spec: RunSpec, index: int, given: Mapping[int, Row]) -> ImageState:
    """An image that has no copies yet, or those of a row that is there."""
    return ImageState(spec, index, given=given.get(index))
