"""`rrcm-bench run`: certify, store, print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import doubt_lengths, left_out, print_json, remark, stdout
from bench.cli.paths import RUNS, at_home
from bench.types import LOCAL, SLURM
from bench.types.errors import UsageError

if TYPE_CHECKING:
    from bench.cli.jobs import Failure
    from bench.runs.certify import Job
    from bench.runs.store import Run
    from bench.types import Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The words of `rrcm-bench run`; None: not given."""

    methods: options.RunMethods = None
    dataset: options.RunDataset = None
    sigma: options.RunSigmas = None
    n0: options.RunN0 = None
    n: options.N = None
    alpha: options.RunAlpha = None
    seed: Annotated[int | None, options.certificate(help="Key of the smoothing noise.", show_default="0")] = None
    subset: options.RunSubset = None
    limit: options.RunLimit = None
    data_root: options.DataRoot = None
    class_order: options.ClassOrder = None
    size: options.Size = None
    preprocessing: options.Preprocessing = None
    weights: options.RunWeights = None
    random_weights: options.RunRandomWeights = None
    download: Annotated[
        bool | None,
        options.network(
            "--download", help="Fetch known weights that are not here; sha256 is checked.", show_default="off"
        ),
    ] = None
    params: options.Settings = None
    precision: options.RunPrecision = None
    certifier: options.RunCertifier = None
    radii: Annotated[
        str | None,
        options.certificate(
            help="Radii of the verdicts where images may stop, l2, with commas between.",
            show_default="those of the dataset's tables",
        ),
    ] = None
    mode: Annotated[
        str | None,
        options.certificate(
            help="Where images may stop: table (certified accuracy, from the true label) | deploy (without labels).",
            show_default="table",
        ),
    ] = None
    beta: Annotated[
        float | None,
        options.certificate(help="sequential: chance to give up a radius that holds.", show_default="0.001"),
    ] = None
    early_stop: Annotated[
        bool | None,
        options.certificate(
            "--early-stop", help="cohen: stop once more samples cannot move a verdict.", show_default="off"
        ),
    ] = None
    device: options.RunDevice = None
    allow_slow_precision: options.AllowSlowPrecision = None
    batch: options.RunBatch = None
    compiling: options.RunCompile = None
    executor: options.RunExecutor = None
    workers: Annotated[
        int | None,
        options.computing(help="How many; none of them moves a vote.", show_default="devices; ray: all; slurm: 1"),
    ] = None
    slurm: Annotated[
        list[str] | None,
        options.computing(help="KEY=VALUE of sbatch or submitit: partition=gpu, timeout_min=240.", show_default="none"),
    ] = None
    detach: Annotated[
        bool | None,
        options.computing(
            "--detach", help="slurm: the driver is a job too, and this command ends at once.", show_default="off"
        ),
    ] = None
    keep_going: Annotated[
        bool | None,
        options.computing(
            "--keep-going/--stop-at-first-failure",
            help="Whether the other runs are computed where one fails.",
            show_default="keep going with --plan",
        ),
    ] = None
    out: Annotated[
        Path | None, options.output(help="Folder of run folders.", show_default=str(RUNS), callback=at_home)
    ] = None
    top_up: Annotated[
        str | None,
        options.certificate(
            help="Keep the votes of runs of a smaller n, draw the rest: auto (those under --out), or their folder.",
            show_default="all n are drawn",
        ),
    ] = None
    plan: Annotated[
        Path | None,
        options.images(
            help="TOML file of runs (docs/plans.md); options given here go over it.",
            show_default="none",
            callback=at_home,
        ),
    ] = None
    dry_run: options.RunDryRun = None
    json: options.RunJson = None


def run(given: RunOptions) -> None:
    """Certify methods on a dataset; without options, the embedded default on real handwritten digits."""
    from bench.cli.dry_run import show_cost
    from bench.cli.jobs import compute, plan_all, tell_failures
    from bench.cli.plan_file import read
    from bench.cli.requests import requests
    from bench.runs.execution.environment import check_instructions

    plan = None if given.plan is None else read(given.plan)
    if plan is not None:  # which serves where no option is given
        given = replace(given, **{key: v for key, v in plan.whole.items() if getattr(given, key) in (None, [])})
    out = given.out or RUNS
    asked, source = requests(_asked(given), plan)
    execution = _execution(given)
    if given.detach and not given.dry_run:
        _detach(execution, out, given.plan)
        return
    keep_going = given.plan is not None if given.keep_going is None else given.keep_going
    jobs, failures = plan_all(asked, None if given.dry_run else out, keep_going=keep_going)
    if not given.allow_slow_precision:
        for job in jobs:
            check_instructions(execution.devices if execution.executor == LOCAL else (), job.spec.precision)
    if given.top_up is not None:
        jobs = _topped_up(jobs, given.top_up, out)
    _announce(jobs, source)
    if given.dry_run:
        show_cost(jobs, execution, out, bool(given.json))
    else:
        made, more = compute(jobs, execution, out, keep_going=keep_going)
        failures += more
        show(made, failures, out, bool(given.json))
    if failures:
        tell_failures(failures, len(jobs))
        raise typer.Exit(1)


