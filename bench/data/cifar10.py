"""CIFAR-10 in official order, from any of its forms; a part of a batch serves for the indices that it holds."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.data.array_files import Arrays
from bench.data.arrays import ArrayDataset, spans
from bench.data.cache import DOWNLOAD, cache_dir, fetch_archive, may_download
from bench.data.cifar_batches import BATCH, FOLDERS, RECORD, Batch, find_batch, read_archived, read_batch
from bench.data.cifar_pictures import PREPROCESSING, find_pictures, read_pictures
from bench.data.packed_files import read_packed
from bench.data.pictures import Labelled, decode
from bench.types import DatasetSource, PublishedLogs
from bench.types.cache_folder import CACHE
from bench.types.errors import DataError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
STEMS = {"test": ("test_batch",), "train": tuple(f"data_batch_{number}" for number in range(1, 6))}
# sha256 of all labels, and of the records (label, then pixels) of the first images of each split: what other forms than
# the official files are told by. Both are of the official python version.
LABELS_SHA256 = {
    "test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    "train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
}
FIRST = 1_017
FIRST_SHA256 = {
    "test": "c77ad46116beb3508f55d38aa34893560beae9515f9aca4a4dd0ea3617ac289e",
    "train": "ea2c7a46f23371a3f814ce8e198838201147e8e6d1f8a84baa3583ebbec03247",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def open_cifar10(root: Path | None, size: int | None, split: str) -> ArrayDataset:
    """The 10,000 test or 50,000 training images, 32x32 RGB.

    Its length is the official one even where the files hold less: index 1500 is the same image everywhere. The official
    archives are read as they are; Parquet and NumPy files count where they hold the official images in their order.
    JPEGs of the images, in a tar or a folder, are read too, for training; they go by another preprocessing.
    Source: Krizhevsky 2009; python and binary version.
    Raises: DataError for missing, torn, corrupt or unsafe files, another size, or another split.
    """
    if size not in (None, 32):
        raise DataError(f"cifar10 images are 32x32, got size {size}; leave the size out")
    if split not in STEMS:
        raise DataError(f"cifar10 has the splits 'train' and 'test', got {split!r}")
    stems = STEMS[split]
    root = _root(root)
    pictures = find_pictures(root, split)
    if pictures is not None and not _has_batches(root, stems):
        return _from_pictures(pictures, split)
    batches = _batches(root, stems, split)
    if pictures is not None and split == "train" and any(len(batch.labels) < BATCH for batch in batches):
        # Nothing trains on parts of batches; an exact test image is better than none.
        return _from_pictures(pictures, split)
    covered = tuple(range(k * BATCH, k * BATCH + len(batch.labels)) for k, batch in enumerate(batches))
    labels = np.concatenate([batch.labels for batch in batches])
    length = BATCH * len(stems)
    return ArrayDataset(
        name="cifar10",
        split=split,
        values=np.concatenate([batch.values for batch in batches]),
        labels=labels,
        top=255,
        class_names=CLASSES,
        length=length,
        covered=_merged(covered),
        notes=_notes(batches, covered, labels, length, split),
    )


def _has_batches(root: Path, stems: tuple[str, ...]) -> bool:
    """Whether official files are there, or a part of them."""
    if root.is_file():
        return False
    folders = (root, *(root / name for name in FOLDERS))
    return any(find_batch(folder, stem) for folder in folders for stem in stems) or any(
        (root / name).is_file() for name in ARCHIVES
    )


def _from_pictures(place: Path, split: str) -> ArrayDataset:
    """The split from JPEGs of its images: the official labels, but not the exact pixels.

    Raises: DataError where they are not all there, or of other labels.
    """
    length = len(STEMS[split]) * BATCH
    values, labels = read_pictures(place, split, length)
    if hashlib.sha256(labels.tobytes()).hexdigest() != LABELS_SHA256[split]:
        raise DataError(f"{str(place)!r} does not have CIFAR-10's official {split} labels in order; fetch it again")
    return ArrayDataset(
        name="cifar10",
        split=split,
        values=values,
        labels=labels,
        top=255,
        class_names=CLASSES,
        length=length,
        covered=(range(length),),
        notes=(f"{place.name} holds JPEGs: these are not the exact pixels of CIFAR-10's {split} images",),
        preprocessing=PREPROCESSING,
    )


def _batches(root: Path, stems: tuple[str, ...], split: str) -> list[Batch]:
    """The split's batches, from the first form that is there."""
    if root.is_file() and root.name.endswith((".tar.gz", ".tgz")):
        return read_archived(root, stems)
    for folder in (root, *(root / name for name in FOLDERS)):
        if any(find_batch(folder, stem) for stem in stems):
            return [_read(folder, stem) for stem in stems]
    for name in ARCHIVES:
        if (root / name).is_file():
            return read_archived(root / name, stems)
    packed = read_packed(root, split)
    if packed is not None:
        return _official(packed, root, split)
    raise DataError(
        f"{str(root)!r} has no CIFAR-10 batch; expected {stems[0]!r} or '{stems[0]}.bin' in it, or in its folder "
        f"{FOLDERS[0]!r} or {FOLDERS[1]!r}, or {ARCHIVES[0]!r}; other forms of the images open as --dataset folder"
    )


