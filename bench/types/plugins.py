"""The origin of an exception: the code of a plug-in, which is named with its file and line, or ours.

A plug-in is what `file.py:NAME` names, with the modules beside it, and a package that an entry point names.
"""

from __future__ import annotations

import sys
import sysconfig
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from bench.types.errors import BenchError, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = ("rrcm_bench.methods", "rrcm_bench.datasets", "rrcm_bench.converters", "rrcm_bench.weights")
FILE_MODULE = "rrcm_bench_file_"  # how the names of modules begin that are loaded from a file
_OWN = ("bench", "methods")
_INSTALLED = {"site-packages", "dist-packages"}  # folders of other people's libraries, wherever they are
_LONGEST = 300  # letters of a message


@contextmanager
def plugin_errors() -> Iterator[None]:
    """What comes out of a plug-in's code inside, of whatever kind, becomes a PluginError; all else passes.

    The last frame of a plug-in decides: what torch raises on a plug-in's call is the plug-in's too. Ctrl-C passes.
    """
    try:
        yield
    except BenchError:
        raise
    except BaseException as error:
        said = blame(error)
        if said is None:
            raise
        raise PluginError(said) from error


def blame(error: BaseException) -> str | None:
    """One line of what a plug-in raised, and where; None where no plug-in's code was running."""
    seen: BaseException | None = error
    while seen is not None:  # a StopIteration inside a generator comes as the cause of a RuntimeError
        frames = list(traceback.walk_tb(seen.__traceback__))
        # A plug-in's frame is the last of a KeyboardInterrupt of its own; Ctrl-C is raised by a handler of ours.
        for frame, line in frames[-1:] if isinstance(seen, KeyboardInterrupt) else reversed(frames):
            if _is_plugin(frame.f_globals.get("__name__"), frame.f_code):
                name = f" in {frame.f_code.co_name}" if frame.f_code.co_name != "<module>" else ""
                return (
                    f"the plug-in at {frame.f_code.co_filename!r} line {line}{name} raised {kind_and_words(seen)}; "
                    "mend it there (RRCM_BENCH_TRACEBACK=1 shows the way to it)"
                )
        seen = seen.__cause__
    return None


def kind_and_words(error: BaseException) -> str:
    """The type of an exception and its message, cut; the message of a stranger's may raise in turn."""
    try:
        words = " ".join(str(error).split())
    except BaseException as another:
        words = f"(whose message raises {type(another).__name__})"
    words = words if len(words) <= _LONGEST else words[:_LONGEST] + "..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def in_use() -> str:
    """Files and packages of the plug-ins that this process has loaded, with commas between."""
    files = [str(getattr(m, "__file__", name)) for name, m in list(sys.modules.items()) if name.startswith(FILE_MODULE)]
    return ", ".join(sorted({*files, *(package for package in _packages() if package in sys.modules)}))


def _is_plugin(module: object, code: CodeType) -> bool:
    name = module if isinstance(module, str) else ""
    if name.startswith(FILE_MODULE):
        return True
    package, path = name.partition(".")[0], Path(code.co_filename)
    if package in _OWN:
        return False
    if package in _packages():
        return True
    # Python's own modules may lie below the folder of a plug-in, as those of pyenv do below the home folder.
    if _INSTALLED & set(path.parts) or path.is_relative_to(sysconfig.get_paths()["stdlib"]):
        return False
    return any(path.is_relative_to(folder) for folder in _folders())


def entry_points(group: str) -> list[EntryPoint]:
    """Entry points of all installed packages; of an unpacked tree that was never installed, this project's own too."""
    from importlib import metadata  # 20 ms, which --help has no use for

    found = list(metadata.entry_points(group=group))
    own = any(point.value.partition(":")[0].partition(".")[0] in _OWN for point in found)
    return found if own else [*found, *unpacked(group)]


@cache
def unpacked(group: str) -> tuple[EntryPoint, ...]:
    """This project's own entry points as pyproject.toml beside the packages has them; none where it is not there."""
    from importlib.metadata import EntryPoint

    file = Path(__file__).parents[2] / "pyproject.toml"
    if not file.is_file():
        return ()
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != "rrcm-bench":
        return ()
    return tuple(EntryPoint(name, value, group) for name, value in project["entry-points"].get(group, {}).items())


def _folders() -> set[Path]:
    """Where the plug-ins that are files lie: a module beside one is imported by it."""
    files = [getattr(m, "__file__", None) for name, m in list(sys.modules.items()) if name.startswith(FILE_MODULE)]
    return {Path(file).absolute().parent for file in files if file}


@cache
def _packages() -> frozenset[str]:
    """Top-level packages that entry points name, but for this project's own."""
    points = [point for group in GROUPS for point in entry_points(group=group)]
    return frozenset(point.value.partition(":")[0].partition(".")[0] for point in points) - set(_OWN)
