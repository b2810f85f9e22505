"""Folders of imported logs: imported.json says what is known of a log and how, rows.jsonl holds what it printed.

Never mistaken for a run: there are no votes in it, another file name, another record, and reports call it `imported`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from bench.published.logs.infer_sampling import Sampling
from bench.published.logs.records import ImportedRow
from bench.types.atomic_file import atomic_path
from bench.types.errors import StoreError
from bench.types.limits import ALPHA, SAMPLES, SIGMA

FORMAT = 1
_DIGITS = 400  # of a printed radius at most: as many as a float has, written out
FILE, ROWS = "imported.json", "rows.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of an imported log, and how."""

    source: str  # the file, as it was named on import
    sha256: str  # of the file
    layout: tuple[str, ...]
    method: str  # as named on import: no log says it
    dataset: str
    split: str
    subset: str
    expected: int | None  # images that the subset has; None where nothing tells
    order: str
    rows: int
    sigma: float
    n: int
    alpha: float
    sigma_by: str  # stated | path | radii
    sampling_by: str  # stated | radii
    significant: int  # digits of the printed radii
    decimals: int
    findings: tuple[str, ...]
    bound: str = "pa"  # pa | papb: whether the runner-up was bounded too

    @property
    def sampling(self) -> Sampling | None:
        """By what counts its radii came about; None where one count does not make a radius."""
        return Sampling(self.n, self.alpha, self.sigma) if self.bound == "pa" else None

    def digest(self) -> str:
        """sha256 of all but the file's name: the same log, understood in the same way, is the same import."""
        record = {key: value for key, value in asdict(self).items() if key != "source"}
        if self.bound == "pa":  # imports from before there was another
            del record["bound"]
        return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An imported log as read from its folder."""

    path: Path
    origin: Origin
    rows: tuple[ImportedRow, ...]

    @property
    def name(self) -> str:
        """What a message or a footnote calls it."""
        return f"log {self.origin.digest()[:10]} ({self.origin.method}, sigma {self.origin.sigma:g})"


def folder_name(origin: Origin) -> str:
    """The name of an import's folder."""
    dataset, method = (
        "".join(c if c.isalnum() or c in "-_." else "-" for c in name) for name in (origin.dataset, origin.method)
    )
    return f"imported-{dataset}-{method}-s{origin.sigma:g}-{origin.digest()[:10]}"


def write(out: Path, origin: Origin, rows: Sequence[ImportedRow]) -> Path:
    """The folder of an import under `out`, whole or not at all; one that is there already is left as it is.

    Raises: StoreError where it cannot be written.
    """
    folder = out / folder_name(origin)
    if (folder / FILE).is_file():
        read(folder)
        return folder
    text = "".join(json.dumps(row.as_json(), separators=(",", ":")) + "\n" for row in rows)
    record = {
        "format": FORMAT,
        "digest": origin.digest(),
        "rows_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "origin": asdict(origin),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder) as part:
            part.mkdir()
            (part / ROWS).write_text(text, encoding="utf-8")
            (part / FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        if not (folder / FILE).is_file():
            raise StoreError(f"cannot write {str(folder)!r}: {error.strerror}; give --out another folder") from error
        read(folder)  # another process was first
    return folder


def read(folder: Path) -> Imported:
    """An imported log.

    Raises: StoreError where the folder is none, of another format, or was changed since.
    """
    again = "delete the folder and import the log again"
    try:
        record = msgspec.json.decode((folder / FILE).read_bytes())
        data = (folder / ROWS).read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"no {Path(error.filename).name} in {str(folder)!r}; {again}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{str(folder)!r} cannot be read: {error}; {again}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise StoreError(
            f"{str(folder / FILE)!r} has format {found!r}, expected {FORMAT}; use the version that wrote it"
        )
    try:
        origin = _origin(record.get("origin"))
        rows = tuple(ImportedRow.from_json(msgspec.json.decode(line)) for line in data.splitlines())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{str(folder)!r} holds no complete import: {error}; {again}") from error
    digests = (origin.digest(), hashlib.sha256(data).hexdigest())
    unchanged = digests == (record.get("digest"), record.get("rows_sha256"))
    if not unchanged or len(rows) != origin.rows:
        raise StoreError(f"{str(folder)!r} was edited since the import: its digests do not fit; {again}")
    return Imported(path=folder, origin=origin, rows=rows)


def find_imports(paths: Sequence[Path], told: Callable[[str], None] | None = None) -> list[Imported]:
    """All imported logs in the given folders: each an import's folder, or a folder of them; none is no mistake.

    `told`: hears of each import that cannot be read, which is then left out; without it, the first is an error.
    Raises: StoreError as `read`.
    """
    folders: list[Path] = []
    for path in paths:
        folders += [path] if (path / FILE).is_file() else sorted(p.parent for p in path.glob(f"[!.]*/{FILE}"))
    found = []
    for folder in dict.fromkeys(folders):
        try:
            found.append(read(folder))
        except StoreError as error:
            if told is None:
                raise
            told(f"left out  {error}")
    return sorted(found, key=lambda i: (i.origin.dataset, i.origin.method, i.origin.sigma, i.origin.digest()))


def _origin(record: Any) -> Origin:
    """An origin out of a record.

    Raises: ValueError with the field that is missing, unknown, of another type, or out of range.
    """
    record = {"bound": "pa", **record} if isinstance(record, dict) else record
    known = {field.name for field in fields(Origin)}
    if not isinstance(record, dict) or set(record) != known:
        odd = sorted(set(record) ^ known) if isinstance(record, dict) else [type(record).__name__]
        raise ValueError(f"fields {odd} are missing or unknown")
    made = msgspec.convert(record, Origin, strict=True)
    if not (SIGMA[0] <= made.sigma <= SIGMA[1] and 1 <= made.n <= SAMPLES and ALPHA <= made.alpha < 0.5):
        raise ValueError(f"sigma={made.sigma:g}, n={made.n} and alpha={made.alpha:g} are of no certification")
    if not (0 <= made.significant <= _DIGITS and 0 <= made.decimals <= _DIGITS and made.rows >= 0):
        raise ValueError(f"{made.significant} digits, {made.decimals} decimals and {made.rows} rows are of no log")
    return made
