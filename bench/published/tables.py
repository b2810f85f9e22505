"""The papers' numbers, each with its source, as TOML beside this file; here they are read and checked, not judged."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.types.errors import ReportError

GROUPS = ("classical", "diffusion", "rrcm")
_FOLDER = Path(__file__).parent
_MOST = 10**15  # of any number
ABSENT = "-"  # a cell that the paper leaves empty; TOML has no null


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One method of a published table."""

    key: str  # of the row, unique in its table: "densepure-k5"
    title: str  # as printed: "DensePure K=5"
    group: str  # classical, diffusion or rrcm
    values: tuple[float | None, ...]  # certified accuracy as a fraction, one a radius; None where none is printed
    n: int | None  # smoothing noises of the certificate; None where it is not stated
    latency_s: float | None  # seconds per certified image
    latency_text: str  # as printed; "" where none is
    latency_measured: str  # how the authors came by it; "" where nothing is known
    hardware: str  # of the latency; "" where there is none
    params_millions: float | None  # of the network; None where neither paper nor review says
    sigma_train: float | None  # None: not of one sigma
    sigma: float | None  # of the certificate; None: the best of several, per radius
    note: str
    source: str  # of the table: "Lei et al., ICLR 2025, Table 1"
    bold: tuple[int, ...] = ()  # positions of the values that are printed bold
    method: str = ""  # of this harness, that a measured row of it must have; "" where it has none
    params: Mapping[str, str] = field(default_factory=dict)  # and the settings, where several rows are of one method
    images: int | None = None  # certified, where rows differ in that
    subset: str = ""  # which images these are; "" where the table says it, or nothing does


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """One table as published."""

    name: str  # "table1"
    title: str
    dataset: str
    shape: tuple[int, int, int] | None  # (C, H, W) of its images, where no dataset here has that name and states it
    source: str
    radii: tuple[float, ...]  # l2, pixels in [0, 1]
    images: int | None  # None where it is not stated
    n0: int | None
    alpha: float | None
    hardware: str
    rows: tuple[PublishedRow, ...]
    footnotes: tuple[str, ...]  # the authors' own, shortened
    notes: tuple[str, ...]  # what a reader should know who compares with it

    def row(self, key: str) -> PublishedRow:
        """The row of that key.

        Raises: ReportError with the keys that there are.
        """
        found = next((row for row in self.rows if row.key == key), None)
        if found is None:
            known = ", ".join(row.key for row in self.rows)
            raise ReportError(f"published table {self.name!r} has no row {key!r}; it has: {known}")
        return found


