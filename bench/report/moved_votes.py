"""Votes that differ between two runs of the same copies, as two devices, or two arithmetics, give them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report.accuracy import name
from bench.runs.store import Run
from bench.types import Counts
from bench.types.errors import ReportError

_SAME = ("method", "dataset", "split", "shape", "preprocessing", "sigma", "seed", "n0", "n", "certifier", "noise")


@dataclass(frozen=True, slots=True)
class Moved:
    """Votes of the images that both runs have."""

    images: int
    votes: int  # of each run
    moved: int  # at least: a copy's own label is not kept, and two that swap are not seen
    images_moved: int
    labels_moved: int  # images whose most frequent class differs


def moved_votes(a: Run, b: Run) -> Moved:
    """How many votes went to another class, image by image.

    Raises: ReportError for runs that did not draw the same copies, or without a common image.
    """
    for field in _SAME:
        ours, theirs = getattr(a.spec, field), getattr(b.spec, field)
        if ours != theirs:
            raise ReportError(
                f"{name(a)} and {name(b)} did not draw the same copies: {field} is {ours!r} and {theirs!r}; expected "
                "two runs of one spec on two devices, or at two precisions"
            )
    other = {row.fingerprint: row for row in b.rows}
    pairs = [(row, other[row.fingerprint]) for row in a.rows if row.fingerprint in other]
    if not pairs:
        raise ReportError(f"{name(a)} and {name(b)} have no image in common; certify both on one --subset")
    each = [
        _between(left.selection, right.selection) + _between(left.estimation, right.estimation) for left, right in pairs
    ]
    return Moved(
        images=len(pairs),
        votes=sum(left.selection.n + left.estimation.n for left, _ in pairs),
        moved=sum(each),
        images_moved=sum(count > 0 for count in each),
        labels_moved=sum(left.selection.ranked()[0][0] != right.selection.ranked()[0][0] for left, right in pairs),
    )


def _between(a: Counts, b: Counts) -> int:
    classes = {c for c, _ in (*a.votes, *b.votes)}
    return max(sum(max(0, one[c] - two[c]) for c in classes) for one, two in ((a, b), (b, a)))
