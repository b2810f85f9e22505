"""What `rrcm-bench bench` finds, as it is stored: raw seconds, and what follows from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.timing.device_peaks import Peak
from bench.timing.records import quantile, spread
from bench.types import Scalar
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError

FORMAT = 1
RANDOM = "a random picture"
DEFAULT_BATCH = 1000  # of the plain loop in the first public script
UNSTEADY = 0.1  # a spread of rounds at which ratios are doubted
CONFIDENT = 1000  # copies below which a flip rate says little


@dataclass(frozen=True, slots=True)
class Reading:
    """One turn on the clock, in seconds a copy."""

    seconds: float  # by the wall, or by the device's own clock
    cpu: float  # of all threads of this process: what else runs on a CPU does not add to it


@dataclass(frozen=True, slots=True)
class Series:
    """The same work, once a round; seconds a copy."""

    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> Series:
        """The readings, in order."""
        found = tuple(readings)
        return cls(tuple(r.seconds for r in found), tuple(r.cpu for r in found))

    @property
    def rate(self) -> float:
        """Copies a second of the fastest round: what else runs here only ever slows."""
        return 1 / min(self.seconds)

    @property
    def cpu_rate(self) -> float:
        """Copies a second of one core's time, of the cheapest round."""
        return 1 / min(self.cpu)


@dataclass(frozen=True, slots=True)
class Flips:
    """Labels that another way to compute the same network changes, on the same noisy copies."""

    by: str  # "tuning": against the network as its authors run it; "bf16"
    flipped: int
    copies: int
    seconds: float  # a copy, the other way
    base_seconds: float  # a copy, tuned and in fp32, in the same minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One network, measured in rounds; seconds are those of one copy."""

    name: str
    method: str
    dataset: str
    device: str
    params: Mapping[str, Scalar]
    weights: Mapping[str, str]  # role -> sha256, or "random"
    shape: tuple[int, int, int]
    sigma: float
    precision: str  # of the forward pass and the certifier; the plain loop is fp32
    batch: int
    threads: int  # of all three
    plain_batch: int  # its fastest
    plain_curve: tuple[tuple[int, float], ...]  # batch, seconds a copy: what was tried for it, once or twice
    flops: float | None  # of one copy, 2 x MAC
    forward: Series
    certifier: Series  # noise, sum, pass and count
    plain: Series  # the plain loop
    row_s: float  # to store one image's row
    flips: tuple[Flips, ...]
    flips_of: str = RANDOM  # of whose copies
    kernels: Mapping[str, float] = field(default_factory=dict)  # share of a pass by class of kernel; CUDA alone
    runs_by: tuple[str, ...] = ()  # kernels, as its networks say it
    compiled: str = ""  # what came of torch.compile for forward pass and certifier; empty: "never"

    @property
    def speedup(self) -> float:
        """The certifier over the plain loop, by the clock."""
        return self.certifier.rate / self.plain.rate

    @property
    def cpu_speedup(self) -> float | None:
        """The same by the time of cores, which holds on a machine that is not idle; None where a GPU does the work."""
        return self.certifier.cpu_rate / self.plain.cpu_rate if self.device == "cpu" else None

    @property
    def default_speedup(self) -> float | None:
        """The certifier over the plain loop at its public default batch; None where that took too long to be tried."""
        seconds = dict(self.plain_curve).get(DEFAULT_BATCH)
        return None if seconds is None else self.certifier.rate * seconds

    @property
    def overhead(self) -> float:
        """What the certifier adds to a forward pass, as a share of it; the median of rounds, each of neighbours."""
        return _median_ratio(self.certifier.seconds, self.forward.seconds) - 1

    @property
    def cpu_overhead(self) -> float | None:
        """The same by the time of cores."""
        return _median_ratio(self.certifier.cpu, self.forward.cpu) - 1 if self.device == "cpu" else None

    def flop_share(self, peaks: tuple[Peak, ...]) -> float | None:
        """The forward pass's FLOP/s as a share of the matrix product's (model FLOP utilisation)."""
        found = [peak.flops_s for peak in peaks if peak.precision == self.precision]
        return self.flops * self.forward.rate / found[0] if self.flops and found and found[0] else None

    def doubts(self) -> tuple[str, ...]:
        """What speaks against the numbers."""
        said = [
            f"{what}: spread {spread(seconds):.0%} of the median over {len(seconds)} rounds: the machine was not idle"
            for what, seconds in (
                ("forward", self.forward.seconds),
                ("certifier", self.certifier.seconds),
                ("plain loop", self.plain.seconds),
            )
            if spread(seconds) > UNSTEADY
        ]
        said += [f"flips by {f.by}: only {f.copies} copies" for f in self.flips if f.copies < CONFIDENT]
        if "random" in self.weights.values():
            said.append("random weights: their flips say nothing of trained ones")
        elif self.flips_of == RANDOM:
            said.append("flips are of copies of a random picture, most of which lie near a tie")
        return tuple(said)

    def as_json(self, peaks: tuple[Peak, ...]) -> dict[str, Any]:
        """All fields, and what follows from them."""
        return {
            **asdict(self),
            "forward_copies_per_s": self.forward.rate,
            "certifier_copies_per_s": self.certifier.rate,
            "plain_copies_per_s": self.plain.rate,
            "speedup": self.speedup,
            "cpu_speedup": self.cpu_speedup,
            "default_speedup": self.default_speedup,
            "overhead": self.overhead,
            "cpu_overhead": self.cpu_overhead,
            "flop_share": self.flop_share(peaks),
            "doubts": list(self.doubts()),
        }


