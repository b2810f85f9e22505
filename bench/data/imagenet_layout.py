"""Which files are ImageNet's images and what their labels are, for each way to keep them; decodes nothing."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.data.pictures import Stored, class_files, visible_folders
from bench.errors import DataError

LABEL_FILES = ("val_labels.txt", "labels.txt", "LOC_val_solution.csv")
IDS_FILE = "ILSVRC2012_validation_ground_truth.txt"
_SUFFIXES = (".jpg", ".jpeg", ".png")
_NAMED = re.compile(r"([0-9]{1,4})_(n[0-9]{8})_.+")
_WNID = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Images with their labels, in order."""

    stored: tuple[Stored, ...]
    order: str  # "class" (by wnid, then file name) or "file name"
    named: bool = False  # label and wnid stand in each file's name
    notes: tuple[str, ...] = ()


def read_layout(root: Path, part: str, wnids: Sequence[str]) -> Layout:
    """The images below `root`, which is a tar, a folder of images, or a folder that holds `val` (or `train`).

    Raises: DataError where images, classes or labels are missing or contradict each other.
    """
    if root.is_file():
        if part == "train":
            raise DataError(f"{str(root)!r} is a file; expected a folder with 'train' inside for the training split")
        return _from_tar(root, wnids)
    folder = root / ("train" if part == "train" else "val")
    if not folder.is_dir():
        if part == "train":
            raise DataError(f"{str(root)!r} has no folder 'train'; expected it with 1,000 class folders")
        folder = root
    folders = visible_folders(folder)
    if any(_WNID.fullmatch(path.name) for path in folders):
        return _from_class_folders(folder, [path.name for path in folders], wnids)
    images, _ = class_files(folder, _SUFFIXES) if not folders else ([], [])
    if not images:
        raise DataError(
            f"{str(folder)!r} has neither class folders (n01440764, ...) nor images; expected ImageNet's val folder, "
            "one that holds it, or a tar of images named <label>_<wnid>_<name>.jpg"
        )
    if _NAMED.fullmatch(images[0].name):
        return Layout(
            tuple(Stored(_label_in(path.name, str(path), wnids), path) for path in images), "file name", named=True
        )
    return _from_label_file(folder, images, wnids)


def _from_class_folders(folder: Path, found: Sequence[str], wnids: Sequence[str]) -> Layout:
    missing, extra = sorted(set(wnids) - set(found)), sorted(set(found) - set(wnids))
    if missing:
        raise DataError(
            f"{str(folder)!r} lacks {len(missing)} of 1,000 class folders, the first {missing[0]!r}: labels would "
            "shift; expected all of them"
        )
    if extra:
        raise DataError(f"{str(folder)!r} has the folder {extra[0]!r}, no ImageNet-1k class; move it away")
    stored: list[Stored] = []
    for label, wnid in enumerate(wnids):
        images, _ = class_files(folder / wnid, _SUFFIXES)
        if not images:
            raise DataError(f"class folder {str(folder / wnid)!r} has no image; fetch it again")
        stored += (Stored(label, path) for path in images)
    return Layout(tuple(stored), "class")


def _from_tar(path: Path, wnids: Sequence[str]) -> Layout:
    try:
        with tarfile.open(path, "r:") as tar:  # no compression: images are read in place
            members = [member for member in tar.getmembers() if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{str(path)!r} is not a readable uncompressed tar: {error}; unpack it, or fetch it again"
        ) from None
    images = sorted(
        (member for member in members if PurePosixPath(member.name).suffix.lower() in _SUFFIXES), key=lambda m: m.name
    )
    names = [member.name for member in images]
    if not names or len(set(names)) < len(names) or any(member.issparse() for member in images):
        raise DataError(f"{str(path)!r} holds no image, or one name twice; expected <label>_<wnid>_<name>.jpg files")
    stored = (
        Stored(
            _label_in(PurePosixPath(member.name).name, f"{path}:{member.name}", wnids),
            path,
            member.name,
            member.offset_data,
            member.size,
        )
        for member in images
    )
    return Layout(tuple(stored), "file name", named=True)


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


def _from_label_file(folder: Path, images: Sequence[Path], wnids: Sequence[str]) -> Layout:
    found = [place / name for place in (folder, folder.parent) for name in LABEL_FILES if (place / name).is_file()]
    if not found:
        ids = [place / IDS_FILE for place in (folder, folder.parent) if (place / IDS_FILE).is_file()]
        because = (
            f"{str(ids[0])!r} counts classes by ILSVRC ids, which are not the labels of any network"
            if ids
            else "these are not in class folders"
        )
        raise DataError(
            f"{str(folder)!r} needs labels: {because}; "
            f"give {LABEL_FILES[0]} with a line '{images[0].name} WNID' for each"
        )
    if len(found) > 1:
        raise DataError(f"labels stand in {str(found[0])!r} and {str(found[1])!r}; keep one of the two")
    labels, by_wnid = _read_labels(found[0], wnids)
    for path in images:
        if path.stem not in labels:
            raise DataError(f"{str(found[0])!r} has no label for {path.name!r}; expected one line for each image")
    checked = "by wnid" if by_wnid else "0 to 999 by sorted wnid, as it says; nothing here can check them"
    return Layout(
        tuple(Stored(labels[path.stem], path) for path in images),
        "file name",
        notes=(f"labels from {found[0].name}, {checked}",),
    )


def _read_labels(path: Path, wnids: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Label by file name without suffix, and whether the file gives wnids, which cannot be off by one."""
    number_of = {wnid: label for label, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    kinds: set[bool] = set()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; expected lines 'filename wnid'") from None
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if not words or words[0] == "ImageId":  # the header of LOC_val_solution.csv; its boxes follow the first wnid
            continue
        word = words[1] if len(words) > 1 else ""
        if not (
            word in number_of or (word.isascii() and word.isdigit() and len(words) == 2 and int(word) < len(wnids))
        ):
            raise DataError(
                f"{str(path)!r} line {number}: expected 'filename wnid' or 'filename label' (0 to 999), "
                f"got {line[:60]!r}"
            )
        stem = PurePosixPath(words[0]).name
        stem = stem.rpartition(".")[0] if stem.lower().endswith(_SUFFIXES) else stem
        label = number_of.get(word, -1) if word in number_of else int(word)
        if labels.setdefault(stem, label) != label:
            raise DataError(f"{str(path)!r} line {number}: {words[0]!r} has another label above; expected one each")
        kinds.add(word in number_of)
    if kinds == {True, False}:
        raise DataError(f"{str(path)!r} mixes wnids and numbers; expected one kind")
    if kinds == {False} and 0 not in labels.values() and len(set(labels.values())) > 900:
        raise DataError(f"{str(path)!r} seems to count from 1: no image has label 0; expected 0 to 999 by sorted wnid")
    return labels, kinds == {True}
