"""What a published log says: rows with printed radii, and how far these were rounded; no file, no judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bench.types import ABSTAIN
from bench.types.errors import DataError

_LARGEST = 1e9  # l2; far beyond any image


class NotALogError(DataError):
    """A file that is no certification log at all, as opposed to a damaged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRow:
    """One image of a published log: what was printed of it. Its votes are not known."""

    index: int | None  # position in the dataset, where the log says it
    label: int | None  # None: the log holds radii only
    predict: int | None  # ABSTAIN where nothing is promised; None: the log holds radii only
    correct: bool  # label == predict where both are printed; never the log's own column then
    radius: str  # l2, as printed: its digits are part of what is known
    seconds: float | None

    @property
    def certified(self) -> bool:
        """Whether a radius is promised for some class."""
        return self.predict != ABSTAIN and (self.predict is not None or self.correct)

    def as_json(self) -> dict[str, Any]:
        """One line of the store."""
        return {
            "index": self.index,
            "label": self.label,
            "predict": self.predict,
            "correct": self.correct,
            "radius": self.radius,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ImportedRow:
        """The inverse of `as_json`.

        Raises: ValueError for a field that is missing or of another type, or a radius that is no number.
        """
        if not isinstance(record, dict) or set(record) != set(cls.__slots__):
            raise ValueError(f"expected the fields {', '.join(cls.__slots__)}, got {record!r}")
        made = msgspec.convert(record, cls, strict=True)
        if not (radius := number(made.radius)).is_finite() or radius < 0 or float(radius) > _LARGEST:
            raise ValueError(f"expected a radius from 0 to {_LARGEST:g}, got {made.radius!r}")
        if made.index is not None and made.index < 0:
            raise ValueError(f"expected an index from 0 on, got {made.index}")
        return made


@dataclass(frozen=True, slots=True)
class Precision:
    """How radii were rounded on printing, read off all radii of a log."""

    significant: int  # most significant digits of any of them
    decimals: int  # most digits after the point

    @classmethod
    def of(cls, radii: Iterable[str]) -> Precision:
        """The precision of a log; its zeros say nothing.

        A log may have been printed with so many significant digits, or with so many decimals: trailing zeros are often
        stripped, so that one radius alone cannot tell.
        """
        significant, decimals = 0, 0
        for text in radii:
            value = number(text)
            if value:
                significant = max(significant, len(value.as_tuple().digits))
                decimals = max(decimals, -int(value.as_tuple().exponent))
        return cls(significant, decimals)

    def spread(self, radius: str) -> tuple[float, float]:
        """The least and the largest radius that prints as this one: the wider of both readings on each side."""
        value = number(radius)
        below = above = Decimal(1).scaleb(-self.decimals) / 2
        if value:
            unit = Decimal(1).scaleb(value.adjusted() - self.significant + 1)
            # Just below a power of ten the digits are ten times finer: 0.9994 prints as 0.999, 0.9996 as 1.0.
            power = value == Decimal(1).scaleb(value.adjusted())
            below, above = max(below, unit / (20 if power else 2)), max(above, unit / 2)
        return float(max(value - below, Decimal(0))), float(value + above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A certification log as read."""

    path: Path
    layout: tuple[str, ...]  # its columns
    header: bool  # whether it names them itself
    rows: tuple[ImportedRow, ...]
    sha256: str  # of the file
    correct_column: str  # flags | cumulative | none
    contradicted: int  # rows whose flag is not label == predict
    unpromised: int = 0  # rows whose radius is printed as -1 or nan: abstentions, whatever class stands there
    after: tuple[str, ...] = ()  # lines of words after the rows: summaries, read past
    torn: str = ""  # the last line, where it was cut off; it is not a row


def printed_radii(rows: Iterable[ImportedRow]) -> dict[str, int]:
    """The distinct printed radii of certified images, wrong classes included, largest first, and how often each."""
    seen = Counter(row.radius for row in rows if row.certified)
    return dict(sorted(seen.items(), key=lambda item: -number(item[0])))


def number(text: str) -> Decimal:
    """A printed number, without the zeros that its printing may have added.

    Raises: ValueError for text that is no number.
    """
    try:
        return Decimal(text).normalize()
    except ArithmeticError:
        raise ValueError(f"{text!r} is not a number") from None
