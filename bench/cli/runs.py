"""`rrcm-bench runs`: what is in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.cli.output import left_out, listing, pairs, print_json, stdout
from bench.cli.paths import at_home

if TYPE_CHECKING:
    from bench.runs.store import Run


def runs(
    digest: Annotated[str | None, typer.Argument(help="First letters of a run's digest; none lists all.")] = None,
    folder: Annotated[Path, typer.Option("--runs", help="Folder of run folders.", callback=at_home)] = Path(
        "results/runs"
    ),
    json: options.Json = False,
) -> None:
    """List the runs of a folder, or show one."""
    from bench.cli.records import run_record
    from bench.runs.store import find_runs

    found = find_runs([folder], left_out)
    if digest is not None:
        run = pick(found, digest, folder)
        record = {**run_record(run), "spec": run.spec.as_json(), "execution": dict(run.execution)}
        record |= {"environment": dict(run.environment), "conflicts": run.conflicts, "unsealed": run.unsealed}
        if json:
            print_json(record)
        else:
            show(run)
        return
    if json:
        print_json({"runs": [run_record(run) for run in found]})
        return
    columns = ("digest", "method", "dataset", "subset", "sigma", "n", "images", "samples", "seconds an image")
    rows = []
    for run in found:
        spec = run.spec
        seconds = sum(row.seconds for row in run.rows) / len(run.rows) if run.rows else 0.0
        rows.append((
            spec.digest()[:10], spec.method + (" (random weights)" if spec.random_weights else ""), spec.dataset,
            spec.subset, f"{spec.sigma:g}", f"up to {spec.n}" if spec.stops else str(spec.n),
            f"{len(run.rows)}/{spec.images}", f"{sum(row.samples for row in run.rows):,}",
            f"{seconds:.3g}",
        ))  # fmt: skip
    stdout().print(listing(f"{len(found)} runs in {folder}", columns, rows, words=4))


def pick(found: list[Run], digest: str, folder: Path) -> Run:
    """The one run whose digest begins so.

    Raises: StoreError for none or several.
    """
    from bench.types.errors import StoreError

    matches = [run for run in found if run.spec.digest().startswith(digest.lower())]
    if len(matches) == 1:
        return matches[0]
    some = ", ".join(run.spec.digest()[:10] for run in (matches or found)[:8]) or "none"
    raise StoreError(f"{len(matches)} runs in {str(folder)!r} begin with {digest!r}, expected 1; there are: {some}")


def show(run: Run) -> None:
    """Everything that a run knows of itself."""
    from bench.cli.records import headline

    console = stdout()
    console.print(f"run {run.spec.digest()}")
    for title, record in (("what", run.spec.as_json()), ("how", run.execution), ("with", run.environment)):
        console.print(pairs(title, record))
    console.print(f"{len(run.rows)}/{run.spec.images} images" + (f"  {headline(run)}" if run.rows else ""))
    if run.unsealed:
        console.print(f"! {run.unsealed} rows are from before rows had seals: a change in them would not be noticed")
    if run.conflicts:
        console.print(
            f"! {run.conflicts} images were certified twice with other votes (ties on another device); the first counts"
        )
