"""What is kept of a timed certification: everything raw; medians, ratios and kinds are computed from it on reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

import msgspec

from bench.types.limits import SAMPLES

FORMAT = 1
_MOST_SECONDS = 1e9  # thirty years
STAGES = ("noise", "denoise", "classify", "count")
Kind = Literal["measured", "extrapolated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """The device that was timed, and its ceiling at the record's precision."""

    name: str
    kind: str  # "cpu", "cuda"
    profile: str  # key of a device profile; "" where there is none
    threads: int
    peak_flops_s: float
    peak_bytes_s: float
    peak_origin: str


@dataclass(frozen=True, slots=True)
class Work:
    """What one copy costs by shapes alone, stage by stage; no clock was looked at."""

    flops: Mapping[str, float]  # 2 x MAC, attention counted
    bytes: Mapping[str, float]  # each operator's inputs and outputs once: eager execution, nothing fused
    pass_bytes: Mapping[str, float]  # once a forward pass whatever the batch: the weights
    convolution: Mapping[str, float] = field(default_factory=dict)  # of `flops`; empty in records from before it

    @property
    def total_flops(self) -> float:
        """Of all stages."""
        return math.fsum(self.flops.values())

    def at_batch(self, stage: str, batch: int) -> tuple[float, float]:
        """FLOP and bytes of one copy of a stage, in forward passes of that batch."""
        return self.flops.get(stage, 0.0), self.bytes.get(stage, 0.0) + self.pass_bytes.get(stage, 0.0) / batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What was seen of the device while it was timed; None and () where nothing can be seen."""

    energy_j: float | None = None  # of the timed repeats, idle power included
    clocks_mhz: tuple[int, int] | None = None  # lowest and highest seen
    clock_limit_mhz: int | None = None
    clocks_locked: bool | None = None
    power_cap_w: float | None = None
    temperature_c: int | None = None  # highest seen
    throttled: tuple[str, ...] = ()  # reasons, in NVIDIA's words
    others: int | None = None  # other processes on the GPU
    cpu_share: float | None = None  # of the threads' time that this process got; below 1: others ran, or it waited
    load: float | None = None  # other programs that wanted a core: load average less our own threads
    samples: int = 0  # looks, apart from first and last


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """Timed certifications of one image by one method on one device."""

    spec_digest: str
    spec: Mapping[str, Any]  # RunSpec as JSON: method, settings, weights, sigma, n0, n, precision
    created: str  # UTC
    device: DeviceFacts
    environment: Mapping[str, Any]
    clock: str  # "perf_counter", "CUDA events"
    batch: int
    batch_from: str  # "searched", "paper", "given", "searched, out of memory above"
    curve: tuple[tuple[int, float | None], ...]  # batch -> copies/s of the search; None: out of memory
    n0: int
    n: int
    copies: int  # that each timed repeat drew: n0 + n, or fewer where the record is extrapolated
    seconds: tuple[float, ...]  # one a repeat, warm-up left out; raw, never averaged away
    wall: tuple[float, ...]  # the same by the wall clock
    discarded: tuple[float, ...] = ()  # a first series that was not steady, kept
    warmup: tuple[float, ...]  # one a forward pass; kept, to be able to distrust it
    steady: bool  # whether the warm-up ended because the clock was steady
    replayed: bool = False  # whether the repeats' passes were replayed from CUDA graphs, as a run's are
    setup_s: float  # the first forward pass: autotuning and compiling
    extrapolated_from: tuple[tuple[int, float], ...] = ()  # (copies, median seconds) at both sizes; empty: measured
    # Seconds a copy, from passes of their own, which are launched kernel by kernel even where `replayed`.
    stages: Mapping[str, float] = field(default_factory=dict)
    noise_host: float = 0.0  # of stages["noise"], the part that the host's processor does whatever the device
    overhead_s: float = 0.0  # what the clock itself adds to a repeat
    energy_j: float | None = None  # a certificate
    peak_bytes: int | None = None  # most in use once the batch was found; a CPU's process keeps what the search freed
    work: Work | None = None
    calls: Mapping[str, int] = field(default_factory=dict)  # network -> forward passes a copy
    watch: Telemetry = field(default_factory=Telemetry)
    doubts: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Whether the number of a certificate was on the clock as a whole."""
        return "extrapolated" if self.extrapolated_from else "measured"

    @property
    def random_weights(self) -> bool:
        """Whether the networks were random: the time is the same, accuracy there is none."""
        return "random" in self.spec["weights"].values()

    def as_json(self) -> dict[str, Any]:
        """One line of the store, with what is derived beside it for readers without this code."""
        record = asdict(self)
        figures = {
            "kind": self.kind,
            "single_stream_s": certificate_seconds(self),
            "single_stream_p90_s": certificate_seconds(self, 0.9),
            "offline_images_s": offline_rate(self),
            "copies_s": self.copies / median(self.seconds),
            "mfu": utilisation(self),
            "repeat_difference": agreement(self.seconds),
            "clock_difference": clock_difference(self.seconds, self.wall),
        }
        return {"format": FORMAT, **record, "derived": figures}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> LatencyRecord:
        """The inverse of `as_json`; derived figures are computed anew.

        Raises: ValueError, with the field that is not of its type, or beyond all measure.
        """
        made = msgspec.convert(record, cls, strict=True)
        msgspec.convert(made.spec, _Named, strict=True)
        _check(made)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What every spec of a record has at least."""

    method: str
    precision: str
    weights: Mapping[str, str]


def _check(made: LatencyRecord) -> None:
    """Refuse numbers of which no median, ratio or projection could be taken.

    Raises: ValueError.
    """
    work = made.work or Work({}, {}, {})
    work_values = [v for part in (work.flops, work.bytes, work.pass_bytes, work.convolution) for v in part.values()]
    extrapolated = [value for pair in made.extrapolated_from for value in pair]
    ranges: tuple[tuple[str, Sequence[float], float, float], ...] = (
        ("seconds", made.seconds, 1e-12, _MOST_SECONDS),
        ("wall", made.wall, 1e-12, _MOST_SECONDS),
        ("discarded", made.discarded, 1e-12, _MOST_SECONDS),
        ("warmup", made.warmup, 0, _MOST_SECONDS),
        ("setup_s", (made.setup_s,), 0, _MOST_SECONDS),
        ("overhead_s", (made.overhead_s,), 0, _MOST_SECONDS),
        ("noise_host", (made.noise_host,), 0, _MOST_SECONDS),
        ("stages", tuple(made.stages.values()), 0, _MOST_SECONDS),
        ("extrapolated_from", extrapolated, 1e-12, SAMPLES * 2),
        ("energy_j", () if made.energy_j is None else (made.energy_j,), 0, 1e15),
        ("n0", (made.n0,), 0, SAMPLES),
        ("n, copies and batch", (made.n, made.copies, made.batch), 1, 2 * SAMPLES),
        ("device", (made.device.peak_flops_s, made.device.peak_bytes_s), 1, 1e24),
        ("work", work_values, 0, 1e24),
    )
    for what, values, least, most in ranges:
        if wrong := [value for value in values if not least <= value <= most]:
            raise ValueError(f"expected {what} from {least:g} to {most:g}, got {wrong[0]:g}")
    if not made.seconds or len(made.seconds) != len(made.wall):
        raise ValueError(f"expected one wall clock second a repeat, got {len(made.wall)} of {len(made.seconds)}")


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share q lies, linear between neighbours."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def certificate_seconds(record: LatencyRecord, q: float = 0.5) -> float:
    """Seconds of one certificate of n0 + n copies: the median of the repeats, or another quantile.

    Where only a part was timed, in proportion to its copies: a constant cost would be counted too often, so that the
    figure errs to the slow side, by no more than the record's non-linearity.
    """
    return quantile(record.seconds, q) * (record.n0 + record.n) / record.copies


def offline_rate(record: LatencyRecord) -> float:
    """Certified images a second, one after another; nothing is packed across images."""
    per_image = math.fsum(record.seconds) / len(record.seconds) * (record.n0 + record.n) / record.copies
    return 1 / per_image


def utilisation(record: LatencyRecord) -> float | None:
    """Model FLOP utilisation: counted FLOP a second over the device's peak; None where FLOP could not be counted."""
    if record.work is None or not record.work.total_flops:
        return None
    return record.work.total_flops * record.copies / median(record.seconds) / record.device.peak_flops_s


