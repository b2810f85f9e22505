"""`rrcm-bench study`: stages of training, then runs, then a report; what is there is skipped, at every step."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.cli.output import print_json, remark, resumable
from bench.cli.paths import at_home
from bench.cli.study_stages import missing_parents, own_command, own_environment, record_of, train_stages
from bench.types.errors import UsageError

if TYPE_CHECKING:
    from bench.cli.jobs import Failure
    from bench.cli.study_file import Item, Study
    from bench.cli.study_parts import Archive
    from bench.runs.certify import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """The words of `rrcm-bench study`."""

    file: Annotated[Path, typer.Argument(help="Study file (docs/plans.md).", callback=at_home)]
    tier: Annotated[str | None, typer.Option(help="NAME of a tier of the file.", show_default="the only one")] = None
    part: Annotated[int | None, typer.Option(help="Only the K-th part of the tier, from 1.", show_default="all")] = None
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of all that is made; with --part, of the part's archive.",
            show_default="TIER beside the file",
            callback=at_home,
        ),
    ] = None
    take: Annotated[
        Path | None,
        typer.Option(
            help="Folder of parts' archives made elsewhere: read first.", show_default="none", callback=at_home
        ),
    ] = None
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Stages at once, on one device.", show_default="the tier's, or 1")
    ] = None
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Time limit: nothing is begun that declares more than is left.", show_default="none"),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of every stage, over the file's.", metavar="KEY=VALUE"),
    ] = None
    data_root: options.DataRoot = None
    train_only: Annotated[bool, typer.Option("--train-only", help="Leave the runs and the report.")] = False
    count: Annotated[bool, typer.Option("--count", help="Count the FLOP of each stage by dry runs, and stop.")] = False
    catalogue: Annotated[
        Path | None,
        typer.Option(
            help="Copy weights beside this catalogue, list them in it, and stop.",
            show_default="none",
            callback=at_home,
        ),
    ] = None
    status: Annotated[bool, typer.Option("--status", help="Show how far it is, and stop; reads only.")] = False
    dry_run: options.DryRun = False
    json: options.Json = False


def study(given: StudyOptions) -> None:
    """Train a study's stages, certify its runs and write its report; killed, the same command goes on."""
    from bench.cli.study_budget import count_flops
    from bench.cli.study_file import read_study
    from bench.cli.study_parts import MOST_FILES, Archive, unpack
    from bench.cli.study_status import record, show

    if given.part is not None and given.out is None:
        raise UsageError("--part needs --out, the folder of its archive")
    until = None if given.seconds is None else time.monotonic() + given.seconds
    made = read_study(
        given.file,
        given.tier,
        None if given.part is not None else given.out,
        data_root=given.data_root,
        settings=given.settings or (),
        jobs=given.jobs,
    )
    cut = _cut(made, needed=given.part is not None)
    if given.part is not None and not 1 <= given.part <= len(cut):
        raise UsageError(f"--part {given.part}: expected 1 to {len(cut)}")
    chosen = list(made.items) if given.part is None else cut[given.part - 1]
    if given.train_only:
        chosen = [item for item in chosen if item.trains]
    if given.take is not None and not (given.status or given.dry_run):
        unpack(given.take, made.state)
    if given.status or given.dry_run:
        show(made, chosen, cut, json=given.json, dry_run=given.dry_run)
        return
    if given.count:
        count_flops(made, [item for item in chosen if item.trains])
        show(made, chosen, cut, json=given.json, dry_run=False)
        return
    if given.catalogue is not None:
        _list(made, given.catalogue, json=given.json)
        return
    archive = None if given.part is None or given.out is None else Archive(given.out, f"part-{given.part}", made.state)
    with resumable("what is done is kept, the same command goes on from it"):
        failures = _compute(made, chosen, archive, until)
    if archive is not None and archive.files > MOST_FILES:
        remark(f"! {archive.files} files in {given.out}, more than {MOST_FILES}: cut the part smaller")
    if given.json:
        print_json(record(made, chosen))
    else:
        show(made, chosen, cut, json=False, dry_run=False)
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


def _list(made: Study, catalogue: Path, *, json: bool) -> None:
    from bench.cli.catalogue import entry_record, show_weights
    from bench.cli.study_catalogue import list_weights

    states = [(entry, "ok", catalogue.parent / str(entry.file)) for entry in list_weights(made, catalogue)]
    if json:
        print_json({"weights": [entry_record(*state) for state in states]})
    else:
        show_weights(states, f"listed in {catalogue}")


def _compute(made: Study, chosen: Sequence[Item], archive: Archive | None, until: float | None) -> list[Failure]:
    """Stages, then all runs by one pool, then the report; what failed, and what waits for it."""
    from bench.cli.jobs import compute

    def ended(item: Item) -> None:
        if archive is not None:
            archive.add([path for path in (made.weights(item.name), record_of(made, item)) if path.is_file()])

    stages = [item for item in chosen if item.trains]
    failures = train_stages(made, stages, jobs=made.jobs, deadline=until, ended=ended)
    runs = [item for item in chosen if not item.trains]
    if until is not None:
        left = until - time.monotonic()
        failures += [_late(item) for item in runs if (item.seconds or 0.0) > left]
        runs = [item for item in runs if (item.seconds or 0.0) <= left]
    jobs, unplanned = _jobs(made, runs, made.state / "runs")
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


def _late(item: Item) -> Failure:
    from bench.cli.jobs import Failure

    return Failure(what=item.name, reason=f"not begun: {item.seconds:g} s declared, fewer left", log=None)


def _report(made: Study) -> list[Failure]:
    from bench.cli.jobs import Failure

    folder = made.state / "report"
    words = ["report", "--runs", str(made.state / "runs"), "--out", str(folder), *made.report]
    remark(f"report  -> {folder}")
    ended = subprocess.run(own_command(words), env=own_environment(), capture_output=True, text=True, check=False)  # noqa: S603
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
        if (missing := missing_parents(made, item))
    ]
    ready = [request_of(item.table) for item in items if item.table is not None and not missing_parents(made, item)]
    jobs, failures = plan_all(ready, out, keep_going=True) if ready else ([], [])
    return jobs, [*waiting, *failures]
