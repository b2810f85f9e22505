"""`rrcm-bench study`: stages of training, then runs, then a report; what is there is skipped, at every step."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import listing, print_json, remark, resumable, stdout
from bench.cli.paths import at_home
from bench.types.errors import StoreError, TrainingError, UsageError

if TYPE_CHECKING:
    from bench.cli.jobs import Failure
    from bench.cli.study_file import Item, Study
    from bench.report.formats.terminal import TerminalTable
    from bench.runs.certify import Job

ENDING_SECONDS = 20.0  # that an interrupted stage has to save its checkpoint
DONE, RUNNING, PENDING, WAITING, FAILED = "done", "running", "pending", "waiting", "failed"
STATES = (DONE, RUNNING, PENDING, WAITING, FAILED)  # waiting: for a parent's weights


def study(
    file: Annotated[Path, typer.Argument(help="Study file (docs/plans.md).", callback=at_home)],
    tier: Annotated[str | None, typer.Option(help="NAME of a tier of the file.", show_default="the only one")] = None,
    part: Annotated[
        int | None, typer.Option(help="Only the K-th part of the tier, from 1.", show_default="all")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of all that is made; with --part, of the part's archive.",
            show_default="TIER beside the file",
            callback=at_home,
        ),
    ] = None,
    take: Annotated[
        Path | None,
        typer.Option(
            help="Folder of parts' archives made elsewhere: read first.", show_default="none", callback=at_home
        ),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show how far it is, and stop; reads only.")] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train a study's stages, certify its runs and write its report; killed, the same command goes on."""
    from bench.cli.study_file import read_study
    from bench.cli.study_parts import MOST_FILES, Archive, unpack

    if part is not None and out is None:
        raise UsageError("--part needs --out, the folder of its archive")
    made = read_study(file, tier, None if part is not None else out)
    cut = _cut(made, needed=part is not None)
    if part is not None and not 1 <= part <= len(cut):
        raise UsageError(f"--part {part}: expected 1 to {len(cut)}")
    chosen = list(made.items) if part is None else cut[part - 1]
    if take is not None and not (status or dry_run):
        unpack(take, made.state)
    if status or dry_run:
        _show(made, chosen, cut, json=json, dry_run=dry_run)
        return
    archive = None if part is None or out is None else Archive(out, f"part-{part}", made.state)
    with resumable("what is done is kept, the same command goes on from it"):
        failures = _compute(made, chosen, archive)
    if archive is not None and archive.files > MOST_FILES:
        remark(f"! {archive.files} files in {out}, more than {MOST_FILES}: cut the part smaller")
    if json:
        print_json(_record(made, chosen))
    else:
        _show(made, chosen, cut, json=False, dry_run=False)
    if failures:
        from bench.cli.jobs import tell_failures

        tell_failures(failures, len(chosen) - len(failures))
        raise typer.Exit(1)


def _cut(made: Study, *, needed: bool) -> list[list[Item]]:
    """The parts; one of all where none is needed and nothing says how long they are to be."""
    from bench.cli.study_file import parts

    try:
        return parts(made)
    except UsageError:
        if needed:
            raise
        return [list(made.items)]


def _compute(made: Study, chosen: Sequence[Item], archive: Any) -> list[Failure]:
    """Stages in order, then all runs by one pool, then the report; what failed, and what waits for it."""
    from bench.cli.jobs import Failure, compute

    failures: list[Failure] = []
    stages = [item for item in chosen if item.trains]
    for number, item in enumerate(stages, start=1):
        if made.weights(item.name).is_file():
            remark(f"there  {item.name}")
            continue
        if missing := _missing(made, item):
            failures.append(Failure(what=item.name, reason=f"waits for {', '.join(missing)}", log=None))
            continue
        remark(f"train  {number}/{len(stages)}  {item.name}  -> {made.state / 'train' / item.name}")
        try:
            _train(made, item)
        except TrainingError as error:
            log = _log(made, item)
            failures.append(Failure(what=item.name, reason=str(error), log=log))
            remark(f"! failed  {item.name}: {error}")
            continue
        if archive is not None:
            archive.add([made.weights(item.name), _record_of(made, item)])
    jobs, unplanned = _jobs(made, [item for item in chosen if not item.trains], made.state / "runs")
    failures += unplanned
    if jobs:
        saved = archive.add_run if archive is not None else None
        _, failed = compute(
            jobs,
            options.execution_of("local", made.device, "auto", None, ()),
            made.state / "runs",
            keep_going=True,
            ended=saved,
        )
        failures += failed
    if jobs and made.report and archive is None and not failures:
        failures += _report(made)
    return failures


