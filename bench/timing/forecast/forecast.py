"""GPU-hours of a table for each method, by both certifiers, and how they split over devices; no clock is read here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.published import tables
from bench.timing.forecast.sample_demand import Demand, draw, pick
from bench.timing.forecast.simulate import Costs, Simulated, by_image, by_look, by_share, of_fixed_n
from bench.timing.latency import paper
from bench.types.errors import UsageError
from bench.types.limits import COST

if TYPE_CHECKING:
    import numpy as np

TABLE = 1  # of the paper: ImageNet
N0 = 100  # samples that a fixed n takes besides, for the class
# The cheapest sample, a large batch, and the dearest sample: 0.5 ms to 0.3 s. The others lie between.
SPLIT = ("rrcm-b", "gaussian", "densepure-k5")
QUOTED, GIVEN = "quoted", "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCost:
    """What a sample costs, and who says so."""

    key: str
    title: str
    seconds: float  # a sample, on one device
    batch: int
    origin: str  # QUOTED from the paper, or GIVEN by the user
    source: str
    own_n: int | None = None  # the n at which its authors' table has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One run on some devices, by each schedule."""

    devices: int
    fixed: Simulated
    by_look: Simulated
    by_image: Simulated
    by_share: Simulated


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One method at one noise level."""

    method: MethodCost
    sigma: float
    images: int
    n: int
    fixed_samples: int
    sequential_samples: int  # of the images drawn; the true class's test selects no class
    demand: Demand
    splits: tuple[Split, ...] = ()

    @property
    def fixed_hours(self) -> float:
        """Device hours with n samples an image."""
        return self.fixed_samples * self.method.seconds / 3600

    @property
    def sequential_hours(self) -> float:
        """Device hours of the sequential certifier."""
        return self.sequential_samples * self.method.seconds / 3600

    @property
    def own_hours(self) -> float | None:
        """Device hours with the n of the method's own published row."""
        own = self.method.own_n
        return None if own is None else self.images * (own + N0) * self.method.seconds / 3600


def costs_of_the_paper(table: int = TABLE) -> tuple[MethodCost, ...]:
    """Seconds a sample of every row with a latency, as the paper has them on its device; nothing measured here."""
    source = tables.load(paper.TABLES[table])
    found = []
    for row in source.rows:
        if row.latency_s is None or row.n is None or row.key.endswith("-10k"):  # the same network twice
            continue
        found.append(
            MethodCost(
                key=row.key,
                title=row.title,
                seconds=row.latency_s / (row.n + N0),
                batch=paper.batch(source.dataset, row.method),
                origin=QUOTED,
                source=f"{source.source}: {row.latency_text} at N={row.n}, {source.hardware}; {row.latency_measured}",
                own_n=row.n,
            )
        )
    return tuple(found)


def given_cost(word: str, batch: int) -> MethodCost:
    """A cost in a user's words, NAME=SECONDS.

    Raises: UsageError.
    """
    name, equals, text = word.partition("=")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (name and equals and COST[0] <= seconds <= COST[1]):
        raise UsageError(
            f"--cost {word!r}: expected NAME=SECONDS of one sample, {COST[0]:g} to {COST[1]:g}, as mine=0.0005"
        )
    return MethodCost(key=name, title=name, seconds=seconds, batch=batch, origin=GIVEN, source="given by --cost")


def forecast(
    methods: Sequence[MethodCost],
    demands: Sequence[Demand],
    *,
    sigmas: Sequence[float],
    n: int,
    images: int,
    devices: Sequence[int],
    split: Sequence[str] = SPLIT,
    told: Callable[[str], None] = lambda _words: None,
) -> list[Forecast]:
    """Every method at every noise level; those named in `split` also on so many devices.

    Raises: DataError where no demand at that sigma and n is known.
    """
    found = []
    simulated, of = 0, len({method.key for method in methods} & set(split)) * len(sigmas) * len(devices)
    for method in methods:
        for sigma in sigmas:
            demand = pick(demands, sigma, n)
            looks = draw(demand, images)
            samples = sum(int(demand.looks[k - 1]) for k in looks)
            splits = []
            for count in devices if method.key in split else ():
                simulated += 1
                told(f"simulate {simulated}/{of}  {method.title}  sigma {sigma:g}  {count} devices")
                splits.append(_split(method, demand, looks, count))
            found.append(
                Forecast(
                    method=method,
                    sigma=sigma,
                    images=images,
                    n=n,
                    fixed_samples=images * (n + N0),
                    sequential_samples=samples,
                    demand=demand,
                    splits=tuple(splits),
                )
            )
    return found


def _split(method: MethodCost, demand: Demand, looks: np.ndarray, devices: int) -> Split:
    costs, sizes = Costs(sample=method.seconds, batch=method.batch), demand.sizes
    return Split(
        devices=devices,
        fixed=of_fixed_n(len(looks), demand.n + N0, devices, costs),
        by_look=by_look(looks, sizes, devices, costs),
        by_image=by_image(looks, sizes, devices, costs),
        by_share=by_share(looks, sizes, devices, costs),
    )
