"""Runs made in memory, with votes that are set by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.report.tables.table import Cell, Table
from bench.runs.store import Run
from bench.types import Counts, Row, RunSpec

RIGHT, WRONG = 3, 5


def row(index: int, votes: int, n: int = 1000, wrong: int = WRONG) -> Row:
    """An image whose right class gets that many of the n votes; the selection goes to whichever has more."""
    leader = RIGHT if 2 * votes >= n else wrong
    return Row(
        index=index,
        fingerprint=f"image-{index}",
        label=RIGHT,
        selection=Counts.of([(leader, 100)]),
        estimation=Counts.of([(RIGHT, votes), (wrong, n - votes)]),
        seconds=0.5,
    )


def run(votes: list[int], *, images: int | None = None, folder: str = "a", **changes: Any) -> Run:
    """A run with one image for each entry; `images` more than these leaves it incomplete."""
    fields: dict[str, Any] = {
        "method": "gaussian",
        "params": {},
        "weights": {"network": "aa"},
        "dataset": "digits",
        "split": "test",
        "subset": "skip:5",
        "subset_fingerprint": "ab" * 32,
        "images": len(votes) if images is None else images,
        "shape": (1, 8, 8),
        "preprocessing": "none",
        "sigma": 0.5,
        "n0": 100,
        "n": 1000,
        "alpha": 0.001,
        "certifier": "cohen",
        "seed": 0,
        "precision": "fp32",
        "noise": "philox-1",
    }
    spec = RunSpec(**{**fields, **changes})
    rows = tuple(row(index, right, spec.n) for index, right in enumerate(votes))
    return Run(path=Path(folder), spec=spec, rows=rows, environment={}, execution={})


def cell(table: Table, line: int, key: str) -> Cell:
    return table.rows[line][[column.key for column in table.columns].index(key)]
