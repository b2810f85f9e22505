"""`rrcm-bench verify`: whether a stored run is as it was written, and whether rows of it come out equal here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import print_json, remark, resumable, stdout
from bench.cli.paths import at_home

if TYPE_CHECKING:
    from bench.report.verification import Verification
    from bench.runs.certify import Job
    from bench.runs.store import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """The words of `rrcm-bench verify`."""

    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False, callback=at_home)]
    rows: Annotated[int, typer.Option(min=0, help="Rows to draw again, at random; 0: check the seals alone.")] = 10
    seed: Annotated[
        int | None, typer.Option(help="Which rows are taken.", show_default="another each time, and said")
    ] = None
    data_root: options.DataRoot = None
    class_order: options.ClassOrder = None
    weights: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=PATH, for files that the catalogue does not know.", show_default="by their hashes"),
    ] = None
    method: Annotated[
        str | None, typer.Option(help="FILE.py:NAME of a run of your own method.", show_default="the run's")
    ] = None
    dataset: Annotated[
        str | None, typer.Option(help="FILE.py:NAME of a run on your own dataset.", show_default="the run's")
    ] = None
    device: options.Device = "auto"
    batch: options.RunBatch = "auto"
    json: options.Json = False


def verify(given: VerifyOptions) -> None:
    """Check a run's seals and weights, and draw some of its rows again.

    Exit code 0 where all is equal, 3 where not, 1 where no row could be drawn.
    """
    from bench.runs.seals import seal_words
    from bench.runs.store import RUN_FILE, read_run
    from bench.types.errors import BenchError, UsageError

    run = read_run(given.run)
    record: dict[str, Any] = {
        "digest": run.spec.digest(),
        "path": str(run.path),
        "seal": seal_words(run),
        "run_sha256": sha256((run.path / RUN_FILE).read_bytes()).hexdigest(),
        "weights": dict(run.spec.weights),
    }
    if not given.json:
        _tell_seals(run, record)
    found: Verification | None = None
    seed, differing, files, problem = 0, list[str](), dict[str, str](), None
    try:
        found, seed, differing, files = _redrawn(run, given)
    except UsageError:
        raise
    except BenchError as error:  # the seals have been checked: that is said first
        problem = error
        record["not_drawn"] = str(error)
    if found is not None:
        record |= {"files": files, "seed": seed, "differs_here": differing, **asdict(found)}
    if given.json:
        print_json(record)
    elif found is not None:
        for role, name in files.items():
            stdout().print(f"weights  {role} {run.spec.weights[role][:10]}: {name}")
        _tell_rows(found, seed, differing)
    if problem is not None:
        remark(f"rrcm-bench: only the seals were checked, no row was drawn again: {problem}")
    if run.edited or (found is not None and not found.passed):
        raise typer.Exit(3)
    if problem is not None:
        raise typer.Exit(1)


def _redrawn(run: Run, given: VerifyOptions) -> tuple[Verification | None, int, list[str], dict[str, str]]:
    """The rows that were drawn again beside the stored ones, by which seed they were taken, what differs, and with
    which files of weights, by role.

    Raises: WeightsError where weights are not here; another BenchError for images, code or a device that are not.
    """
    from secrets import randbelow

    from bench.data.class_order import read_class_order
    from bench.runs.redraw import changes, chosen, redrawer, redrawing

    seed = randbelow(10**6) if given.seed is None else given.seed
    if not given.rows or not run.rows:
        return None, seed, [], {}
    job = redrawing(
        run,
        chosen(run.rows, given.rows, seed),
        method=given.method,
        dataset=given.dataset,
        data_root=given.data_root,
        class_order=given.class_order and read_class_order(given.class_order),
        weights=_roles(given.weights or ()),
    )
    (device,) = options.execution_of("local", given.device or "auto", given.batch or "auto", None, ()).devices[:1]
    worker, here = redrawer(job, device, options.parse_batch(given.batch or "auto"))
    files = {role: file.name for role, file in job.weights.items()}
    return _drawn(run, here, worker.rows(job.indices)), seed, changes(run, device, here.spec.precision), files


def _drawn(run: Run, job: Job, rows: Any) -> Verification:
    from bench.cli.progress import RunProgress
    from bench.report.verification import verification

    there = {row.index: row for row in run.rows}
    pairs = []
    with resumable("nothing was written"), RunProgress() as progress:
        progress.start(0, f"verify {job.spec.method}", replace(job.spec, images=len(job.indices)), ())
        for row in rows:
            pairs.append((there[row.index], row))
            progress.advance(0, row)
    return verification(run.spec, pairs)


def _roles(words: Sequence[str]) -> dict[str, str]:
    from bench.types.errors import UsageError

    found = {}
    for word in words:
        role, equals, path = word.partition("=")
        if not (role and equals and path):
            raise UsageError(f"--weights {word!r}: expected ROLE=PATH")
        found[role] = path
    return found


def _tell_seals(run: Run, record: dict[str, Any]) -> None:
    screen, spec = stdout(), run.spec
    screen.print(f"run      {spec.digest()[:10]}  {spec.method}  {spec.dataset}  sigma {spec.sigma:g}  n {spec.n:,}")
    screen.print(f"seals    {'! ' if run.edited else ''}{record['seal']}")
    screen.print(f"record   sha256 {record['run_sha256']}")


def _tell_rows(found: Verification, seed: int, differing: Sequence[str]) -> None:
    from bench.report.verification import words

    screen = stdout()
    for line in differing:
        screen.print(f"differs  {line}")
    screen.print(f"rows     {words(found)} (chosen by --seed {seed})")
    if not found.passed and any(not line.startswith("commit") for line in differing):
        screen.print("         another device, precision or version rounds otherwise: votes near a tie may move")
