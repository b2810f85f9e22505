"""Patches of colorectal tissue under the microscope, 224x224, 9 classes: KatherColon, as its two public folders lie."""

from __future__ import annotations

from pathlib import Path

from bench.data.file_lists import list_classes
from bench.data.pictures import PictureDataset, picture_size, visible_folders
from bench.types import DatasetSource
from bench.types.errors import DataError

CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
FOLDERS = {"train": "NCT-CRC-HE-100K", "test": "CRC-VAL-HE-7K"}  # other patients in each
OFFICIAL = {"train": 100_000, "test": 7_180}
SIDE = 224


def open_kathercolon(root: Path | None, size: int | None, split: str) -> PictureDataset:
    """The patches of one folder, by class and then file name, as RGB and as stored.

    The root holds NCT-CRC-HE-100K (the training split) or CRC-VAL-HE-7K (the test split), or is one of them; any other
    folder of the nine classes is taken as a test split.
    Differs: which images the rRCM paper certified is not stated; its "10,000" are neither folder's.
    Source: Kather et al. 2019, PLoS Medicine 16(1); zenodo.org/records/1214456.
    Raises: DataError for missing folders, classes or images, for other classes, sizes or splits.
    """
    if split not in FOLDERS:
        raise DataError(f"kathercolon has the splits 'train' and 'test', got {split!r}")
    if size not in (None, SIDE):
        raise DataError(f"kathercolon is {SIDE}x{SIDE}, got size {size}; leave the size out")
    top = _folder(root, split)
    stored = list_classes(top, CLASSES)
    if (empty := stored.empty()) is not None:
        raise DataError(f"class folder {str(top / empty)!r} has no image; fetch the data again")
    if (found := picture_size(stored[0])) != (SIDE, SIDE):
        raise DataError(f"{stored[0]} is {found[1]}x{found[0]}, expected {SIDE}x{SIDE}; fetch the data again")
    return PictureDataset(
        name="kathercolon",
        split=split,
        stored=stored,
        class_names=CLASSES,
        crop=None,
        side=(SIDE, SIDE),
        preprocessing="none",
        notes=_notes(len(stored), stored.others, split),
    )


def _folder(root: Path | None, split: str) -> Path:
    """Where the class folders of a split are."""
    wanted = f"a folder {FOLDERS[split]} with the folders {CLASSES[0]} to {CLASSES[-1]}"
    if root is None:
        raise DataError(f"kathercolon needs --data-root, got none; expected {wanted} (zenodo.org/records/1214456)")
    if not root.is_dir():
        raise DataError(f"--data-root {str(root)!r} is no folder; expected {wanted}")
    other = next(name for part, name in FOLDERS.items() if part != split)
    name = root.resolve().name
    if (root / FOLDERS[split]).is_dir():
        root = root / FOLDERS[split]
    elif (root / other).is_dir() or name == other or (split == "train" and name != FOLDERS[split]):
        raise DataError(f"{str(root)!r} has no {split!r} split of kathercolon; expected {wanted}")
    classes = tuple(folder.name for folder in visible_folders(root))
    if classes != CLASSES:
        odd = sorted(set(classes) ^ set(CLASSES))
        raise DataError(f"{str(root)!r} differs in the class folder {odd[0]!r}; expected {wanted}")
    return root


def _notes(count: int, others: tuple[int, str], split: str) -> tuple[str, ...]:
    skipped, first = others
    return (
        *((f"{count:,} of the {OFFICIAL[split]:,} {split} images",) if count != OFFICIAL[split] else ()),
        *((f"{skipped} files are no images by their suffix, the first {first!r}",) if skipped else ()),
    )


KATHERCOLON = DatasetSource(
    name="kathercolon",
    title="KatherColon (NCT-CRC-HE)",
    cite="Kather et al. 2019, Predicting Survival from Colorectal Cancer Histology Slides",
    default_subset="all",
    open=open_kathercolon,
    num_classes=len(CLASSES),
    shape=(3, SIDE, SIDE),
    images=OFFICIAL,
    radii=tuple(0.25 * k for k in range(7)),  # 0 to 1.5, as the rRCM paper's rebuttal prints
)
