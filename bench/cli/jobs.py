"""Jobs of `rrcm-bench run`: planned from requests, computed with progress on stderr, their failures told at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.output import remark, resumable

if TYPE_CHECKING:
    from bench.runs.certify import ImageCertifier, Job
    from bench.runs.request import Opened, RunRequest
    from bench.runs.store import Run
    from bench.types import Execution, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What could not be computed, in the words of `--json`."""

    what: str  # method, dataset, noise level
    reason: str
    log: Path | None
    digest: str | None = None  # of its run; None where it could not even be planned

    def as_json(self) -> dict[str, Any]:
        """The record."""
        log = None if self.log is None else str(self.log)
        return {"what": self.what, "digest": self.digest, "reason": self.reason, "log": log}


def plan_all(requests: Sequence[RunRequest], out: Path | None, *, keep_going: bool) -> tuple[list[Job], list[Failure]]:
    """The jobs of all requests, each once; with `keep_going` also what cannot be planned, logged in `out`.

    Words that are off end it at once, for whoever wrote them is still there.
    """
    from bench.runs.request import plan

    jobs: list[Job] = []
    failures: list[Failure] = []
    opened: Opened = {}
    for request in requests:
        if request.methods == ("all",):
            jobs += make_all(request, opened)
        elif not keep_going:
            jobs += plan(request, opened)
        else:
            for part in _parts(request):
                found = _planned(part, opened, out)
                if isinstance(found, Failure):
                    remark(f"! cannot be run  {found.what}: {found.reason}")
                    failures.append(found)
                else:
                    jobs += found
    once = {job.spec.digest(): job for job in jobs}
    if len(once) < len(jobs):
        remark(f"note  {len(jobs) - len(once)} of the runs are asked for twice: each is computed once")
    return list(once.values()), failures


def _parts(request: RunRequest) -> list[RunRequest]:
    """One request a method, so that one that cannot be run takes no other along; whole where words are for several."""
    if request.weights or request.params:
        return [request]
    return [replace(request, methods=(name,)) for name in request.methods]


def _planned(request: RunRequest, opened: Opened, out: Path | None) -> list[Job] | Failure:
    import traceback

    from bench.runs.failures import forget, one_line, write_failure
    from bench.runs.request import plan
    from bench.types.errors import BenchError, UsageError
    from bench.types.plugins import plugin_errors

    names = [name.rpartition("/")[2] for name in (*request.methods, request.dataset)]
    sigmas = ",".join(f"{sigma:g}" for sigma in request.sigmas)
    folder = out and out / f"{'-'.join(names).replace(':', '-')}-s{sigmas}-not-planned"
    try:
        with plugin_errors():
            jobs = plan(request, opened)
    except UsageError:
        raise
    except BenchError as error:
        trace = "".join(traceback.format_exception(error)) if error.__cause__ else ""
        log = write_failure(folder, one_line(error), trace) if folder else None
        return Failure(what=f"{'  '.join(names)}  sigma {sigmas}", reason=one_line(error), log=log)
    if folder:
        forget(folder)
    return jobs


def make_all(request: RunRequest, opened: Opened | None = None) -> list[Job]:
    """Jobs of every installed method that can be run so; the others are named, with their reason."""
    from bench.runs.registry import method_names
    from bench.runs.request import plan
    from bench.types.errors import MethodError, WeightsError
    from bench.types.plugins import plugin_errors

    jobs = []
    for name in method_names():
        try:
            with plugin_errors():
                jobs += plan(replace(request, methods=(name,)), opened)
        except (MethodError, WeightsError) as error:
            remark(f"left out  {str(error).partition(';')[0]}")
    if not jobs:
        raise WeightsError(
            f"no installed method can be run so on {request.dataset}, for the reasons above; expected weights for at "
            "least one: --download fetches those that have an address, --methods NAME tells of each what it needs, "
            "--random-weights measures cost alone"
        )
    return jobs


def compute(
    jobs: Sequence[Job],
    execution: Execution,
    out: Path,
    *,
    keep_going: bool = False,
    ended: Callable[[Path], None] | None = None,
) -> tuple[list[Run], list[Failure]]:
    """All jobs, with progress on stderr: the runs, and what failed; `ended` gets the folder of each that is done."""
    from bench.cli.progress import RunProgress
    from bench.cli.runs import headline
    from bench.report.units import duration
    from bench.runs.preflight import look
    from bench.runs.schedule import Failed, Listener, certify_all
    from bench.types import LOCAL

    if execution.executor != LOCAL:
        many = f"{execution.workers} workers" if execution.workers else "workers"
        remark(f"ask {execution.executor} for {many}; the first rows come as soon as one has a place")
    places = {id(job): f"{k}/{len(jobs)}  " if len(jobs) > 1 else "" for k, job in enumerate(jobs, start=1)}
    apart = execution.executor != LOCAL or len(execution.devices) > 1  # runs overlap: each line says whose it is

    with resumable("the rows so far are kept, the same command goes on from them"), RunProgress() as progress:

        def looked(job: Job, worker: ImageCertifier) -> tuple[str, ...]:
            return () if job.spec.random_weights else look(job, worker).warnings

        def start(job: Job, run: Run, _worker: ImageCertifier, warnings: tuple[str, ...]) -> None:
            spec = run.spec
            marks = "  random weights" if spec.random_weights else ""
            there = f"  ({len(run.rows)} there)" if run.rows else ""
            upto = f"up to {spec.n}, radii {', '.join(f'{r:g}' for r in spec.radii)}" if spec.stops else spec.n
            remark(
                f"run  {places[id(job)]}{title_of(job)}  {spec.images} images ({spec.subset})  n {upto}{marks}{there}  "
                f"-> {run.path}"
            )
            for warning in warnings:
                remark(f"! {warning}")
            progress.start(id(job), title_of(job), spec, run.rows)

        def row(job: Job, row: Row) -> None:
            progress.advance(id(job), row)

        def end(job: Job, run: Run) -> None:
            seconds = progress.end(id(job))
            whose = f"{title_of(job)}  " if apart and len(jobs) > 1 else ""
            remark(f"  {whose}{len(run.rows)}/{run.spec.images}  {headline(run)}  {duration(seconds)}")
            if ended is not None:
                ended(run.path)

        def fail(failed: Failed) -> None:
            progress.end(id(failed.job))
            remark(f"! failed  {title_of(failed.job)}: {failed.line}")

        listener = Listener(look=looked, start=start, row=row, end=end, fail=fail)
        made = certify_all(jobs, execution, out, listener, keep_going=keep_going)
    return (
        [each for each in made if not isinstance(each, Failed)],
        [
            Failure(what=title_of(each.job), reason=each.line, log=each.log, digest=each.job.spec.digest())
            for each in made
            if isinstance(each, Failed)
        ],
    )


def title_of(job: Job) -> str:
    """A job in three words."""
    return f"{job.spec.method}  {job.spec.dataset}  sigma {job.spec.sigma:g}"


def tell_failures(failures: Sequence[Failure], jobs: int) -> None:
    """What failed, each with its reason and the place of its log, at the end of all."""
    unplanned = sum(failure.digest is None for failure in failures)
    remark(f"{len(failures)} of {jobs + unplanned} runs failed:")
    for failure in failures:
        where = "" if failure.log is None else f"  -> {failure.log}"
        remark(f"! {failure.what}: {failure.reason}{where}")
