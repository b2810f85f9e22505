"""The user's own catalogue of weights written: under a lock, whole or not at all, and only what can be read again.

Their comments and their spacing stay as they are: tomlkit writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.types.atomic_file import atomic_write
from bench.types.errors import WeightsError, first_line
from bench.weights.catalogue import KEYS, Entry, check_name, entry_of, own_label, rows_of, user_catalogue

_NEEDED = ("method", "role", "dataset")
_SHOWN = ("name", *_NEEDED, "basename", "key", "licence", "source", "note")
_LOCK_SECONDS = 60.0


def as_toml(entry: Entry, before: str = "") -> str:
    """The text of a catalogue with the entry as its last `[[weights]]` table."""
    import tomlkit

    document = _document(before)
    table = tomlkit.table()
    for key in KEYS:
        value = getattr(entry, key)
        if value in (None, "", (), {}) or (key == "default" and value):
            continue
        if key == "params":
            inline = tomlkit.inline_table()
            inline.update(value)
            value = inline
        table.add(key, list(value) if isinstance(value, tuple) else value)
    if "weights" not in document:
        if before.strip():
            document.add(tomlkit.nl())
        document.add("weights", tomlkit.aot())
    elif not before.endswith("\n\n"):
        table.trivia.indent = "\n"
    document["weights"].append(table)
    return tomlkit.dumps(document)


@contextmanager
def user_catalogue_lock() -> Iterator[None]:
    """Hold the user's catalogue between reading and writing it: others that add to it wait.

    Raises: WeightsError where the folder cannot be written, or another process holds it for a minute.
    """
    from filelock import FileLock, Timeout

    target = user_catalogue()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock"), timeout=_LOCK_SECONDS)
        lock.acquire()
    except Timeout as problem:
        raise WeightsError(
            f"catalogue {str(target)!r}: another process has held it for {_LOCK_SECONDS:.0f} s; end that one, or try "
            "again"
        ) from problem
    except OSError as problem:
        raise _unwritable(target, problem) from problem
    try:
        yield
    finally:
        lock.release()


def write_user_entry(entry: Entry) -> None:
    """Append to the user's catalogue, whose lock is held; either the old file or the whole new one is there.

    Raises: WeightsError for an entry, or a catalogue, that could not be read again.
    """
    before = _text() or "# weights added by `rrcm-bench weights add`\n"
    own = user_catalogue()
    rows_of(own_label(own), own, before)  # refuses what is no catalogue
    text = as_toml(entry, before if before.endswith("\n") else f"{before}\n")
    _check_written(own, before, text, entry)
    _write(text)


def remove_user_entry(name: str) -> None:
    """Take the entry of that name out of the user's catalogue, whose lock is held; all else stays as it was written.

    Raises: WeightsError where it is not there.
    """
    import tomlkit

    own, before = user_catalogue(), _text()
    rows = rows_of(own_label(own), own, before)
    document = _document(before)
    places = [i for i, row in enumerate(rows) if row.get("name") == name]
    if not places:
        raise WeightsError(f"weights {name!r}: not in your catalogue {str(own)!r}; only what you added can be removed")
    for i in reversed(places):
        del document["weights"][i]
    if len(places) == len(rows):
        del document["weights"]
    text = tomlkit.dumps(document)
    # By their text: a broken entry may hold nan, which equals nothing.
    if repr(rows_of(own_label(own), own, text)) != repr([row for i, row in enumerate(rows) if i not in places]):
        raise WeightsError(f"weights {name!r}: cannot be taken out of {str(own)!r} alone; remove its table by hand")
    _write(text)


def _document(text: str) -> Any:
    """A catalogue with its comments and spacing.

    Raises: WeightsError for what tomlkit cannot read, though it is TOML.
    """
    import tomlkit

    try:
        return tomlkit.parse(text)
    except ValueError as problem:
        raise WeightsError(
            f"{own_label(user_catalogue())}: cannot be edited ({first_line(problem)}); mend or remove it"
        ) from problem


def _text() -> str:
    """The user's catalogue as written; empty where there is none."""
    own = user_catalogue()
    try:
        return own.read_text(encoding="utf-8") if own.exists() else ""
    except UnicodeError as problem:
        raise WeightsError(f"catalogue {str(own)!r}: expected UTF-8 ({problem}); mend or remove it") from problem
    except OSError as problem:
        raise WeightsError(f"catalogue {str(own)!r}: cannot be read ({problem.strerror})") from problem


def _write(text: str) -> None:
    try:
        atomic_write(user_catalogue().resolve(), text)  # a link stays one
    except (OSError, UnicodeError) as problem:
        raise _unwritable(user_catalogue(), problem) from problem


def check_entry(entry: Entry) -> None:
    """Refuse an entry that could not be read again, or that would hide something on a terminal.

    Raises: WeightsError.
    """
    check_name(entry.name)
    if lacking := next((key for key in _NEEDED if not getattr(entry, key)), None):
        raise WeightsError(f"weights {entry.name!r}: expected a {lacking}, got none; give --{lacking}")
    for key in _SHOWN:
        value = getattr(entry, key)
        if value is not None and (not value.isprintable() or value != value.strip()):
            raise WeightsError(
                f"weights {entry.name!r}: expected {key} as one line of plain text, got {value!r}; give another"
            )
    if entry.sigma is not None and not 0 < entry.sigma < math.inf:
        raise WeightsError(
            f"weights {entry.name!r}: expected sigma above 0 and finite, got {entry.sigma!r}; give another, or none "
            "for any"
        )
    try:
        text = as_toml(entry)
    except (TypeError, ValueError) as problem:
        raise WeightsError(f"weights {entry.name!r}: cannot be written as TOML ({problem})") from problem
    _check_written(user_catalogue(), "", text, entry)


def _check_written(target: Path, before: str, text: str, entry: Entry) -> None:
    """Refuse a text that does not give the entry, and what was there before, when it is read."""
    label = own_label(target)
    old, rows = rows_of(label, target, before), rows_of(label, target, text)
    *kept, new = rows or [{}]
    if repr(kept) != repr(old) or entry_of(label, new, entry.folder) != entry:
        raise WeightsError(f"weights {entry.name!r}: cannot be written so that it reads the same; give plainer values")


def _unwritable(target: Path, problem: OSError | UnicodeError) -> WeightsError:
    reason = problem.strerror if isinstance(problem, OSError) else problem
    return WeightsError(
        f"catalogue {str(target)!r}: cannot be written ({reason}); set RRCM_BENCH_HOME to a folder of yours"
    )
