"""`rrcm-bench status`: how far a plan's runs are, from another shell; it reads only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import listing, print_json, remark, stdout
from bench.cli.paths import RUNS, at_home
from bench.types.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.formats.terminal import TerminalTable
    from bench.runs.status import Progress
    from bench.types import RunSpec

WATCH_SECONDS = 2.0
LINE_SECONDS = 30.0  # at most one line in this time, where there is no terminal
SILENT_SECONDS = 600.0  # without a row: then how long is said


def status(
    plan: Annotated[
        Path | None,
        typer.Option(help="Plan file: its runs, also those not begun.", show_default="none", callback=at_home),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--runs", help="Folder of run folders.", show_default="the plan's, results/runs", callback=at_home
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until all is done or Ctrl-C.")] = False,
    json: options.Json = False,
) -> None:
    """Show how far the runs of a folder or plan are: done, running, pending, failed, samples/s, time left."""
    from bench.runs.status import PENDING, RUNNING, Reader, count

    if watch and json:
        raise UsageError("--watch is for people, --json for programs; give one of them")
    specs, out, unplanned = (None, folder, 0) if plan is None else _planned(plan, folder)
    out = out or RUNS
    if plan is None and not out.is_dir():
        raise StoreError(f"no folder {str(out)!r}; expected a folder of runs, or --plan FILE")
    reader = Reader(out, specs)
    found = reader.read()
    if json:
        print_json(_record(found))
        return
    if watch:
        _watch(reader, found)
        return
    stdout().print(_table(found, out))
    for line in (_summary(found), *_failures(found)):
        stdout().print(line)
    if unplanned:
        stdout().print(f"! {unplanned} runs of the plan cannot be planned, as said above")
    if plan is None and not any(count(found)[state] for state in (RUNNING, PENDING)):
        remark("runs that are not begun are known to a plan alone: status --plan FILE")


def _planned(plan: Path, folder: Path | None) -> tuple[list[RunSpec], Path | None, int]:
    """The specs of a plan, where its runs are, and how many of them cannot be planned."""
    from dataclasses import replace

    from bench.cli.jobs import plan_all
    from bench.cli.plan_file import read
    from bench.cli.requests import requests

    file = read(plan)
    asked, _ = requests({}, file)
    jobs, failures = plan_all([replace(request, download=False) for request in asked], None, keep_going=True)
    return [job.spec for job in jobs], folder or file.whole.get("out"), len(failures)


def _watch(reader: Any, found: Sequence[Progress]) -> None:
    """The table in place on a terminal, a line elsewhere, until nothing is open."""
    from rich.console import Group
    from rich.live import Live

    from bench.cli.output import stderr
    from bench.runs.status import PENDING, RUNNING, count

    console = stderr()

    def shown() -> Group:
        return Group(_table(found, reader.out), _summary(found), *_failures(found))

    def is_open() -> bool:
        return any(count(found)[state] for state in (RUNNING, PENDING))

    if console.is_terminal:
        with Live(shown(), console=console, auto_refresh=False) as live:
            while is_open():
                time.sleep(WATCH_SECONDS)
                found = reader.read()
                live.update(shown(), refresh=True)
        return
    remark(_summary(found))
    told = time.monotonic()
    while is_open():
        time.sleep(WATCH_SECONDS)
        found = reader.read()
        if time.monotonic() - told > LINE_SECONDS or not is_open():
            told = time.monotonic()
            remark(_summary(found))


def _table(found: Sequence[Progress], out: Path) -> TerminalTable:
    from bench.report.units import MISSING, duration

    rows = []
    for each in found:
        spec = each.spec
        what = (spec.method, spec.dataset, f"{spec.sigma:g}") if spec else (each.name, MISSING, MISSING)
        images = f"{each.images}/{spec.images}" if spec else MISSING
        rate = f"{each.rate:,.0f}" if each.rate else MISSING
        left = MISSING if each.seconds_left is None else duration(each.seconds_left) if each.seconds_left else "0"
        state = each.state
        if each.silent is not None and each.silent > SILENT_SECONDS:
            state += f", no row for {duration(each.silent)}"
        rows.append((state, *what, images, rate, left))
    columns = ("state", "method", "dataset", "sigma", "images", "samples/s", "left")
    return listing(f"runs in {out}", columns, rows, words=3)


def _summary(found: Sequence[Progress]) -> str:
    from bench.report.units import duration
    from bench.runs.status import RUNNING, count, seconds_left

    counts = ", ".join(f"{number} {state}" for state, number in count(found).items())
    left, unknown = seconds_left(found)
    rate = sum(each.rate or 0.0 for each in found if each.state == RUNNING)
    words = [counts]
    if rate:
        words.append(f"{rate:,.0f} samples/s")
    if left:
        words.append(f"about {duration(left)} left")
    if unknown:
        words.append(f"{unknown} of no known pace" + (" besides" if left else ""))
    return ";  ".join(words)


def _failures(found: Sequence[Progress]) -> list[str]:
    return [
        f"! {each.name}: {each.reason}" + ("" if each.log is None else f"  -> {each.log}")
        for each in found
        if each.reason
    ]


def _record(found: Sequence[Progress]) -> dict[str, Any]:
    from bench.runs.status import RUNNING, count, seconds_left

    left, unknown = seconds_left(found)
    return {
        "runs": [each.as_json() for each in found],
        **count(found),
        "samples_per_second": sum(each.rate or 0.0 for each in found if each.state == RUNNING),
        "seconds_left": left,
        "unknown": unknown,
    }
