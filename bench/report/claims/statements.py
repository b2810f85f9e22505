"""The rRCM paper's headline claims as printed, each with the derivation that should give its number; no verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from bench.report.claims import derivations
from bench.report.claims.derivations import Derived

_DIFFUSION = ("dds", "densepure-k1", "densepure-k5", "diffsmooth-m5", "diffsmooth-m10", "diffsmooth-m15")
_CLASSICAL = ("gaussian", "consistency", "smoothadv", "boosting", "macer", "smoothmix")  # Denoised prints no r >= 2
_ABSTRACT = "Lei et al., ICLR 2025, abstract"
_INTRODUCTION = "Lei et al., ICLR 2025, Section 1"
_RESULTS = "Lei et al., ICLR 2025, Section 4.2"
_REVIEW = "Lei et al., ICLR 2025, public review"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence of the paper, its number and how to find it again."""

    key: str
    text: str
    where: str
    stated: str  # as printed: "85x"; "" where the claim is a relation
    unit: Literal["times", "points"]
    derive: Callable[[], Derived]
    how: str
    relation: Literal["equal", "positive"] = "equal"


def _on(function: Callable[..., Derived], *words: Any) -> Callable[[], Derived]:
    return partial(function, *words)


_TIMED = ("dds", "densepure-k1", "diffsmooth-m5")
_SCORED = ("dds", "densepure-k1", "diffsmooth-m15")
CLAIMS: tuple[Claim, ...] = (
    Claim(
        key="cost-85x",
        text="85x less inference cost than diffusion-based methods, on average",
        where=_ABSTRACT,
        stated="85x",
        unit="times",
        derive=_on(derivations.latency_ratio, "table1", "rrcm-b-10k", _TIMED),
        how="rRCM-B at N=10 000 (6 s) against DDS, DensePure K=1 and DiffSmooth m=5; mean of the ratios",
    ),
    Claim(
        key="cost-85x-all",
        text="85x less inference cost than diffusion-based methods, on average over all six rows",
        where=_ABSTRACT,
        stated="85x",
        unit="times",
        derive=_on(derivations.latency_ratio, "table1", "rrcm-b-10k", _DIFFUSION),
        how="the same over all diffusion rows of Table 1",
    ),
    Claim(
        key="gain-5.3",
        text="5.3 % higher certified accuracy than diffusion-based methods, on average over radii",
        where=_ABSTRACT,
        stated="5.3%",
        unit="points",
        derive=_on(derivations.mean_gain, "table1", "rrcm-b-10k", _SCORED),
        how="rRCM-B at N=10 000 minus DDS, DensePure K=1 and DiffSmooth m=15 (the cost claim took m=5)",
    ),
    Claim(
        key="gain-5.3-dds",
        text="5.3 % higher certified accuracy than Carlini et al. (DDS), on average over radii",
        where=_INTRODUCTION,
        stated="5.3%",
        unit="points",
        derive=_on(derivations.mean_gain, "table1", "rrcm-b-10k", ("dds",)),
        how="rRCM-B at N=10 000 minus DDS alone; rRCM-B at 100 000 gives 4.30, rRCM-B-Deep 7.53",
    ),
    Claim(
        key="gain-11.6",
        text="up to 11.6 % higher certified accuracy than diffusion-based methods",
        where=_ABSTRACT,
        stated="11.6%",
        unit="points",
        derive=_on(derivations.largest_gain, "table1", "rrcm-b-10k", _SCORED),
        how="rRCM-B at N=10 000, the largest over DDS, DensePure K=1 and DiffSmooth m=15",
    ),
    Claim(
        key="gain-11.6-dds",
        text="up to 11.6 % higher certified accuracy than Carlini et al. (DDS)",
        where=_INTRODUCTION,
        stated="11.6%",
        unit="points",
        derive=_on(derivations.largest_gain, "table1", "rrcm-b-10k", ("dds",)),
        how="rRCM-B at N=10 000 against DDS alone; rRCM-B at 100 000 gives 6.8, rRCM-B-Deep 12.0",
    ),
    Claim(
        key="all-radii-imagenet",
        text="ImageNet: ahead of diffusion-based methods at all perturbation radii",
        where=_ABSTRACT,
        stated="",
        unit="points",
        relation="positive",
        derive=_on(derivations.smallest_lead, "table1", ("rrcm-b-10k", "rrcm-b", "rrcm-b-deep"), _DIFFUSION),
        how="the best rRCM row minus the best diffusion row, per radius",
    ),
    Claim(
        key="gain-8.48",
        text="8.48 % higher certified accuracy than classical methods, on average over radii",
        where=_INTRODUCTION,
        stated="8.48%",
        unit="points",
        derive=_on(derivations.mean_gain, "table1", "rrcm-b-deep", _CLASSICAL),
        how="rRCM-B-Deep minus the six classical rows that print all radii; rRCM-B gives 5.25",
    ),
    Claim(
        key="all-radii-classical",
        text="ImageNet: matches or surpasses classical methods, on average at all perturbation radii",
        where=_INTRODUCTION,
        stated="",
        unit="points",
        relation="positive",
        derive=_on(derivations.smallest_mean_lead, "table1", "rrcm-b-deep", _CLASSICAL),
        how="rRCM-B-Deep minus the mean of the six classical rows, per radius",
    ),
    Claim(
        key="gain-6.4-cifar10",
        text="CIFAR-10: up to 6.4 % higher certified accuracy than DDS",
        where=_RESULTS,
        stated="6.4%",
        unit="points",
        derive=_on(derivations.largest_gain, "table2", "rrcm-b", ("dds",)),
        how="rRCM-B minus DDS",
    ),
    Claim(
        key="all-radii-cifar10",
        text="CIFAR-10: ahead of diffusion-based methods at all perturbation radii",
        where=_RESULTS,
        stated="",
        unit="points",
        relation="positive",
        derive=_on(derivations.smallest_lead, "table2", "rrcm-b", ("dds", "diffsmooth")),
        how="rRCM-B minus the best diffusion row, per radius; a standard error on 500 images is 2.2 points",
    ),
    Claim(
        key="cost-39x",
        text="39x faster than DDS",
        where=_REVIEW,
        stated="39x",
        unit="times",
        derive=_on(derivations.latency_ratio, "table1", "rrcm-b-10k", ("dds",)),
        how="232 s by 6 s, both at N=10 000",
    ),
    Claim(
        key="cost-171x",
        text="171x faster than DensePure K=1",
        where=_REVIEW,
        stated="171x",
        unit="times",
        derive=_on(derivations.latency_ratio, "table1", "rrcm-b-10k", ("densepure-k1",)),
        how="1028 s by 6 s, both at N=10 000",
    ),
    Claim(
        key="cost-46x",
        text="46x faster than DiffSmooth m=15",
        where=_REVIEW,
        stated="46x",
        unit="times",
        derive=_on(derivations.latency_ratio, "table1", "rrcm-b-10k", ("diffsmooth-m15",)),
        how="335 s by 6 s; m=5 gives 46.8",
    ),
    Claim(
        key="gain-5.8",
        text="up to 5.8 % higher certified accuracy than DDS (submitted version)",
        where=_REVIEW,
        stated="5.8%",
        unit="points",
        derive=_on(derivations.largest_gain, "table1", "rrcm-b-10k", ("dds",)),
        how="rRCM-B at N=10 000 minus DDS",
    ),
    *(
        Claim(
            key=f"best-of-grid-{grid}",
            text=f"the {row} row of Table {table[-1]} is the best of the grid of Table {grid[-1]}, per radius",
            where=f"Lei et al., ICLR 2025, Tables {table[-1]} and {grid[-1]}",
            stated="0.0%",
            unit="points",
            derive=_on(derivations.best_of_grid, table, row, grid),
            how="largest difference between the row and the column maxima of the grid",
        )
        for table, row, grid in (
            ("table1", "rrcm-b", "table7"),
            ("table1", "rrcm-b-deep", "table8"),
            ("table2", "rrcm-b", "table9"),
        )
    ),
    Claim(
        key="raw-accuracies",
        text="raw accuracies are r=0 of the cells that give the certified ones",
        where=_REVIEW,
        stated="0.0%",
        unit="points",
        derive=_on(derivations.raw_accuracies, "raw", "rrcm-b-deep", "rrcm-b-deep-raw", "table8"),
        how="largest difference from the winning cells of Table 8",
    ),
)
