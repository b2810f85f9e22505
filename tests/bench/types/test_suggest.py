"""The question after a misspelt name."""

from __future__ import annotations

import pytest

from bench.types.suggest import IN_BRACKETS, closest


@pytest.mark.parametrize(
    ("word", "form", "question"),
    [
        ("gausian", {}, " Did you mean 'gaussian'?"),
        ("gausian", {"form": IN_BRACKETS}, " (did you mean 'gaussian'?)"),
        ("gau{}sian", {}, " Did you mean 'gaussian'?"),
        ("zzz", {}, ""),
        ("a80", {"most": 2, "cutoff": 0.5}, " Did you mean 'a800' or 'h800'?"),
        ("h80", {"most": 2, "cutoff": 0.9}, ""),
    ],
)
def test_the_question_names_what_is_near_and_nothing_else(word: str, form: dict[str, object], question: str) -> None:
    assert closest(word, iter(["gaussian", "a800", "h800", "rrcm"]), **form) == question  # type: ignore[arg-type]
