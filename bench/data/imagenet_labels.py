"""Labels of ImageNet's images that stand in files beside them: by name, or by the number of a validation image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.types.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png")
# Lines "filename wnid" or "filename label"; the last one is Kaggle's.
BY_NAME = ("val_labels.txt", "labels.txt", "LOC_val_solution.csv")
# A line for each validation image, in order: ILSVRC ids, or wnids.
IDS_FILE = "ILSVRC2012_validation_ground_truth.txt"
BY_NUMBER = (IDS_FILE, "imagenet_2012_validation_synset_labels.txt")
# What tells the wnids of ILSVRC ids: lines "wnid id name", or the development kit's own table.
ID_TABLES = ("map_clsloc.txt", "meta.mat")
KIT = ("", "data", "ILSVRC2012_devkit_t12/data", "devkit/data")  # where the development kit has them
_NUMBER = re.compile(r"ILSVRC2012_val_([0-9]{8})")
LARGEST = 100_000_000  # bytes of a file of labels
READING = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Labels:
    """A label for each image of the names asked for."""

    labels: tuple[int, ...]
    note: str


def labels_beside(names: Sequence[str], places: Sequence[Path], where: str, wnids: Sequence[str]) -> Labels:
    """Labels of files by name, from the one file of labels in these folders.

    Raises: DataError where there is none, or several, and for a file that lacks an image or contradicts itself.
    """
    beside = (place / name for place in places for name in BY_NAME)
    found = list({path.absolute(): path for path in beside if path.is_file()}.values())
    if len(found) > 1:
        raise DataError(f"labels stand in {str(found[0])!r} and {str(found[1])!r}; keep one of the two")
    if not found:
        return _by_number(names, places, where, wnids)
    labels, by_wnid = _read_labels(found[0], wnids)
    for name in names:
        if PurePosixPath(name).stem not in labels:
            raise DataError(f"{str(found[0])!r} has no label for {name!r}; expected one line for each image")
    checked = "by wnid" if by_wnid else "0 to 999 by sorted wnid, as it says; nothing here can check them"
    return Labels(tuple(labels[PurePosixPath(name).stem] for name in names), f"labels from {found[0].name}, {checked}")


def _by_number(names: Sequence[str], places: Sequence[Path], where: str, wnids: Sequence[str]) -> Labels:
    kits = [place / inner for place in places for inner in KIT]
    found = next((kit / name for kit in kits for name in BY_NUMBER if (kit / name).is_file()), None)
    wanted = f"give {BY_NAME[0]} with a line '{names[0]} WNID' for each"
    if found is None:
        raise DataError(f"{where!r} needs labels: these are not in class folders; {wanted}")
    words = _lines(found)
    if all(word.isascii() and word.isdigit() for word in words):
        table = next((kit / name for name in ID_TABLES for kit in kits if (kit / name).is_file()), None)
        if table is None:
            raise DataError(
                f"{where!r} needs labels: {str(found)!r} counts classes by ILSVRC ids, which are not the labels of any "
                f"network; give {ID_TABLES[1]} of the development kit or {ID_TABLES[0]} beside it, or {wanted}"
            )
        wnid_of = _ids(table, wnids)
        said = f"labels from {found.name} by {table.name}"
    else:
        wnid_of, said = {wnid: wnid for wnid in wnids}, f"labels from {found.name}, by wnid"
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    labels = []
    for name in names:
        match = _NUMBER.fullmatch(PurePosixPath(name).stem)
        line = int(match[1]) if match else 0
        if not 1 <= line <= len(words):
            raise DataError(
                f"{str(found)!r} has a line for each of {len(words)} validation images, none for {name!r}; expected "
                "names as ILSVRC2012_val_00000001.JPEG"
            )
        if words[line - 1] not in wnid_of:
            raise DataError(f"{str(found)!r} line {line}: {words[line - 1][:60]!r} is no ImageNet-1k class")
        labels.append(label_of[wnid_of[words[line - 1]]])
    return Labels(tuple(labels), said)


def _ids(path: Path, wnids: Sequence[str]) -> dict[str, str]:
    """The wnid of each ILSVRC id."""
    pairs = _from_mat(path) if path.suffix == ".mat" else [tuple(line.split()[:2]) for line in _lines(path)]
    known = set(wnids)
    mine = [pair for pair in pairs if len(pair) == 2 and pair[0] in known]
    table = {number: wnid for wnid, number in mine}
    if set(table.values()) != known or not len(mine) == len(table) == len(known):
        raise DataError(f"{str(path)!r} does not give each of the {len(wnids)} wnids an id of its own; fetch it again")
    return table


# In a process of its own: SciPy's reader can crash on a damaged file.
_READ_MAT = """
import json, sys
from scipy.io import loadmat
rows = loadmat(sys.argv[1], squeeze_me=True)["synsets"]
print(json.dumps([[str(row["WNID"]), str(int(row["ILSVRC2012_ID"]))] for row in rows]))
"""


def _from_mat(path: Path) -> list[tuple[str, ...]]:
    try:
        done = subprocess.run(  # noqa: S603  this interpreter, and a path as an argument
            [sys.executable, "-I", "-c", _READ_MAT, str(path.absolute())],
            capture_output=True,
            timeout=READING,
            check=True,
        )
        return [(str(wnid), str(number)) for wnid, number in json.loads(done.stdout)]
    except (subprocess.SubprocessError, OSError, ValueError, TypeError):
        raise DataError(
            f"{str(path)!r} is no table of synsets with their WNID and ILSVRC2012_ID; fetch it again, or give "
            f"{ID_TABLES[0]}"
        ) from None


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise DataError(f"{str(path)!r} has more than {LARGEST:,} bytes; expected lines of labels")
        return [line.strip() for line in text.decode("utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; expected lines of labels") from None


def _read_labels(path: Path, wnids: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Label by file name without suffix, and whether the file gives wnids, which cannot be off by one."""
    number_of = {wnid: label for label, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    kinds: set[bool] = set()
    for number, line in enumerate(_lines(path), start=1):
        words = line.replace(",", " ").split()
        if not words or words[0] == "ImageId":  # the header of LOC_val_solution.csv; its boxes follow the first wnid
            continue
        word = words[1] if len(words) > 1 else ""
        if not (
            word in number_of or (word.isascii() and word.isdigit() and len(words) == 2 and int(word[:9]) < len(wnids))
        ):
            raise DataError(
                f"{str(path)!r} line {number}: expected 'filename wnid' or 'filename label' (0 to 999), "
                f"got {line[:60]!r}"
            )
        stem = PurePosixPath(words[0]).name
        stem = stem.rpartition(".")[0] if stem.lower().endswith(SUFFIXES) else stem
        label = number_of.get(word, -1) if word in number_of else int(word)
        if labels.setdefault(stem, label) != label:
            raise DataError(f"{str(path)!r} line {number}: {words[0]!r} has another label above; expected one each")
        kinds.add(word in number_of)
    if kinds == {True, False}:
        raise DataError(f"{str(path)!r} mixes wnids and numbers; expected one kind")
    if kinds == {False} and 0 not in labels.values() and len(set(labels.values())) > 900:
        raise DataError(f"{str(path)!r} seems to count from 1: no image has label 0; expected 0 to 999 by sorted wnid")
    return labels, kinds == {True}
