"""A run folder of four images, with rows that are set by hand."""

from __future__ import annotations

from pathlib import Path

from bench.runs.store import RowWriter, open_run
from bench.types import Counts, Execution, Row, RunSpec

SPEC = RunSpec(
    method="gaussian", params={"arch": "net", "flag": True}, weights={"network": "ab" * 32}, dataset="digits",
    split="test", subset="first:4", subset_fingerprint="cd" * 32, images=4, shape=(1, 8, 8), preprocessing="none",
    sigma=0.5, n0=10, n=100, alpha=0.001, certifier="cohen", seed=0, precision="fp32", noise="v",
)  # fmt: skip
HOW = Execution(("cpu",), None)


def row(index: int, votes: int = 90) -> Row:
    return Row(index, f"f{index}", 1, Counts.of([(1, 10)]), Counts.of([(1, votes), (4, 100 - votes)]), 0.5)


def filled(tmp_path: Path, *rows: Row) -> Path:
    run = open_run(tmp_path, SPEC, HOW, {"python": "3"})
    with RowWriter(run.path) as writer:
        for r in rows:
            writer.append(r)
    return run.path


def rows_file(folder: Path) -> Path:
    return next(folder.glob("rows*.jsonl"))
