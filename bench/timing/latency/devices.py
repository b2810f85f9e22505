"""Device profiles: peaks and bandwidth as their makers state them, or as measured."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.runs.clock import clock_for, fastest
from bench.timing.device_peaks import product_rate
from bench.types.errors import DeviceError
from bench.types.suggest import closest

_FILE = Path(__file__).with_name("devices.toml")
# Of the product that shows a device's peak: on a CPU short enough to fall between two of another program's turns.
GEMM_SIDE = {"cpu": 512, "cuda": 4096}
STREAM_VALUES = 1 << 22  # float32 values copied to show its bandwidth; a cache that holds them flatters it


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one kind of device can do at most."""

    key: str  # "a800"
    name: str
    match: tuple[str, ...]  # parts of the driver's name for it
    family: str  # "datacentre", "consumer": the others do not predict it
    silicon: str
    peak: Mapping[str, float]  # precision -> FLOP/s, dense
    bandwidth: float  # bytes/s
    source: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The two rates that no stage of a certificate can pass on a device."""

    flops_s: float
    bytes_s: float
    origin: str  # "NVIDIA A100 datasheet, 2021", or how it was measured


@cache
def profiles() -> tuple[Profile, ...]:
    """All profiles, in the order of their file."""
    record = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(
        Profile(
            key=row["key"],
            name=row["name"],
            match=tuple(row["match"]),
            family=row["family"],
            silicon=row["silicon"],
            peak={precision: float(peak) * 1e12 for precision, peak in row["peak"].items()},
            bandwidth=float(row["bandwidth"]) * 1e9,
            source=row["source"],
        )
        for row in record["device"]
    )


def profile(key: str) -> Profile:
    """The profile of that name.

    Raises: DeviceError with the closest names.
    """
    known = {p.key: p for p in profiles()}
    wanted = key.lower().replace(" ", "").replace("_", "-")
    if wanted not in known:
        hint = closest(wanted, known, most=3, cutoff=0.5)
        raise DeviceError(
            f"no GPU named {key!r}.{hint} Known: {', '.join(known)}; see bench/timing/latency/devices.toml"
        )
    return known[wanted]


def recognise(name: str) -> Profile | None:
    """The profile of a device by its driver's name; None where there is none."""
    return next((p for p in profiles() if any(part.lower() in name.lower() for part in p.match)), None)


def peak(found: Profile, precision: str) -> float:
    """The profile's dense peak at a precision.

    Raises: DeviceError where it has no such arithmetic.
    """
    if precision not in found.peak:
        raise DeviceError(f"{found.name} has no {precision} arithmetic; expected --precision {' or '.join(found.peak)}")
    return found.peak[precision]


def ceiling(found: Profile, precision: str) -> Ceiling:
    """A profile's own rates.

    Raises: DeviceError where it has no such arithmetic.
    """
    return Ceiling(peak(found, precision), found.bandwidth, found.source)


def observe(device: str, precision: str, rounds: int = 40) -> Ceiling:
    """The rates that a device without a profile reaches in a matrix product and in a copy; the best of some rounds."""
    import torch

    side = GEMM_SIDE["cuda" if device.startswith("cuda") else "cpu"]
    source = torch.ones(STREAM_VALUES, device=device)
    target = torch.empty_like(source)

    clock = clock_for(device)
    product = product_rate(device, precision, side, lambda work: fastest(clock, work, rounds))
    copied = fastest(clock, lambda: target.copy_(source), rounds)
    how = f"measured: best of {rounds}, a {side}-wide {precision} matrix product and a copy of 16 MiB"
    return Ceiling(product, 2 * 4 * STREAM_VALUES / copied, how)
