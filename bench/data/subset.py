"""Which images of a dataset are certified, and their fingerprints; knows no dataset and decodes nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.types.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from bench.types import Dataset

FORMS = "'skip:K', 'skip:K+OFFSET', 'first:K', 'A:B' (B left out), 'all' or 'file:PATH' (one index a line)"

# At most 15 digits: longer ones are no position in any dataset, and Python refuses to convert the longest.
_SKIP = re.compile(r"skip:([0-9]{1,15})(?:\+([0-9]{1,15}))?")
_FIRST = re.compile(r"first:([0-9]{1,15})")
_RANGE = re.compile(r"([0-9]{1,15}):([0-9]{1,15})")
_INDEX = re.compile(r"[0-9]{1,15}")


def parse_subset(words: str, length: int) -> tuple[str, tuple[int, ...]]:
    """Canonical words and the indices that they name in a dataset of `length` images.

    `skip:1`, `first:LENGTH` and `0:LENGTH` become `all`, `0:K` becomes `first:K`: equal specs are the same run.
    A file keeps its order, and its words carry the sha256 of its index list, not its path.
    Raises: DataError for other words, and for a subset that is empty, repeats an image, or leaves the dataset.
    """
    text = words.strip()
    if text.startswith("file:"):
        return _from_file(Path(text.removeprefix("file:")), length)
    if text == "all":
        span = range(length)
    elif skip := _SKIP.fullmatch(text):
        step, offset = int(skip[1]), int(skip[2] or 0)
        if step == 0 or offset >= step:
            raise DataError(f"subset {words!r}: expected a step of at least 1 and an offset below it")
        span = range(offset, length, step)
    elif first := _FIRST.fullmatch(text):
        span = range(int(first[1]))
    elif bounds := _RANGE.fullmatch(text):
        span = range(int(bounds[1]), int(bounds[2]))
    else:
        raise DataError(f"subset {words!r} is not understood; expected {FORMS}")
    if not span:
        raise DataError(f"subset {words!r} holds no image of the {length}; expected at least one: {FORMS}")
    if span[-1] >= length:
        raise DataError(
            f"subset {words!r} asks for index {span[-1]}, the dataset has {length} images: 0 to {length - 1}"
        )
    return _canonical(span, length), tuple(span)


def span_of(words: str, images: int) -> range | None:
    """The indices of canonical words, of which so many are certified; None where these do not tell, as of a file."""
    text = words.partition(",")[0]
    if text == "all" or _FIRST.fullmatch(text):
        return range(images)
    if skip := _SKIP.fullmatch(text):
        step, offset = int(skip[1]), int(skip[2] or 0)
        return range(offset, offset + step * images, step) if step else None
    if bounds := _RANGE.fullmatch(text):
        return range(int(bounds[1]), int(bounds[1]) + images)
    return None


def take(indices: Sequence[int], limit: int | None) -> tuple[int, ...]:
    """The first `limit` images of a subset; all of them without a limit or below it.

    Raises: DataError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1 image, got {limit}; leave it out for the whole subset")
    return tuple(indices)[:limit]


def subset_fingerprint(dataset: Dataset, indices: Sequence[int]) -> str:
    """sha256 over index, label and stored image of each: equal for the same images in the same order."""
    return fingerprint_of(identities(dataset, indices))


def identities(dataset: Dataset, indices: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Label and digest of each image, by index and in that order: all that a fingerprint is made of."""
    return {index: (dataset.label(index), dataset.digest(index)) for index in indices}


def fingerprint_of(known: Mapping[int, tuple[int, str]]) -> str:
    """The fingerprint of a subset whose images are known."""
    digest = hashlib.sha256()
    for index, (label, stored) in known.items():
        digest.update(f"{index} {label} {stored}\n".encode())
    return digest.hexdigest()


def pixel_fingerprint(pixels: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    """sha256 over shape and pixels: the image's identity across datasets, orders and storage.

    Raises: ValueError unless the pixels are float32: rounding here would give two images one name.
    """
    import numpy as np

    if pixels.dtype != np.float32:
        raise ValueError(f"pixels must be float32, got {pixels.dtype}")
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode() + b"\n")
    digest.update(np.ascontiguousarray(pixels, dtype="<f4").tobytes())  # little-endian on every machine
    return digest.hexdigest()


def _canonical(span: range, length: int) -> str:
    if span == range(length):
        return "all"
    if span.step > 1:
        return f"skip:{span.step}+{span.start}" if span.start else f"skip:{span.step}"
    return f"first:{span.stop}" if span.start == 0 else f"{span.start}:{span.stop}"


def _from_file(path: Path, length: int) -> tuple[str, tuple[int, ...]]:
    if path.exists() and not path.is_file():
        raise DataError(f"subset file {str(path)!r} is no regular file; expected one index a line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"subset file {str(path)!r} cannot be read: {_reason(error)}; expected one index a line"
        ) from None
    indices: list[int] = []
    seen: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not _INDEX.fullmatch(word):
            raise DataError(f"subset file {str(path)!r} line {number}: expected an index from 0 on, got {word!r}")
        index = int(word)
        if index >= length:
            raise DataError(
                f"subset file {str(path)!r} line {number}: index {index} is outside the dataset's {length} images; "
                f"expected 0 to {length - 1}"
            )
        if index in seen:
            raise DataError(
                f"subset file {str(path)!r} line {number}: index {index} stands in line {seen[index]} too; "
                "expected each image once"
            )
        seen[index] = number
        indices.append(index)
    if not indices:
        raise DataError(f"subset file {str(path)!r} holds no index; expected one a line")
    digest = hashlib.sha256("\n".join(map(str, indices)).encode()).hexdigest()
    return f"file:{digest[:12]}", tuple(indices)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "not readable").lower()
    return "it is not utf-8 text"