def names(folder: Path = _FOLDER) -> tuple[str, ...]:
    """The tables that there are."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def text_of(table: str, folder: Path = _FOLDER) -> str:
    """A published table's TOML.

    Raises: ReportError with the names that there are.
    """
    known = names(folder)
    if table not in known:
        raise ReportError(f"no published table {table!r}; known: {', '.join(known)}")
    return (folder / f"{table}.toml").read_text(encoding="utf-8")


def load(table: str) -> PublishedTable:
    """A published table by its name, such as "table1".

    Raises: as `text_of` and `parse`.
    """
    return parse(table, text_of(table))


def parse(name: str, text: str) -> PublishedTable:
    """A table from its TOML, every field and cell checked.

    Raises: ReportError naming the field that is off.
    """
    try:
        # Decimal: 76.8 percent is the fraction 0.768, not 76.8 / 100 in binary.
        record = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as problem:
        raise ReportError(f"published table {name!r} is not TOML: {problem}") from problem
    table = _Fields(name, record)
    radii = tuple(float("nan" if radius is None else radius) for radius in table.numbers("radii"))
    if not radii or not all(a < b for a, b in pairwise((-1.0, *radii))) or radii[0] < 0:
        raise table.refused("radii that rise from 0 or more", radii)
    source, hardware = table.text("source"), table.text("hardware", "")
    rows = tuple(_row(f"{name}, row {i + 1}", row, radii, source, hardware) for i, row in enumerate(table.rows()))
    if len({row.key for row in rows}) != len(rows):
        raise table.refused("each key once", [row.key for row in rows])
    found = PublishedTable(
        name=name,
        title=table.text("title"),
        dataset=table.text("dataset"),
        shape=table.shape("shape"),
        source=source,
        radii=radii,
        images=table.count("images"),
        n0=table.count("n0"),
        alpha=table.number("alpha"),
        hardware=hardware,
        rows=rows,
        footnotes=table.texts("footnotes"),
        notes=table.texts("notes"),
    )
    table.finished()
    return found


def _row(label: str, record: Mapping[str, Any], radii: tuple[float, ...], source: str, hardware: str) -> PublishedRow:
    row = _Fields(label, record)
    cells = row.numbers("values")
    if len(cells) != len(radii) or any(cell is not None and not 0 <= cell <= 100 for cell in cells):
        raise row.refused(f"{len(radii)} percentages", cells)
    known = [cell for cell in cells if cell is not None]
    latency = row.number("latency_s")
    row.text("citation")  # whose method it is, and who ran it: for readers of the file
    found = PublishedRow(
        key=row.text("key"),
        title=row.text("title"),
        group=row.text("group"),
        values=tuple(None if cell is None else float(cell / 100) for cell in cells),
        n=row.count("n"),
        latency_s=latency,
        latency_text=row.text("latency_text", ""),
        latency_measured=row.text("latency_measured", ""),
        hardware=hardware if latency is not None else "",
        params_millions=row.number("params_millions"),
        sigma_train=row.number("sigma_train"),
        sigma=row.number("sigma"),
        note=row.text("note", ""),
        source=row.text("source", source),
        bold=row.positions("bold", len(radii)),
        method=row.text("method", ""),
        params=row.settings("params"),
        images=row.count("images"),
        subset=row.text("subset", ""),
    )
    if found.group not in GROUPS:
        raise row.refused(f"a group of {', '.join(GROUPS)}", found.group)
    # Certified at r is certified at every smaller radius: a column that rises is a slip of the pen.
    if known != sorted(known, reverse=True):
        raise row.refused("accuracies that do not rise with the radius", known)
    row.finished()
    return found


class _Fields:
    """A TOML table being read: each field once, of its type, and none left over."""

    def __init__(self, label: str, record: Mapping[str, Any]) -> None:
        self.label, self.left = label, dict(record)

    def refused(self, expected: str, came: object) -> ReportError:
        shown = [str(item) for item in came] if isinstance(came, list) else came
        shown = float(shown) if isinstance(shown, Decimal) else shown
        return ReportError(f"published table {self.label!r}: expected {expected}, got {shown!r}; mend its TOML file")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.left.pop(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.refused(f"text for {key}", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refused(f"a list of texts for {key}", value)
        return tuple(value)

    def number(self, key: str) -> float | None:
        value = self.left.pop(key, None)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | Decimal)
            or not (Decimal(value).is_finite() and 0 < value < _MOST and float(value) > 0)
        ):
            raise self.refused(f"a positive number for {key}", value)
        return float(value)

    def count(self, key: str) -> int | None:
        value = self.number(key)
        if value is not None and value != int(value):
            raise self.refused(f"a whole number for {key}", value)
        return None if value is None else int(value)

    def numbers(self, key: str) -> list[Any]:
        value = self.left.pop(key, [])
        if not isinstance(value, list) or not all(
            item == ABSENT or (type(item) in (int, Decimal) and Decimal(item).is_finite() and abs(item) < _MOST)
            for item in value
        ):
            raise self.refused(f"numbers or {ABSENT!r} for {key}", value)
        return [None if item == ABSENT else Decimal(item) for item in value]

    def shape(self, key: str) -> tuple[int, int, int] | None:
        value = self.left.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 3 or any(type(side) is not int or side < 1 for side in value):
            raise self.refused(f"channels, height and width for {key}", value)
        return value[0], value[1], value[2]

    def positions(self, key: str, size: int) -> tuple[int, ...]:
        value = self.left.pop(key, [])
        if not isinstance(value, list) or any(type(item) is not int or not 0 <= item < size for item in value):
            raise self.refused(f"positions below {size} for {key}", value)
        return tuple(value)

    def settings(self, key: str) -> dict[str, str]:
        value = self.left.pop(key, {})
        if not isinstance(value, dict) or any(isinstance(item, dict | list) for item in value.values()):
            raise self.refused(f"a table of plain values for {key}", value)
        return {name: str(item) for name, item in value.items()}

    def rows(self) -> list[Mapping[str, Any]]:
        value = self.left.pop("rows", [])
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.refused("[[rows]]", value)
        return value

    def finished(self) -> None:
        if self.left:
            raise self.refused("no other field", sorted(self.left))