def _official(found: Labelled | Arrays, root: Path, split: str) -> list[Batch]:
    """Images in another form, as batches.

    Raises: DataError unless they are the official ones in the official order, as far as can be told: JPEG copies,
    corrupted copies and other orders are not.
    """
    whole = len(STEMS[split]) * BATCH
    count = len(found.labels) if isinstance(found, Arrays) else len(found.stored)
    other = f"{str(root)!r} does not hold CIFAR-10's {whole} official {split} images in their order"
    if count != whole:
        raise DataError(f"{other}: it has {count}; open it as --dataset folder")
    if isinstance(found, Arrays):
        labels, values = found.labels, found.values
    else:
        labels = np.array([image.label for image in found.stored])
        pictures = [np.asarray(decode(image)) for image in found.stored]
        if {picture.shape for picture in pictures} != {(32, 32, 3)}:
            raise DataError(f"{other}: they are not 32x32; open it as --dataset folder")
        values = np.stack(pictures).transpose(0, 3, 1, 2)
    if values.dtype != np.uint8:  # floats that are bytes over 255
        rounded = np.round(values * 255).astype(np.uint8)
        values = rounded if np.array_equal(rounded / np.float32(255), values) else values
    right = values.shape[1:] == (3, 32, 32) and values.dtype == np.uint8 and int(labels.max()) <= 9
    octets = labels.astype(np.uint8)
    if not right or hashlib.sha256(octets.tobytes()).hexdigest() != LABELS_SHA256[split]:
        raise DataError(f"{other}: pixels or labels differ; open it as --dataset folder")
    batches = [
        Batch(root, np.ascontiguousarray(values[k : k + BATCH]), octets[k : k + BATCH]) for k in range(0, whole, BATCH)
    ]
    if not _starts_as_official(batches[0], split):
        raise DataError(f"{other}: pixels differ, as those of a JPEG or a corrupted copy; open it as --dataset folder")
    note = f"{root.name} is no official file; all labels and the first {FIRST} images were compared and are official"
    return [replace(batches[0], note=note), *batches[1:]]


def _starts_as_official(batch: Batch, split: str) -> bool:
    records = np.concatenate([batch.labels[:FIRST, None], batch.values[:FIRST].reshape(-1, RECORD - 1)], axis=1)
    return hashlib.sha256(records.tobytes()).hexdigest() == FIRST_SHA256[split]


def _root(root: Path | None) -> Path:
    if root is None:
        root = cache_dir() / "cifar10"
        if may_download():
            return fetch_archive(URL, MD5, root, FOLDERS[0])
        if not root.is_dir():
            raise DataError(
                f"cifar10 is not in {str(root)!r}; give --data-root with the official files, "
                f"or set {DOWNLOAD}=1 to fetch 170 MB from {URL} ({CACHE} moves the cache)"
            )
    if not root.is_dir() and not root.is_file():
        raise DataError(f"--data-root {str(root)!r} is no folder; expected one with CIFAR-10's batches")
    return root


def _read(folder: Path, stem: str) -> Batch:
    path = find_batch(folder, stem)
    if path is None:
        raise DataError(f"{str(folder)!r} lacks the batch {stem!r}; expected all five data_batch_1 to data_batch_5")
    return read_batch(path, stem)


def _merged(covered: tuple[range, ...]) -> tuple[range, ...]:
    """Ranges that touch, as one."""
    starts = [covered[0].start, *(b.start for a, b in pairwise(covered) if a.stop != b.start)]
    stops = [*(a.stop for a, b in pairwise(covered) if a.stop != b.start), covered[-1].stop]
    return tuple(map(range, starts, stops))


def _notes(
    batches: list[Batch],
    covered: tuple[range, ...],
    labels: np.ndarray[tuple[int], np.dtype[np.uint8]],
    length: int,
    split: str,
) -> tuple[str, ...]:
    notes = [
        f"{batch.path.name} holds images {spans((span,))}, not a complete batch of {BATCH}"
        for batch, span in zip(batches, covered, strict=True)
        if len(span) < BATCH
    ]
    notes += [batch.note for batch in batches if batch.note]
    # The binary version has no published checksum.
    if ".bin" in batches[0].path.suffixes and len(covered[0]) >= FIRST and not _starts_as_official(batches[0], split):
        notes.append(f"{batches[0].path.name}: the first {FIRST} images are not the official ones")
    # Every class has a tenth of each split.
    if len(labels) == length and set(np.bincount(labels, minlength=10).tolist()) != {length // 10}:
        notes.append(f"the {split} labels are not {length // 10} of each class: these are not the official files")
    return tuple(notes)


CIFAR10 = DatasetSource(
    name="cifar10",
    title="CIFAR-10",
    cite="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    default_subset="skip:20",
    open=open_cifar10,
    num_classes=10,
    shape=(3, 32, 32),
    images={split: BATCH * len(stems) for split, stems in STEMS.items()},
    radii=tuple(0.25 * k for k in range(5)),  # 0 to 1: Lei et al., ICLR 2025, Table 2
    # Cohen et al. 2019's released networks; this deviation is the mean of the images' own, not the set's 0.247.
    statistics=((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    logs=PublishedLogs(
        names="cifar[-_]?10",
        others="cifar[-_]?(?:100?[-_.]?(?:c|p|h|n|lt|ood|warehouse|corrupted)|10[.][12]|100|5m)(?![a-z0-9])(?![.][0-9])",
        called="CIFAR-10's test set",
        subsets=("skip:20", "all"),
        order="mixed classes",
    ),
)
