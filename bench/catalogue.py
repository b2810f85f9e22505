"""Which weights are known, by TOML catalogues: their names, hashes and sources; holds no file and fetches none."""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bench.errors import WeightsError
from bench.types import Scalar

GROUP = "rrcm_bench.weights"
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


_TEXT = ("name", "method", "role", "dataset", "file", "url", "page", "basename", "sha256", "licence", "source", "note")
_KEYS = (*_TEXT, "sigma", "params", "default", "also", "bytes")


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

    An entry without a hash gives way to one of the same name that has one.
    Raises: WeightsError naming the catalogue that is broken, or two that use one name for different files.
    """
    own = user_catalogue()
    files = [(f"your catalogue {str(own)!r}", own)]
    files += [(f"catalogue {point.name!r} of {point.value!r}", _path_of(point)) for point in _points()]
    known: dict[str, tuple[Entry, str]] = {}
    for label, file in files:
        for entry in _read(label, file):
            before, where = known.setdefault(entry.name, (entry, label))
            if before.sha256 is None:
                known[entry.name] = (entry, label)
            elif entry.sha256 not in (None, before.sha256):
                raise WeightsError(
                    f"weights {entry.name!r}: expected one file of that name, {where} and {label} have different ones; "
                    "rename or remove one"
                )
    return tuple(entry for entry, _ in known.values())


def as_toml(entry: Entry) -> str:
    """The entry as a `[[weights]]` table, to be appended to a catalogue."""
    lines = ["[[weights]]"]
    for key in _KEYS:
        value = getattr(entry, key)
        if value not in (None, "", (), {}) and not (key == "default" and value):
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def write_user_entry(entry: Entry) -> None:
    """Append to the user's catalogue; either the old file or the whole new one is there at any moment."""
    target = user_catalogue()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        before = (
            target.read_text(encoding="utf-8") if target.exists() else "# weights added by `rrcm-bench weights add`\n"
        )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="part-") as part:
            whole = Path(part) / target.name
            whole.write_text(before.rstrip("\n") + "\n\n" + as_toml(entry), encoding="utf-8")
            whole.replace(target)
    except OSError as problem:
        raise WeightsError(
            f"catalogue {str(target)!r}: cannot be written ({problem.strerror}); set RRCM_BENCH_HOME to a folder "
            "of yours"
        ) from problem


def find(name: str) -> Entry:
    """The catalogue's entry of that name.

    Raises: WeightsError with the closest name.
    """
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        raise WeightsError(f"no weights named {name!r}{closest(name, list(entries))}; see `rrcm-bench weights list`")
    return entries[name]


def closest(name: str, names: Sequence[str]) -> str:
    """A question after a misspelt name, or nothing."""
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


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
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        if file == user_catalogue():
            return []
        raise WeightsError(f"{label}: no file {str(file)!r}; install that package again") from problem
    except OSError as problem:
        raise WeightsError(
            f"{label}: {str(file)!r} cannot be read ({problem.strerror}); mend or remove it"
        ) from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise WeightsError(f"{label}: not TOML ({problem}); mend or remove it") from problem
    rows = tables.pop("weights", [])
    if tables or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WeightsError(
            f"{label}: expected nothing but [[weights]] tables, got {sorted(tables) or 'weights'!r}; mend or remove it"
        )
    entries = [_entry(f"{label}, table {i + 1}", row, file.parent) for i, row in enumerate(rows)]
    seen: dict[tuple[object, ...], str] = {}
    for entry in entries:
        slots: list[tuple[object, ...]] = [("name", entry.name)]
        if entry.default:
            slots.append((entry.method, entry.role, entry.dataset, entry.sigma))
        for slot in slots:
            if slot in seen:
                raise WeightsError(
                    f"{label}: {entry.name!r} and {seen[slot]!r} claim the same place {slot!r}; rename one, or give it "
                    "default = false"
                )
            seen[slot] = entry.name
    return entries


def _entry(label: str, row: Mapping[str, Any], folder: Path) -> Entry:
    def refuse(expected: str, came: object) -> WeightsError:
        return WeightsError(
            f"{label} ({row.get('name', 'no name')!r}): expected {expected}, got {came!r}; mend or remove it"
        )

    if unknown := sorted(row.keys() - set(_KEYS)):
        raise refuse(f"keys of {', '.join(_KEYS)}", unknown)
    if absent := [key for key in ("name", "method", "role", "dataset") if not row.get(key)]:
        raise refuse(f"{' and '.join(absent)}", "none")
    for key in _TEXT:
        if not isinstance(row.get(key, ""), str):
            raise refuse(f"text for {key}", row[key])
    if not _NAME.fullmatch(row["name"]):
        raise refuse("a name of letters, digits and ._@+/-", row["name"])
    sigma, size, params, also = row.get("sigma"), row.get("bytes"), row.get("params", {}), row.get("also", [])
    if sigma is not None and (
        isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma < float("inf")
    ):
        raise refuse("sigma as a number, or none for any", sigma)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size <= 0):
        raise refuse("bytes as a positive whole number", size)
    if not isinstance(params, dict) or not all(isinstance(value, Scalar) for value in params.values()):
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


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    # JSON's strings are TOML's, but for DEL, and for characters past U+FFFF written as surrogate pairs
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
