"""Which columns a log has: named by its header, or told by how many there are and what stands in them.

The layouts are those of the certifiers in use since Cohen et al. 2019; what all share is a label, a prediction and a
radius in tab-separated columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.published.logs.records import NotALogError

_SAME = {"index": "idx", "original_idx": "idx", "prediction": "predict"} | dict.fromkeys(
    ("radius_l2", "l2_radius", "radius(l2)"), "radius"
)
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
_WHOLE = re.compile(r"(-?[0-9]{1,15})(?:\.0{0,9})?")  # a table program makes 3.0 of 3
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]*(?:e-?[0-9]+)?|-?[0-9]+e-?[0-9]+")
_CLOCK = re.compile(r"(?:([0-9]{1,6}) days?, )?([0-9]{1,9}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,15})?)")
_RADIUS = re.compile(r"(?:[0-9]{1,9}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:e[-+]?[0-9]{1,2})?", re.IGNORECASE)
_NOTHING = re.compile(r"[-+]?nan|none|null|-1(?:\.0{0,9})?", re.IGNORECASE)  # how tables have what is not there
_WORDS = re.compile(r"\s*(?:[^\W\d]|[#=*~%<>\[({|-]{2,}|#)")  # no row begins so
_OTHER_NORM = re.compile(
    r"(?<![a-z0-9])(?:l[-_]?(?:0|1|inf(?:ty|inity)?)|laplac(?:e|ian)|uniform|ablation)(?![a-z0-9])"
    r"|l[-_]?inf(?:ty|inity)?(?![a-z0-9])"
)
_SECOND_BOUND = re.compile(r"p_?b(?:[-_ ]?(?:bar|upper|up|hi|high|bound|u))?|(?:runner[-_ ]?up|second)(?:[-_ ].*)?")
_FLAGS = {"0": False, "1": True, "False": False, "True": True, "0.0": False, "1.0": True}


def named(first: str) -> tuple[str, ...] | None:
    """The columns that a header names, in its order; None where the line is no header of a log.

    Raises: NotALogError for a header of something else that resembles one: predictions without a radius.
    """
    names = tuple(_SAME.get(name.strip(), name.strip()) for name in first.split("\t"))
    if not all(name in names for name in _NEEDED):
        return None
    if RADIUS not in names and PROVED not in names:
        if other := other_norm(names):
            raise NotALogError(f"radii that are not l2, by its column {other!r}; expected a column 'radius'")
        raise NotALogError("predictions without a radius; expected a log of certificates")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise NotALogError(f"two columns {twice[0]!r}; expected one of each name")
    return names


def other_norm(words: Iterable[str]) -> str:
    """The first of some names that tells of radii other than l2 ones, or of other noise than Gaussian; or nothing."""
    return next((word for word in words if _OTHER_NORM.search(word.lower())), "")


def second_bound(layout: Iterable[str]) -> str:
    """The column that tells that radii come of a bound on the runner-up too, or nothing."""
    return next((name for name in layout if _SECOND_BOUND.fullmatch(name.lower())), "")


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
    """A whole number, 3 or 3.0.

    Raises: ValueError for anything else.
    """
    if not (found := _WHOLE.fullmatch(text.strip())):
        raise ValueError(f"{text!r} is not a whole number")
    return int(found[1])


def nothing(text: str) -> bool:
    """Whether a printed class or radius says that there is none: -1, -1.0, nan."""
    return _NOTHING.fullmatch(text.strip()) is not None


def radius(text: str) -> str:
    """A radius, as printed.

    Raises: ValueError for what is no length.
    """
    if not _RADIUS.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a radius")
    return text.strip()


def words(line: str) -> bool:
    """Whether a line is blank or words, such as a summary after the rows, and so no row, whole or torn."""
    return not line.strip() or _WORDS.match(line) is not None


def _fits(layout: tuple[str, ...], row: Sequence[str]) -> bool:
    if len(row) != len(layout):
        return False
    for name, text in zip(layout, (field.strip() for field in row), strict=True):
        if name in ("radius", "r_neg"):
            fine = _DECIMAL.fullmatch(text) is not None or (name == "radius" and nothing(text))
        elif name == "time":
            # Bare seconds could be a radius: without a header only a clock tells itself apart.
            fine = _CLOCK.fullmatch(text) is not None or (len(layout) > 5 and _DECIMAL.fullmatch(text) is not None)
        elif name in (LABEL_NAME, PREDICT_NAME):
            fine = bool(text) and _DECIMAL.fullmatch(text) is None and _CLOCK.fullmatch(text) is None
        elif name == "correct":
            fine = flag(text) is not None or _WHOLE.fullmatch(text) is not None
        else:
            fine = _WHOLE.fullmatch(text) is not None or (name == "predict" and nothing(text))
        if not fine:
            return False
    return True
