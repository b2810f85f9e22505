"""Rates that networks reached, published and our own, by kind of network; and how well they predict each other."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from bench.timing.latency.devices import Profile, peak, profile
from bench.types.errors import DeviceError

_PUBLISHED = Path(__file__).with_name("reference.toml")
_OWN = Path(__file__).with_name("calibration.toml")
HALF = ("bf16", "fp16")
ALIKE = 32.0  # networks whose FLOP a copy are within this factor have a say in each other's interval
_SAME = 1e-3  # FLOP that differ by less than this share are one network's


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate at which a network ran on a device."""

    device: str  # key of a profile
    network: str
    kind: Literal["vit", "resnet", "unet"]
    precision: str
    flops: float  # of one copy, 2 x MAC
    images_s: float  # copies a second
    stack: str
    source: str  # where it was published, or the record in this repository
    published: bool

    @property
    def efficiency(self) -> float:
        """FLOP/s over the device's dense peak."""
        return self.images_s * self.flops / peak(profile(self.device), self.precision)


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a device's peak that a kind of network is expected to reach, and the errors of such a guess."""

    share: float
    low: float  # by what a time is to be multiplied for its interval
    high: float
    how: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One published rate, predicted from another by equal efficiency."""

    source: str  # device keys
    target: str
    precision: str
    error: float  # predicted over published rate, less 1
    same_family: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A rate, predicted from the others of its family."""

    device: str
    network: str
    kind: str
    precision: str
    flops: float
    published: bool
    error: float  # predicted over true rate, less 1


@cache
def rates() -> tuple[Rate, ...]:
    """All of them, the published ones first."""
    published = tomllib.loads(_PUBLISHED.read_text(encoding="utf-8"))
    alike = {"network": published["model"], "kind": "vit", "flops": published["flops"], "published": True}
    own = tomllib.loads(_OWN.read_text(encoding="utf-8"))
    rows = [{**alike, **row} for row in published["rate"]] + [{"published": False, **row} for row in own["rate"]]
    return tuple(msgspec.convert(row, Rate, strict=False) for row in rows)


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
        for a, b in permutations((r for r in rates() if r.published), 2)
        if a.device != b.device and _comparable(a.precision, b.precision)
    )


@cache
def leave_one_out(family: str = "datacentre") -> tuple[LeftOut, ...]:
    """Each rate of a family predicted as if it, and all of that network on that device, were not known.

    Only where others of its kind are.
    """
    mine = [r for r in rates() if profile(r.device).family == family]
    found = []
    for row in mine:
        rest = [r for r in mine if (r.device, r.network) != (row.device, row.network) and r.kind == row.kind]
        chosen = _nearest(rest, profile(row.device), row.precision, row.kind, row.flops)
        if chosen:
            error = median(r.efficiency for r in chosen) / row.efficiency - 1
            found.append(
                LeftOut(
                    device=row.device,
                    network=row.network,
                    kind=row.kind,
                    precision=row.precision,
                    flops=row.flops,
                    published=row.published,
                    error=error,
                )
            )
    return tuple(found)


def expected_share(target: Profile, precision: str, kind: str, flops: float) -> Share:
    """The share of its peak that a network of this kind and size reached on this silicon, or else in this family.

    Of several the nearest in FLOP a copy; where none of the kind is known, the median of all kinds.
    Raises: DeviceError where nothing is known of such a device.
    """
    chosen = _nearest(rates(), target, precision, kind, flops)
    other = not chosen
    if other:
        alike = [r for r in rates() if _comparable(r.precision, precision)]
        chosen = _of_silicon_or_family(alike, target)
    if not chosen:
        raise DeviceError(
            f"no {precision} rate is known on a device like {target.name} to project by; expected --precision "
            "bf16 or fp16, or a measurement on such a device"
        )
    share = median(r.efficiency for r in chosen)
    where = ", ".join(dict.fromkeys(r.device for r in chosen))
    words = ", ".join(dict.fromkeys(r.network for r in chosen))
    source = "published of" if all(r.published for r in chosen) else "measured of"
    what = f"as {source} {words} on {where}" if not other else f"as all kinds of networks reach on {where}"
    low, high = interval(target.family, precision, "" if other else kind, flops)
    return Share(share, low, high, f"{share:.0%} of its {precision} peak, {what}")


def interval(family: str, precision: str, kind: str, flops: float) -> tuple[float, float]:
    """By what a projected time is to be multiplied for its interval: the extremes of the back-test's errors.

    A rate that is predicted too high by a half is a time too low by a half. Rates are few: these are extremes over
    networks of the kind and about the size, and over the published rates, which alone were taken on several devices;
    they are no confidence level.
    """
    rows = leave_one_out(family) or leave_one_out()
    alike = [r for r in rows if _comparable(r.precision, precision)] or list(rows)
    of_kind = [r for r in alike if r.kind == kind] or alike
    near = [r for r in of_kind if abs(math.log(r.flops / flops)) <= math.log(ALIKE)] if kind and flops > 0 else []
    errors = [r.error for r in (*(near or of_kind), *(r for r in alike if r.published))]
    return min(1.0, 1 + min(errors)), max(1.0, 1 + max(errors))


def worst(errors: Sequence[LeftOut]) -> float:
    """The largest error either way."""
    return max((abs(row.error) for row in errors), default=0.0)


def _nearest(known: Sequence[Rate], target: Profile, precision: str, kind: str, flops: float) -> list[Rate]:
    alike = [r for r in known if r.kind == kind and _comparable(r.precision, precision)]
    chosen = _of_silicon_or_family(alike, target)
    if not chosen or flops <= 0:
        return chosen
    away = [abs(math.log(r.flops / flops)) for r in chosen]
    return [r for r, distance in zip(chosen, away, strict=True) if distance <= min(away) + _SAME]


def _of_silicon_or_family(known: Sequence[Rate], target: Profile) -> list[Rate]:
    same = [r for r in known if profile(r.device).silicon == target.silicon]
    return same or [r for r in known if profile(r.device).family == target.family]


def _comparable(one: str, other: str) -> bool:
    return one == other or (one in HALF and other in HALF)
