"""`rrcm-bench run`: certify, store, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import completion
from bench.cli.output import JSON_OPTION, doubt_lengths, print_json, remark, resumable, stdout
from bench.cli.paths import CLASS_ORDER, DATA_ROOT, at_home

if TYPE_CHECKING:
    from bench.runs.certify import ImageCertifier, Job
    from bench.runs.request import RunRequest
    from bench.runs.store import Run
    from bench.types import Execution

RUNS = Path("results/runs")


def run(
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, with commas between; all; or file.py:NAME.",
            show_default="embedded plan",
            autocompletion=completion.methods,
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset.", show_default="embedded plan", autocompletion=completion.datasets)
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(help="Noise levels, l2 in [0, 1] pixels, with commas between.", show_default="0.25,0.5,1.0"),
    ] = None,
    n0: Annotated[int | None, typer.Option(help="Samples an image for choosing the class.", show_default="100")] = None,
    n: Annotated[int | None, typer.Option(help="Samples an image for the bound.", show_default="100000")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Chance that an image's certificate is wrong.", show_default="0.001")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Key of the smoothing noise.", show_default="0")] = None,
    subset: Annotated[
        str | None,
        typer.Option(
            help="Images: skip:20 | first:500 | 500:1000 | all | file:PATH.", show_default="the dataset's own"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first K images of the subset.", show_default="all")
    ] = None,
    data_root: Annotated[Path | None, DATA_ROOT] = None,
    class_order: Annotated[str | None, CLASS_ORDER] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crop, pixels.", show_default="the method's own")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="[METHOD.]ROLE=PATH; {sigma} in PATH becomes 0.25 and so on.", show_default="the catalogue"),
    ] = None,
    random_weights: Annotated[
        bool | None,
        typer.Option("--random-weights", help="Random networks: for cost, never for accuracy.", show_default="off"),
    ] = None,
    download: Annotated[
        bool | None,
        typer.Option(
            "--download", help="Fetch known weights that are not here; sha256 is checked.", show_default="off"
        ),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option("--set", help="[METHOD.]key=value: a method's setting.", show_default="see `methods NAME`"),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32 | tf32 | bf16 | fp16.",
            show_default="fp32",
            autocompletion=completion.precisions,
        ),
    ] = None,
    certifier: Annotated[
        str | None,
        typer.Option(
            help="cohen: n samples an image; sequential: up to n, until its verdicts at --radii are settled.",
            show_default="cohen",
            autocompletion=completion.certifiers,
        ),
    ] = None,
    radii: Annotated[
        str | None,
        typer.Option(
            help="Radii of the verdicts where images may stop, l2, with commas between.",
            show_default="those of the dataset's tables",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Where images may stop: table (certified accuracy, from the true label) | deploy (without labels).",
            show_default="table",
        ),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="sequential: chance to give up a radius that holds.", show_default="0.001")
    ] = None,
    early_stop: Annotated[
        bool | None,
        typer.Option("--early-stop", help="cohen: stop once more samples cannot move a verdict.", show_default="off"),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto | cpu | cuda:0,cuda:1: one worker each; of a cluster: auto | cpu | cuda.")
    ] = "auto",
    batch: Annotated[str, typer.Option(help="Copies a forward pass: auto | K. Moves no vote.")] = "auto",
    compile_passes: Annotated[
        bool,
        typer.Option(
            "--compile", help="Full passes by torch.compile, where faster; it rounds otherwise, as another GPU does."
        ),
    ] = False,
    executor: Annotated[
        str,
        typer.Option(
            help="local: this machine; ray: the cluster of RAY_ADDRESS, or one started here; slurm: a job array.",
            autocompletion=completion.executors,
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="How many; none of them moves a vote.", show_default="devices; ray: all; slurm: 1"),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of sbatch or submitit: partition=gpu, timeout_min=240.", show_default="none"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of run folders.", callback=at_home)] = RUNS,
    plan: Annotated[
        Path | None,
        typer.Option(help="TOML file of runs; options given here go over it.", show_default="none", callback=at_home),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost, and stop.")] = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Certify methods on a dataset; without options, the embedded default on real handwritten digits."""
    from dataclasses import replace

    from bench.cli.dry_run import show_cost
    from bench.cli.execution import execution_of
    from bench.cli.requests import numbers, requests
    from bench.runs.request import plan as plan_jobs

    options: dict[str, Any] = {
        "methods": methods, "dataset": dataset, "sigma": None if sigma is None else numbers(sigma), "n0": n0, "n": n,
        "alpha": alpha, "seed": seed, "subset": subset, "limit": limit, "data_root": data_root, "size": size,
        "class_order": class_order,
        "weights": weights or None, "random_weights": random_weights, "download": download, "set": params or None,
        "precision": precision, "certifier": certifier, "mode": mode, "beta": beta, "early_stop": early_stop,
        "radii": None if radii is None else numbers(radii, "--radii", "0,0.25,0.5"),
    }  # fmt: skip
    asked, source = requests(options, plan)
    where = "local" if dry_run else executor  # a probe is of this machine
    execution = replace(
        execution_of(where, device, batch, None if dry_run else workers, () if dry_run else tuple(slurm or ())),
        compiled=compile_passes,
    )
    jobs = [
        job for request in asked for job in (make_all(request) if request.methods == ("all",) else plan_jobs(request))
    ]
    if source:
        remark(f"plan {source}: {len(jobs)} runs")
    for note in dict.fromkeys(note for job in jobs for note in job.notes):
        remark(f"note  {note}")
    if any(job.spec.certifier == "sequential" for job in jobs):
        remark(
            "note  sequential: alpha is spent once on these images and this noise; a second look at them is refused "
            "under the same --out alone: under another, give another --seed"
        )
    doubt_lengths((job.spec.sigma for job in jobs), (r for job in jobs for r in job.spec.radii))
    if dry_run:
        show_cost(jobs, execution, json)
        return
    runs = compute(jobs, execution, out)
    show(runs, out, json)


def make_all(request: RunRequest) -> list[Job]:
    """Jobs of every installed method that can be run so; the others are named, with their reason."""
    from dataclasses import replace

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
    from bench.cli.records import headline
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
        from bench.cli.records import run_record

        print_json({"runs": [run_record(run) for run in runs]})
        return
    from bench.report.build import build
    from bench.report.formats.markdown import terminal

    console = stdout()
    for table in build(runs).tables:
        console.print(terminal(table))
    remark(f"votes are kept under {out}; tables, LaTeX and plots: rrcm-bench report --runs {out} --out FOLDER")
