"""A run of more copies from the votes of one with fewer: the copies that are there are kept, the others drawn.

Noise is keyed by image and copy, so that the rows are those of a run that drew all n copies: only n was larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.runs.certify import Job
from bench.runs.origin import made_from
from bench.runs.seals import untouched
from bench.runs.store import Run
from bench.types import RunSpec
from bench.types.errors import SpecError

# No vote depends on these: on them a run may differ from the one that it tops up.
_FREE = ("n", "alpha", "subset", "subset_fingerprint", "images")


def topped_up(job: Job, runs: Sequence[Run]) -> Job:
    """The job, to be drawn from the votes of the run that has most of its copies; as it is where none has any.

    Raises: SpecError for a job whose images may stop early; StoreError for a run that was edited.
    """
    if job.spec.stops:
        raise SpecError(
            f"{job.spec.method}: --top-up is for runs of a fixed n; images of this one may stop after looks that are "
            "registered, and a look that was taken cannot be taken again at another n: leave --top-up out"
        )
    found = [run for run in runs if _shared(run, job)]
    if not found:
        return job
    base = untouched(max(found, key=lambda run: (run.spec.n * _shared(run, job), run.spec.n)))
    rows = {row.index: row for row in base.rows if row.index in job.images}
    return replace(job, given=rows, made_from=made_from("top-up", (base,)))


def _shared(run: Run, job: Job) -> int:
    """Images whose votes the job can take over from a run; 0 where it drew other copies, or no fewer."""
    if run.spec.stops or run.spec.n >= job.spec.n or _drawn(run.spec) != _drawn(job.spec):
        return 0
    return sum(row.index in job.images for row in run.rows)


def _drawn(spec: RunSpec) -> dict[str, Any]:
    return {key: value for key, value in spec.as_json().items() if key not in _FREE}
