"""Parts that all pictures share: how large their letters are, an empty page, the legend, line styles, file formats.

Nothing here touches pyplot.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from bench.report.formats.escaping import terminal
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, without the yellow: it vanishes on white. For lines that are no methods; these have own colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)), (0, (8, 2, 1, 2, 1, 2)))
DPI = 200
ACCURACY = "certified accuracy (%)"
RADIUS = "l2 radius r (pixels in [0, 1])"
STYLES = ("screen", "paper")
_WIDTHS = (2.5, 20.0)  # inches; below, an axis leaves its labels no room
_LOWEST = 2.7  # inches of a figure in a paper
_LETTER = 0.0092  # inches that a letter takes at most, a point of its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How large a figure's letters are at its final size, and whether it has a title."""

    text: float  # points
    small: float  # points: ticks and legends
    titled: bool  # in a paper the caption says it
    width: float | None = None  # inches; None: each figure's own


SCREEN = Style(text=9.0, small=8.0, titled=True)


def style_of(name: str, width: float | None = None) -> Style:
    """The style of that name; in a paper 8 point letters at a width in inches, 5.5 unless said.

    Raises: ReportError for another name, a width on the screen, or one out of range.
    """
    if name not in STYLES:
        raise ReportError(f"expected a style out of {', '.join(STYLES)}, got {name!r}")
    if name == "screen":
        if width is not None:
            raise ReportError("a width is for figures in a paper; give --style paper, or leave --width out")
        return SCREEN
    width = 5.5 if width is None else width
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        raise ReportError(f"expected a width of {_WIDTHS[0]:g} to {_WIDTHS[1]:g} inches, got {width!r}")
    return Style(text=8.0, small=8.0, titled=False, width=width)


def blank(width: float, height: float, style: Style = SCREEN) -> Figure:
    """An empty figure of that size in inches, or in proportion as wide as the style; it belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if style.width is not None:
        width, height = style.width, max(_LOWEST, height * min(1.0, style.width / width))
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the k-th line; the two repeat after 7 and 5, so that 35 lines differ."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def dress(axis: Axes, style: Style) -> None:
    """Light grid behind the lines, no frame above and on the right, letters of the style's size."""
    axis.set_axisbelow(True)
    axis.grid(color="0.9", linewidth=0.6)
    axis.tick_params(labelsize=style.small, length=3, color="0.4")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("0.4")


def folded(words: str, inches: float, points: float) -> str:
    """The words on as many lines as that width asks for."""
    return "\n".join(wrap(words, max(8, int(inches / (_LETTER * points)))) or [words])


def put_legend(
    figure: Figure, handles: Sequence[Any], titles: Sequence[str], style: Style = SCREEN, apart: float = 0.5
) -> Any:
    """Below the panels, where it covers no line, in as many columns as its longest title allows.

    `apart`: the space between two lines, in letter sizes.
    """
    width, sample = float(figure.get_figwidth()), 0.085 * style.small  # inches that a title and its line sample have
    lines = [folded(title, width - sample, style.small) for title in titles]
    longest = max(len(line) for title in lines for line in title.splitlines() or [""])
    columns = max(1, min(6, len(titles), int(width / (sample + _LETTER * style.small * longest))))
    columns = math.ceil(len(titles) / math.ceil(len(titles) / columns))  # no last row of one
    legend = figure.legend(
        handles, lines, loc="outside lower center", ncols=columns, fontsize=style.small, handlelength=3, frameon=False,
        columnspacing=1.5, labelspacing=apart,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name with two $ is no formula
    extra = sum(len(title.splitlines()) for title in lines) / columns - 2
    figure.set_figheight(figure.get_figheight() + 0.021 * style.small * max(0.0, extra))  # the panels keep their height
    return legend


def as_bytes(figure: Figure, form: str) -> bytes:
    """The figure as a PNG, PDF or SVG file; the same bytes for the same figure.

    Raises: ReportError for another format.
    """
    # Dates and versions would make two equal pictures differ.
    unsaid = {
        "png": ("Software",),
        "pdf": ("CreationDate", "Producer", "Creator"),
        "svg": ("Date", "Creator"),
    }
    if form not in unsaid:
        raise ReportError(f"expected a figure as {', '.join(unsaid)}, got {form!r}")
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if (shown := terminal(text.get_text())) != text.get_text():  # no font has a letter for a control
            text.set_text(shown)
    out = io.BytesIO()
    # Type 42 is embedded TrueType: journals refuse Type 3. SVG names its parts by a hash, salted at random by default.
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "rrcm-bench"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in another script is drawn as boxes
        figure.savefig(out, format=form, dpi=DPI, metadata=dict.fromkeys(unsaid[form]))
    return out.getvalue()
