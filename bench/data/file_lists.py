"""The image files of many class folders: listed once, kept as arrays that all workers share; decodes nothing.

Own code: torchvision's ImageFolder keeps a Python object for each of 1.28 million files, which every worker copies page
by page, walks nested folders that are no classes, and lists anew at each start.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from bench.data.cache import cache_dir
from bench.data.pictures import SUFFIXES, Stored, class_files

FORMAT = 1  # of the cached arrays
LEAST = 10_000  # files from which a list is kept: fewer are listed in a second
SETTLED = 2.0  # seconds since a folder last changed, before which a change after the listing could have the same time
_ARRAYS = ("ends", "names", "counts")


@dataclass(frozen=True, slots=True, eq=False)
class FileList(Sequence[Stored]):
    """Image files by class folder, then by name; the position of a folder is the label of its files."""

    top: Path
    folders: tuple[str, ...]
    ends: np.ndarray[Any, np.dtype[np.int64]]  # (N,) of each name in `names`
    names: np.ndarray[Any, np.dtype[np.uint8]]  # file names, one after the other, as the system has their bytes
    counts: np.ndarray[Any, np.dtype[np.int64]]  # (folders,) files up to and with those of each
    others: tuple[int, str] = (0, "")  # files that are no images by their suffix: how many, and the first
    kept: Path | None = field(default=None)  # where the arrays lie, if they are mapped from files

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, at: int) -> Stored: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Stored, ...]: ...
    def __getitem__(self, at: int | slice) -> Stored | tuple[Stored, ...]:
        if isinstance(at, slice):
            return tuple(self[k] for k in range(*at.indices(len(self))))
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(at)
        label = int(np.searchsorted(self.counts, at, side="right"))
        first = int(self.ends[at - 1]) if at else 0
        name = os.fsdecode(self.names[first : int(self.ends[at])].tobytes())
        return Stored(label, self.top / self.folders[label] / name)

    def __iter__(self) -> Iterator[Stored]:
        return (self[k] for k in range(len(self)))

    def empty(self) -> str | None:
        """The first folder without an image."""
        each = np.diff(self.counts, prepend=0)
        return self.folders[int(np.argmin(each))] if len(each) and int(each.min()) == 0 else None

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapped array would be sent whole to a worker that is not forked; it opens the files itself.
        if self.kept is not None:
            return _mapped, (self.kept, self.top, self.folders)
        return FileList, (self.top, self.folders, self.ends, self.names, self.counts, self.others)


def list_classes(top: Path, folders: Sequence[str], suffixes: Iterable[str] = SUFFIXES) -> FileList:
    """The images of class folders; those of a large set from the last time, where no folder has changed since.

    Every folder's times and number are compared, so that a file that came or went is seen.
    Raises: DataError as `pictures.class_files`.
    """
    suffixes = tuple(suffixes)
    key = json.dumps([FORMAT, os.fsdecode(os.path.realpath(top)), list(folders), suffixes])
    place = cache_dir() / "file-lists" / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    before = _states(top, folders)
    if before is not None and (found := _reopened(place, top, tuple(folders), before)) is not None:
        return found
    started = time.time_ns()
    made = _listed(top, tuple(folders), suffixes)
    if before is None or len(made) < LEAST or before != _states(top, folders):
        return made
    settled = all(started - changed > SETTLED * 1e9 for _, *times in before for changed in times)
    return (_keep(made, place, before) if settled else None) or made


def _listed(top: Path, folders: tuple[str, ...], suffixes: tuple[str, ...]) -> FileList:
    names, lengths, counts, others = bytearray(), [], [], (0, "")
    for folder in folders:
        images, rest = class_files(top / folder, suffixes)
        for path in images:
            name = os.fsencode(path.name)
            names += name
            lengths.append(len(name))
        counts.append(len(lengths))
        others = others[0] + len(rest), others[1] or (str(rest[0]) if rest else "")
    ends = np.cumsum(np.array(lengths, dtype=np.int64))
    return FileList(top, folders, ends, np.frombuffer(bytes(names), dtype=np.uint8), np.array(counts), others)


_State = tuple[int, int, int]  # inode, time of the last change of content, and of anything (nobody can set that one)


def _states(top: Path, folders: Sequence[str]) -> list[_State] | None:
    try:
        found = [(top / folder).stat() for folder in folders]
    except OSError:  # class_files says it better
        return None
    return [(one.st_ino, one.st_mtime_ns, one.st_ctime_ns) for one in found]


def _reopened(place: Path, top: Path, folders: tuple[str, ...], states: list[_State]) -> FileList | None:
    try:
        record = json.loads((place / "list.json").read_text(encoding="utf-8"))
        if [tuple(state) for state in record["states"]] != states:
            return None
        return _mapped(place, top, folders)
    except (OSError, ValueError, KeyError, TypeError, IndexError):  # not there, torn, or of another program
        return None


def _mapped(place: Path, top: Path, folders: tuple[str, ...]) -> FileList:
    record = json.loads((place / "list.json").read_text(encoding="utf-8"))
    arrays = [np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS]
    ends, names, counts = arrays
    if not (len(folders) == len(counts) and int(counts[-1]) == len(ends) and int(ends[-1]) == len(names)):
        raise ValueError(f"{place} is torn")
    count, first = record["others"]
    return FileList(top, folders, ends, names, counts, (int(count), str(first)), kept=place)


def _keep(made: FileList, place: Path, states: list[_State]) -> FileList | None:
    """The list as mapped files; None where they cannot be written, which only costs the next start its time."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=".making-"))
        try:
            for name in _ARRAYS:
                np.save(aside / f"{name}.npy", getattr(made, name))
            record = {"states": states, "others": made.others}
            (aside / "list.json").write_text(json.dumps(record), encoding="utf-8")
            _replaced(aside, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return _mapped(place, made.top, made.folders)
    except (OSError, ValueError):
        return None


def _replaced(aside: Path, place: Path) -> None:
    """Move a folder to its place at once; one that is there goes away, though not from under those who map it."""
    if place.exists():
        old = Path(tempfile.mkdtemp(dir=place.parent, prefix=".old-"))
        place.replace(old / "list")
        shutil.rmtree(old, ignore_errors=True)
    aside.replace(place)
