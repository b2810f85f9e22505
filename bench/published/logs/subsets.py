"""Which images a log is of, as far as its indices, labels and path tell, and how many of them are missing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.published.logs.records import Log

_SIZES = {("imagenet", "test"): 50_000, ("imagenet", "train"): 1_281_167, ("cifar10", "test"): 10_000}
_SIZES["cifar10", "train"] = 50_000
_USUAL = {"imagenet": ("skip:100", "skip:50"), "cifar10": ("skip:20", "all")}  # what the field's tables are made on
_A_CLASS = 50  # images of each class in ImageNet's validation set: in class order the label is index // 50
KNOWN = tuple(_USUAL)
_CLASSES = {"imagenet": 1000, "cifar10": 10}
# A name counts between other letters and digits; cifar10c, ImageNet-V2 and tiny-imagenet are other datasets.
_START, _END = "(?<![a-z0-9])", "(?![a-z0-9])"
_NAMES = {
    "imagenet": re.compile(f"{_START}(?:imagenet(?:[-_]?1k)?|ilsvrc(?:[-_]?2012)?){_END}"),
    "cifar10": re.compile(f"{_START}cifar[-_]?10{_END}"),
}
_OTHERS = re.compile(
    f"{_START}(?:cifar[-_]?(?:100?[-_.]?(?:c|p|h|n|lt|ood|warehouse|corrupted)|10[.][12]|100|5m){_END}(?![.][0-9])"
    "|(?:tiny|mini|restricted|small|downsampled|sub|stylized|blurred)[-_]?imagenet"
    "|imagenet[-_]?(?:c|p|a|o|r|e|d|x|s|w|v2|lt|100|10|21k|22k|16|32|64|128|sketch|real|hard|bar|cbar|3dcc|nette|woof"
    f"|corrupted|mini|tiny|subset|resized|matched[a-z-]*|stylized|dogs){_END}(?![.][0-9])"
    "|imagenette|imagewoof)"
)
_SIGMA = re.compile(r"(?:noise|noise_sd|sigma|sig|certify_result)[_=-]?([0-9]*\.?[0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """The images of a log."""

    dataset: str  # "" where nothing tells
    split: str
    words: str  # as `--subset` has them where there are such words
    expected: int | None  # images that those words name; None where nothing tells
    order: str  # class-sorted | mixed classes | ""
    repeated: int  # rows whose index came before
    contrary: str = ""  # why it is not the dataset that its path, or the user, names

    @property
    def unusual(self) -> bool:
        """Whether the field's tables on that dataset are made on other images."""
        return self.dataset in _USUAL and self.words not in _USUAL[self.dataset] and self.split == "test"


def sigma_of(path: Path) -> float | None:
    """The noise level that a path states, its last one: training comes before certification in all of them."""
    stated = [float(text) for text in _SIGMA.findall(path.as_posix().lower())]
    return stated[-1] if stated and 0 < stated[-1] <= 5 else None


def dataset_of(log: Log) -> str:
    """The dataset that the path or the labels tell, or nothing where neither does or the path names two or another."""
    parts = [part.lower() for part in log.path.parts]
    if _other(log):
        return ""
    for fits in (lambda name, part: name == part, lambda name, part: _NAMES[name].search(part) is not None):
        named = {name for name in _NAMES for part in parts if fits(name, part)}
        if len(named) == 1:
            return named.pop()
    labels = {row.label for row in log.rows}
    return "imagenet" if _by_fifties(log) and len(labels) > 10 else ""


def subset_of(log: Log, dataset: str | None = None) -> Subset:
    """The images of a log; `dataset` where the user knows it."""
    name = dataset or dataset_of(log)
    split = "train" if "train" in log.path.parts[-3:] else "test"
    contrary = _contrary(log, name, split)
    if contrary and dataset is None:
        name = ""
    elif not name and (other := _other(log)):
        contrary = f"its path names {other!r}, which has other images than {_like(other)}"
    size = _SIZES.get((name, split))
    indices = [row.index for row in log.rows if row.index is not None]
    order = _order(log)
    if not indices:
        words, expected = "unknown (no indices)", None
    else:
        words, expected = _words(sorted(set(indices)), size)
        if any(b < a for a, b in pairwise(indices)):
            words += ", not in index order"
    return Subset(
        dataset=name,
        split=split,
        words=words,
        expected=expected,
        order=order,
        repeated=len(indices) - len(set(indices)),
        contrary=contrary,
    )


def _other(log: Log) -> str:
    """The name in the path of a dataset that resembles a known one; the innermost."""
    found = [match[0] for part in log.path.parts for match in _OTHERS.finditer(part.lower())]
    return found[-1] if found else ""


def _like(other: str) -> str:
    return "CIFAR-10's test set" if "cifar" in other else "ImageNet's validation set"


def _contrary(log: Log, name: str, split: str) -> str:
    """What in the rows cannot be of that dataset, or nothing."""
    size, classes = _SIZES.get((name, split)), _CLASSES.get(name)
    index = max((row.index for row in log.rows if row.index is not None), default=0)
    if size is not None and index >= size:
        return f"index {index} is beyond the {size} images of {name}'s {split} set"
    # Classes by name are numbered as they come: their numbers are no classes of a dataset.
    seen = max((row.label for row in log.rows if row.label is not None), default=0)
    if classes is not None and seen >= classes:
        return f"label {seen} is beyond the {classes} classes of {name}"
    return ""


def _words(indices: list[int], size: int | None) -> tuple[str, int | None]:
    """The words for some ascending indices, and how many images they stand for in a dataset of that size."""
    first, last, count = indices[0], indices[-1], len(indices)
    step = math.gcd(*(b - a for a, b in pairwise(indices))) or 1
    if count == 1 or (size is not None and last >= size):
        return f"{count} images from {first} to {last}", None
    if (last - first) // step + 1 > 2 * count:  # more gaps than images: a list, not a stride
        return f"{count} images of no regular stride, from {first} to {last}", None
    if step == 1:
        if first == 0 and count == size:
            return "all", size
        whole = last - first + 1
        return (f"first:{whole}" if first == 0 else f"{first}:{last + 1}"), whole
    offset = first % step
    words = f"skip:{step}" + (f"+{offset}" if offset else "")
    # Without the dataset's size only what is missing between the indices, or before them, can be told.
    return words, len(range(offset, last + 1 if size is None else size, step))


def _order(log: Log) -> str:
    labels = [row.label for row in log.rows if row.index is not None and row.label is not None]
    if len(set(labels)) < 2 or len(labels) < 20:
        return ""
    indexed = sorted((row.index, row.label) for row in log.rows if row.index is not None and row.label is not None)
    return "class-sorted" if all(a[1] <= b[1] for a, b in pairwise(indexed)) else "mixed classes"


def _by_fifties(log: Log) -> bool:
    return all(row.index is not None and row.label == row.index // _A_CLASS for row in log.rows)
