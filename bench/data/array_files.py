"""Images and labels as NumPy arrays, .npz or .npy; nothing is unpickled, no size is believed before it is checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.types.errors import DataError

LARGEST = 16_000_000_000  # bytes that one array of a compressed .npz may unpack to
# (images, labels) in lower case; those of a split first, for a file that has both.
OF_SPLIT = (("x_{}", "y_{}"), ("{}_x", "{}_y"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}"))
PLAIN = (("images", "labels"), ("image", "label"), ("data", "labels"), ("x", "y"), ("arr_0", "arr_1"))
_SPLITS = ("train", "val", "test")
BESIDE = ("labels",)  # the array of labels beside another one: that of CIFAR-10-C


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Images and their labels, as the file has them."""

    values: np.ndarray[Any, Any]  # (N, C, H, W): uint8, or float32 in [0, 1]
    labels: np.ndarray[Any, np.dtype[np.int64]]  # (N,)
    notes: tuple[str, ...]


def read_arrays(path: Path, splits: Sequence[str]) -> Arrays:
    """The images and labels of the first of these splits that a .npz, a folder of .npy, or an .npy has.

    Shapes: images (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3; labels (N,) or (N, 1).
    Raises: DataError for damaged files, missing names, other shapes, or pixels that are neither bytes nor in [0, 1].
    """
    places = _places(path)
    images, labels = _pair(path, places, splits)
    values, classes = _read(*places[images]), _read(*places[labels])
    where = f"{images!r} of {str(path)!r}"
    values = _channels_first(values, where)
    if values.dtype != np.uint8:
        values = _unit(values, where)
    classes = classes.reshape(-1) if classes.ndim == 2 and classes.shape[1] == 1 else classes
    if classes.shape != values.shape[:1] or classes.dtype.kind not in "iu":
        raise DataError(
            f"{labels!r} of {str(path)!r} is {classes.dtype} of shape {classes.shape}; expected one whole number for "
            f"each of {len(values)} images"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < 2**31:
        raise DataError(f"{labels!r} of {str(path)!r} has the label {int(classes.min())}; expected numbers from 0 on")
    return Arrays(values, classes.astype(np.int64), (f"images {where}, labels {labels!r}",))


_Place = tuple[Path, str]  # the file, and the member of a .npz; "" for an .npy


def _places(path: Path) -> Mapping[str, _Place]:
    if path.is_dir():
        return {entry.stem.lower(): (entry, "") for entry in sorted(path.glob("*.npy")) if entry.is_file()}
    if path.suffix.lower() == ".npy":
        return {**_places(path.parent), path.stem.lower(): (path, "")}
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix(".npy").lower(): (path, name) for name in archive.namelist() if name.endswith(".npy")
            }
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{str(path)!r} cannot be read as .npz: {error}; fetch it again") from None


def _pair(path: Path, places: Mapping[str, _Place], splits: Sequence[str]) -> tuple[str, str]:
    of_split = _split_pairs(splits)
    if path.suffix.lower() == ".npy":  # this array, and what lies beside it
        own = path.stem.lower()
        partners = [b for a, b in (*_split_pairs(_SPLITS), *PLAIN) if a == own]
        found = next((name for name in (*partners, *BESIDE) if name in places and name != own), None)
        if found is None:
            wanted = partners[0] if partners else BESIDE[0]
            raise DataError(f"{str(path)!r} has no labels beside it; expected {str(path.with_name(wanted))!r}.npy")
        return own, found
    known = (*of_split, *(() if _split_named(places) else PLAIN))
    pair = next(((a, b) for a, b in known if a in places and b in places), None)
    if pair is None:
        raise DataError(
            f"{str(path)!r} has the arrays {', '.join(sorted(places))[:200] or 'none'}; expected "
            f"{' and '.join(of_split[0])}, or images and labels, or give --data-root one .npy with labels.npy beside it"
        )
    return pair


def _split_named(places: Mapping[str, _Place]) -> bool:
    return any(a in places and b in places for a, b in _split_pairs(_SPLITS))


def _split_pairs(splits: Sequence[str]) -> list[tuple[str, str]]:
    return [(a.format(split), b.format(split)) for split in splits for a, b in OF_SPLIT]


def _read(path: Path, member: str) -> np.ndarray[Any, Any]:
    """One array, of plain numbers."""
    try:
        if not member:
            with path.open("rb") as file:
                _checked_header(file, path.stat().st_size, str(path))
            loaded: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return loaded
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(member).file_size
            if size > LARGEST:
                raise DataError(
                    f"{str(path)!r} says that {member!r} unpacks to {size:,} bytes; expected {LARGEST:,} at most"
                )
            with archive.open(member) as file:
                _checked_header(file, size, f"{path}:{member}")
            with archive.open(member) as file:
                read: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
                return read
    except _BROKEN as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{str(path)!r} cannot be read: {said or type(error).__name__}; fetch it again") from None


def _checked_header(file: Any, size: int, where: str) -> None:
    """Refuse an array that claims more than its file holds, or holds other than numbers."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):  # 3.0 is for names of fields alone
        raise DataError(f"{where!r} is of version {version}; expected an array of numbers")
    shape, _, kind = read(file)
    if kind.hasobject or kind.kind not in "uifb" or any(side < 0 for side in shape):
        raise DataError(f"{where!r} holds {kind} of shape {shape}; expected an array of numbers")
    claimed = kind.itemsize
    for side in shape:
        claimed *= side
    if claimed > size:
        raise DataError(f"{where!r} claims {claimed:,} bytes of pixels and has {size:,}; it is cut off or damaged")


def _channels_first(values: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    if values.ndim == 3:
        return values[:, None]
    if values.ndim == 4:
        first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
        if first != last:
            return values if first else values.transpose(0, 3, 1, 2)
    raise DataError(
        f"{where} has the shape {values.shape}; expected (N, H, W, C) or (N, C, H, W), C 1 or 3, or (N, H, W)"
    )


def _unit(values: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Floats in [0, 1] as float32.

    Raises: DataError for others: whether they are of 255, or were normalised, nobody can tell.
    """
    if values.dtype.kind != "f":
        raise DataError(f"{where} is {values.dtype}; expected uint8, or floats in [0, 1]")
    for part in _parts(values):
        low, high = float(part.min()), float(part.max())
        if not 0 <= low <= high <= 1:
            raise DataError(f"{where} has floats from {low:g} to {high:g}; expected them in [0, 1], or uint8")
    return values.astype(np.float32)


def _parts(values: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    for first in range(0, len(values), 1000):
        if values.size:
            yield values[first : first + 1000]


_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # an encrypted member
    zipfile.BadZipFile,
    zlib.error,
)
