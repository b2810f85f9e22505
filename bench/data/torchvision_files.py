"""Folders as torchvision's datasets download them: MNIST and its like, SVHN, STL-10, CIFAR-100; no torchvision is used.

Its ImageFolder, ImageNet and CIFAR-10 are read elsewhere. Nothing is unpickled but by the reader of CIFAR's batches.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.array_files import LARGEST, Arrays
from bench.data.cifar_batches import pickled_records
from bench.data.pictures import visible
from bench.types.errors import DataError

FOLDERS = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST", "raw", "stl10_binary", "cifar-100-python")
_IMAGES = "-images-idx3-ubyte"
_STL = (3, 96, 96)
_PICKLE = 400_000_000  # bytes of CIFAR-100's training set at most; it has 155 MB


def read_torchvision(root: Path, split: str) -> Arrays | None:
    """The images and labels of a split of such a folder, or of one around it; None where there is none.

    Raises: DataError for files that are damaged or lack their labels, or sets of two datasets.
    """
    if split == "val" or not root.is_dir():
        return None
    wanted = ("t10k", "test") if split == "test" else ("train",)
    readers: list[tuple[Path, Callable[[Path], Arrays]]] = []
    for path in _files(root):
        name = path.name.removesuffix(".gz")
        if name.endswith(_IMAGES) and name.removesuffix(_IMAGES).rpartition("-")[2] in wanted:
            readers.append((path, _idx))
        elif name == f"{wanted[-1]}_32x32.mat":
            readers.append((path, _svhn))
        elif path.parent.name == "stl10_binary" and name == f"{wanted[-1]}_X.bin":
            readers.append((path, _stl10))
        elif path.parent.name == "cifar-100-python" and name == wanted[-1]:
            readers.append((path, _cifar100))
    plain = {path for path, _ in readers if path.suffix != ".gz"}  # torchvision keeps the packed file beside it
    readers = [each for each in readers if each[0].suffix != ".gz" or each[0].with_suffix("") not in plain]
    if not readers:
        return None
    if len(readers) > 1:
        first, second = (str(path) for path, _ in readers[:2])
        raise DataError(f"{first!r} and {second!r} are of two datasets; give --data-root the folder of one")
    path, read = readers[0]
    try:
        found = read(path)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; fetch it again") from None
    if len(found.labels) != len(found.values):
        raise DataError(f"{str(path)!r} has {len(found.values)} images and {len(found.labels)} labels; fetch it again")
    return found


def _files(root: Path) -> list[Path]:
    """Files of the folder, and of those in it that torchvision makes: root/MNIST/raw."""
    folders, found = [root], []
    while folders:
        inside = visible(folders.pop())
        found += [path for path in inside if path.is_file()]
        folders += [path for path in inside if path.name in FOLDERS and path.is_dir()]
    return sorted(found)


def _idx(path: Path) -> Arrays:
    """MNIST's form: a big-endian header of the sizes, then bytes (LeCun, Cortes & Burges)."""
    labels = path.with_name(path.name.replace("-images-idx3-", "-labels-idx1-"))
    if not labels.is_file():
        raise DataError(f"{str(path)!r} has no labels beside it; expected {str(labels)!r}")
    values = _bytes_of_idx(path, 3)
    return Arrays(values[:, None], _bytes_of_idx(labels, 1).astype(np.int64), (f"images {str(path)!r}",))


def _bytes_of_idx(path: Path, axes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = np.frombuffer(file.read(4 * (axes + 1)), ">u4").astype(int).tolist()
            if (
                len(header) != axes + 1
                or header[0] != 0x800 + axes
                or not 0 < np.prod(header[1:], dtype=float) <= LARGEST
            ):
                raise DataError(f"{str(path)!r} is no file of bytes in {axes} axes (IDX); fetch it again")
            size = int(np.prod(header[1:]))
            data = file.read(size + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; fetch it again") from None
    if len(data) != size:
        came = "more" if len(data) > size else f"{len(data):,}"
        raise DataError(f"{str(path)!r} says that it has {size:,} bytes, and has {came}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(header[1:])


def _svhn(path: Path) -> Arrays:
    """Netzer et al. 2011: X (32, 32, 3, N), and y from 1 to 10, where 10 is the digit 0."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        if shapes.get("X", ())[:3] != (32, 32, 3) or np.prod(shapes["X"], dtype=float) > LARGEST:
            raise DataError(f"{str(path)!r} has {shapes}; expected X (32, 32, 3, N) and y")
        held = loadmat(path, variable_names=("X", "y"))
        values, labels = np.asarray(held["X"]), np.asarray(held["y"]).reshape(-1)
    except (MatReadError, ValueError, TypeError, KeyError, NotImplementedError, zlib.error, MemoryError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {str(error)[:100]}; fetch it again") from None
    if values.dtype != np.uint8 or labels.dtype.kind not in "iu" or not ((labels >= 1) & (labels <= 10)).all():
        raise DataError(f"{str(path)!r} holds {values.dtype} and {labels.dtype}; expected bytes, and labels 1 to 10")
    values = np.ascontiguousarray(values.transpose(3, 2, 0, 1))
    return Arrays(values, labels.astype(np.int64) % 10, (f"images {str(path)!r}",))


def _stl10(path: Path) -> Arrays:
    """Coates et al. 2011: planes of 96 columns, and labels from 1 to 10."""
    data, beside = path.read_bytes(), path.with_name(path.name.replace("_X", "_y"))
    labels = np.frombuffer(beside.read_bytes(), np.uint8)
    size = int(np.prod(_STL))
    if not data or len(data) % size or not ((labels >= 1) & (labels <= 10)).all():
        raise DataError(f"{str(path)!r} has {len(data):,} bytes; expected {size:,} an image, and labels 1 to 10")
    values = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, *_STL).transpose(0, 1, 3, 2))
    return Arrays(values, labels.astype(np.int64) - 1, (f"images {str(path)!r}",))


def _cifar100(path: Path) -> Arrays:
    """Krizhevsky 2009: the fine labels, 0 to 99."""
    if path.stat().st_size > _PICKLE:
        raise DataError(f"{str(path)!r} has {path.stat().st_size:,} bytes; expected CIFAR-100's")
    values, labels = pickled_records(path.read_bytes(), path, "fine_labels")
    if any(not 0 <= label < 100 for label in labels):
        raise DataError(f"{str(path)!r} has labels beyond 0 to 99; fetch it again")
    return Arrays(values, np.array(labels, np.int64), (f"images {str(path)!r}",))
