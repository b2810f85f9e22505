"""How many samples images take under the sequential certifier: from the probabilities behind a published log.

What is kept of a log is one number a look: the share of its images that are still under way after it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.certification.operating_characteristic import operating
from bench.certification.stopping_rule import BETA, reachable_design
from bench.published.logs.audit import reading_of
from bench.published.logs.infer_sampling import count_ranges
from bench.published.logs.reading import find_logs
from bench.published.logs.records import Log
from bench.types.errors import DataError

if TYPE_CHECKING:
    import numpy as np

_FILE = Path(__file__).with_name("demand.toml")
ALPHA = 0.001
# An abstention says p < 1/2, a wrong class p < 1 - that class's: such an image stands for as many, evenly between.
UNKNOWN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the images of one log ask for."""

    network: str  # "imagenet/resnet50/noise_0.50": whose log
    sigma: float
    n: int  # the most that an image takes
    radii: tuple[float, ...]
    images: int  # of the log
    looks: tuple[int, ...]
    going: tuple[float, ...]  # a look: the share of images under way after it; 0 after the last

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples that each look adds."""
        return tuple(b - a for a, b in pairwise((0, *self.looks)))

    @property
    def samples(self) -> float:
        """Mean samples an image."""
        return sum(size * share for size, share in zip(self.sizes, (1.0, *self.going), strict=False))


def recovered(log: Log, name: str, n: int, radii: Sequence[float], certifier: str = "sequential") -> Demand:
    """The demand of a log's images at the radii of a table, as far as n reaches: exact expectations, no sampling.

    `certifier`: one of those that stop by themselves.

    Error: radii are printed in two or three digits, p is rounded to 0.02 standard deviations; of images that are wrong
    or abstain the true class's p is not known but bounded, and taken evenly below its bound.
    Raises: DataError for a log whose N and alpha its radii do not tell.
    """
    from scipy.special import ndtr, ndtri

    sigma, reading = reading_of(log)
    if sigma is None or reading.sampling is None:
        raise DataError(f"{str(log.path)!r}: sigma, N or alpha cannot be told ({reading.reason}); leave it out")
    design = reachable_design(sigma, tuple(radii), n, ALPHA, BETA, certifier)
    votes = count_ranges(log.rows, reading.sampling)
    shares: dict[float, float] = {}
    for row in log.rows:
        most = 0.5 if not row.certified else votes[row.radius][1] / reading.sampling.n
        known = [most] if row.certified and row.correct else _below(most if not row.certified else 1 - most)
        for p in known:
            z = min(max(float(ndtri(p)), -4.0), 4.5)
            near = float(ndtr(round(z * 50) / 50))
            shares[near] = shares.get(near, 0.0) + 1 / len(known)
    total = sum(shares.values())
    paths = [(share / total, operating(design, p).going) for p, share in shares.items()]
    going = tuple(sum(share * left[j] for share, left in paths) for j in range(len(design.looks)))
    return Demand(
        network=name, sigma=sigma, n=n, radii=design.radii, images=len(log.rows), looks=design.looks, going=going
    )


def from_logs(paths: Sequence[Path], n: int, radii: Sequence[float]) -> tuple[Demand, ...]:
    """The demands of logs in files and folders, by sigma.

    Raises: DataError where there is none, or one tells too little.
    """
    logs, damaged, _ = find_logs(paths)
    if damaged:
        raise DataError(next(iter(damaged.values())))
    if not logs:
        raise DataError(f"no log in {', '.join(map(repr, map(str, paths)))}; expected some that `logs audit` can read")
    found = [recovered(log, log.path.name, n, radii) for log in logs]
    return tuple(sorted(found, key=lambda demand: demand.sigma))


@cache
def known() -> tuple[Demand, ...]:
    """The demands that ship with the package, made by `recovered` from published logs."""
    record = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(map(_from_record, record["demand"]))


def draw(demand: Demand, images: int, seed: int = 0) -> np.ndarray:
    """How many looks each of so many images takes: the log's shares, as even as whole images allow, in random order."""
    import numpy as np

    stopped = 1 - np.array(demand.going)  # share that has stopped by each look
    places = (np.arange(images) + 0.5) / images
    looks = np.searchsorted(stopped, places, side="left") + 1
    return np.random.default_rng(seed).permutation(np.minimum(looks, len(demand.looks)))


def as_toml(demand: Demand) -> str:
    """One entry of the file that ships."""
    going = ", ".join(f"{share:.4g}" for share in demand.going)
    return (
        f'[[demand]]\nnetwork = "{demand.network}"\nsigma = {demand.sigma!r}\nn = {demand.n}\n'
        f"radii = {list(demand.radii)!r}\nimages = {demand.images}\ngoing = [{going}]\n"
    )


def _from_record(record: dict[str, Any]) -> Demand:
    design = reachable_design(record["sigma"], tuple(record["radii"]), record["n"], ALPHA, BETA)
    return Demand(
        network=record["network"],
        sigma=record["sigma"],
        n=record["n"],
        radii=design.radii,
        images=record["images"],
        looks=design.looks,
        going=tuple(record["going"]),
    )


def _below(most: float) -> list[float]:
    return [most * (k + 0.5) / UNKNOWN for k in range(UNKNOWN)]


def pick(demands: Sequence[Demand], sigma: float, n: int) -> Demand:
    """The demand at a noise level and n.

    Raises: DataError where there is none.
    """
    found = [demand for demand in demands if (demand.sigma, demand.n) == (sigma, n)]
    if not found:
        there = sorted({(demand.sigma, demand.n) for demand in demands})
        raise DataError(
            f"no demand at sigma={sigma:g}, n={n}; there is (sigma, n): {', '.join(map(str, there))}; give --logs with "
            "a log at that sigma"
        )
    return found[0]
