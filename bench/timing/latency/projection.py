"""From one device to another by a roofline for each stage: never a measurement, and never shown as one."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from statistics import median

from bench.timing.latency.devices import Ceiling, Profile, ceiling, peak, profile
from bench.timing.records import STAGES, LatencyRecord, Work, stage_seconds
from bench.types.errors import DeviceError

_FILE = Path(__file__).with_name("reference.toml")
HALF = ("bf16", "fp16")
LAUNCHES_S = 2e-3  # a forward pass below this on a GPU is bound by its hundreds of launches, of about 5 us each


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A published inference rate of the reference network."""

    device: str  # key of a profile
    precision: str
    efficiency: float  # FLOP/s over the dense peak
    images_s: float
    stack: str
    source: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One published rate, predicted from another by equal efficiency."""

    source: str  # device keys
    target: str
    precision: str
    error: float  # predicted over published rate, less 1
    same_family: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A device's published rate, predicted by the other devices of its family."""

    device: str
    precision: str
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What a certificate would take on a device that was not timed."""

    target: str  # key of its profile
    seconds: float
    low: float
    high: float
    limit: float  # speed of light: every stage at the target's ceiling
    how: str


@cache
def rates() -> tuple[Rate, ...]:
    """The published rates."""
    record = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(
        Rate(
            device=row["device"],
            precision=row["precision"],
            efficiency=row["images_s"] * record["flops"] / peak(profile(row["device"]), row["precision"]),
            images_s=float(row["images_s"]),
            stack=row["stack"],
            source=row["source"],
        )
        for row in record["rate"]
    )


def pairs() -> tuple[Pair, ...]:
    """Every published rate predicted from every other of comparable precision."""
    return tuple(
        Pair(
            a.device,
            b.device,
            b.precision,
            a.efficiency / b.efficiency - 1,
            profile(a.device).family == profile(b.device).family,
        )
        for a, b in permutations(rates(), 2)
        if a.device != b.device and _comparable(a.precision, b.precision)
    )


def leave_one_out(family: str = "datacentre") -> tuple[LeftOut, ...]:
    """Each device of a family left out and predicted by the median of the rest; only where there is a rest."""
    mine = [r for r in rates() if profile(r.device).family == family]
    found = []
    for row in mine:
        rest = [r.efficiency for r in mine if r.device != row.device and _comparable(r.precision, row.precision)]
        if rest:
            found.append(LeftOut(row.device, row.precision, median(rest) / row.efficiency - 1))
    return tuple(found)


def factors(family: str) -> tuple[float, float]:
    """By what a projected time is to be multiplied for its interval: the extremes of the back-test's errors.

    A rate that is predicted too high by a half is a time too low by a half. Published rates are few: these are
    extremes, not a confidence level.
    """
    errors = [row.error for row in leave_one_out(family)] or [row.error for row in leave_one_out()]
    return min(1.0, 1 + min(errors)), max(1.0, 1 + max(errors))


def published_efficiency(target: Profile, precision: str) -> tuple[float, str]:
    """The share of its peak that a ViT reached on this silicon, or in this family, and the words for it.

    Raises: DeviceError where nothing was published.
    """
    alike = [r for r in rates() if _comparable(r.precision, precision)]
    same = [r for r in alike if profile(r.device).silicon == target.silicon]
    family = [r for r in alike if profile(r.device).family == target.family]
    chosen = same or family
    if not chosen:
        raise DeviceError(
            f"no published {precision} rate on a device like {target.name} to project by; expected --precision "
            "bf16 or fp16, or a measurement on such a device"
        )
    where = ", ".join(dict.fromkeys(r.device for r in chosen))
    efficiency = median(r.efficiency for r in chosen)
    return efficiency, f"{efficiency:.0%} of its {precision} peak, as published of a ViT-B/16 on {where}"


def speed_of_light(work: Work, batch: int, top: Ceiling) -> float:
    """Seconds a copy, no stage slower than the device allows: an optimistic bound."""
    return math.fsum(_bound(work, stage, batch, top) for stage in STAGES)


def project(record: LatencyRecord, target: Profile) -> Projection:
    """A record's certificate on another device.

    From a device of the target's family: each stage keeps the share of its ceiling that it reached here. From any other
    device, a CPU's among them, that share says nothing, and the published share of a ViT stands in.
    Raises: DeviceError where the target has no such precision, or no FLOP were counted.
    """
    precision = str(record.spec["precision"])
    if record.work is None:
        raise DeviceError(f"{record.spec['method']}: its FLOP cannot be counted, so that nothing can be projected")
    top, copies = ceiling(target, precision), record.n0 + record.n
    here = profile(record.device.profile) if record.device.profile else None
    bounds = {stage: _bound(record.work, stage, record.batch, top) for stage in STAGES}
    if here is not None and here.family == target.family:
        own = Ceiling(record.device.peak_flops_s, record.device.peak_bytes_s, record.device.peak_origin)
        shares = {stage: _share(record, stage, own) for stage in STAGES}
        how = f"each stage at the share of its ceiling that it reached on {record.device.name}"
    else:
        flops = top.flops_s
        efficiency, words = published_efficiency(target, precision)
        # The published share is of FLOP alone: memory-bound parts are in it. Noise is not: the device makes its own, as
        # fast as its memory takes it.
        bounds |= {stage: record.work.flops.get(stage, 0.0) / flops for stage in STAGES if stage != "noise"}
        shares = {stage: 1.0 if stage == "noise" else efficiency for stage in STAGES}
        how = f"from FLOP at {words}; {record.device.name} is of another family and says nothing about it"
    device = copies * math.fsum(bounds[s] / shares[s] for s in STAGES if bounds[s])
    if here is None and device / copies * record.batch < LAUNCHES_S:
        how += "; a pass of so little work waits for its launches, which are not in it: too fast"
    low, high = factors(target.family)
    return Projection(
        target=target.key,
        seconds=device,
        low=low * device,
        high=high * device,
        limit=copies * speed_of_light(record.work, record.batch, top),
        how=how,
    )


def _share(record: LatencyRecord, stage: str, own: Ceiling) -> float:
    """How near a stage came to its ceiling here; above 1 (cached, fused) counts as 1."""
    assert record.work is not None  # noqa: S101  the caller has looked
    seconds = stage_seconds(record).get(stage, 0.0) - (record.noise_host if stage == "noise" else 0.0)
    bound = _bound(record.work, stage, record.batch, own)
    return min(1.0, bound / seconds) if seconds > 0 and bound > 0 else 1.0


def _bound(work: Work, stage: str, batch: int, top: Ceiling) -> float:
    flops, moved = work.at_batch(stage, batch)
    return max(flops / top.flops_s, moved / top.bytes_s)


def _comparable(one: str, other: str) -> bool:
    return one == other or (one in HALF and other in HALF)


def worst(errors: Sequence[LeftOut]) -> float:
    """The largest error either way."""
    return max((abs(row.error) for row in errors), default=0.0)
