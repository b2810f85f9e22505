"""Which files are ImageNet's images and what their labels are, for each way to keep them; decodes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bench.data.array_files import Arrays
from bench.data.file_lists import list_classes
from bench.data.imagenet_labels import SUFFIXES, labels_beside
from bench.data.packed_files import packed_files, read_packed
from bench.data.parquet import Cell
from bench.data.pictures import Encoded, Labelled, Stored, class_files, visible, visible_folders
from bench.data.tars import is_webdataset, read_shards, stored_in, tar_members
from bench.types.errors import DataError

OFFICIAL_TAR = "ILSVRC2012_img_val.tar"
KAGGLE = ("ILSVRC", "Data", "CLS-LOC")  # the folders around Kaggle's train and val; its labels lie beside the first
_TOLD = re.compile(r"(?:^|[_/])(n[0-9]{8})(?=[_./]|$)")
_NAMED = re.compile(r"([0-9]{1,4})_(n[0-9]{8})_.+")
_WNID = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Images with their labels, in order."""

    stored: Sequence[Encoded]
    order: str  # "class" (by wnid, then file name), "file name", or "file" (as packed files have them)
    named: bool = False  # label and wnid stand in each file's name
    notes: tuple[str, ...] = ()


def read_layout(root: Path, part: str, wnids: Sequence[str]) -> Layout:
    """The images below `root`: a folder of images or of classes, one that holds `val` (or `train`), also as Kaggle's
    tree does, the official tar or one of named images, webdataset shards, or Parquet.

    Raises: DataError where images, classes or labels are missing or contradict each other.
    """
    if root.is_file() and root.suffix.lower() != ".parquet":
        if part == "train":
            raise DataError(f"{str(root)!r} is a file; expected a folder with 'train' inside for the training split")
        return _from_tar(root, wnids)
    name = "train" if part == "train" else "val"
    around = (root, *(root.joinpath(*KAGGLE[k:]) for k in range(len(KAGGLE))))
    folder = next((place / name for place in around if _holds_images(place / name)), None)
    if folder is None:
        if part == "test" and (root / OFFICIAL_TAR).is_file():
            return _from_tar(root / OFFICIAL_TAR, wnids)
        if (packed := read_packed(root, part)) is not None:
            return _from_packed(packed, root, wnids)
        folder = root / name
    if not folder.is_dir():
        if part == "train":
            raise DataError(f"{str(root)!r} has no folder 'train'; expected it with 1,000 class folders")
        folder = root
    folders = visible_folders(folder)
    if any(_WNID.fullmatch(path.name) for path in folders):
        return _from_class_folders(folder, [path.name for path in folders], wnids)
    images, _ = class_files(folder, SUFFIXES) if not folders else ([], [])
    if not images:
        raise DataError(
            f"{str(folder)!r} has neither class folders (n01440764, ...) nor images; expected ImageNet's val folder, "
            "one that holds it, Kaggle's tree, the official tar, webdataset shards, Parquet, or a tar of images named "
            "<label>_<wnid>_<name>.jpg"
        )
    if _NAMED.fullmatch(images[0].name):
        return Layout(
            tuple(Stored(_label_in(path.name, str(path), wnids), path) for path in images), "file name", named=True
        )
    found = labels_beside([path.name for path in images], _places(folder), str(folder), wnids)
    stored = (Stored(label, path) for label, path in zip(found.labels, images, strict=True))
    return Layout(tuple(stored), "file name", notes=(found.note,))


def _holds_images(folder: Path) -> bool:
    """Whether a folder has class folders, or images, or anything that is to be refused as neither; no packed files."""
    if not folder.is_dir():
        return False
    return any(path.suffix.lower() in SUFFIXES for path in visible(folder)) or not packed_files(folder)


def _places(folder: Path) -> list[Path]:
    """Where a file of labels may lie: with the images, beside their folder, or at the root of Kaggle's tree."""
    kaggle = folder.absolute().parts[-4:-1] == KAGGLE
    return [folder, folder.parent, *([folder.absolute().parents[3]] if kaggle else [])]


