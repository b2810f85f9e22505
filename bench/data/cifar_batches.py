"""The two official storage forms of CIFAR-10 batches, python and binary, packed or not; no pickle is ever trusted."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.data.arrays import Octets
from bench.types.errors import DataError

FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")  # what the two official archives hold
BATCH = 10_000  # records of a complete batch
PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS  # label, then the red, green and blue plane, row by row
LARGEST = 2 * BATCH * RECORD  # bytes; a python batch is 31 MB, more is something else
UNPACKED = 300_000_000  # bytes of the archive's tar at most; it has 186 MB

# md5 of the python version's files, as published beside the archive (Krizhevsky 2009).
OFFICIAL_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The records of one file."""

    path: Path
    values: Octets  # (N, 3, 32, 32)
    labels: Octets  # (N,)
    note: str = ""  # what is odd about a file that can be used all the same


def find_batch(folder: Path, stem: str) -> Path | None:
    """The file of a batch in that folder: `stem` (python), or one `stem*.bin` or `stem*.bin.xz` (binary).

    Raises: DataError when several binary files could be meant.
    """
    if (folder / stem).is_file():
        return folder / stem
    found = sorted(path for path in folder.glob(f"{stem}*.bin*") if path.name.endswith((".bin", ".bin.xz")))
    if len(found) > 1:
        raise DataError(
            f"{str(folder)!r} has {len(found)} files for {stem}: {', '.join(path.name for path in found)}; keep one"
        )
    return found[0] if found else None


def read_batch(path: Path, stem: str) -> Batch:
    """The records of a batch file of either form.

    Raises: DataError if it is torn, corrupt, unsafe, too long, or has labels outside 0..9.
    """
    return _checked(_read_binary(path) if ".bin" in path.suffixes else _from_pickle(_contents(path), path, stem))


def read_archived(archive: Path, stems: Sequence[str]) -> list[Batch]:
    """The batches of an official archive, python or binary version, which stays packed.

    Raises: DataError as `read_batch`, and where one is not in the archive.
    """
    found: dict[str, Batch] = {}
    try:
        with gzip.open(archive) as packed:
            unpacked = packed.read(UNPACKED + 1)
        if len(unpacked) > UNPACKED:
            raise DataError(f"{str(archive)!r} unpacks to more than {UNPACKED:,} bytes; it is no archive of CIFAR-10")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            before = -1
            for member in tar:
                if member.offset <= before:  # a damaged size can lead back, and round for ever
                    raise DataError(f"{str(archive)!r} is damaged at {member.name!r}; fetch it again")
                before = member.offset
                place = archive / member.name
                stem = place.name.removesuffix(".bin")
                file = tar.extractfile(member) if member.isfile() and stem in stems else None
                if file is None or place.parent.name not in FOLDERS:
                    continue
                data = file.read()
                binary = place.suffix == ".bin"
                found[stem] = _checked(_from_records(data, place) if binary else _from_pickle(data, place, stem))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{str(archive)!r} cannot be read: {error}; fetch it again") from None
    if missing := [stem for stem in stems if stem not in found]:
        raise DataError(f"{str(archive)!r} lacks the batch {missing[0]!r}; expected the official archive")
    return [found[stem] for stem in stems]


def _checked(batch: Batch) -> Batch:
    path = batch.path
    count = len(batch.labels)
    if not 0 < count <= BATCH:
        raise DataError(f"{str(path)!r} holds {count} records; expected 1 to {BATCH}")
    if batch.labels.max() > 9:
        raise DataError(f"{str(path)!r} has label {batch.labels.max()}; expected 0 to 9; it is corrupt or not CIFAR-10")
    return batch


def _read_binary(path: Path) -> Batch:
    limit = BATCH * RECORD + 1
    try:
        # Never more than one batch is unpacked, whatever the file claims.
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            data = file.read(limit)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; fetch it again") from None
    return _from_records(data, path)


