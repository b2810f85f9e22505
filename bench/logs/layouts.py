"""Which columns a log has: named by its header, or told by how many there are and what stands in them.

The layouts are those of the certifiers in use since Cohen et al. 2019; what all share is a label, a prediction and a
radius in tab-separated columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.logs.records import NotALogError

_SAME = {"index": "idx", "original_idx": "idx", "prediction": "predict"}
_NEEDED = ("label", "predict")
RADIUS, PROVED = "radius", "radius proved"
LABEL_NAME, PREDICT_NAME = "label name", "predict name"  # classes by name, as a classifier behind a service has them

# Without a header. Some have five columns: what stands in them decides.
_BARE: tuple[tuple[str, ...], ...] = (
    ("label", "predict", "radius", "correct", "time"),
    ("idx", "label", "predict", "radius", "correct"),
    ("idx", "correct", "radius", LABEL_NAME, PREDICT_NAME),
    ("idx", "label", "predict", "radius", "correct", "time"),
    ("idx", "label", "predict", "radius", "correct_num", "correct", "time"),
    ("idx", "label", "predict", "radius", "r_neg", "correct", "pred_uc", "corr_uc", "stage", "time"),
)
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]*(?:e-?[0-9]+)?|-?[0-9]+e-?[0-9]+")
_CLOCK = re.compile(r"(?:([0-9]+) days?, )?([0-9]+):([0-9]{2}):([0-9]{2}(?:\.[0-9]+)?)")
_FLAGS = {"0": False, "1": True, "False": False, "True": True, "0.0": False, "1.0": True}


def named(first: str) -> tuple[str, ...] | None:
    """The columns that a header names, in its order; None where the line is no header of a log.

    Raises: NotALogError for a header of something else that resembles one: predictions without a radius.
    """
    names = tuple(_SAME.get(name.strip(), name.strip()) for name in first.split("\t"))
    if not all(name in names for name in _NEEDED):
        return None
    if RADIUS not in names and PROVED not in names:
        raise NotALogError("predictions without a radius; expected a log of certificates")
    return names


def bare(lines: Sequence[str]) -> tuple[str, ...]:
    """The columns of a log without a header, from its first lines.

    Raises: NotALogError where no known layout fits, or more than one does.
    """
    rows = [line.split("\t") for line in lines]
    fitting = [layout for layout in _BARE if rows and all(_fits(layout, row) for row in rows)]
    if len(fitting) > 1:
        raise NotALogError(
            f"columns without a header that may be {' or '.join(map(' '.join, fitting))}; add a header line"
        )
    if not fitting:
        if rows and all(len(row) == 2 for row in rows):
            raise NotALogError("two columns, as of an accuracy curve; expected one line an image")
        raise NotALogError("neither a header with label, predict and radius nor rows of a known layout")
    return fitting[0]


def seconds(text: str) -> float:
    """A time, printed as seconds or as [D days, ]H:MM:SS.

    Raises: ValueError for another form.
    """
    clock = _CLOCK.fullmatch(text.strip())
    if clock:
        days, hours, minutes, rest = clock.groups()
        return float(days or 0) * 86400 + float(hours) * 3600 + float(minutes) * 60 + float(rest)
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(f"{text!r} is not a time")
    return value


def flag(text: str) -> bool | None:
    """Whether a printed flag says yes; None for what is no flag, such as a running total."""
    return _FLAGS.get(text.strip())


def whole(text: str) -> int:
    """A whole number.

    Raises: ValueError for anything else.
    """
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _fits(layout: tuple[str, ...], row: Sequence[str]) -> bool:
    if len(row) != len(layout):
        return False
    for name, text in zip(layout, (field.strip() for field in row), strict=True):
        if name in ("radius", "r_neg"):
            fine = _DECIMAL.fullmatch(text) is not None
        elif name == "time":
            # Bare seconds could be a radius: without a header only a clock tells itself apart.
            fine = _CLOCK.fullmatch(text) is not None or (len(layout) > 5 and _DECIMAL.fullmatch(text) is not None)
        elif name in (LABEL_NAME, PREDICT_NAME):
            fine = bool(text) and _DECIMAL.fullmatch(text) is None and _CLOCK.fullmatch(text) is None
        elif name == "correct":
            fine = flag(text) is not None or _WHOLE.fullmatch(text) is not None
        else:
            fine = _WHOLE.fullmatch(text) is not None
        if not fine:
            return False
    return True
