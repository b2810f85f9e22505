"""Text that a terminal shows and does not obey, whatever a file or a method is named."""

from __future__ import annotations

import unicodedata

# Unicode categories of what a terminal would obey, or not show: controls, formats (which turn the direction of
# writing), surrogates, private use, unassigned, and ends of lines and paragraphs.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str, *, lines: bool = False) -> str:
    """The text with all that is not shown as its escape; line ends stay where there may be several `lines`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if is_shown(c) or (lines and c == "\n") else ascii(c)[1:-1] for c in text)


def is_shown(letter: str) -> bool:
    """Whether a terminal shows a letter as it is."""
    return unicodedata.category(letter) not in _UNSEEN
