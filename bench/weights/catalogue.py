"""Which weights are known, by TOML catalogues: their names, hashes and sources; holds no file and fetches none."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bench.types import Scalar
from bench.types.errors import WeightsError, first_line
from bench.types.plugins import entry_points
from bench.types.suggest import IN_BRACKETS, closest

GROUP = "rrcm_bench.weights"
_SAID: set[str] = set()  # what was said of the user's catalogue in this process
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+/-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of weights that a catalogue knows."""

    name: str  # "gaussian/digits/0.25"
    method: str
    role: str
    dataset: str
    sigma: float | None = None  # the noise it is for; None: any
    params: Mapping[str, Scalar] = field(default_factory=dict)  # of the method: arch, normaliser, ...
    default: bool = True  # taken without being named; at most one a catalogue, method, role, dataset and sigma
    file: str | None = None  # shipped beside the catalogue, relative to it
    url: str | None = None  # of the very file, not of a page about it
    page: str | None = None  # where a person finds it
    basename: str | None = None  # the file's name where it comes from; None: that of `file` or `url`
    key: str | None = None  # of the network, where the file holds several: "state_dict_ema"
    sha256: str | None = None  # None: its authors publish none; known to exist, not usable by name
    also: tuple[str, ...] = ()  # sha256 of the same tensors in other containers
    bytes: int | None = None
    licence: str = ""
    source: str = ""
    note: str = ""
    folder: Path = Path()  # of the catalogue; not stored

    @property
    def filename(self) -> str | None:
        """The file's name where it comes from."""
        if self.basename is not None:
            return self.basename
        return PurePosixPath(self.file or urlsplit(self.url or "").path).name or None


_TEXT = ("name", "method", "role", "dataset", "file", "url", "page", "basename", "key", "sha256", "licence",
         "source", "note")  # fmt: skip
KEYS = (*_TEXT, "sigma", "params", "default", "also", "bytes")


def config_dir() -> Path:
    """The user's own folder: RRCM_BENCH_HOME, or the platform's."""
    if home := os.environ.get("RRCM_BENCH_HOME"):
        return Path(home).expanduser()
    from platformdirs import user_config_dir

    return Path(user_config_dir("rrcm-bench"))


def user_catalogue() -> Path:
    """The TOML file of the weights that the user added; need not exist."""
    return config_dir() / "weights.toml"


def catalogue() -> tuple[Entry, ...]:
    """All entries: the user's own first, then those of installed packages, by name of their entry point.

    An entry without a hash gives way to one of the same name that has one. What is broken in the user's own is said
    once, and left out.
    Raises: WeightsError naming a package's catalogue that is broken, or two that use one name for different files.
    """
    own = user_catalogue()
    label = own_label(own)
    entries, problems = _read_user(label, own)
    for problem, _ in problems:
        if problem not in _SAID:
            _SAID.add(problem)
            logging.getLogger(__name__).warning("left out: %s", problem)
    read = [(label, entries)]
    for point in _points():
        label = f"catalogue {point.name!r} of {point.value!r}"
        read.append((label, _read(label, _path_of(point))))
    known: dict[str, tuple[Entry, str]] = {}
    for label, entries in read:
        for entry in entries:
            before, where = known.setdefault(entry.name, (entry, label))
            if before.sha256 is None:
                known[entry.name] = (entry, label)
            elif entry.sha256 not in (None, before.sha256):
                raise WeightsError(
                    f"weights {entry.name!r}: expected one file of that name, {where} and {label} have different ones; "
                    "rename or remove one"
                )
    return tuple(entry for entry, _ in known.values())


def user_problems(method: str, role: str, dataset: str) -> tuple[str, ...]:
    """What is broken in the user's catalogue and may have been meant for that place: all of it, or such an entry."""
    own = user_catalogue()
    place = {"method": method, "role": role, "dataset": dataset}
    return tuple(
        problem
        for problem, row in _read_user(own_label(own), own)[1]
        if row is None or all(row.get(key) in (None, "", value) for key, value in place.items())
    )


def own_label(own: Path) -> str:
    """The user's catalogue in a message."""
    return f"your catalogue {str(own)!r}"


def find(name: str) -> Entry:
    """The catalogue's entry of that name.

    Raises: WeightsError with the closest name.
    """
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        guess = closest(name, entries, form=IN_BRACKETS)
        raise WeightsError(f"no weights named {name!r}{guess}; see `rrcm-bench weights list`")
    return entries[name]


def check_name(name: str) -> None:
    """Refuse a name that could not be typed, or that reads as an option.

    Raises: WeightsError.
    """
    if not _NAME.fullmatch(name):
        raise WeightsError(
            f"weights {name!r}: expected a name of letters, digits and ._@+/-, such as 'gaussian/cifar10/0.25'; "
            "give another"
        )


def _points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def _path_of(point: EntryPoint) -> Path:
    try:
        value = point.load()
    except (ImportError, AttributeError, NameError, TypeError, ValueError, OSError, SyntaxError) as problem:
        raise WeightsError(
            f"catalogue {point.name!r} of {point.value!r}: cannot be loaded ({problem}); mend or uninstall that package"
        ) from problem
    if not isinstance(value, Path):
        raise WeightsError(
            f"catalogue {point.name!r} of {point.value!r}: expected a pathlib.Path to a TOML file, got "
            f"{type(value).__name__}; mend or uninstall that package"
        )
    return value