def _median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return quantile([a / b for a, b in zip(over, under, strict=True)], 0.5)


def document(
    machine: Mapping[str, Any], created: str, peaks: tuple[Peak, ...], measurements: tuple[Measurement, ...]
) -> dict[str, Any]:
    """The record of one run of the benchmark."""
    return {
        "format": FORMAT,
        "created": created,
        "machine": dict(machine),
        "peaks": [asdict(peak) for peak in peaks],
        "remarks": [*remarks(peaks), *_beyond(peaks, measurements)],
        "networks": [m.as_json(peaks) for m in measurements],
    }


def remarks(peaks: tuple[Peak, ...]) -> tuple[str, ...]:
    """What the ceilings say by themselves."""
    rates = {peak.precision: peak.flops_s for peak in peaks}
    fp32, bf16 = rates.get("fp32", 0.0), rates.get("bf16", 0.0)
    if not fp32 or not bf16 or bf16 >= fp32:
        return ()
    said = f"bf16 products are {fp32 / bf16:.1f} times slower than fp32 here"
    return (f"{said}; --precision bf16 is for its votes on this machine, not for speed",)


def _beyond(peaks: tuple[Peak, ...], measurements: tuple[Measurement, ...]) -> tuple[str, ...]:
    shares = ((m.name, m.flop_share(peaks)) for m in measurements)
    return tuple(
        f"{name}: {share:.0%} of the matrix product cannot be: the product was measured in a busier moment"
        for name, share in shares
        if share is not None and share > 1
    )


def save(folder: Path, record: Mapping[str, Any], device_name: str) -> Path:
    """Write the record under a name of its machine and moment, in whole or not at all; again as it grows.

    Raises: StoreError where it cannot be written.
    """
    machine = re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")
    moment = re.sub(r"[^0-9TZ]", "", str(record["created"]))
    path = folder / f"{machine}-{moment}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}; give --out another folder") from error
    return path


def held(folder: Path, machine: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Path]:
    """Networks that a record of this folder holds already, of the same commit, device and settings.

    Other files, and records of other machines, are passed over.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            same = all(record["machine"][name] == machine[name] for name in ("git_commit", "devices", "precision"))
            rows = record["networks"] if same and record["format"] == FORMAT else []
            found |= {row["name"]: path for row in rows if all(row[name] == measured[name] for name in measured)}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
