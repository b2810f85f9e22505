"""Datasets in a few large files: which of them hold a split, and what is in them. One table, for every dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.data.array_files import Arrays, read_arrays
from bench.data.arrow_files import MADE_BY_MAP, read_arrow
from bench.data.parquet import read_parquet
from bench.data.pictures import SUFFIXES, Labelled, visible, visible_folders
from bench.data.tars import is_webdataset, read_shards, tar_members
from bench.data.torchvision_files import read_torchvision
from bench.types.errors import DataError

FORMS = "Parquet or Arrow, webdataset shards (.tar), .npz or .npy, or what torchvision downloads"
READERS: dict[str, Callable[[Sequence[Path]], Labelled]] = {
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".tar": read_shards,
}
ARRAYS = (".npz", ".npy")
_SPLIT = re.compile(r"(?:^|[-_./])(train|test|valid|validation|val)(?=[-_./]|$)")
_OF = re.compile(r"-([0-9]+)-of-([0-9]+)$")


def splits_of(split: str) -> tuple[str, ...]:
    """Names under which a split may stand; what is certified is the test set, else the validation set."""
    return ("test", "val") if split == "test" else (split,)


def read_packed(root: Path, split: str) -> Labelled | Arrays | None:
    """The split, if `root` is such a file or a folder that holds some; None if it is none of them.

    Raises: DataError for files of two kinds, for a part that is missing, and what their readers raise.
    """
    if (arrays := read_torchvision(root, split)) is not None:
        return arrays
    files = [root] if root.is_file() else packed_files(root)
    kinds = sorted({path.suffix.lower() for path in files})
    if not kinds or (root.is_file() and kinds[0] not in (*READERS, *ARRAYS)):
        return None
    if len(kinds) > 1 and not (set(kinds) <= set(ARRAYS)):
        raise DataError(
            f"{str(root)!r} holds {' and '.join(kinds)} files; give --data-root the file, or a folder of one kind"
        )
    if kinds[0] in ARRAYS:
        return read_arrays(_array_place(root, files, split), splits_of(split))
    chosen = files if root.is_file() else _complete(_of_split(root, files, split))
    if kinds == [".tar"] and not any(is_webdataset(tar_members(path)) for path in chosen[:1]):
        raise DataError(f"{str(chosen[0])!r} has no classes; expected a webdataset: KEY.cls beside each KEY.jpg")
    return READERS[kinds[0]](chosen)


def packed_files(root: Path) -> list[Path]:
    """Files of these kinds in a folder, and in the folders in it; none beside folders of pictures."""
    folders = visible_folders(root)
    if any(_holds_pictures(folder) for folder in folders):
        return []
    inside = [path for folder in (root, *folders) for path in visible(folder)]
    known = [path for path in inside if path.suffix.lower() in (*READERS, *ARRAYS) and path.is_file()]
    return [path for path in known if not (path.suffix == ".arrow" and path.name.startswith(MADE_BY_MAP))]


def _holds_pictures(folder: Path) -> bool:
    entries = visible(folder)
    return any(path.suffix.lower() in SUFFIXES for path in entries) or any(
        path.suffix.lower() in SUFFIXES for inner in entries if inner.is_dir() for path in visible(inner)
    )


def _of_split(root: Path, files: Sequence[Path], split: str) -> list[Path]:
    """The files whose names say that they are of the split; all of them where none says so."""
    named: dict[str, list[Path]] = {}
    for path in files:
        said = _SPLIT.findall(str(path.relative_to(root).with_suffix("")).lower())
        name = "val" if said and said[-1].startswith("val") else said[-1] if said else ""
        named.setdefault(name, []).append(path)
    found = next((named[name] for name in splits_of(split) if name in named), None)
    if found is None and split == "test" and set(named) == {""}:
        return named[""]
    if found is None:
        raise DataError(
            f"{str(root)!r} has no files of the split {split!r}, only of {', '.join(sorted(n or '?' for n in named))}; "
            "expected the split's name in theirs, or give --data-root the file itself"
        )
    return found


def _complete(files: Sequence[Path]) -> list[Path]:
    """The parts in order of their numbers.

    Raises: DataError where one is missing, or where the parts are of several sets.
    """
    numbers: dict[str, dict[int, Path]] = {}
    counts = set()
    for path in files:
        stem = str(path.with_suffix(""))
        if of := _OF.search(stem):
            counts.add(int(of[2]))
            numbers.setdefault(stem[: of.start()], {})[int(of[1])] = path
        elif digits := re.search(r"[0-9]{1,9}$", stem):
            numbers.setdefault(stem[: digits.start()], {})[int(digits[0])] = path
        else:
            numbers.setdefault(stem, {})[0] = path
    if len(numbers) > 1:
        first, second = (next(iter(parts.values())) for parts in list(numbers.values())[:2])
        raise DataError(f"{str(first)!r} and {str(second)!r} are parts of two sets; give --data-root the one to take")
    parts = next(iter(numbers.values()))
    whole = range(max(counts)) if counts else range(min(parts), max(parts) + 1)
    if missing := [number for number in whole if number not in parts]:
        raise DataError(
            f"{str(files[0])!r} and its other parts lack part {missing[0]}; fetch it, or give --data-root one file"
        )
    return [parts[number] for number in sorted(parts)]


def _array_place(root: Path, files: Sequence[Path], split: str) -> Path:
    """The .npz or .npy that holds a split, or the folder of .npy files that do."""
    if root.is_file():
        return root
    archives = [path for path in files if path.suffix.lower() == ".npz"]
    if not archives:
        folders = {path.parent for path in files}
        return folders.pop() if len(folders) == 1 else root
    if len(archives) > 1:
        archives = _of_split(root, archives, split)
    if len(archives) > 1:
        raise DataError(f"{str(root)!r} holds {len(archives)} .npz files; give --data-root the one to take")
    return archives[0]
