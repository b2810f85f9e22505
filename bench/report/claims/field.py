"""Which of the rRCM paper's claims survive the rows that its rivals publish of themselves, which its tables leave out.

Those rows are of other networks, training data, N and images: what is compared is what is printed, no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.published.tables import PublishedTable, load
from bench.report import units
from bench.report.tables.table import Cell, Column, Line, Table

_DIFFUSION = ("dds", "densepure", "diffsmooth")
_CAVEAT = "; N, images, networks and training data differ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """A claim beside what others print of themselves."""

    key: str
    text: str
    where: str
    stated: str  # "5.3%"; "> 0" of a relation
    derived: str
    value: float  # a fraction
    survives: bool
    how: str
    rows: tuple[str, ...]  # "field_imagenet/dmae-b"


@dataclass(frozen=True, slots=True)
class Gap:
    """Ours minus a row of another at one radius at which both print a number."""

    value: float
    radius: float
    rival: str


def gaps(table: str, ours: Sequence[str], field: str, rivals: Sequence[str]) -> tuple[Gap, ...]:
    """The best of our rows minus each of theirs, by radius, then rival."""
    own, others = load(table), load(field)
    made = []
    for k, radius in enumerate(others.radii):
        best = _best(own, ours, radius)
        for rival in rivals:
            value = others.row(rival).values[k]
            if value is not None and best is not None:
                made.append(Gap(best - value, radius, rival))
    return tuple(made)


def survivals() -> tuple[Survival, ...]:
    """The claims that others' own rows bear on, in the paper's order."""
    small, every = ("rrcm-b-10k",), ("rrcm-b-10k", "rrcm-b", "rrcm-b-deep")
    abstract, results = "Lei et al., ICLR 2025, abstract", "Lei et al., ICLR 2025, Section 4.2"
    introduction = "Lei et al., ICLR 2025, Section 1"
    imagenet, cifar = ("table1", "field_imagenet"), ("table2", "field_cifar10")
    return (
        _lead("ahead-imagenet", "ImageNet: ahead of diffusion-based methods at all perturbation radii", abstract,
              *imagenet, every, _DIFFUSION),
        _mean("gain-5.3-dds", "5.3 % higher certified accuracy than Carlini et al. (DDS), on average over radii",
              introduction, "5.3%", *imagenet, small, "dds"),
        _most("gain-11.6-dds", "up to 11.6 % higher certified accuracy than Carlini et al. (DDS)", introduction,
              "11.6%", *imagenet, small, "dds"),
        *(
            _lead(f"state-of-the-art-{rival}", f"ImageNet: rRCM-B-Deep (177M) is the state of the art, beside {named}",
                  results, *imagenet, ("rrcm-b-deep",), (rival,))
            for rival, named in (("dmae-b", "DMAE ViT-B (87M)"), ("dmae-l", "DMAE ViT-L (304M)"),
                                 ("cat-rs", "CAT-RS (ResNet-50)"))
        ),
        _most("gain-6.4-cifar10", "CIFAR-10: up to 6.4 % higher certified accuracy than DDS", results, "6.4%", *cifar,
              ("rrcm-b",), "dds"),
        _lead("ahead-cifar10", "CIFAR-10: ahead of diffusion-based methods at all perturbation radii", results, *cifar,
              ("rrcm-b",), ("dds", "densepure")),
        _lead("state-of-the-art-cifar10", "CIFAR-10: rRCM-B is the state of the art, beside DMAE ViT-B and CAT-RS",
              introduction, *cifar, ("rrcm-b",),
              ("dmae-b", "dmae-b-continued", "cat-rs-0.25", "cat-rs-0.5", "cat-rs-1")),
    )  # fmt: skip


def survival_table(found: Sequence[Survival]) -> Table:
    """The claims as a table, all of it quoted."""
    rows: list[Line] = []
    for each in found:
        words = (
            *(each.text, each.where.removeprefix("Lei et al., ICLR 2025, "), each.stated, each.derived),
            *("survives" if each.survives else "does not survive", each.how),
        )
        rows.append(tuple(Cell(value=w, unit="text", source="quoted", origin=", ".join(each.rows)) for w in words))
    kept = sum(each.survives for each in found)
    return Table(
        name="claims-field",
        title="The same claims beside what others publish of themselves (report --table field)",
        caption=f"{kept} of {len(found)} survive, at the radii where both sides print a number",
        columns=tuple(Column(key, key) for key in ("claim", "where", "stated", "derived", "verdict", "how")),
        rows=tuple(rows),
        notes=(
            "quoted on both sides, of other networks, training data, N and images: no ranking, and no test of chance",
            "Lei et al. ran DDS, DensePure and DiffSmooth again, with a network of rRCM-B's size, to claim this",
            "of FT-CADIS, MDDS and BRONet no number with a source that could be read: no claim is checked against them",
        ),
    )


def _lead(
    key: str, text: str, where: str, table: str, field: str, ours: Sequence[str], rivals: Sequence[str]
) -> Survival:
    found = gaps(table, ours, field, rivals)
    least = min(found, key=lambda gap: (gap.value, gap.radius))
    behind = [gap for gap in found if gap.value <= 1e-9]
    said = "ahead" if not behind else "not ahead of " + ", ".join(f"{g.rival} at r={g.radius:g}" for g in behind)
    return _survival(key, text, where, "> 0", least.value, not behind, f"{said}{_CAVEAT}", table, field, ours, found)


def _mean(
    key: str, text: str, where: str, stated: str, table: str, field: str, ours: Sequence[str], rival: str
) -> Survival:
    found = gaps(table, ours, field, (rival,))
    value = fmean(gap.value for gap in found)
    how = f"mean over r={', '.join(f'{gap.radius:g}' for gap in found)}{_CAVEAT}"
    return _survival(key, text, where, stated, value, value >= _fraction(stated), how, table, field, ours, found)


def _most(
    key: str, text: str, where: str, stated: str, table: str, field: str, ours: Sequence[str], rival: str
) -> Survival:
    found = gaps(table, ours, field, (rival,))
    top = max(found, key=lambda gap: (gap.value, -gap.radius))
    how = f"the largest, at r={top.radius:g}{_CAVEAT}"
    return _survival(
        key, text, where, stated, top.value, top.value >= _fraction(stated), how, table, field, ours, found
    )


def _survival(
    key: str, text: str, where: str, stated: str, value: float, survives: bool, how: str, table: str, field: str,
    ours: Sequence[str], found: Sequence[Gap],
) -> Survival:  # fmt: skip
    rivals = dict.fromkeys(gap.rival for gap in found)
    return Survival(
        key=f"field-{key}",
        text=text,
        where=where,
        stated=stated,
        derived=f"{units.points(round(value, 9))} points",
        value=value,
        survives=survives,
        how=how,
        rows=(*(f"{table}/{row}" for row in ours), *(f"{field}/{row}" for row in rivals)),
    )


def _fraction(stated: str) -> float:
    return float(stated.rstrip("%")) / 100 - 1e-9


def _best(table: PublishedTable, rows: Sequence[str], radius: float) -> float | None:
    """The best of our rows at a radius of others' tables; None where ours prints none."""
    if radius not in table.radii:
        return None
    known = [table.row(row).values[table.radii.index(radius)] for row in rows]
    return max((value for value in known if value is not None), default=None)


def as_json(found: Sequence[Survival]) -> list[dict[str, Any]]:
    """Plain values."""
    from dataclasses import asdict

    return [{**asdict(each), "rows": list(each.rows)} for each in found]
