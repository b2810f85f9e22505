"""From one device to another by a share of what each can do, stage by stage: never a measurement, nor shown as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bench.timing.latency.calibration import HALF, Share, expected_share, interval
from bench.timing.latency.devices import Ceiling, Profile, ceiling, profile
from bench.timing.records import STAGES, LatencyRecord, Work, stage_seconds
from bench.types.errors import DeviceError

LAUNCHES_S = 2e-3  # a forward pass below this on a GPU is bound by its hundreds of launches, of about 5 us each
GPU_BATCH = 4096  # copies a pass of a small network, where the batch is searched
LABEL_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds that a certificate takes at least on a device, however it is written."""

    arithmetic: float  # its FLOP at the device's peak
    traffic: float  # what must pass the memory even where all is fused: weights once, each copy and label once

    @property
    def seconds(self) -> float:
        """The greater: both must be kept."""
        return max(self.arithmetic, self.traffic)

    @property
    def name(self) -> Literal["arithmetic", "compulsory traffic"]:
        """Of the greater."""
        return "arithmetic" if self.arithmetic >= self.traffic else "compulsory traffic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What a certificate would take on a device that was not timed."""

    target: str  # key of its profile
    precision: str
    seconds: float
    low: float
    high: float
    limit: float  # the greater of both limits: no figure here is below it
    limits: Limits
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A certificate by its shapes alone; no clock was looked at."""

    method: str
    precision: str
    shape: tuple[int, ...]
    copies: int  # n0 + n
    work: Work
    batch: int = GPU_BATCH  # copies a pass


def counted(record: LatencyRecord) -> Counted:
    """What is counted of a record.

    Raises: DeviceError where no FLOP were.
    """
    spec = record.spec
    if record.work is None:
        raise DeviceError(f"{spec['method']}: its FLOP cannot be counted, so that nothing can be projected")
    return Counted(
        method=str(spec["method"]),
        precision=str(spec["precision"]),
        shape=tuple(spec.get("shape", ())),
        copies=record.n0 + record.n,
        work=record.work,
        # A batch that a CPU likes is none for a GPU.
        batch=record.batch if record.device.profile or record.batch_from in ("paper", "given") else GPU_BATCH,
    )


def at_precision(of: Counted, precision: str) -> Counted:
    """The same at another precision."""
    size = {name: 2.0 if name in HALF else 4.0 for name in (precision, of.precision)}
    scale = size[precision] / size[of.precision]
    work = replace(
        of.work,
        bytes={stage: scale * value for stage, value in of.work.bytes.items()},
        pass_bytes={stage: scale * value for stage, value in of.work.pass_bytes.items()},
    )
    return replace(of, precision=precision, work=work)


def limits(of: Counted, top: Ceiling) -> Limits:
    """A certificate at a device's ceilings; of arithmetic and of traffic, each alone.

    Weights are counted once a certificate, as if a cache or one large batch kept them.
    """
    weights = math.fsum(of.work.pass_bytes.get(stage, 0.0) for stage in ("denoise", "classify"))
    copy = math.prod(of.shape) * (2 if of.precision in HALF else 4) if of.shape else 0
    return Limits(
        arithmetic=of.copies * of.work.total_flops / top.flops_s,
        traffic=(weights + of.copies * (copy + LABEL_BYTES)) / top.bytes_s,
    )


def kind_of(work: Work, stage: str) -> str:
    """The kind of a stage's network by what most of its FLOP are; "" where only their sum is known."""
    if stage not in work.convolution or not work.flops.get(stage):
        return ""
    if work.convolution[stage] < 0.5 * work.flops[stage]:
        return "vit"
    return "unet" if stage == "denoise" else "resnet"


def project(record: LatencyRecord, target: Profile) -> Projection:
    """A record's certificate on another device.

    From a device of the target's family: each stage keeps the share of its ceiling that it reached here. From any other
    device, a CPU's among them, that share says nothing, and `from_counts` stands in.
    Raises: DeviceError where the target has no such precision, or no FLOP were counted.
    """
    of = counted(record)
    here = profile(record.device.profile) if record.device.profile else None
    if here is None or here.family != target.family:
        return from_counts(of, target, f"; {record.device.name} is of another family and says nothing about it")
    own = Ceiling(record.device.peak_flops_s, record.device.peak_bytes_s, record.device.peak_origin)
    top = ceiling(target, of.precision)
    shares = {
        stage: Share(
            _share(record, of.work, stage, own),
            *interval(target.family, of.precision, kind_of(of.work, stage), of.work.flops.get(stage, 0.0)),
            "",
        )
        for stage in STAGES
    }
    bounds = {stage: _bound(of.work, stage, record.batch, top) for stage in STAGES}
    how = f"each stage at the share of its ceiling that it reached on {record.device.name}"
    return _projection(of, target, top, shares, bounds, how)


def from_counts(of: Counted, target: Profile, remark: str = "") -> Projection:
    """A certificate that was timed nowhere, or where it says nothing, by what networks of its kind reach on the target.

    Such shares are of FLOP alone, since memory-bound parts are in them. Noise is not: the device makes its own, as fast
    as its memory takes it.
    Raises: DeviceError where the target has no such precision, or nothing is known of such a device.
    """
    top = ceiling(target, of.precision)
    shares = {"noise": Share(1.0, 1.0, 1.0, "")}
    bounds = {"noise": _bound(of.work, "noise", of.batch, top)}
    for stage in STAGES[1:]:
        flops = of.work.flops.get(stage, 0.0)
        if flops > 0:
            bounds[stage] = flops / top.flops_s
            shares[stage] = expected_share(target, of.precision, kind_of(of.work, stage), flops)
    said = "; ".join(f"{stage} at {share.how}" for stage, share in shares.items() if share.how)
    made = _projection(of, target, top, shares, bounds, f"from FLOP: {said}{remark}")
    if made.seconds / of.copies * of.batch < LAUNCHES_S:
        words = "; a pass of so little work waits for its launches, which are not in it: too fast"
        return replace(made, how=made.how + words)
    return made


def _projection(
    of: Counted, target: Profile, top: Ceiling, shares: Mapping[str, Share], bounds: Mapping[str, float], how: str
) -> Projection:
    least = limits(of, top)

    def total(factor: Callable[[Share], float]) -> float:
        parts = (of.copies * bounds[s] / share.share * factor(share) for s, share in shares.items() if bounds[s])
        return max(least.seconds, math.fsum(parts))

    return Projection(
        target=target.key,
        precision=of.precision,
        seconds=total(lambda _: 1.0),
        low=total(lambda share: share.low),
        high=total(lambda share: share.high),
        limit=least.seconds,
        limits=least,
        how=how,
    )


def _share(record: LatencyRecord, work: Work, stage: str, own: Ceiling) -> float:
    """How near a stage came to its ceiling here; above 1 where fused kernels moved less than counted operators do."""
    seconds = stage_seconds(record).get(stage, 0.0) - (record.noise_host if stage == "noise" else 0.0)
    bound = _bound(work, stage, record.batch, own)
    return bound / seconds if seconds > 0 and bound > 0 else 1.0


def _bound(work: Work, stage: str, batch: int, top: Ceiling) -> float:
    flops, moved = work.at_batch(stage, batch)
    return max(flops / top.flops_s, moved / top.bytes_s)
