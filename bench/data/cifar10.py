"""CIFAR-10 in official order, from any of its forms; a part of a batch serves for the indices that it holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.data.arrays import ArrayDataset, spans
from bench.data.cache import CACHE, DOWNLOAD, cache_dir, fetch_archive, may_download
from bench.data.cifar_batches import BATCH, Batch, find_batch, read_batch
from bench.errors import DataError
from bench.types import DatasetSource

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")  # what the two official archives unpack to
STEMS = {"test": ("test_batch",), "train": tuple(f"data_batch_{number}" for number in range(1, 6))}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def open_cifar10(root: Path | None, size: int | None, split: str) -> ArrayDataset:
    """The 10,000 test or 50,000 training images, 32x32 RGB.

    Its length is the official one even where the files hold less: index 1500 is the same image everywhere.
    Source: Krizhevsky 2009; python and binary version.
    Raises: DataError for missing, torn, corrupt or unsafe files, another size, or another split.
    """
    if size not in (None, 32):
        raise DataError(f"cifar10 images are 32x32, got size {size}; leave the size out")
    if split not in STEMS:
        raise DataError(f"cifar10 has the splits 'train' and 'test', got {split!r}")
    stems = STEMS[split]
    folder = _locate(root, stems)
    batches = [_read(folder, stem) for stem in stems]
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


def _locate(root: Path | None, stems: tuple[str, ...]) -> Path:
    if root is None:
        root = cache_dir() / "cifar10"
        if may_download():
            return fetch_archive(URL, MD5, root, FOLDERS[0])
        if not root.is_dir():
            raise DataError(
                f"cifar10 is not in {str(root)!r}; give --data-root with the official files, "
                f"or set {DOWNLOAD}=1 to fetch 170 MB from {URL} ({CACHE} moves the cache)"
            )
    if not root.is_dir():
        raise DataError(f"--data-root {str(root)!r} is no folder; expected one with CIFAR-10's batches")
    for folder in (root, *(root / name for name in FOLDERS)):
        if any(find_batch(folder, stem) for stem in stems):
            return folder
    raise DataError(
        f"{str(root)!r} has no CIFAR-10 batch; expected {stems[0]!r} or '{stems[0]}.bin' in it, or in its folder "
        f"{FOLDERS[0]!r} or {FOLDERS[1]!r}"
    )


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
    # Every class has a tenth of each split; the binary version has no published checksum, this much can be told.
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
)
