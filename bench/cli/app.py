"""The commands, put together; each lives in a module of its own."""

from __future__ import annotations

import typer

from bench.cli import (
    bench,
    catalogue,
    claims,
    compare,
    conversion,
    doctor,
    latency,
    logs,
    plan,
    report,
    run,
    runs,
    strips,
    train,
)

app = typer.Typer(
    name="rrcm-bench",
    help="Certify randomized-smoothing methods by one Monte Carlo certifier, and print their tables and plots.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("runs")(runs.runs)
app.command("report")(report.report)
app.command("strips")(strips.strips)
app.command("compare")(compare.compare)
app.command("claims")(claims.claims)
app.command("methods")(catalogue.methods)
app.command("datasets")(catalogue.datasets)
app.command("latency")(latency.latency)
app.command("bench")(bench.bench)
app.command("check")(catalogue.check)
app.command("doctor")(doctor.doctor)

weights = typer.Typer(
    help="Known weights: list them, verify them, add your own, convert published ones.", no_args_is_help=True
)
weights.command("list")(catalogue.weights_list)
weights.command("verify")(catalogue.weights_verify)
weights.command("add")(catalogue.weights_add)
weights.command("convert")(conversion.weights_convert)
app.add_typer(weights, name="weights")

published = typer.Typer(help="Published certification logs: audit them, import them.", no_args_is_help=True)
published.command("audit")(logs.audit)
published.command("import")(logs.import_)
app.add_typer(published, name="logs")

app.command("train")(train.train)
