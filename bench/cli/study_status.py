"""Progress of a study, from its files; reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.output import listing, print_json, stdout
from bench.cli.study_stages import log_of, missing_parents, seconds_left

if TYPE_CHECKING:
    from bench.cli.study_file import Item, Study
    from bench.report.formats.terminal import TerminalTable

DONE, RUNNING, PENDING, WAITING, FAILED = "done", "running", "pending", "waiting", "failed"
STATES = (DONE, RUNNING, PENDING, WAITING, FAILED)  # waiting: for a parent's weights


def _states(made: Study, chosen: Sequence[Item]) -> dict[str, str]:
    """State of each item, as its files say."""
    from bench.runs.status import held

    found = {}
    for item in chosen:
        if item.trains:
            if made.weights(item.name).is_file():
                state = DONE
            elif held(made.state / "train" / item.name):
                state = RUNNING
            elif missing_parents(made, item):
                state = WAITING
            else:
                state = FAILED if _failed(log_of(made, item)) else PENDING
            found[item.name] = state
        else:
            found[item.name] = WAITING if missing_parents(made, item) else PENDING
    return found


def _failed(log: Path) -> bool:
    if not log.is_file():
        return False
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.startswith("rrcm-bench: ") and "interrupted" not in line for line in lines)


def _run_states(made: Study, chosen: Sequence[Item]) -> dict[str, tuple[str, str, float | None]]:
    """State, images and seconds left of each run whose parents are there."""
    from bench.cli.requests import request_of
    from bench.runs.request import Opened, plan
    from bench.runs.status import Reader
    from bench.types.errors import BenchError

    found: dict[str, tuple[str, str, float | None]] = {}
    opened: Opened = {}
    for item in chosen:
        if item.table is None or missing_parents(made, item):
            continue
        try:
            jobs = plan(replace(request_of(item.table), download=False), opened)
        except BenchError:
            found[item.name] = FAILED, "", None
            continue
        each = Reader(made.state / "runs", [job.spec for job in jobs]).read()
        states = [run.state for run in each]
        state = next((s for s in (RUNNING, FAILED, PENDING) if s in states), DONE)
        total = sum(run.spec.images for run in each if run.spec)
        known = [run.seconds_left for run in each]
        left = None if None in known else sum(value or 0.0 for value in known)
        found[item.name] = state, f"{sum(run.images for run in each)}/{total}", left
    return found


def _rows(made: Study, chosen: Sequence[Item]) -> list[dict[str, Any]]:
    from bench.cli.study_budget import budgets

    states, runs, spent = _states(made, chosen), _run_states(made, chosen), budgets(made)
    rows = []
    for item in chosen:
        state, images, left = runs.get(item.name, (states[item.name], "", None))
        if state == DONE:
            left = 0.0
        elif left is None:
            left = seconds_left(made, item) if item.trains else item.seconds
        budget = spent.get(item.name)
        rows.append({
            "name": item.name, "kind": "train" if item.trains else "run", "state": state, "images": images,
            "seconds": item.seconds, "seconds_left": left, "parents": list(item.parents),
            "images_seen": budget and budget.images, "copies_seen": budget and budget.copies,
            "flops": budget and budget.flops,
        })  # fmt: skip
    return rows


def record(made: Study, chosen: Sequence[Item]) -> dict[str, Any]:
    """The record of `--json`."""
    rows = _rows(made, chosen)
    return {
        "study": str(made.path),
        "tier": made.tier,
        "out": str(made.state),
        "items": rows,
        **{state: sum(row["state"] == state for row in rows) for state in STATES},
        "seconds_left": _left(rows, "train") / made.jobs + _left(rows, "run"),
    }


def _left(rows: Sequence[Mapping[str, Any]], kind: str) -> float:
    return sum(row["seconds_left"] or 0.0 for row in rows if row["kind"] == kind)


def show(made: Study, chosen: Sequence[Item], cut: Sequence[Sequence[Item]], *, json: bool, dry_run: bool) -> None:
    """How far it is, on stdout."""
    found = record(made, chosen)
    if json:
        print_json(found)
        return
    numbers = {item.name: number for number, items in enumerate(cut, start=1) for item in items}
    stdout().print(_table(made, found["items"], numbers, dry_run=dry_run))
    from bench.report.units import duration

    counts = ", ".join(f"{found[state]} {state}" for state in STATES)
    unknown = sum(row["seconds_left"] is None for row in found["items"])
    besides = f"; {unknown} of no known length besides" if unknown else ""
    stdout().print(f"{counts};  about {duration(found['seconds_left'])} left{besides}")


def _table(made: Study, rows: Sequence[dict[str, Any]], numbers: dict[str, int], *, dry_run: bool) -> TerminalTable:
    from bench.report.units import MISSING, duration

    def seconds(value: float | None) -> str:
        return MISSING if value is None else duration(value) if value else "0"

    def number(value: float | None) -> str:
        return MISSING if value is None else f"{value:.3g}"

    title = f"study {made.path.name}{f', tier {made.tier}' if made.tier else ''} -> {made.state}"
    columns = (
        "state",
        "kind",
        "name",
        *(("parents",) if dry_run else ()),
        "part",
        "images",
        "seen",
        "FLOP",
        "declared",
        "left",
    )
    cells = [
        (
            *(row["state"], row["kind"], row["name"], *((", ".join(row["parents"]),) if dry_run else ())),
            *(str(numbers.get(row["name"], MISSING)), row["images"] or MISSING),
            *(number(row["images_seen"]), number(row["flops"])),
            *(seconds(row["seconds"]), seconds(row["seconds_left"])),
        )
        for row in rows
    ]
    return listing(title, columns, cells, words=4 if dry_run else 3)