def _from_packed(found: Labelled | Arrays, root: Path, wnids: Sequence[str]) -> Layout:
    """Images of Parquet files or shards, whose labels are numbers by sorted wnid, or wnids."""
    if isinstance(found, Arrays):
        raise DataError(f"{str(root)!r} holds arrays, which are no official images; open them as --dataset folder")
    stored = found.stored
    if found.sorted:
        if unknown := sorted(set(found.names) - set(wnids)):
            raise DataError(f"{str(root)!r} has the class {unknown[0]!r}, no wnid of ImageNet-1k; expected those")
        moved = [wnids.index(name) for name in found.names]
        return Layout(tuple(replace(image, label=moved[image.label]) for image in stored), "file")
    labels = {image.label for image in stored}
    if max(labels) >= len(wnids) or len(found.names) not in (0, len(wnids)):
        raise DataError(
            f"{str(root)!r} has labels up to {max(labels)} of {len(found.names) or 'unnamed'} classes; "
            "expected 0 to 999 by sorted wnid"
        )
    if len(labels) > 900 and 0 not in labels:
        raise DataError(f"{str(root)!r} seems to count from 1: no image has label 0; expected 0 to 999 by sorted wnid")
    told = 0
    for image in stored:  # names of images in Kaggle's and Hugging Face's files hold their wnids
        name = image.name if isinstance(image, Stored | Cell) else ""
        wnid = _TOLD.findall(name)
        if wnid and wnid[-1] in wnids:
            told += 1
            _checked(image.label, wnid[-1], f"{root}:{name}", wnids)
    checked = "by the wnids in their names" if told == len(stored) else "as the files say; nothing here can check them"
    return Layout(stored, "file", notes=(f"labels 0 to 999 by sorted wnid, {checked}",))


def _from_class_folders(folder: Path, found: Sequence[str], wnids: Sequence[str]) -> Layout:
    missing, extra = sorted(set(wnids) - set(found)), sorted(set(found) - set(wnids))
    if missing:
        raise DataError(
            f"{str(folder)!r} lacks {len(missing)} of 1,000 class folders, the first {missing[0]!r}: labels would "
            "shift; expected all of them"
        )
    if extra:
        raise DataError(f"{str(folder)!r} has the folder {extra[0]!r}, no ImageNet-1k class; move it away")
    stored = list_classes(folder, wnids, SUFFIXES)
    if (empty := stored.empty()) is not None:
        raise DataError(f"class folder {str(folder / empty)!r} has no image; fetch it again")
    return Layout(stored, "class")


def _from_tar(path: Path, wnids: Sequence[str]) -> Layout:
    members = tar_members(path)
    if is_webdataset(members):
        return _from_packed(read_shards([path]), path, wnids)
    images = sorted(
        (member for member in members if PurePosixPath(member.name).suffix.lower() in SUFFIXES), key=lambda m: m.name
    )
    if not images:
        raise DataError(f"{str(path)!r} holds no image; expected <label>_<wnid>_<name>.jpg files, or the official tar")
    names = [PurePosixPath(member.name).name for member in images]
    named = _NAMED.fullmatch(names[0]) is not None
    if named:
        labels = [_label_in(name, f"{path}:{member.name}", wnids) for name, member in zip(names, images, strict=True)]
        notes: tuple[str, ...] = ()
    else:
        if len(set(names)) < len(names):
            raise DataError(f"{str(path)!r} holds images of one name in several folders; expected one folder")
        found = labels_beside(names, [path.parent], str(path), wnids)
        labels, notes = list(found.labels), (found.note,)
    stored = (stored_in(path, member, label) for member, label in zip(images, labels, strict=True))
    return Layout(tuple(stored), "file name", named=named, notes=notes)


def _label_in(name: str, where: str, wnids: Sequence[str]) -> int:
    match = _NAMED.fullmatch(name)
    if match is None:
        raise DataError(f"{where!r} carries no label; expected <label>_<wnid>_<name>.jpg, as the others")
    return _checked(int(match[1]), match[2], where, wnids)


def _checked(label: int, wnid: str, where: str, wnids: Sequence[str]) -> int:
    if not 0 <= label < len(wnids) or wnids[label] != wnid:
        truth = f"class {wnids.index(wnid)}" if wnid in wnids else "no ImageNet-1k class"
        raise DataError(f"{where!r} says label {label}, but {wnid} is {truth}; expected labels 0 to 999 by sorted wnid")
    return label
