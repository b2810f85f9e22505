"""One colour and one marker for each method, the same in every figure and on the page; no drawing.

Any two colours differ by at least 16 in CIE L*a*b* to normal eyes and to protanopes, deuteranopes and tritanopes (after
Machado et al. 2009), and have a contrast of at least 2.6 on white and on the page's dark ground; markers tell methods
apart in grey.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

EMPHASISED = "rrcm"  # drawn last and thicker, its name bold: the paper's own emphasis


@dataclass(frozen=True, slots=True)
class Look:
    """A method's colour and marker."""

    colour: str
    marker: str  # as matplotlib calls it

    @property
    def symbol(self) -> str:
        """The marker as Plotly calls it."""
        return _SYMBOLS[self.marker]


LOOKS = {
    "rrcm": Look("#D55E00", "*"),
    "gaussian": Look("#6F7680", "o"),
    "consistency": Look("#0072B2", "s"),
    "smoothadv": Look("#009E73", "^"),
    "boosting": Look("#A4A461", "D"),
    "macer": Look("#D27CFC", "v"),
    "smoothmix": Look("#7F9FC5", "P"),
    "denoised": Look("#8B3FE1", "X"),
    "dds": Look("#6A06FE", "h"),
    "densepure": Look("#B31E0D", "p"),
    "diffsmooth": Look("#9A4E3E", "d"),
}
_COLOURS = tuple(look.colour for look in LOOKS.values())
_SPARE = ("<", ">", "H", "8")  # of methods without a line above
_SYMBOLS = {
    "*": "star",
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "h": "hexagon",
    "p": "pentagon",
    "d": "diamond-tall",
    "<": "triangle-left",
    ">": "triangle-right",
    "H": "hexagon2",
    "8": "octagon",
}


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """How each of those methods is drawn.

    A method without a look of its own begins at the place that its name hashes to, and goes on to a colour and a marker
    that none of the others has: its look is the same wherever the same methods are drawn.
    """
    named = sorted(set(methods))
    found = {method: LOOKS[method] for method in named if method in LOOKS}
    for method in named:
        if method not in found:
            start = crc32(method.encode(errors="surrogatepass"))
            taken = {look.colour for look in found.values()}
            marked = {look.marker for look in found.values()}
            found[method] = Look(_free(_COLOURS, start, taken), _free(_SPARE, start, marked))
    return found


def _free(choices: tuple[str, ...], start: int, taken: set[str]) -> str:
    """The first choice from there on that is not taken; where all are, the one at the start."""
    order = [choices[(start + k) % len(choices)] for k in range(len(choices))]
    return next((each for each in order if each not in taken), order[0])
