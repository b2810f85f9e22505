"""The rising EMA rate of the contrastive target network as a picture: a closed form, nothing measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.report.figures.canvas import SCREEN, Style, blank, dress, line_style, put_legend
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST, LAST = 0.99, 0.9999  # rates that training starts and ends with
SLOPES = (5.0, 10.0, 15.0)
_POINTS = 401


def target_rate(share: float, slope: float, first: float = FIRST, last: float = LAST) -> float:
    """EMA rate when that share of the training is done: a level rises from first to last, a logistic bends it.

    Differs: Eq. 14 as printed swaps two letters; this reads a = 2 / (1 + exp(-m (l - S) / (E - S))) - 1.
    Source: Lei et al., ICLR 2025, Eq. 13-15.
    Raises: ValueError unless 0 <= share <= 1 and first < last.
    """
    if not 0 <= share <= 1 or not first < last:
        raise ValueError(f"expected a share in [0, 1] and first < last, got {share!r}, {first!r}, {last!r}")
    level = math.sqrt(share * (last**2 - first**2) + first**2)
    weight = 2 / (1 + math.exp(-slope * (level - first) / (last - first))) - 1
    return weight * last + (1 - weight) * first


def schedule_figure(slopes: Sequence[float] = SLOPES, style: Style = SCREEN) -> Figure:
    """The EMA rate over the training, one line a slope m; the larger m, the earlier it rises.

    Source: the form of Lei et al., ICLR 2025, Figure 6.
    Raises: ReportError for no slope, or one that is not positive.
    """
    if not slopes or not all(math.isfinite(m) and m > 0 for m in slopes):
        raise ReportError(f"expected positive slopes m such as 5, 10 and 15, got {tuple(slopes)!r}")
    figure = blank(4.8, 3.8, style)
    axis = figure.subplots()
    shares = [k / (_POINTS - 1) for k in range(_POINTS)]
    lines = [
        axis.plot(shares, [target_rate(x, m) for x in shares], linewidth=1.6, **line_style(k))[0]
        for k, m in enumerate(slopes)
    ]
    axis.set_xlim(0, 1)
    axis.ticklabel_format(axis="y", useOffset=False)
    dress(axis, style)
    axis.set_xlabel("share of the pre-training steps k / K", fontsize=style.text)
    axis.set_ylabel("EMA rate of the target network", fontsize=style.text)
    if style.titled:
        axis.set_title("EMA schedule, Lei et al., ICLR 2025, Eq. 13-15 (computed)", fontsize=style.text)
    put_legend(figure, lines, [f"m = {m:g}" for m in slopes], style)
    return figure