def _detach(execution: Execution, out: Path, plan: Path | None) -> None:
    from bench.runs.execution.detach import DETACH, detach

    job = detach([word for word in sys.argv[1:] if word != DETACH], execution, out)
    remark(f"driver is job {job.number}; it writes {job.log}; it goes on when this terminal is closed")
    look = ["rrcm-bench", "status", *(["--plan", str(plan)] if plan else []), "--runs", str(out)]
    remark(f"how far it is: {shlex.join(look)}    to end it: {job.cancel}")


def _announce(jobs: Sequence[Job], source: str | None) -> None:
    """What will be run, and what is to be known of it."""
    from bench.certification.stopping_rule import is_sequential

    if source:
        remark(f"plan {source}: {len(jobs)} runs")
    for note in dict.fromkeys(note for job in jobs for note in job.notes):
        remark(f"note  {note}")
    if any(is_sequential(job.spec.certifier) for job in jobs):
        remark(
            "note  sequential: alpha is spent once on these images and this noise; a second look at them is refused "
            "under the same --out alone: under another, give another --seed"
        )
    doubt_lengths((job.spec.sigma for job in jobs), (r for job in jobs for r in job.spec.radii))


def _topped_up(jobs: list[Job], words: str, out: Path) -> list[Job]:
    """The jobs, drawn from the votes of runs that are there.

    Raises: StoreError where no job can be.
    """
    from bench.runs.origin import origin_words
    from bench.runs.store import find_runs
    from bench.runs.top_up import topped_up
    from bench.types.errors import StoreError

    folder = out if words == "auto" else at_home(Path(words))
    found = find_runs([folder], left_out) if words != "auto" or folder.is_dir() else []
    made = [topped_up(job, found) for job in jobs]
    if not any(job.given for job in made):
        raise StoreError(
            f"--top-up {words}: none of {len(found)} runs in {str(folder)!r} has the first of these copies; expected "
            "runs with the same settings and a smaller n; leave --top-up out to draw all of them"
        )
    for job in made:
        name = f"{job.spec.method}  sigma {job.spec.sigma:g}"
        if job.made_from is None:
            remark(f"! {name}: no run to top up, all n are drawn")
        else:
            remark(f"note  {name}: {len(job.given)} images {origin_words(job.made_from)}")
    return made


def _asked(given: RunOptions) -> dict[str, Any]:
    """What is to be certified, by the keys of plan files; None: not given."""
    from bench.cli.plan_file import KEYS
    from bench.cli.requests import numbers

    asked = {key: getattr(given, "params" if key == "set" else key) for key in KEYS}
    return asked | {
        "sigma": None if given.sigma is None else numbers(given.sigma),
        "radii": None if given.radii is None else numbers(given.radii, "--radii", "0,0.25,0.5"),
        "weights": given.weights or None,
        "set": given.params or None,
    }


def _execution(given: RunOptions) -> Execution:
    """How it is computed; a dry run probes this machine."""
    device, batch = given.device or "auto", given.batch or "auto"
    executor, slurm = given.executor or LOCAL, tuple(given.slurm or ())
    if given.detach and executor != SLURM:
        raise UsageError("--detach is for --executor slurm; give that too, or leave it out")
    if given.dry_run:
        made = options.execution_of(LOCAL, device, batch, None, ())
    else:
        made = options.execution_of(executor, device, batch, given.workers, slurm)
    return replace(made, compile=options.compile_of(given.compiling))


def show(runs: list[Run], failures: Sequence[Failure], out: Path, json: bool) -> None:
    """The table of what was certified, or its JSON."""
    if json:
        from bench.cli.runs import run_record

        failed = {"failed": [failure.as_json() for failure in failures]} if failures else {}
        print_json({"runs": [run_record(run) for run in runs], **failed})
        return
    if not runs:
        return
    from bench.report.build import build
    from bench.report.formats.terminal import terminal

    console = stdout()
    for table in build(runs).tables:
        console.print(terminal(table))
    remark(f"votes are kept under {out}; tables, LaTeX and plots: rrcm-bench report --runs {out} --out FOLDER")