def _from_records(data: bytes, path: Path) -> Batch:
    if len(data) > BATCH * RECORD:
        raise DataError(f"{str(path)!r} holds more than {BATCH} records of {RECORD} bytes; expected a CIFAR-10 batch")
    whole, torn = divmod(len(data), RECORD)
    if torn:
        raise DataError(
            f"{str(path)!r} is torn: {whole} records of {RECORD} bytes and {torn} bytes more; fetch it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return Batch(path, records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])


def _contents(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(
                f"{str(path)!r} has {path.stat().st_size} bytes; expected a CIFAR-10 batch of 31 MB or less"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; fetch it again") from None


def _from_pickle(data: bytes, path: Path, stem: str) -> Batch:
    values, labels = pickled_records(data, path)
    if any(not 0 <= label <= 255 for label in labels):
        raise DataError(f"{str(path)!r} has labels that are no integers from 0 to 9; fetch it again")
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    odd = len(values) == BATCH and md5 != OFFICIAL_MD5[stem]
    note = f"{path.name} is complete but not the official file: md5 {md5}, official {OFFICIAL_MD5[stem]}" if odd else ""
    return Batch(path, values, np.array(labels, np.uint8), note)


def pickled_records(data: bytes, path: Path, key: str = "labels") -> tuple[Octets, list[int]]:
    """Images (N, 3, 32, 32) and labels of a python batch of CIFAR; `key`: its labels' name, as of CIFAR-100's.

    Raises: DataError for what is none, or asks for more than containers, numbers and arrays of bytes.
    """
    try:
        content = _Restricted(io.BytesIO(data), encoding="bytes").load()
        values, labels = (content.get(name.encode(), content.get(name)) for name in ("data", key))
        values = values.array()
    except DataError as error:
        raise DataError(f"{str(path)!r} {error}") from None
    except _BROKEN as error:
        raise DataError(f"{str(path)!r} is not a CIFAR-10 python batch ({error!r:.120}); fetch it again") from None
    if values.ndim != 2 or values.shape[1] != PIXELS:
        raise DataError(f"{str(path)!r} has no 'data' of N x {PIXELS} bytes; expected a CIFAR-10 python batch")
    if not isinstance(labels, list) or len(labels) != len(values):
        raise DataError(f"{str(path)!r} has no {key!r} list as long as its {len(values)} images; fetch it again")
    if any(type(label) is not int for label in labels):
        last = 9 if key == "labels" else 99
        raise DataError(f"{str(path)!r} has labels that are no integers from 0 to {last}; fetch it again")
    return values.reshape(-1, 3, 32, 32), labels


class _Octets:
    """What a file says of an array of bytes; NumPy itself never sees the file's claims unchecked."""

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, _kind, self.by_columns, self.data = state

    def array(self) -> Octets:
        order: Literal["C", "F"] = "F" if self.by_columns else "C"
        return np.frombuffer(self.data, np.uint8).reshape(self.shape, order=order)


class _OctetKind:
    """The array type 'u1', and no other."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        if code not in ("u1", b"u1"):
            raise DataError(f"asks for the array type {code!r}; expected bytes ('u1') alone")

    def __setstate__(self, _state: Any) -> None:
        pass  # byte order and padding, which bytes do not have


def _array(_class: Any, _shape: Any, _code: Any) -> _Octets:
    return _Octets()


def _latin1(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise DataError(f"asks for the codec {encoding!r}; expected latin1 alone")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): "an argument of _reconstruct, never called",
    ("numpy", "dtype"): _OctetKind,
    ("_codecs", "encode"): _latin1,  # how Python 3 writes bytes for Python 2
}


class _Restricted(pickle.Unpickler):
    """Builds containers, numbers, strings and byte arrays, and calls nothing of the file's choosing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise DataError(
                f"asks for the global '{module}.{name}', which a CIFAR-10 batch never does; nothing was run; "
                "do not trust the file, fetch it again"
            )
        return _KNOWN[module, name]


_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,  # and with it UnicodeDecodeError
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)
