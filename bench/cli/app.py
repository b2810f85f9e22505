"""The commands, put together; each lives in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import (
    archive,
    bench,
    catalogue,
    compare,
    convert,
    doctor,
    generate,
    latency,
    logs,
    plan,
    probe,
    report,
    run,
    runs,
    status,
    strips,
    study,
    train,
    verify,
    weights_show,
)
from bench.cli.options import of_record
from bench.cli.output import command

app = typer.Typer(
    name="rrcm-bench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, asked: bool) -> None:
    if asked:
        from bench.runs.execution.environment import own_version

        print(f"rrcm-bench {own_version()}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda asked: _print_version(asked=asked), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Certify randomized-smoothing methods by one Monte Carlo certifier, and print their tables and plots."""
    del version  # printed by its callback


app.command("run")(command(of_record(run.run)))
app.command("plan")(command(plan.plan))
stored = typer.Typer(
    cls=runs.ListsByDefault,
    help="List stored runs, or show one by its digest (see `runs list --help`); join, pack and unpack them.",
)
stored.command("list")(command(runs.runs))
stored.command("merge")(command(archive.runs_merge))
stored.command("export")(command(archive.runs_export))
stored.command("import")(command(archive.runs_import))
app.add_typer(stored, name="runs")
app.command("status")(command(status.status))
app.command("verify")(command(of_record(verify.verify)))
app.command("report")(command(of_record(report.report)))
app.command("probe")(command(of_record(probe.probe)))
app.command("generate")(command(of_record(generate.generate)))
app.command("strips")(command(of_record(strips.strips)))
app.command("compare")(command(compare.compare))
app.command("claims")(command(compare.claims))
app.command("methods")(command(catalogue.methods))
app.command("datasets")(command(catalogue.datasets))
app.command("latency")(command(of_record(latency.latency)))
app.command("bench")(command(bench.bench))
app.command("check")(command(catalogue.check))
app.command("doctor")(command(doctor.doctor))

weights = typer.Typer(
    help="Known weights: list, verify, add or remove them, convert published ones, show how they were made.",
    no_args_is_help=True,
)
weights.command("list")(command(catalogue.weights_list))
weights.command("verify")(command(catalogue.weights_verify))
weights.command("add")(command(of_record(catalogue.weights_add)))
weights.command("remove")(command(catalogue.weights_remove))
weights.command("convert")(command(convert.weights_convert))
weights.command("show")(command(weights_show.weights_show))
app.add_typer(weights, name="weights")

published = typer.Typer(help="Published certification logs: audit them, import them.", no_args_is_help=True)
published.command("audit")(command(logs.audit))
published.command("import")(command(logs.import_))
app.add_typer(published, name="logs")

app.command("study")(command(of_record(study.study)))
app.command("train")(command(of_record(train.train)))
