"""The 1,797 handwritten digits, 8x8, that come with scikit-learn: a real dataset that needs no download."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.data.arrays import ArrayDataset
from bench.types import DatasetSource
from bench.types.errors import DataError

TRAIN = 1_297  # the first ones; the 500 after them are the test set
TOTAL = 1_797
_SHA256 = "d8121ca7764eccfaef1df6bc4589c6527c58fcbab0cb1b079e79f97f8cb8219a"  # of label byte and 64 values of each


def open_digits(root: Path | None, size: int | None, split: str) -> ArrayDataset:
    """Grey digits of 17 levels, value / 16.

    Differs: the split is this project's own, there is no official one at this size.
    Source: Alpaydin & Kaynak 1998, optical recognition of handwritten digits, as 8x8 block counts of 0 to 16.
    Raises: DataError for another size or split, or if scikit-learn holds other digits.
    """
    del root  # the images come with scikit-learn
    if size not in (None, 8):
        raise DataError(f"digits are 8x8, got size {size}; leave the size out")
    if split not in ("train", "test"):
        raise DataError(f"digits have the splits 'train' and 'test', got {split!r}")
    records = _records()
    if records.shape != (TOTAL, 65) or hashlib.sha256(records.tobytes()).hexdigest() != _SHA256:
        raise DataError(
            f"scikit-learn's digits are not the {TOTAL} known ones, got {len(records)} others; reinstall it"
        )
    records = records[:TRAIN] if split == "train" else records[TRAIN:]
    return ArrayDataset(
        name="digits",
        split=split,
        values=records[:, 1:].reshape(-1, 1, 8, 8),
        labels=records[:, 0],
        top=16,
        class_names=tuple(map(str, range(10))),
        length=len(records),
        covered=(range(len(records)),),
    )


def _records() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Label and 64 values of each, from the file of `sklearn.datasets.load_digits`, whose import takes 1.1 s."""
    package = find_spec("sklearn")
    places = (package.submodule_search_locations if package else None) or ()
    file = next((f for f in (Path(at, "datasets", "data", "digits.csv.gz") for at in places) if f.is_file()), None)
    if file is None:
        raise DataError("expected scikit-learn with its digits.csv.gz, found none; reinstall it")
    try:
        table = np.loadtxt(file, delimiter=",", ndmin=2).astype(np.uint8)
    except (ValueError, OSError, EOFError) as damage:
        raise DataError(f"{str(file)!r} is damaged ({damage}); reinstall scikit-learn") from damage
    return np.roll(table, 1, axis=1)  # the label is stored last


DIGITS = DatasetSource(
    name="digits",
    title="Digits 8x8 (scikit-learn)",
    cite="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits",
    default_subset="skip:5",
    open=open_digits,
    num_classes=10,
    shape=(1, 8, 8),
    images={"test": TOTAL - TRAIN, "train": TRAIN},
    radii=tuple(0.25 * k for k in range(7)),  # 0 to 1.5: as far as sigma 0.5 reaches
    statistics=((0.3059,), (0.3755,)),  # over the pixels of the training split
)
