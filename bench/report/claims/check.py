"""The rRCM paper's headline claims, each derived again from the published tables; what is not derivable says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from bench.published.tables import load
from bench.report import units
from bench.report.claims.derivations import BoldCell, bold_cells
from bench.report.claims.statements import CLAIMS, Claim
from bench.report.hypothesis_tests import LEVEL, holm
from bench.report.tables.table import Cell, Column, Line, Table

_BOLD_TABLES = ("table1", "table2", "table7", "table8", "table9")
_FAMILY = ("table1", "table2")  # bold cells that claim a win over other methods: tested together


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim beside what the tables give."""

    key: str
    text: str
    where: str
    stated: str
    derived: str  # in the claim's own unit
    value: float  # a ratio, or a fraction; of a claim about bold cells, the share for which it is true
    holds: bool
    how: str
    rows: tuple[str, ...]  # "table1/dds"
    note: str = ""


def findings() -> tuple[Finding, ...]:
    """All claims with their verdicts, in the paper's order; the bold cells last."""
    return (*(_judge(claim) for claim in CLAIMS), *_bold_findings())


def bold_statistics() -> tuple[tuple[BoldCell, float], ...]:
    """Bold cells of Tables 1 and 2 with Holm's p-value over all of them; unpaired, for their images are not known."""
    # Two rows that tie, both bold, are one comparison.
    pairs = {
        (cell.table, cell.radius, frozenset((cell.row, cell.rival))): cell
        for table in _FAMILY
        for cell in bold_cells(table)
        if cell.p is not None
    }
    cells = list(pairs.values())
    return tuple(zip(cells, holm([cell.p or 0.0 for cell in cells]), strict=True))


def as_json(found: tuple[Finding, ...]) -> dict[str, Any]:
    """Plain values."""
    return {
        "format": 1,
        "claims": [{**asdict(each), "rows": list(each.rows)} for each in found],
        "bold": [{**asdict(cell), "largest": cell.largest, "p_holm": p} for cell, p in bold_statistics()],
    }


def claims_table(found: tuple[Finding, ...]) -> Table:
    """The claims as a table, all of it quoted."""

    def cell(text: str, origin: str) -> Cell:
        return Cell(value=text, unit="text", source="quoted", origin=origin)

    rows: list[Line] = [
        tuple(
            cell(text, each.where)
            for text in (
                *(each.text, each.where.removeprefix("Lei et al., ICLR 2025, "), each.stated, each.derived),
                *("holds" if each.holds else "does not hold", "; ".join(filter(None, (each.how, each.note)))),
            )
        )
        for each in found
    ]
    kept = sum(each.holds for each in found)
    return Table(
        name="claims",
        title="The headline claims of Lei et al., ICLR 2025, derived again from its own tables",
        caption=f"{kept} of {len(found)} hold; the rows that each needs are in --json",
        columns=tuple(Column(key, key) for key in ("claim", "where", "stated", "derived", "verdict", "how")),
        rows=tuple(rows),
        notes=(
            "holds: the tables give the stated number as printed, rounded or cut to its digits",
            "a number that follows from one choice of rows holds for these rows alone: rows differ between claims",
        ),
    )


def _judge(claim: Claim) -> Finding:
    found = claim.derive()
    if claim.relation == "positive":
        holds = found.value > 1e-9
        derived = f"{_points(found.value)} points"
    else:
        scaled = Decimal(repr(found.value * (1 if claim.unit == "times" else 100)))
        derived = f"{scaled:.2f}{'x' if claim.unit == 'times' else ' points'}"
        printed = Decimal(claim.stated.rstrip("x% "))
        step = Decimal(1).scaleb(int(printed.as_tuple().exponent))
        # A binary fraction is off by 1e-17: 0.1159999... is 11.6 points.
        near = scaled.quantize(Decimal("1e-9"))
        holds = printed in (near.quantize(step, ROUND_HALF_UP), near.quantize(step, ROUND_DOWN))
    return Finding(
        key=claim.key,
        text=claim.text,
        where=claim.where,
        stated=claim.stated or "> 0",
        derived=derived,
        value=found.value,
        holds=holds,
        how=claim.how,
        rows=found.rows,
        note=found.detail,
    )


def _bold_findings() -> list[Finding]:
    """One finding a table: each bold cell is the largest of its column; for Tables 1 and 2, and beyond chance."""
    made = []
    for table in _BOLD_TABLES:
        cells, source = bold_cells(table), load(table)
        wrong = [cell for cell in cells if not cell.largest]
        detail = "; ".join(
            f"{c.row} at r={c.radius:g}: {_points(c.value)}, but {c.rival} has {_points(c.best)}" for c in wrong
        )
        made.append(
            Finding(
                key=f"bold-{table}",
                text=f"bold cells of {source.source.rpartition(', ')[2]} are the largest of their columns",
                where=source.source,
                stated=f"{len(cells)} of {len(cells)}",
                derived=f"{len(cells) - len(wrong)} of {len(cells)}",
                value=(len(cells) - len(wrong)) / len(cells),
                holds=not wrong,
                how="each bold cell against every row of another method, in a grid of one method against every row",
                rows=tuple(dict.fromkeys(key for c in cells for key in (f"{table}/{c.row}", f"{table}/{c.rival}"))),
                note=detail,
            )
        )
    tested = bold_statistics()
    sure = [cell for cell, p in tested if p <= LEVEL and cell.value > cell.best]
    smallest = min(p for _, p in tested)
    made.append(
        Finding(
            key="bold-significance",
            text="bold cells of Tables 1 and 2 are better than the next method beyond the choice of images",
            where="Lei et al., ICLR 2025, Tables 1 and 2",
            stated=f"{len(tested)} of {len(tested)}",
            derived=f"{len(sure)} of {len(tested)}",
            value=len(sure) / len(tested),
            holds=len(sure) == len(tested),
            how=f"two-proportion tests on the stated 500 images, Holm over {len(tested)} cells at {LEVEL:g}",
            rows=tuple(dict.fromkeys(key for c, _ in tested for key in (f"{c.table}/{c.row}", f"{c.table}/{c.rival}"))),
            note=f"smallest corrected p {units.p_value(smallest)}; paired tests on common images could see more",
        )
    )
    return made


def _points(fraction: float) -> str:
    return units.points(round(fraction, 9))
