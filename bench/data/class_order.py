"""Classes in the order of their labels: as text, as numbers, or as a file lists them; never guessed."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bench.types.errors import DataError

if TYPE_CHECKING:
    from bench.types import ClassOrder, Dataset, DatasetSource

NATURAL, TEXT = "natural", "text"
LARGEST = 10_000_000  # bytes of a file of class names


def read_class_order(words: str) -> ClassOrder:
    """What `--class-order` asks for: "natural", "text", or the names that a file lists.

    Raises: DataError for a file that cannot be read, is empty, or names a class twice.
    """
    if words in (NATURAL, TEXT):
        return words
    path = Path(words)
    expected = f"expected {NATURAL}, {TEXT}, or a file of class names, one a line in the order of the labels"
    if not path.is_file():
        raise DataError(f"--class-order {words!r} is no file; {expected}")
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--class-order {words!r} cannot be read: {error}; {expected}") from None
    names = tuple(line for line in text.splitlines() if line.strip())
    if len(names) < 2:
        raise DataError(f"--class-order {words!r} names {len(names)} classes; {expected}")
    if twice := _repeated(names):
        raise DataError(f"--class-order {words!r} names {twice!r} twice; expected each class once")
    return names


def ordered_classes(found: Sequence[str], asked: ClassOrder | None, where: str) -> tuple[tuple[str, ...], str]:
    """The class names by label, and the word for the order that was chosen; "" where nothing was to be chosen.

    Text order is that of torchvision's ImageFolder, natural order that of timm. A file may name classes that have no
    image here; none that is here may be missing from it.
    Raises: DataError where the two orders differ and none is asked for, or where the file lacks a class.
    """
    text, natural = tuple(sorted(found)), natural_order(found)
    if asked is None:
        if natural != text:
            raise DataError(_undecided(text, natural, where))
        return text, ""
    if asked == TEXT:
        names = text
    elif asked == NATURAL:
        if natural is None:
            raise DataError(
                f"{where} has classes that differ in case or leading zeros only, which have no natural order; give "
                f"--class-order {TEXT}, or a file of the names"
            )
        names = natural
    elif isinstance(asked, str):
        raise DataError(f"class order {asked!r} is not known here; give --class-order {NATURAL}, {TEXT} or a file")
    else:
        names = _listed(found, asked, where)
    if names == text:
        return names, "" if natural == text else TEXT
    return names, NATURAL if names == natural else file_word(names)


def file_word(names: Sequence[str]) -> str:
    """The word for an order that a file gave: by the names in it, not by its path."""
    return f"file:{hashlib.sha256(chr(10).join(names).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def natural_order(names: Sequence[str]) -> tuple[str, ...] | None:
    """Names sorted without regard to case, runs of digits as numbers; None where two names rank the same.

    Source: timm's natural_key, by which its image folders number classes.
    """
    keys = {name: _natural_key(name) for name in names}
    ranked = sorted(names, key=keys.__getitem__)
    tied = any(keys[a] == keys[b] for a, b in pairwise(ranked))
    return None if tied else tuple(ranked)


def open_source(
    source: DatasetSource,
    root: Path | None,
    size: int | None,
    split: str,
    class_order: ClassOrder | None,
    preprocessing: str | None = None,
) -> Dataset:
    """A split of a dataset, its classes in the order and its pixels made in the way asked for.

    Raises: DataError for an order of classes that are in a published one, or a way where there is none to choose.
    """
    if class_order is not None and not source.takes_class_order:
        raise DataError(f"dataset {source.name!r} has its classes in one order; leave --class-order out")
    if preprocessing is not None and preprocessing not in source.preprocessings:
        known = f"expected one of {', '.join(source.preprocessings)}" if source.preprocessings else "leave it out"
        raise DataError(f"dataset {source.name!r} has no --preprocessing {preprocessing!r}; {known}")
    words = () if class_order is None else (class_order,)
    return source.open(root, size, split, *words, **({"preprocessing": preprocessing} if preprocessing else {}))


def _natural_key(name: str) -> list[int | str]:
    # Beyond 4,300 digits Python refuses to convert: such numbers rank the same, which leaves the order undecided.
    pieces = re.split(r"(\d+)", name.lower())
    return [piece if k % 2 == 0 else int(piece) if len(piece) < 4300 else 10**4300 for k, piece in enumerate(pieces)]


def _listed(found: Sequence[str], asked: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of a file, each written as the class here is; a system may store accents in two forms."""
    here = {unicodedata.normalize("NFC", name): name for name in found}
    listed = {unicodedata.normalize("NFC", name) for name in asked}
    if missing := [name for key, name in here.items() if key not in listed]:
        raise DataError(
            f"{where} has the class {missing[0]!r}, which the file of --class-order does not name; it needs a line each"
        )
    if len(here) < len(found):
        raise DataError(f"{where} has two classes of one name in other Unicode forms; rename one")
    return tuple(here.get(unicodedata.normalize("NFC", name), name) for name in asked)


def _undecided(text: Sequence[str], natural: Sequence[str] | None, where: str) -> str:
    ways = f"give --class-order {TEXT}, {NATURAL}, or a file with a class a line"
    if natural is None:
        return (
            f"{where} has classes that differ in case or leading zeros only, so that their labels depend on who sorts "
            f"them; give --class-order {TEXT}, or a file with a class a line"
        )
    at = next(k for k, (a, b) in enumerate(zip(text, natural, strict=True)) if a != b)
    return (
        f"{where} has class {at} {text[at]!r} in text order (torchvision's ImageFolder) but {natural[at]!r} in natural "
        f"order (timm's); labels must be those the network was trained with: {ways}"
    )


def _repeated(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
