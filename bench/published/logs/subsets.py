"""Which images a log is of, as far as its indices, labels and path tell, and how many of them are missing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.published.logs.records import Log
from bench.types import RADII, DatasetSource, PublishedLogs, family

Datasets = Mapping[str, DatasetSource]  # the known ones, by name
# A name counts between other letters and digits; cifar10c, ImageNet-V2 and tiny-imagenet are other datasets.
_START, _END = "(?<![a-z0-9])", "(?![a-z0-9])"
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
    unusual: bool = False  # whether the field's tables on that dataset are made on other images


def sigma_of(path: Path) -> float | None:
    """The noise level that a path states, its last one: training comes before certification in all of them."""
    stated = [float(text) for text in _SIGMA.findall(path.as_posix().lower())]
    return stated[-1] if stated and 0 < stated[-1] <= 5 else None


def radii_of(datasets: Datasets, name: str) -> tuple[float, ...]:
    """The radii of the tables on a dataset."""
    source = datasets.get(family(name))
    return source.radii if source else RADII


def facts_of(datasets: Datasets, name: str) -> PublishedLogs | None:
    """What is known of the published logs of a dataset."""
    source = datasets.get(name)
    return source.logs if source else None


def dataset_of(log: Log, datasets: Datasets) -> str:
    """The dataset that the path or the labels tell, or nothing where neither does or the path names two or another."""
    parts = [part.lower() for part in log.path.parts]
    if _other(log, datasets):
        return ""
    known = {name: source.logs for name, source in datasets.items() if source.logs}
    for fits in (lambda name, part: name == part, lambda name, part: _named(known[name], part)):
        named = {name for name in known for part in parts if fits(name, part)}
        if len(named) == 1:
            return named.pop()
    if len({row.label for row in log.rows}) <= 10:
        return ""
    ordered = [name for name, facts in known.items() if facts.class_size and _by_class(log, facts.class_size)]
    return ordered[0] if len(ordered) == 1 else ""


def subset_of(log: Log, datasets: Datasets, dataset: str | None = None) -> Subset:
    """The images of a log; `dataset` where the user knows it."""
    name = dataset or dataset_of(log, datasets)
    split = "train" if "train" in log.path.parts[-3:] else "test"
    contrary = _contrary(log, datasets, name, split)
    if contrary and dataset is None:
        name = ""
    elif not name and (other := _other(log, datasets)):
        contrary = f"its path names {other[0]!r}, which has other images than {other[1].called}"
    facts = facts_of(datasets, name)
    size = datasets[name].images.get(split) if facts else None
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
        unusual=facts is not None and words not in facts.subsets and split == "test",
    )


def _named(facts: PublishedLogs, part: str) -> bool:
    return re.search(f"{_START}(?:{facts.names}){_END}", part) is not None


def _other(log: Log, datasets: Datasets) -> tuple[str, PublishedLogs] | None:
    """The name in the path of a dataset that resembles a known one, and the known one; the innermost."""
    known = [source.logs for source in datasets.values() if source.logs and source.logs.others]
    for part in reversed(log.path.parts):
        found = [
            (match, facts) for facts in known for match in re.finditer(f"{_START}(?:{facts.others})", part.lower())
        ]
        if found:
            match, facts = max(found, key=lambda pair: pair[0].start())
            return match[0], facts
    return None


def _contrary(log: Log, datasets: Datasets, name: str, split: str) -> str:
    """What in the rows cannot be of that dataset, or nothing."""
    if facts_of(datasets, name) is None:
        return ""
    size, classes = datasets[name].images.get(split), datasets[name].num_classes
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


def _by_class(log: Log, size: int) -> bool:
    return all(row.index is not None and row.label == row.index // size for row in log.rows)
