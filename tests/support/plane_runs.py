"""Runs of the plane by whichever executor, for tests that compare their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from one_job import certify
from places import SUPPORT

from bench.runs.certify import Job
from bench.runs.request import RunRequest
from bench.runs.store import Run
from bench.types import Execution, Row

REQUEST = RunRequest(
    methods=(f"{(SUPPORT / 'plane_method.py')}:PLANE",),
    dataset="digits",
    sigmas=(0.5,),
    n=2000,
    subset="first:10",
    certifier="sequential",
    radii=(0.0, 0.25, 0.5, 0.75),
)


def compute(job: Job, out: Path, execution: Execution, on_row: Callable[[Row], None] = lambda _row: None) -> Run:
    return certify(job, execution, out, lambda _run, _worker: None, on_row)


def timeless(run: Run) -> list[Row]:
    return [replace(row, seconds=0.0) for row in run.rows]
