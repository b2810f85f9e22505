"""A question after a misspelt name: the known one that it is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

IN_BRACKETS = " (did you mean {}?)"


def closest(
    word: str, known: Iterable[str], *, form: str = " Did you mean {}?", most: int = 1, cutoff: float = 0.6
) -> str:
    """The nearest known names in the words of `form`, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), n=most, cutoff=cutoff)
    return form.format(" or ".join(map(repr, near))) if near else ""
