"""The one place that counts units of work on a device, whoever asks for them; decides nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from bench.runs.image_state import NOTHING, Counted, Unit
from bench.smoothing.noise import NoiseKey
from bench.smoothing.voting import Segment, Votes, draw_packed, half, placed
from bench.types import BaseClassifier, Counts, Dataset, Image, RunSpec

if TYPE_CHECKING:
    from torch import Tensor

K = TypeVar("K")


def passes_ahead(device: str) -> int:
    """Passes that a device is given before the votes of the one in hand are asked for.

    One for a GPU: the host makes it ready meanwhile. A CPU would only keep rows back.
    """
    return 1 if device.startswith("cuda") else 0


@dataclass(frozen=True, slots=True, eq=False)
class Part(Generic[K]):
    """A unit in a pass, and whose it is."""

    owner: K
    x: Tensor  # the image's pixels, on the device
    fingerprint: str
    unit: Unit


@dataclass(slots=True, kw_only=True)
class Lane(Generic[K]):
    """Forward passes of one network on one device, in order."""

    spec: RunSpec
    classifier: BaseClassifier
    batch: int
    shrunk: Callable[[int], None]  # told the batch that fits, after one that did not
    ahead: int
    _under_way: deque[tuple[Sequence[Part[K]], Votes]] = field(default_factory=deque)
    _since: float = 0.0  # when the last pass was done

    @property
    def under_way(self) -> int:
        """Passes whose votes were not asked for yet."""
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Whether votes should be asked for before another pass is begun."""
        return self.under_way > self.ahead

    def start(self, parts: Sequence[Part[K]]) -> bool:
        """Begin one forward pass of all parts; where it does not fit the memory, make the batch smaller instead.

        Raises: DeviceError where a single copy does not fit; MethodError if the classifier breaks its protocol.
        """
        import torch

        if not self._under_way:
            self._since = time.perf_counter()
        spec = self.spec
        segments = [
            Segment(
                part.x,
                NoiseKey(spec.seed, part.fingerprint, spec.sigma, part.unit.stage),
                part.unit.first,
                part.unit.copies,
            )
            for part in parts
        ]
        try:
            self._under_way.append((parts, draw_packed(self.classifier, segments, precision=spec.precision)))
        except torch.OutOfMemoryError as error:
            unfit = str(error)
        else:
            return True
        # Not in the handler: its traceback keeps the tensors of the failed pass alive.
        self.batch = half(sum(segment.copies for segment in segments), segments[0].x, unfit)
        self.shrunk(self.batch)
        return False

    def finish(self) -> list[tuple[Part[K], Counts, float]]:
        """The votes on each part of the earliest pass under way, and its share of the seconds since the one before.

        Raises: MethodError if the classifier broke its protocol.
        """
        parts, votes = self._under_way.popleft()
        counted = votes.counts()
        now = time.perf_counter()
        each, self._since = (now - self._since) / sum(part.unit.copies for part in parts), now
        return [(part, counts, each * part.unit.copies) for part, counts in zip(parts, counted, strict=True)]


def count_units(
    units: Sequence[Unit],
    *,
    spec: RunSpec,
    classifier: BaseClassifier,
    dataset: Dataset,
    device: str,
    batch: int,
    shrunk: Callable[[int], None],
) -> list[Counted]:
    """The votes on each unit, in full batches; a unit's seconds are its share of the passes that it was in.

    A pass that does not fit is drawn again in smaller ones, and `shrunk` is told: the same votes.
    Raises: as `Lane`.
    """
    import torch

    lane: Lane[int] = Lane(spec=spec, classifier=classifier, batch=batch, shrunk=shrunk, ahead=passes_ahead(device))
    images: dict[int, tuple[Image, Tensor]] = {}
    for unit in units:
        if unit.index not in images:
            image = dataset[unit.index]
            images[unit.index] = image, placed(torch.from_numpy(image.pixels), device)
    votes, seconds = [NOTHING] * len(units), [0.0] * len(units)
    left = deque(enumerate(units))
    while left or lane.under_way:
        parts: list[Part[int]] = []
        room = lane.batch
        while left and room:
            place, unit = left.popleft()
            now = min(unit.copies, room)
            image, x = images[unit.index]
            parts.append(Part(place, x, image.fingerprint, replace(unit, copies=now)))
            if now < unit.copies:
                left.appendleft((place, replace(unit, first=unit.first + now, copies=unit.copies - now)))
            room -= now
        if parts and not lane.start(parts):
            left.extendleft((part.owner, part.unit) for part in reversed(parts))
        if lane.full or (lane.under_way and not left):
            for part, counts, spent in lane.finish():
                votes[part.owner] += counts
                seconds[part.owner] += spent
    return [
        Counted(
            unit=unit,
            counts=votes[place],
            fingerprint=images[unit.index][0].fingerprint,
            label=images[unit.index][0].label,
            stored=dataset.digest(unit.index),
            seconds=seconds[place],
        )
        for place, unit in enumerate(units)
    ]
