"""`rrcm-bench run`: certify, store, print."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import doubt_lengths, print_json, remark, resumable, stdout
from bench.cli.paths import at_home

if TYPE_CHECKING:
    from bench.runs.certify import ImageCertifier, Job
    from bench.runs.request import RunRequest
    from bench.runs.store import Run
    from bench.types import Execution

RUNS = Path("results/runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The words of `rrcm-bench run`; None: not given."""

    methods: options.RunMethods = None
    dataset: options.RunDataset = None
    sigma: options.RunSigmas = None
    n0: options.RunN0 = None
    n: options.N = None
    alpha: options.RunAlpha = None
    seed: Annotated[int | None, typer.Option(help="Key of the smoothing noise.", show_default="0")] = None
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
        typer.Option(
            "--download", help="Fetch known weights that are not here; sha256 is checked.", show_default="off"
        ),
    ] = None
    params: options.Settings = None
    precision: options.RunPrecision = None
    certifier: options.RunCertifier = None
    radii: Annotated[
        str | None,
        typer.Option(
            help="Radii of the verdicts where images may stop, l2, with commas between.",
            show_default="those of the dataset's tables",
        ),
    ] = None
    mode: Annotated[
        str | None,
        typer.Option(
            help="Where images may stop: table (certified accuracy, from the true label) | deploy (without labels).",
            show_default="table",
        ),
    ] = None
    beta: Annotated[
        float | None, typer.Option(help="sequential: chance to give up a radius that holds.", show_default="0.001")
    ] = None
    early_stop: Annotated[
        bool | None,
        typer.Option("--early-stop", help="cohen: stop once more samples cannot move a verdict.", show_default="off"),
    ] = None
    device: options.RunDevice = "auto"
    batch: options.RunBatch = "auto"
    compile_passes: Annotated[
        bool,
        typer.Option(
            "--compile", help="Full passes by torch.compile, where faster; it rounds otherwise, as another GPU does."
        ),
    ] = False
    executor: options.RunExecutor = "local"
    workers: Annotated[
        int | None,
        typer.Option(help="How many; none of them moves a vote.", show_default="devices; ray: all; slurm: 1"),
    ] = None
    slurm: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of sbatch or submitit: partition=gpu, timeout_min=240.", show_default="none"),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder of run folders.", callback=at_home)] = RUNS
    plan: Annotated[
        Path | None,
        typer.Option(help="TOML file of runs; options given here go over it.", show_default="none", callback=at_home),
    ] = None
    dry_run: options.DryRun = False
    json: options.Json = False


def run(given: RunOptions) -> None:
    """Certify methods on a dataset; without options, the embedded default on real handwritten digits."""
    from bench.cli.dry_run import show_cost
    from bench.cli.requests import requests
    from bench.runs.request import plan
    from bench.runs.store import SEQUENTIAL

    asked, source = requests(_asked(given), given.plan)
    execution = _execution(given)
    jobs = [job for request in asked for job in (make_all(request) if request.methods == ("all",) else plan(request))]
    if source:
        remark(f"plan {source}: {len(jobs)} runs")
    for note in dict.fromkeys(note for job in jobs for note in job.notes):
        remark(f"note  {note}")
    if any(job.spec.certifier == SEQUENTIAL for job in jobs):
        remark(
            "note  sequential: alpha is spent once on these images and this noise; a second look at them is refused "
            "under the same --out alone: under another, give another --seed"
        )
    doubt_lengths((job.spec.sigma for job in jobs), (r for job in jobs for r in job.spec.radii))
    if given.dry_run:
        show_cost(jobs, execution, given.json)
        return
    show(compute(jobs, execution, given.out), given.out, given.json)


def _asked(given: RunOptions) -> dict[str, Any]:
    """What is to be certified, by the keys of plan files; None: not given."""
    from bench.cli.requests import KEYS, numbers

    asked = {key: getattr(given, "params" if key == "set" else key) for key in KEYS}
    return asked | {
        "sigma": None if given.sigma is None else numbers(given.sigma),
        "radii": None if given.radii is None else numbers(given.radii, "--radii", "0,0.25,0.5"),
        "weights": given.weights or None,
        "set": given.params or None,
    }


def _execution(given: RunOptions) -> Execution:
    """How it is computed; a dry run probes this machine."""
    if given.dry_run:
        made = options.execution_of("local", given.device, given.batch, None, ())
    else:
        made = options.execution_of(given.executor, given.device, given.batch, given.workers, tuple(given.slurm or ()))
    return replace(made, compiled=given.compile_passes)


def make_all(request: RunRequest) -> list[Job]:
    """Jobs of every installed method that can be run so; the others are named, with their reason."""
    from bench.runs.registry import method_names
    from bench.runs.request import plan
    from bench.types.errors import MethodError, WeightsError
    from bench.types.plugins import told_apart

    jobs = []
    for name in method_names():
        try:
            with told_apart():
                jobs += plan(replace(request, methods=(name,)))
        except (MethodError, WeightsError) as error:
            remark(f"left out  {str(error).partition(';')[0]}")
    return jobs


def compute(jobs: list[Job], execution: Execution, out: Path) -> list[Run]:
    """All jobs, one after another, with progress on stderr."""
    import time

    from bench.cli.progress import RunProgress
    from bench.cli.runs import headline
    from bench.report.units import duration
    from bench.runs.certify import certify
    from bench.runs.preflight import look
    from bench.types import LOCAL

    if execution.executor != LOCAL:
        many = f"{execution.workers} workers" if execution.workers else "workers"
        remark(f"ask {execution.executor} for {many}; the first rows come as soon as one has a place")
    done = []
    with resumable("the rows so far are kept, the same command goes on from them"), RunProgress() as progress:
        for job in jobs:
            spec = job.spec
            title = f"{spec.method}  {spec.dataset}  sigma {spec.sigma:g}"

            def begin(run: Run, worker: ImageCertifier, title: str = title, job: Job = job) -> None:
                spec = run.spec
                marks = "  random weights" if spec.random_weights else ""
                there = f"  ({len(run.rows)} there)" if run.rows else ""
                upto = f"up to {spec.n}, radii {', '.join(f'{r:g}' for r in spec.radii)}" if spec.stops else spec.n
                remark(f"run  {title}  {spec.images} images ({spec.subset})  n {upto}{marks}{there}  -> {run.path}")
                if not run.rows and not spec.random_weights:
                    for warning in look(job, worker).warnings:
                        remark(f"! {warning}")
                progress.start(title, spec, run.rows)

            started = time.monotonic()
            run = certify(job, execution, out, begin, progress.advance)
            remark(f"  {len(run.rows)}/{spec.images}  {headline(run)}  {duration(time.monotonic() - started)}")
            done.append(run)
    return done


def show(runs: list[Run], out: Path, json: bool) -> None:
    """The table of what was certified, or its JSON."""
    if json:
        from bench.cli.runs import run_record

        print_json({"runs": [run_record(run) for run in runs]})
        return
    from bench.report.build import build
    from bench.report.formats.markdown import terminal

    console = stdout()
    for table in build(runs).tables:
        console.print(terminal(table))
    remark(f"votes are kept under {out}; tables, LaTeX and plots: rrcm-bench report --runs {out} --out FOLDER")
