"""CIFAR-10 as one JPEG a picture, in a folder or a tar: good to train on, but not the exact pixels of the set.

Pictures are named INDEX_LABEL.jpg, or INDEX.jpg with their labels in labels_train.u8, one byte each, beside the tar or
the folder; a name and that file may not contradict each other.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from bench.data.arrays import Octets
from bench.data.cifar_batches import RECORD
from bench.data.decoded_pictures import LEAST, keep, name_of, recall
from bench.data.pictures import Encoded, decode, visible
from bench.types.errors import DataError

PREPROCESSING = "jpeg"  # in specs and weights: these are not the exact pixels
LARGEST = 100_000  # bytes of one picture; JPEGs of 32x32 have some 700
_TAR = re.compile(r"\.tar(?:\.(?:xz|gz|bz2))?$|\.t[gx]z$")
_NAME = re.compile(r"([0-9]{1,6})(?:_([0-9]))?\.jpe?g")


@dataclass(frozen=True, slots=True)
class _Picture:
    """The bytes of one picture, in memory."""

    data: bytes
    where: str
    label: int = -1

    def read(self) -> bytes:
        return self.data

    def opened(self) -> io.BytesIO:
        return io.BytesIO(self.data)

    def __str__(self) -> str:
        return repr(self.where)


def find_pictures(root: Path, split: str) -> Path | None:
    """The tar or folder of a split's JPEGs: `root` itself, or the one in it whose name has the split's.

    A tar of the other split stands for that of this one beside it.
    Raises: DataError where several could be meant.
    """
    if root.is_file():
        if not _TAR.search(root.name) or not _split_in(root.name):
            return None
        other = root.with_name(root.name.replace(_split_in(root.name), split))
        return other if other.is_file() else None
    found = [
        path
        for path in visible(root)
        if _split_in(path.name) == split and (_holds_pictures(path) if path.is_dir() else _TAR.search(path.name))
    ]
    if len(found) > 1:
        raise DataError(f"{str(found[0])!r} and {str(found[1])!r} both hold {split} images; keep one")
    return found[0] if found else None


def read_pictures(place: Path, split: str, count: int) -> tuple[Octets, Octets]:
    """Values (count, 3, 32, 32) and labels (count,) of a tar or a folder; those of a tar are decoded once a machine.

    Raises: DataError where pictures are missing, damaged, of another size or named otherwise, or labels disagree.
    """
    file = place.parent / f"labels_{split}.u8"
    try:
        told = np.frombuffer(file.read_bytes(), dtype=np.uint8) if file.is_file() else None
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}; check who may read it") from None
    if told is not None and len(told) != count:
        raise DataError(f"{str(file)!r} has {len(told)} labels; expected one byte for each of {count} images")
    kept = ""
    if count >= LEAST and place.is_file():
        try:
            kept = name_of(place, b"" if told is None else told.tobytes(), f"{split} {count}".encode())
        except OSError as error:
            raise DataError(f"{str(place)!r} cannot be read: {error.strerror}; check who may read it") from None
        found = recall(kept, (count, RECORD))
        if found is not None:
            return found[:, 1:].reshape(-1, 3, 32, 32), found[:, 0].copy()
    values, labels = _decoded(place, told, file.name, count)
    if kept:
        keep(kept, np.concatenate([labels[:, None], values.reshape(count, -1)], axis=1))
    return values, labels


def _decoded(place: Path, told: Octets | None, labels_name: str, count: int) -> tuple[Octets, Octets]:
    values = np.zeros((count, 3, 32, 32), dtype=np.uint8)
    labels = np.full(count, 255, dtype=np.uint8)
    for name, picture in _pictures(place):
        match = _NAME.fullmatch(name)
        if match is None:
            raise DataError(f"{picture} is not named INDEX_LABEL.jpg, as 00012_7.jpg; expected nothing else there")
        index = int(match[1])
        if index >= count or labels[index] != 255:
            raise DataError(f"{picture} is image {index}; expected each of 0 to {count - 1} once")
        if match[2] is None and told is None:
            raise DataError(f"{picture} has no label in its name; give {labels_name!r} beside {place.name!r}")
        label = int(match[2]) if match[2] is not None or told is None else int(told[index])
        if told is not None and label != told[index]:
            raise DataError(
                f"{picture} says label {label}, {labels_name!r} says {told[index]}; one of them is of others"
            )
        image = decode(picture)
        if image.size != (32, 32):
            raise DataError(f"{picture} is {image.width}x{image.height}; expected 32x32")
        values[index], labels[index] = np.asarray(image).transpose(2, 0, 1), label
    if missing := np.flatnonzero(labels == 255).tolist():
        raise DataError(f"{str(place)!r} lacks {len(missing)} of {count} images, first {missing[0]}; fetch it again")
    return values, labels


def _split_in(name: str) -> str:
    said = re.findall(r"(?:^|[-_.])(train|test)(?=[-_.]|$)", name)
    return said[0] if len(said) == 1 else ""


def _holds_pictures(folder: Path) -> bool:
    return any(_NAME.fullmatch(path.name) for path in visible(folder))


def _pictures(place: Path) -> Iterator[tuple[str, Encoded]]:
    """Names and pictures, as they lie there."""
    if place.is_dir():
        for path in visible(place):
            try:
                with path.open("rb") as stored:
                    yield path.name, _small(stored.read(LARGEST + 1), str(path))
            except OSError as error:
                raise DataError(f"{str(path)!r} cannot be read: {error.strerror}; expected a picture") from None
        return
    try:
        # As a stream: unpacked once, from the front to the end, so that no damaged offset leads back.
        with tarfile.open(place, "r|*") as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    where = f"{place}:{member.name}"
                    yield PurePosixPath(member.name).name, _small(file.read(LARGEST + 1), where)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, OSError, EOFError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{str(place)!r} cannot be read: {said}; fetch it again") from None


def _small(data: bytes, where: str) -> _Picture:
    if len(data) > LARGEST:
        raise DataError(f"{where!r} has more than {LARGEST:,} bytes; expected a JPEG of 32x32 pixels")
    return _Picture(data, where)
