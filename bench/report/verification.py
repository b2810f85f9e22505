"""Stored rows beside the same rows drawn again: how many votes differ, and whether a certificate does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.accuracy import promise
from bench.report.moved_votes import between
from bench.types import Row, RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Some rows of a run, drawn twice."""

    rows: int
    other_images: int  # pixels or label are not those of the stored row: their votes are not compared
    equal: int  # rows with every vote equal
    votes: int  # of the rows that are compared
    moved: int  # at least: a copy's own label is not kept, and two that swap are not seen
    other_class: int  # rows whose certificate is for another class, or for none where there was one
    largest_change: float  # of a certified radius, l2

    @property
    def passed(self) -> bool:
        """Whether every row is as it is stored."""
        return self.equal == self.rows


def verification(spec: RunSpec, pairs: Sequence[tuple[Row, Row]]) -> Verification:
    """Compare (stored, drawn again)."""
    same = [(a, b) for a, b in pairs if (a.fingerprint, a.label) == (b.fingerprint, b.label)]
    moved = [between(a.selection, b.selection) + between(a.estimation, b.estimation) for a, b in same]
    held = [(promise(spec, a), promise(spec, b)) for a, b in same]
    return Verification(
        rows=len(pairs),
        other_images=len(pairs) - len(same),
        equal=sum(a.same_votes(b) for a, b in same),
        votes=sum(a.samples for a, _ in same),
        moved=sum(moved),
        other_class=sum(a.label != b.label for a, b in held),
        largest_change=max((abs(a.radius - b.radius) for a, b in held), default=0.0),
    )


def words(found: Verification) -> str:
    """The outcome in one line."""
    if found.passed:
        return f"{found.equal} of {found.rows} rows: every vote equal"
    said = [f"{found.equal} of {found.rows} rows: every vote equal"]
    if found.other_images:
        said.append(f"{found.other_images} rows are of other images than those here")
    if found.votes:
        said.append(f"{found.moved:,} of {found.votes:,} votes differ ({found.moved / found.votes:.3%})")
        said.append(
            f"{found.other_class} certificates are for another class, radii differ by at most "
            f"{found.largest_change:.4f}"
        )
    return "; ".join(said)
