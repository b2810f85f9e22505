"""Stored runs, comparisons and reports as frames; what they say is computed where the command line computes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.certificates import Certificates, certificate_of
from bench.cli.paths import RUNS
from bench.report.build import FORMATS, build, write
from bench.report.build import Report as BuiltReport
from bench.report.compare import Comparison, comparison_table
from bench.report.compare import compare as compare_runs
from bench.report.formats.markdown import markdown
from bench.report.tables.table import Table
from bench.runs.store import Run, find_runs, read_run
from bench.types import RunSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run folder as read."""

    run: Run

    @property
    def spec(self) -> RunSpec:
        """What was measured."""
        return self.run.spec

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.run.path

    @property
    def done(self) -> bool:
        """Whether every image of the spec has its row."""
        return self.run.done

    def certificates(self, bound: str = "pa", alpha: float | None = None) -> Certificates:
        """The certificates that its votes give; another bound or alpha costs no forward pass.

        Raises: ReportError where its images stopped early, for any but its own.
        """
        return Certificates(tuple(certificate_of(self.spec, row, bound, alpha) for row in self.run.rows), self.spec)

    def to_pandas(self, bound: str = "pa", alpha: float | None = None) -> pd.DataFrame:
        """One row an image: see `Certificates.to_pandas`; `attrs` has the run's whole spec, and its digest."""
        frame = self.certificates(bound, alpha).to_pandas()
        level = self.spec.alpha if alpha is None else alpha
        frame.attrs |= {**self.spec.as_json(), "digest": self.spec.digest(), "bound": bound, "alpha": level}
        return frame


def load_run(path: str | Path) -> StoredRun:
    """The run in that folder.

    Raises: StoreError for what is no run folder, or cannot be read.
    """
    return StoredRun(read_run(Path(path)))


def load_runs(*paths: str | Path) -> list[StoredRun]:
    """All runs in those folders, each a run or a folder of runs, by dataset, method and sigma.

    Raises: StoreError for a folder that is not there, or a run that cannot be read.
    """
    return [StoredRun(run) for run in find_runs([Path(path) for path in paths or (RUNS,)])]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two runs on the images that both have certified."""

    comparison: Comparison

    def to_pandas(self) -> pd.DataFrame:
        """One row a radius: accuracies, difference with its interval, discordant images, p by McNemar, Holm and BH.

        Units: fractions, l2. `attrs` has the average certified radii and the notes.
        """
        import pandas as pd

        made = self.comparison
        frame = pd.DataFrame(
            [
                {
                    "radius": r.radius,
                    "a": (r.counts.both + r.counts.only_a) / r.counts.images,
                    "b": (r.counts.both + r.counts.only_b) / r.counts.images,
                    "difference": r.counts.difference,
                    "low": r.low,
                    "high": r.high,
                    "only_a": r.counts.only_a,
                    "only_b": r.counts.only_b,
                    "p": r.p,
                    "p_holm": r.p_holm,
                    "p_bh": r.p_bh,
                    "detectable": r.detectable,
                }
                for r in made.radii
            ]
        )
        frame.attrs = {"images": made.images, "acr": made.acr, "acr_interval": made.acr_interval, "notes": made.notes}
        return frame

    def __str__(self) -> str:
        return markdown([comparison_table(self.comparison)])


def compare(
    a: str | Path | StoredRun,
    b: str | Path | StoredRun,
    radii: Sequence[float] | None = None,
    *,
    bound: str = "pa",
    alpha: float | None = None,
    overlap: bool = False,
) -> Paired:
    """Paired tests of two runs on the same images: exact McNemar, bootstrap of the average radius, Holm.

    Args:
        a: a run folder, or what `load_run` gave.
        b: the other one.
        radii: l2; None: those of the dataset's tables.
        bound: "pa" or "papb".
        alpha: other than the runs' own, from the same votes.
        overlap: pair what two different subsets share.

    Raises: ReportError for runs that cannot be paired.
    """
    return Paired(compare_runs(_run(a), _run(b), radii, bound=bound, alpha=alpha, overlap=overlap))


@dataclass(frozen=True, slots=True)
class Report:
    """Tables and figures of some runs."""

    built: BuiltReport

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables, cell by cell, each with its source."""
        return self.built.tables

    def to_pandas(self) -> dict[str, pd.DataFrame]:
        """Each table by name: values in plain units (fractions, l2, seconds), columns by their keys.

        `attrs` has title, caption and notes, which say what the numbers are of.
        """
        return {table.name: _frame(table) for table in self.tables}

    def write(self, out: str | Path, formats: Iterable[str] = FORMATS) -> list[Path]:
        """The report's files: report.md, .csv, .json, .tex, .html, and each figure as png, pdf or svg.

        Raises: ReportError for a format that is not known, or a folder that cannot be written.
        """
        return write(self.built, Path(out), list(formats))

    def __str__(self) -> str:
        return markdown(self.tables)


def report(
    *runs: str | Path | StoredRun,
    table: int | str | None = None,
    bound: str = "pa",
    alpha: float | None = None,
    **more: Any,
) -> Report:
    """Tables and figures of runs, as `rrcm-bench report` makes them.

    Args:
        runs: run folders, folders of runs, or what `load_run` gave; none: results/runs.
        table: a table of the paper to stand beside, 1 to 9.
        bound: "pa", "papb" or "both".
        alpha: other than the runs' own, from the same votes.
        more: as `bench.report.build.build`.

    Raises: ReportError for nothing to report, or runs that cannot stand in a table.
    """
    read = [run.run for run in runs if isinstance(run, StoredRun)]
    paths = [Path(run) for run in runs if not isinstance(run, StoredRun)]
    if paths or not runs:
        read += find_runs(paths or [RUNS])
    return Report(build(read, table=table, bound=bound, alpha=alpha, **more))


def _run(given: str | Path | StoredRun) -> Run:
    return given.run if isinstance(given, StoredRun) else read_run(Path(given))


def _frame(table: Table) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(
        [[cell.value for cell in row] for row in table.rows], columns=[column.key for column in table.columns]
    )
    frame.attrs = {"title": table.title, "caption": table.caption, "notes": table.notes}
    return frame
