"""Paths as they are meant on the command line and in plans: ~ is the home folder, and a plan's paths are beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.types.errors import UsageError

RUNS = Path("results/runs")  # where run folders go and are looked for where no other is given


def at_home(given: Any) -> Any:
    """A path with its ~ written out, or each of several, or none: the callback of options.

    Raises: UsageError for the home of somebody who is not known here.
    """
    if isinstance(given, list | tuple):
        return [at_home(path) for path in given]
    try:
        return given and Path(given).expanduser()
    except RuntimeError:
        raise UsageError(f"{str(given)!r}: there is no such home folder; write it out") from None


def beside(words: str, folder: Path | None) -> str:
    """A path in words: its ~ written out, and in a plan relative to the plan's folder."""
    path = Path(words)
    if words.startswith("~"):
        path = at_home(path)
    elif folder is not None and not path.is_absolute():
        path = folder / path
    else:
        return words
    # What Path drops may matter: "./runs/" is a folder.
    return str(path) + ("/" if words.endswith("/") else "")


def weights_beside(word: str, folder: Path | None, names: Callable[[], Iterable[str]]) -> str:
    """[METHOD.]ROLE=PATH with the path as `beside`; what is a catalogue's name, and no file there, stays one."""
    key, equals, value = word.partition("=")
    path = beside(value, folder)
    if not equals or path == value or (not value.startswith("~") and not Path(path).exists() and value in names()):
        return word
    return f"{key}={path}"


def subset_beside(words: str, folder: Path | None) -> str:
    """A subset whose file is as `beside`."""
    head, colon, path = words.strip().partition(":")
    return f"{head}:{beside(path, folder)}" if colon and head == "file" else words


def code_beside(name: str, folder: Path | None) -> str:
    """A method or dataset, whose file.py is as `beside`; an installed one by its name."""
    path, colon, attribute = name.rpartition(":")
    return f"{beside(path, folder)}:{attribute}" if colon and path.endswith(".py") else name
