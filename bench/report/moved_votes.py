"""Votes that differ between two runs of the same copies, as two devices, or two arithmetics, give them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report.accuracy import name
from bench.runs.store import Run
from bench.types import Counts, Row
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
    only_a: int = 0  # images that the other run has not
    only_b: int = 0


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
        between(left.selection, right.selection) + between(left.estimation, right.estimation) for left, right in pairs
    ]
    return Moved(
        images=len(pairs),
        votes=sum(left.selection.n + left.estimation.n for left, _ in pairs),
        moved=sum(each),
        images_moved=sum(count > 0 for count in each),
        labels_moved=sum(_most_frequent(left) != _most_frequent(right) for left, right in pairs),
        only_a=len(a.rows) - len(pairs),
        only_b=len(b.rows) - len(pairs),
    )


def doubts(a: Run, b: Run) -> list[str]:
    """What else differs between two runs whose votes are compared, or is wrong with one of them."""
    said = [f"{name(run)} was edited after it was drawn: {run.edited}" for run in (a, b) if run.edited]
    for field in ("weights", "params"):
        ours, theirs = getattr(a.spec, field), getattr(b.spec, field)
        if ours != theirs:
            said.append(f"{field} differ: {dict(ours)} and {dict(theirs)}; these are two networks, not one twice")
    return said


def between(a: Counts, b: Counts) -> int:
    """Votes that differ between two counts, at least; where one has more copies, these too."""
    classes = {c for c, _ in (*a.votes, *b.votes)}
    return max(sum(max(0, one[c] - two[c]) for c in classes) for one, two in ((a, b), (b, a)))


def _most_frequent(row: Row) -> int:
    """The class that was selected; where none is, as in a sequential test of the true label, that of most votes."""
    return (row.selection if row.selection.n else row.estimation).ranked()[0][0]
