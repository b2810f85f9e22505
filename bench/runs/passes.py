"""Forward passes of one network on one device, in order: copies of any images in, votes out; decides nothing.

The one place that begins a pass of a run, waits for its votes, and takes a smaller batch where one does not fit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from bench.runs.image_state import NOTHING, Counted, Unit
from bench.smoothing.noise import NoiseKey
from bench.smoothing.voting import Segment, Votes, draw_packed, fitted, placed
from bench.types import BaseClassifier, Counts, Dataset, Image, RunSpec

if TYPE_CHECKING:
    from torch import Tensor

K = TypeVar("K")
Work = Sequence[tuple[K, Unit]]  # whose copies, and which


def passes_ahead(device: str) -> int:
    """Passes that a device is given before the votes of the one in hand are asked for.

    One for a GPU: the host makes it ready meanwhile. A CPU would only keep rows back.
    """
    return 1 if device.startswith("cuda") else 0


@dataclass(slots=True, kw_only=True)
class PassQueue(Generic[K]):
    """Passes that were begun and whose votes were not asked for yet."""

    spec: RunSpec
    classifier: BaseClassifier
    device: str
    batch: int
    shrunk: Callable[[int], None] = lambda _batch: None  # told the batch that fits, after one that did not
    ahead: int | None = None  # passes; None: as the device likes it
    _pixels: dict[int, tuple[Image, Tensor]] = field(default_factory=dict)  # of the images under way, on the device
    _begun: deque[tuple[Work[K], Votes]] = field(default_factory=deque)
    _since: float = 0.0  # when the last pass was done

    def __post_init__(self) -> None:
        if self.ahead is None:
            self.ahead = passes_ahead(self.device)

    @property
    def under_way(self) -> int:
        """Passes whose votes were not asked for yet."""
        return len(self._begun)

    @property
    def full(self) -> bool:
        """Whether votes should be asked for before another pass is begun."""
        return self.under_way > (self.ahead or 0)

    def hold(self, image: Image) -> None:
        """Put an image on the device; its copies may be asked for until it is released."""
        import torch

        self._pixels[image.index] = image, placed(torch.from_numpy(image.pixels), self.device)

    def release(self, index: int) -> None:
        """No more copies of that image will be asked for."""
        del self._pixels[index]

    def image(self, index: int) -> Image:
        """An image that is held."""
        return self._pixels[index][0]

    def start(self, work: Work[K]) -> bool:
        """Begin one forward pass of all units; where it does not fit the memory, make the batch smaller instead.

        Raises: DeviceError where a single copy does not fit; MethodError if the classifier breaks its protocol.
        """
        if not self._begun:
            self._since = time.perf_counter()
        segments = [self._segment(unit) for _, unit in work]
        drawn = partial(draw_packed, self.classifier, segments, precision=self.spec.precision)
        votes, copies = fitted(drawn, sum(segment.copies for segment in segments), segments[0].x)
        if votes is not None:
            self._begun.append((work, votes))
            return True
        self.batch = copies
        self.shrunk(copies)
        return False

    def finish(self) -> list[tuple[K, Unit, Counts, float]]:
        """The votes on each unit of the earliest pass under way, and its share of the seconds since the one before.

        Raises: MethodError if the classifier broke its protocol.
        """
        work, votes = self._begun.popleft()
        counted = votes.counts()
        now = time.perf_counter()
        each, self._since = (now - self._since) / sum(unit.copies for _, unit in work), now
        return [(owner, unit, counts, each * unit.copies) for (owner, unit), counts in zip(work, counted, strict=True)]

    def _segment(self, unit: Unit) -> Segment:
        image, x = self._pixels[unit.index]
        key = NoiseKey(self.spec.seed, image.fingerprint, self.spec.sigma, unit.stage)
        return Segment(x, key, unit.first, unit.copies)


def count_units(units: Sequence[Unit], queue: PassQueue[int], dataset: Dataset) -> list[Counted]:
    """The votes on each unit, in full batches; a unit's seconds are its share of the passes that it was in.

    A pass that does not fit is drawn again in smaller ones: the same votes.
    Raises: as `PassQueue`.
    """
    indices = dict.fromkeys(unit.index for unit in units)
    for index in indices:
        queue.hold(dataset[index])
    votes, seconds = [NOTHING] * len(units), [0.0] * len(units)
    left = deque(enumerate(units))
    while left or queue.under_way:
        work: list[tuple[int, Unit]] = []
        room = queue.batch
        while left and room:
            place, unit = left.popleft()
            now = min(unit.copies, room)
            work.append((place, replace(unit, copies=now)))
            if now < unit.copies:
                left.appendleft((place, replace(unit, first=unit.first + now, copies=unit.copies - now)))
            room -= now
        if work and not queue.start(work):
            left.extendleft(reversed(work))
        if queue.full or (queue.under_way and not left):
            for place, _, counts, spent in queue.finish():
                votes[place] += counts
                seconds[place] += spent
    images = {index: queue.image(index) for index in indices}
    for index in indices:
        queue.release(index)
    return [
        Counted(
            unit=unit,
            counts=votes[place],
            fingerprint=images[unit.index].fingerprint,
            label=images[unit.index].label,
            stored=dataset.digest(unit.index),
            seconds=seconds[place],
        )
        for place, unit in enumerate(units)
    ]
