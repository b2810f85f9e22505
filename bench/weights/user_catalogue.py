"""The user's own catalogue of weights written: under a lock, whole or not at all, and only what can be read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.types.atomic_file import atomic_write
from bench.types.errors import WeightsError
from bench.weights.catalogue import KEYS, Entry, check_name, entry_of, own_label, rows_of, user_catalogue

_NEEDED = ("method", "role", "dataset")
_SHOWN = ("name", *_NEEDED, "basename", "key", "licence", "source", "note")
_LOCK_SECONDS = 60.0


def as_toml(entry: Entry) -> str:
    """The entry as a `[[weights]]` table, to be appended to a catalogue."""
    lines = ["[[weights]]"]
    for key in KEYS:
        value = getattr(entry, key)
        if value not in (None, "", (), {}) and not (key == "default" and value):
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


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
    named = user_catalogue()
    target = named.resolve()  # a link stays one
    try:
        there = target.exists()
        before = target.read_text(encoding="utf-8") if there else "# weights added by `rrcm-bench weights add`\n"
        text = before.rstrip("\n") + "\n\n" + as_toml(entry)
        _check_written(named, before, text, entry)
        atomic_write(target, text)
    except OSError as problem:
        raise _unwritable(named, problem) from problem
    except UnicodeError as problem:
        raise WeightsError(f"catalogue {str(named)!r}: expected UTF-8 ({problem}); mend or remove it") from problem


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
    _check_written(user_catalogue(), "", as_toml(entry), entry)


def _check_written(target: Path, before: str, text: str, entry: Entry) -> None:
    """Refuse a text that does not give the entry, and what was there before, when it is read."""
    label = own_label(target)
    old, rows = rows_of(label, target, before), rows_of(label, target, text)
    *kept, new = rows or [{}]
    if repr(kept) != repr(old) or entry_of(label, new, entry.folder) != entry:
        raise WeightsError(f"weights {entry.name!r}: cannot be written so that it reads the same; give plainer values")


def _unwritable(target: Path, problem: OSError) -> WeightsError:
    return WeightsError(
        f"catalogue {str(target)!r}: cannot be written ({problem.strerror}); set RRCM_BENCH_HOME to a folder of yours"
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
