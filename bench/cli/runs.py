"""`rrcm-bench runs`: what is in the store; runs in the words of `--json` and in one line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bench.cli import options
from bench.cli.output import left_out, pairs, print_json, stdout
from bench.cli.paths import RUNS, at_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.tables.table import Table
    from bench.runs.store import Run


class ListsByDefault(TyperGroup):
    """`runs`, `runs DIGEST` and `runs --json` are `runs list ...`: a word that is no command is a digest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words with the command that they leave out."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def runs(
    digest: options.RunDigest = None,
    folder: Annotated[Path, typer.Option("--runs", help="Folder of run folders.", callback=at_home)] = RUNS,
    json: options.Json = False,
) -> None:
    """List the runs of a folder, or show one."""
    from bench.runs.store import find_runs

    found = find_runs([folder], left_out)
    if digest is not None:
        run = pick(found, digest, folder)
        record = {**run_record(run), "spec": run.spec.as_json(), "execution": dict(run.execution)}
        record |= {"environment": dict(run.environment), "conflicts": run.conflicts, "unsealed": run.unsealed}
        record |= {"made_from": dict(run.made_from)} if run.made_from else {}
        if json:
            print_json(record)
        else:
            show(run)
        return
    if json:
        print_json({"runs": [run_record(run) for run in found]})
        return
    from bench.report.formats.terminal import terminal

    stdout().print(terminal(runs_table(found, str(folder))))
    for run in found:
        if run.edited:
            stdout().print(f"! run {run.spec.digest()[:10]} was edited: {run.edited}")


def runs_table(found: Sequence[Run], where: str) -> Table:
    """Runs, a row each."""
    from bench.report.tables.table import stated

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
    return stated(f"{len(found)} runs in {where}", columns, rows, words=4)


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
    from bench.runs.origin import origin_words
    from bench.runs.seals import seal_words

    console = stdout()
    console.print(f"run {run.spec.digest()}")
    for title, record in (("what", run.spec.as_json()), ("how", run.execution), ("with", run.environment)):
        console.print(pairs(title, record))
    console.print(f"{len(run.rows)}/{run.spec.images} images" + (f"  {headline(run)}" if run.rows else ""))
    console.print(("! " if run.edited else "") + seal_words(run))
    if run.made_from:
        console.print(origin_words(run.made_from))
    if run.unsealed:
        console.print(f"! {run.unsealed} rows are from before rows had seals: a change in them would not be noticed")
    if run.conflicts:
        console.print(
            f"! {run.conflicts} images were certified twice with other votes (ties on another device); the first counts"
        )


def run_record(run: Run) -> dict[str, Any]:
    """A run as `--json` gives it; accuracies are fractions of the images that have a row."""
    from bench.report.accuracy import certified_accuracy, table_radii
    from bench.runs.seals import seal_words

    spec = run.spec
    score = certified_accuracy(run, table_radii(run)) if run.rows else None
    record = {
        "digest": spec.digest(),
        "path": str(run.path),
        "method": spec.method,
        "dataset": spec.dataset,
        "sigma": spec.sigma,
        "n0": spec.n0,
        "n": spec.n,
        "alpha": spec.alpha,
        "subset": spec.subset,
        "precision": spec.precision,
        "random_weights": spec.random_weights,
        "images": len(run.rows),
        "images_planned": spec.images,
        "abstained": score.abstained if score else 0,  # null where a run that stops cannot tell
        "accuracy": {str(r): a for r, a in zip(score.radii, score.fractions, strict=True)} if score else {},
        "acr": None if score is None or score.acr_at_least else score.acr,
        "samples": sum(row.samples for row in run.rows),
        "seconds": sum(row.seconds for row in run.rows),
        "certifier": spec.certifier,
        "seal": seal_words(run),
    }
    if spec.stops:
        # Between its radii such a run says nothing, so that its average radius is known from below alone.
        record |= {
            "radii": list(spec.radii),
            "mode": spec.mode,
            "acr_at_least": score.acr if score else None,
            "stopped": dict(Counter(row.stopped or "decided" for row in run.rows)),
        }
    return record


def headline(run: Run) -> str:
    """Certified accuracy at the first radii, and abstention or the samples taken, in one line."""
    from bench.report.accuracy import certified_accuracy, table_radii
    from bench.report.units import percent

    score = certified_accuracy(run, table_radii(run)[:3])
    cells = [f"r={r:.2f} {percent(a)}" for r, a in zip(score.radii, score.fractions, strict=True)]
    if score.abstention is not None:
        cells.append(f"abstain {percent(score.abstention)}")
    if run.spec.stops:
        mean = sum(row.samples for row in run.rows) / len(run.rows)
        cells.append(f"{mean:,.0f} samples an image")
    return "  ".join(cells)
