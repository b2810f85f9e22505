"""Any folder of images, a class a folder inside it: root/<class>/*.png, or root/{train,val,test}/<class>/*.png."""

from __future__ import annotations

from pathlib import Path

from bench.data.pictures import PictureDataset, Stored, class_files, picture_size, visible_folders
from bench.errors import DataError
from bench.types import DatasetSource

SPLITS = ("train", "val", "test")


def open_folder(root: Path | None, size: int | None, split: str) -> PictureDataset:
    """The images of a split, by class name and then file name.

    "test" is root/test, else root/val, else the root itself; "train" and "val" are folders of that name or nothing.
    With a size K: short side to K, centre KxK. Without: as stored, and all must share one size.
    Raises: DataError for missing folders or images, for splits with other classes, or for images of several sizes.
    """
    if root is None:
        raise DataError("an image folder needs --data-root, got none; expected a folder with a folder for each class")
    if not root.is_dir():
        raise DataError(f"--data-root {str(root)!r} is no folder; expected one with a folder for each class")
    if split not in SPLITS:
        raise DataError(f"an image folder has the splits 'train', 'val' and 'test', got {split!r}")
    if size is not None and size < 1:
        raise DataError(f"size must be at least 1 pixel, got {size}; leave it out for the images' own")
    top = _split_folder(root, split)
    names = _class_names(top)
    stored: list[Stored] = []
    skipped: list[Path] = []
    for label, name in enumerate(names):
        images, others = class_files(top / name)
        if not images:
            raise DataError(f"class folder {str(top / name)!r} has no image; remove it, or fill it: it takes a label")
        stored += (Stored(label, path) for path in images)
        skipped += others
    notes = (f"{len(skipped)} files are no images by their suffix, the first {str(skipped[0])!r}",) if skipped else ()
    return PictureDataset(
        name="folder",
        split=split,
        stored=tuple(stored),
        class_names=names,
        resize=size,
        side=(size, size) if size is not None else _one_size(stored),
        preprocessing="none" if size is None else f"resize{size}-crop{size}",
        notes=notes,
    )


def _split_folder(root: Path, split: str) -> Path:
    # A split has class folders inside; a class that happens to be named "test" has images.
    present = [name for name in SPLITS if (root / name).is_dir() and visible_folders(root / name)]
    wanted = ("test", "val") if split == "test" else (split,)
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


def _one_size(stored: list[Stored]) -> tuple[int, int]:
    first = picture_size(stored[0])
    for other in stored[1:]:
        size = picture_size(other)
        if size != first:
            raise DataError(
                f"{stored[0]} is {first[1]}x{first[0]}, {other} is {size[1]}x{size[0]}; give a size K: "
                "short side to K, centre KxK"
            )
    return first


FOLDER = DatasetSource(
    name="folder",
    title="Image folder",
    cite="your own",
    default_subset="all",
    open=open_folder,
)
