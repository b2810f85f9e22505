"""Tables 3 to 6 of the paper: what was published beside what the installed methods and probes say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.published.specification import Sheet, load_sheet
from bench.report.tables.table import Cell, Column, Line, Source, Table
from bench.runs.registry import methods
from bench.types.errors import ReportError

FEATURES = "features.json"  # of a feature probe, in a folder of its own
_MADE = {
    "sizes": "measured rows: parameters counted on the networks of this package, which are built without numbers",
    "pretraining": "measured rows: the training presets of this package",
    "augmentation": "measured rows: the transforms that this package composes",
    "features": f"measured rows: from {FEATURES} in the folders of --runs",
}


def sheet_table(name: str, paths: Sequence[Path] = ()) -> Table:
    """A published table of sizes, settings or probes with this package's own rows above the quoted ones.

    `paths`: folders of feature probes, for Table 6.
    A probe that cannot be read is left out, and the notes say so.
    Raises: ReportError for a method's fact without one of the table's columns.
    """
    sheet = load_sheet(name)
    own: list[tuple[str, Mapping[str, Any]]] = []
    left_out: list[str] = []
    told: list[str] = []
    if sheet.facts == "features":
        for path in find_features(paths):
            try:
                row, note = _probe(path, sheet)
                own.append((str(path.parent.name), row))
                told += [f"measured row: {note}"] if note else []
            except ReportError as error:  # one that is damaged takes no other along
                left_out.append(f"! left out: {error}")
    else:
        for method in methods().values():
            if sheet.facts in method.paper_tables:
                own += [(method.name, row) for row in method.paper_tables[sheet.facts]()]
    rows = [_line(sheet, row, "measured", origin) for origin, row in own]
    rows += [_line(sheet, row, "quoted", f"{sheet.source}, row {i + 1}") for i, row in enumerate(sheet.rows)]
    made = (
        _MADE[sheet.facts]
        if own
        else f"no measured row: none of --runs holds a {FEATURES}, which `rrcm-bench probe` writes"
    )
    return Table(
        name=f"published-{sheet.name}",
        title=f"{sheet.title} ({sheet.source})",
        caption=made,
        columns=(Column("source", "source"), *(Column(c.key, c.title) for c in sheet.columns)),
        rows=tuple(rows),
        notes=(f"quoted rows: {sheet.source}; not measured here", *sheet.notes, *told, *left_out),
    )


def find_features(paths: Sequence[Path]) -> list[Path]:
    """The probes in the given folders: each a probe's folder, or a folder of them."""
    found: list[Path] = []
    for path in paths:
        found += [path / FEATURES] if (path / FEATURES).is_file() else sorted(path.glob(f"[!.]*/{FEATURES}"))
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A probe's record."""

    format: int
    dataset: str
    model: str
    rfd: float | None
    accuracy: dict[str, float]  # by sigma: {"0": 0.73, "0.25": ...}
    note: str = ""  # the images and features behind it


def _probe(path: Path, sheet: Sheet) -> tuple[Mapping[str, Any], str]:
    """The row of a probe, and its note."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
        accuracy = {f"accuracy_{float(sigma):g}": value for sigma, value in record.accuracy.items()}
    except (OSError, ValueError, RecursionError) as problem:
        raise ReportError(
            f"{str(path)!r} is no feature probe: {problem}; expected dataset, model, rfd and accuracy by sigma; "
            "write it again"
        ) from problem
    if record.format != 1:
        raise ReportError(f"{str(path)!r} has format {record.format!r}, expected 1; use its own version")
    if wrong := [value for value in accuracy.values() if not 0 <= value <= 1]:
        raise ReportError(f"{str(path)!r}: expected accuracies as fractions, got {wrong[0]!r}; write it again")
    rfd = None if record.rfd is None else f"{record.rfd:.2f}"
    row: dict[str, Any] = {"dataset": record.dataset, "model": record.model, "rfd": rfd}
    row |= {c.key: accuracy.get(c.key) for c in sheet.columns if c.key.startswith("accuracy_")}
    return row, record.note


def _line(sheet: Sheet, row: Mapping[str, Any], source: Source, origin: str) -> Line:
    if missing := [c.key for c in sheet.columns if c.key not in row]:
        raise ReportError(
            f"{origin} tells nothing of {', '.join(missing)} for {sheet.source}; expected a value for each column; "
            "mend the method's paper_tables"
        )
    return (
        Cell(value=source, unit="text", source=source, origin=origin),
        *(Cell(value=row[c.key], unit=c.unit, source=source, origin=origin) for c in sheet.columns),
    )