def spread(seconds: Sequence[float]) -> float:
    """From the 10th to the 90th percentile, as a fraction of the median."""
    return (quantile(seconds, 0.9) - quantile(seconds, 0.1)) / median(seconds)


def agreement(seconds: Sequence[float]) -> float | None:
    """How far the medians of the first and the second half of the repeats lie apart; None with fewer than four."""
    half = len(seconds) // 2
    if half < 2:
        return None
    first, second = median(seconds[:half]), median(seconds[half:])
    return abs(first - second) / min(first, second)


def clock_difference(seconds: Sequence[float], wall: Sequence[float]) -> float:
    """How far the device's clock and the wall clock lie apart, medians, as a fraction of the wall's."""
    return abs(median(seconds) - median(wall)) / median(wall)


def stage_seconds(record: LatencyRecord) -> Mapping[str, float]:
    """Seconds a copy by stage, as they are in the repeats.

    Those of replayed passes cannot be seen: they are taken to be in proportion to those of launched ones.
    """
    launched = math.fsum(record.stages.values())
    if not record.replayed or launched <= 0:
        return record.stages
    part = median(record.seconds) / record.copies / launched
    return {stage: part * seconds for stage, seconds in record.stages.items()}


def nonlinearity(sizes: Sequence[tuple[int, float]]) -> float:
    """How far the time a copy differs between the two sizes, as a fraction of the larger size's; 0 without two."""
    if len(sizes) < 2:
        return 0.0
    (small, short), (large, long) = sizes[0], sizes[-1]
    return abs(short / small - long / large) / (long / large)