def _read(label: str, file: Path) -> list[Entry]:
    """The entries of a catalogue, all of them sound."""
    entries: list[Entry] = []
    for i, row in enumerate(rows_of(label, file)):
        entry = entry_of(f"{label}, table {i + 1}", row, file.parent)
        _check_place(label, entry, entries)
        entries.append(entry)
    return entries


def _read_user(label: str, file: Path) -> tuple[list[Entry], list[tuple[str, Mapping[str, Any] | None]]]:
    """The sound entries of the user's catalogue, and what is wrong with the others, beside their rows; None: all."""
    entries: list[Entry] = []
    problems: list[tuple[str, Mapping[str, Any] | None]] = []
    try:
        rows = rows_of(label, file) if os.path.lexists(file) else []
    except WeightsError as problem:
        return [], [(str(problem), None)]
    for i, row in enumerate(rows):
        try:
            entry = entry_of(f"{label}, table {i + 1}", row, file.parent)
            _check_place(label, entry, entries)
        except WeightsError as problem:
            problems.append((str(problem), row))
        else:
            entries.append(entry)
    return entries, problems


def rows_of(label: str, file: Path, text: str | None = None) -> list[dict[str, Any]]:
    """The tables of a catalogue, of its text if that is given."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8") if text is None else text)
    except FileNotFoundError as problem:
        raise WeightsError(f"{label}: no file {str(file)!r}; install that package again") from problem
    except OSError as problem:
        raise WeightsError(
            f"{label}: {str(file)!r} cannot be read ({problem.strerror}); mend or remove it"
        ) from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise WeightsError(f"{label}: not TOML ({first_line(problem)}); mend or remove it") from problem
    rows = tables.pop("weights", [])
    if tables or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WeightsError(
            f"{label}: expected nothing but [[weights]] tables, got {sorted(tables) or 'weights'!r}; mend or remove it"
        )
    return rows


def _check_place(label: str, entry: Entry, others: Sequence[Entry]) -> None:
    """Refuse a second entry of one name, or a second default of one place."""
    place = (entry.method, entry.role, entry.dataset, entry.sigma)
    for other in others:
        same = (other.method, other.role, other.dataset, other.sigma) == place and other.default and entry.default
        if same or other.name == entry.name:
            slot = place if same else ("name", entry.name)
            raise WeightsError(
                f"{label}: {entry.name!r} and {other.name!r} claim the same place {slot!r}; rename one, or give it "
                "default = false"
            )


def entry_of(label: str, row: Mapping[str, Any], folder: Path) -> Entry:
    """The entry of a catalogue's table.

    Raises: WeightsError for what the table lacks, or has that no entry has.
    """

    def refuse(expected: str, came: object) -> WeightsError:
        return WeightsError(
            f"{label} ({row.get('name', 'no name')!r}): expected {expected}, got {came!r}; mend or remove it"
        )

    if unknown := sorted(row.keys() - set(KEYS)):
        raise refuse(f"keys of {', '.join(KEYS)}", unknown)
    if absent := [key for key in ("name", "method", "role", "dataset") if not row.get(key)]:
        raise refuse(f"{' and '.join(absent)}", "none")
    for key in _TEXT:
        if not isinstance(row.get(key, ""), str):
            raise refuse(f"text for {key}", row[key])
    if not _NAME.fullmatch(row["name"]):
        raise refuse("a name of letters, digits and ._@+/-", row["name"])
    sigma, size, params, also = row.get("sigma"), row.get("bytes"), row.get("params", {}), row.get("also", [])
    if sigma is not None and (
        isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma <= sys.float_info.max
    ):
        raise refuse("sigma as a number, or none for any", sigma)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size <= 0):
        raise refuse("bytes as a positive whole number", size)
    if not isinstance(params, dict) or not all(
        isinstance(value, Scalar) and (not isinstance(value, float) or math.isfinite(value))
        for value in params.values()
    ):
        raise refuse("params as a table of plain values", params)
    if not isinstance(also, list) or not all(isinstance(h, str) and _SHA256.fullmatch(h) for h in also):
        raise refuse("also as a list of sha256 in lower-case hex", also)
    if not isinstance(row.get("default", True), bool):
        raise refuse("default as true or false", row["default"])
    if "sha256" in row and not _SHA256.fullmatch(row["sha256"]):
        raise refuse("sha256 as 64 lower-case hex digits", row["sha256"])
    if ("file" in row or "url" in row) and "sha256" not in row:
        raise refuse("a sha256 beside file or url", "none")
    if "url" in row and urlsplit(row["url"]).scheme != "https":
        raise refuse("an https url", row["url"])
    if "file" in row and (PurePosixPath(row["file"]).is_absolute() or ".." in PurePosixPath(row["file"]).parts):
        raise refuse("file relative to the catalogue", row["file"])
    return Entry(
        **{
            **row,
            "sigma": None if sigma is None else float(sigma),
            "params": dict(params),
            "also": tuple(also),
            "folder": folder,
        }
    )