def _report(made: Study) -> list[Failure]:
    from bench.cli.jobs import Failure

    folder = made.state / "report"
    words = ["report", "--runs", str(made.state / "runs"), "--out", str(folder), *made.report]
    remark(f"report  -> {folder}")
    ended = subprocess.run(_own(words), env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
    if not ended.returncode:
        return []
    said = ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"]
    return [Failure(what="report", reason=said[-1].removeprefix("rrcm-bench: "), log=None)]


def _jobs(made: Study, items: Sequence[Item], out: Path) -> tuple[list[Job], list[Failure]]:
    """Jobs of the runs whose parents are done; the others, with what they wait for."""
    from bench.cli.jobs import Failure, plan_all
    from bench.cli.requests import request_of

    waiting = [
        Failure(what=item.name, reason=f"waits for {', '.join(missing)}", log=None)
        for item in items
        if (missing := _missing(made, item))
    ]
    ready = [request_of(item.table) for item in items if item.table is not None and not _missing(made, item)]
    jobs, failures = plan_all(ready, out, keep_going=True) if ready else ([], [])
    return jobs, [*waiting, *failures]


def _missing(made: Study, item: Item) -> list[str]:
    return [parent for parent in item.parents if not made.weights(parent).is_file()]


def _record_of(made: Study, item: Item) -> Path:
    return made.weights(item.name).with_suffix(".json")


def _log(made: Study, item: Item) -> Path:
    return made.state / "train" / item.name / "log.txt"


def _train(made: Study, item: Item) -> None:
    """A stage in a process of its own, as `rrcm-bench train` would; its weights take their place when it has ended.

    Raises: TrainingError with its last line.
    """
    from bench.runs.locks import drawing
    from bench.types.atomic_file import atomic_write

    folder, weights = made.state / "train" / item.name, made.weights(item.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r}: {error.strerror}; give --out another folder") from error
    with drawing(folder):
        if weights.is_file():  # another process was at it
            return
        words = ["train", *item.words, "--out", str(folder / "run"), "--json"]
        said: list[str] = []
        with (
            subprocess.Popen(  # noqa: S603
                _own(words),
                env=_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                preexec_fn=_with_parent,
            ) as process,
            _log(made, item).open("w", encoding="utf-8") as log,
        ):
            assert process.stderr is not None  # noqa: S101  it is a pipe
            assert process.stdout is not None  # noqa: S101
            try:
                for line in process.stderr:
                    log.write(line)
                    remark(f"  {line.rstrip()}")
                    said.append(line.strip())
                text = process.stdout.read()
            except BaseException as error:
                _end(process, error)
                raise
        if process.returncode:
            last = next((line for line in reversed(said) if line), f"it ended with {process.returncode}")
            raise TrainingError(last.removeprefix("rrcm-bench: "))
        record = json.loads(text)
        atomic_write(_record_of(made, item), json.dumps({"words": item.words, "result": record}, indent=1) + "\n")
        atomic_write(weights, Path(record["weights"]).read_bytes())


def _end(process: subprocess.Popen[str], error: BaseException) -> None:
    """Let a stage end in order: it keeps its checkpoint. Ctrl-C of a terminal has reached it by itself."""
    if isinstance(error, KeyboardInterrupt) and signal.SIGTERM not in error.args:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_SECONDS)
            return
    process.terminate()


def _with_parent() -> None:
    """On Linux: a stage dies with whoever started it, even by kill -9, for the next one goes on from its checkpoint."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of <sys/prctl.h>


def _own(words: Sequence[str]) -> list[str]:
    # -P: a folder `bench` of the user's must not be taken for this package.
    return [sys.executable, "-P", "-c", "from bench.cli import main; main()", *words]


def _environment() -> dict[str, str]:
    import bench

    path = os.pathsep.join(filter(None, (str(Path(bench.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


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
            elif _missing(made, item):
                state = WAITING
            else:
                state = FAILED if _failed(_log(made, item)) else PENDING
            found[item.name] = state
        else:
            found[item.name] = WAITING if _missing(made, item) else PENDING
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
        if item.table is None or _missing(made, item):
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
    states, runs = _states(made, chosen), _run_states(made, chosen)
    rows = []
    for item in chosen:
        state, images, left = runs.get(item.name, (states[item.name], "", None))
        if state == DONE:
            left = 0.0
        elif left is None:
            left = item.seconds
        rows.append({
            "name": item.name, "kind": "train" if item.trains else "run", "state": state, "images": images,
            "seconds": item.seconds, "seconds_left": left, "parents": list(item.parents),
        })  # fmt: skip
    return rows


def _record(made: Study, chosen: Sequence[Item]) -> dict[str, Any]:
    rows = _rows(made, chosen)
    return {
        "study": str(made.path),
        "tier": made.tier,
        "out": str(made.state),
        "items": rows,
        **{state: sum(row["state"] == state for row in rows) for state in STATES},
        "seconds_left": sum(row["seconds_left"] or 0.0 for row in rows),
    }


def _show(made: Study, chosen: Sequence[Item], cut: Sequence[Sequence[Item]], *, json: bool, dry_run: bool) -> None:
    record = _record(made, chosen)
    if json:
        print_json(record)
        return
    numbers = {item.name: number for number, items in enumerate(cut, start=1) for item in items}
    stdout().print(_table(made, record["items"], numbers, dry_run=dry_run))
    from bench.report.units import duration

    counts = ", ".join(f"{record[state]} {state}" for state in STATES)
    unknown = sum(row["seconds_left"] is None for row in record["items"])
    besides = f"; {unknown} of no known length besides" if unknown else ""
    stdout().print(f"{counts};  about {duration(record['seconds_left'])} left{besides}")


def _table(made: Study, rows: Sequence[dict[str, Any]], numbers: dict[str, int], *, dry_run: bool) -> TerminalTable:
    from bench.report.units import MISSING, duration

    def seconds(value: float | None) -> str:
        return MISSING if value is None else duration(value) if value else "0"

    title = f"study {made.path.name}{f', tier {made.tier}' if made.tier else ''} -> {made.state}"
    columns = ("state", "kind", "name", *(("parents",) if dry_run else ()), "part", "images", "declared", "left")
    cells = [
        (
            *(row["state"], row["kind"], row["name"], *((", ".join(row["parents"]),) if dry_run else ())),
            *(str(numbers.get(row["name"], MISSING)), row["images"] or MISSING),
            *(seconds(row["seconds"]), seconds(row["seconds_left"])),
        )
        for row in rows
    ]
    return listing(title, columns, cells, words=4 if dry_run else 3)
