"""Any images of one's own: a class a folder, root/<class>/*.png or root/{train,val,test}/<class>/*.png, or packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.data.array_files import Arrays
from bench.data.arrays import ArrayDataset
from bench.data.centre_crops import CentreCrop
from bench.data.class_order import ordered_classes
from bench.data.file_lists import list_classes
from bench.data.packed_files import FORMS, read_packed, splits_of
from bench.data.pictures import Encoded, Labelled, PictureDataset, picture_size, visible_folders
from bench.types import ClassOrder, Dataset, DatasetSource
from bench.types.errors import DataError

SPLITS = ("train", "val", "test")


def open_folder(root: Path | None, size: int | None, split: str, class_order: ClassOrder | None = None) -> Dataset:
    """The images of a split, by class name (as text) and then file name; those of packed files as they lie there.

    "test" is root/test, else root/val, else the root itself; "train" and "val" are folders of that name or nothing.
    With a size K: short side to K, centre KxK. Without: as stored, and all must share one size.
    Raises: DataError for missing folders or images, for splits with other classes, for images of several sizes, or for
    classes whose order is to be chosen.
    """
    if size is not None and size < 1:
        raise DataError(f"size must be at least 1 pixel, got {size}; leave it out for the images' own")
    found = _read(root, split)
    if isinstance(found, Arrays):
        return _array_dataset(found, size, split, class_order, str(root))
    own = [image.label for image in found.stored]
    labels, names, word, notes = _classes(own, found, class_order, str(root))
    stored = found.stored
    if labels != own:
        stored = tuple(replace(image, label=label) for image, label in zip(stored, labels, strict=True))
    return PictureDataset(
        name="folder",
        split=split,
        stored=stored,
        class_names=names,
        crop=None if size is None else CentreCrop("resize", size, size),
        side=(size, size) if size is not None else _one_size(stored),
        preprocessing="none" if size is None else CentreCrop("resize", size, size).name,
        notes=(*found.notes, *notes),
        class_order=word,
    )


def folder_side(root: Path | None, split: str, liked: int) -> int | None:
    """The side to open at, if a method likes `liked` and nobody asked for one: None, as stored, rather than enlarge."""
    found = _read(root, split)
    if isinstance(found, Arrays) or any(min(picture_size(image)) < liked for image in found.stored):
        return None
    return liked


def _read(root: Path | None, split: str) -> Labelled | Arrays:
    try:
        return _read_any(root, split)
    except OSError as error:  # of what may not be looked at, or has too long a name
        raise DataError(f"{str(error.filename or root)!r} cannot be read: {error.strerror}; check who may") from None


def _read_any(root: Path | None, split: str) -> Labelled | Arrays:
    if root is None:
        raise DataError("an image folder needs --data-root, got none; expected a folder with a folder for each class")
    if split not in SPLITS:
        raise DataError(f"an image folder has the splits 'train', 'val' and 'test', got {split!r}")
    if not root.is_dir() and not root.is_file():
        raise DataError(
            f"--data-root {str(root)!r} is no folder; expected one with a folder for each class, or with {FORMS}"
        )
    packed = read_packed(root, split)
    if packed is None and root.is_file():
        raise DataError(f"--data-root {str(root)!r} is a file of no known kind; expected a folder, {FORMS}")
    return _from_folders(root, split) if packed is None else packed


def _from_folders(root: Path, split: str) -> Labelled:
    top = _split_folder(root, split)
    names = _class_names(top)
    stored = list_classes(top, names)
    if (empty := stored.empty()) is not None:
        raise DataError(f"class folder {str(top / empty)!r} has no image; remove it, or fill it: it takes a label")
    skipped, first = stored.others
    notes = (f"{skipped} files are no images by their suffix, the first {first!r}",) if skipped else ()
    return Labelled(stored, names, sorted=True, notes=notes)


def _classes(
    labels: list[int], found: Labelled, asked: ClassOrder | None, where: str
) -> tuple[list[int], tuple[str, ...], str, tuple[str, ...]]:
    """Labels, names and the word for their order, as asked; and what is to be said of it."""
    if not found.names:
        return _numbered(labels, asked, where)
    if not found.sorted and asked is None:
        return labels, found.names, "", ()
    names, word = ordered_classes(found.names, asked, where)
    at = {name: label for label, name in enumerate(names)}
    if not found.sorted and names == found.names:
        word = ""  # the order that the file tells, which is no choice
    moved = [at[name] for name in found.names]
    lacking = len(names) - len(found.names)
    notes = (f"{lacking} of {len(names)} classes of --class-order have no image here",) if lacking else ()
    return [moved[label] for label in labels], names, word, notes


def _numbered(
    labels: list[int], asked: ClassOrder | None, where: str
) -> tuple[list[int], tuple[str, ...], str, tuple[str, ...]]:
    """Classes that are known by number: the numbers are the labels, which a file can only name."""
    if isinstance(asked, str):
        raise DataError(f"{where} has numbers for classes, which are their labels; leave --class-order out")
    there = set(labels)
    if asked is not None:
        if max(there) >= len(asked):
            raise DataError(f"{where} has the label {max(there)}; the file of --class-order names {len(asked)} classes")
        return labels, tuple(asked), "", ()
    gap = next((label for label in range(max(there) + 1) if label not in there), None)
    if gap is not None or len(there) < 2:
        raise DataError(
            f"{where} has labels up to {max(there)}, none is {1 if gap is None else gap}: how many classes are there, "
            "and do they count from 0? Give --class-order a file with a class a line"
        )
    note = f"classes are numbers, 0 to {max(there)}, as the labels say; nothing here can check them"
    return labels, tuple(map(str, range(max(there) + 1))), "", (note,)


def _array_dataset(
    found: Arrays, size: int | None, split: str, class_order: ClassOrder | None, where: str
) -> ArrayDataset:
    height, width = found.values.shape[2:]
    if size is not None and (height, width) != (size, size):
        raise DataError(f"{where} has images of {width}x{height}, which are taken as stored; leave --size out")
    if not len(found.values):
        raise DataError(f"{where} has no images; expected some")
    labels, names, _, notes = _numbered(found.labels.tolist(), class_order, where)
    return ArrayDataset(
        name="folder",
        split=split,
        values=found.values,
        labels=np.array(labels),
        top=255 if found.values.dtype == np.uint8 else 1,
        class_names=names,
        length=len(labels),
        covered=(range(len(labels)),),
        notes=(*found.notes, *notes),
    )


def _split_folder(root: Path, split: str) -> Path:
    # A split has class folders inside; a class that happens to be named "test" has images.
    present = [name for name in SPLITS if (root / name).is_dir() and visible_folders(root / name)]
    wanted = splits_of(split)
    chosen = next((name for name in wanted if name in present), None)
    if chosen is None:
        if split == "test" and not present:
            return root
        raise DataError(
            f"{str(root)!r} has no split {split!r}: expected {str(root / wanted[0])!r} with a folder for each class"
        )
    classes = _class_names(root / chosen)
    for other in present:
        if differ := sorted(set(classes) ^ set(_class_names(root / other))):
            raise DataError(
                f"{str(root / chosen)!r} and {str(root / other)!r} differ in class {differ[0]!r}; "
                "labels count class folders by name, so each split needs the same"
            )
    return root / chosen


def _class_names(top: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in visible_folders(top))
    if len(names) < 2:
        raise DataError(f"{str(top)!r} has {len(names)} class folders; expected at least two, each with its images")
    return names


def _one_size(stored: Sequence[Encoded]) -> tuple[int, int]:
    first = picture_size(stored[0])
    for other in stored[1:]:
        size = picture_size(other)
        if size != first:
            raise DataError(
                f"{stored[0]} is {first[1]}x{first[0]}, {other} is {size[1]}x{size[0]}; give --size K: "
                "short side to K, centre KxK"
            )
    return first


FOLDER = DatasetSource(
    name="folder",
    title="Image folder",
    cite="your own",
    default_subset="all",
    open=open_folder,
    takes_class_order=True,
    side=folder_side,
    crop=224,  # as ImageNet's: what published networks for photographs were trained on
)
