"""The paper's latency tables as a plan, and its claims of speed as ratios of the rows that they need."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.published import tables
from bench.types import Scalar
from bench.types.errors import UsageError

_FILE = Path(__file__).with_name("paper.toml")
TABLES = {1: "table1", 2: "table2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One timed row: what the paper measured, as settings of this harness."""

    table: str  # "table1"
    key: str  # of the published row; "" for a row that the paper does not have
    title: str
    method: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    n: int
    batch: int
    seconds: float | None  # as published
    hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim of speed, and what the published rows give."""

    times: float  # as claimed
    where: str
    over: tuple[str, ...]  # rows whose seconds are divided by those of `base`
    base: str
    note: str
    ratios: tuple[float, ...]  # of the published rows, one each of `over`

    @property
    def derived(self) -> float:
        """The mean of the ratios."""
        return sum(self.ratios) / len(self.ratios)


def rows(table: int) -> tuple[PaperRow, ...]:
    """The plan of a table.

    Raises: UsageError for a table without latencies.
    """
    if table not in TABLES:
        raise UsageError(f"--table {table}: expected {' or '.join(map(str, TABLES))}, the tables with latencies")
    name = TABLES[table]
    source = tables.load(name)
    found = []
    for row in _record()["row"]:
        if row["table"] != name:
            continue
        quoted = source.row(row["published"]) if "published" in row else None
        n = int(row["n"]) if "n" in row else (quoted.n if quoted else None)
        assert n is not None  # noqa: S101  every published latency states its N
        found.append(
            PaperRow(
                table=name,
                key=row.get("published", ""),
                title=quoted.title if quoted else row["title"],
                method=row["method"],
                params=row.get("set", {}),
                n=n,
                batch=batch(source.dataset, row["method"]),
                seconds=quoted.latency_s if quoted else None,
                hardware=source.hardware,
            )
        )
    return tuple(found)


def dataset(table: int) -> str:
    """The table's dataset."""
    return tables.load(TABLES[table]).dataset


def batch(dataset: str, method: str) -> int:
    """The paper's batch for a kind of method.

    Raises: UsageError for a dataset that it did not time.
    """
    record = _record()
    if dataset not in record["batch"]:
        raise UsageError(
            f"--batch paper: the paper timed {' and '.join(record['batch'])}, not {dataset!r}; give --batch auto or K"
        )
    group = "classical" if method in record["groups"]["classical"] else "other"
    return int(record["batch"][dataset][group])


def claims() -> tuple[Claim, ...]:
    """Every claim, with the ratios of the published seconds at equal N."""
    found = []
    for row in _record()["claim"]:
        table = tables.load(row["table"])
        base = table.row(row["base"])
        over = [table.row(key) for key in row["over"]]
        # A ratio of seconds at different N would be no ratio of methods.
        assert base.latency_s  # noqa: S101
        assert all(r.latency_s and r.n == base.n for r in over)  # noqa: S101
        found.append(
            Claim(
                times=float(row["times"]),
                where=row["where"],
                over=tuple(row["over"]),
                base=row["base"],
                note=row["note"],
                ratios=tuple((r.latency_s or 0.0) / base.latency_s for r in over),
            )
        )
    return tuple(found)


def rederived(claim: Claim, seconds: Mapping[str, float]) -> float | None:
    """The claim's ratio from other seconds by row, all of one kind; None where a row that it needs is missing."""
    if any(key not in seconds for key in (*claim.over, claim.base)):
        return None
    return sum(seconds[key] / seconds[claim.base] for key in claim.over) / len(claim.over)


@cache
def _record() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
