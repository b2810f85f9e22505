"""The one function that counts units of work on a device, whoever asks for them; decides nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.flight import NOTHING, Counted, Unit
from bench.smoothing import NoiseKey, Segment, draw_packed, half
from bench.types import BaseClassifier, Counts, Dataset, Image, RunSpec

if TYPE_CHECKING:
    from torch import Tensor


def one_pass(
    classifier: BaseClassifier, spec: RunSpec, parts: Sequence[tuple[Tensor, str, Unit]]
) -> tuple[list[Counts], int]:
    """Votes on each unit, of (image on the device, its fingerprint, unit), from one forward pass of all.

    Where the pass does not fit the memory: no votes, and the number of copies to try instead; else 0.
    Raises: MethodError if the classifier breaks its protocol; DeviceError where a single copy does not fit.
    """
    import torch

    segments = [
        Segment(x, NoiseKey(spec.seed, fingerprint, spec.sigma, unit.stage), unit.first, unit.copies)
        for x, fingerprint, unit in parts
    ]
    try:
        return draw_packed(classifier, segments, precision=spec.precision), 0
    except torch.OutOfMemoryError as error:
        unfit = str(error)
    # Not in the handler: its traceback keeps the tensors of the failed pass alive.
    return [], half(sum(segment.copies for segment in segments), segments[0].x, unfit)


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
    Raises: as `one_pass`.
    """
    import torch

    images: dict[int, tuple[Image, Tensor]] = {}
    for unit in units:
        if unit.index not in images:
            image = dataset[unit.index]
            images[unit.index] = image, torch.from_numpy(image.pixels).to(device)
    votes, seconds = [NOTHING] * len(units), [0.0] * len(units)
    left = deque(enumerate(units))
    while left:
        parts, room, started = [], batch, time.perf_counter()
        while left and room:
            place, unit = left.popleft()
            now = min(unit.copies, room)
            parts.append((place, replace(unit, copies=now)))
            if now < unit.copies:
                left.appendleft((place, replace(unit, first=unit.first + now, copies=unit.copies - now)))
            room -= now
        counted, smaller = one_pass(
            classifier, spec, [(images[u.index][1], images[u.index][0].fingerprint, u) for _, u in parts]
        )
        if smaller:
            left.extendleft(reversed(parts))
            batch = smaller
            shrunk(batch)
            continue
        each = (time.perf_counter() - started) / (batch - room)
        for (place, unit), found in zip(parts, counted, strict=True):
            votes[place] += found
            seconds[place] += each * unit.copies
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
