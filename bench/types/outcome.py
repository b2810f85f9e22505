"""Votes, rows and certificates: what a run gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

ABSTAIN = -1  # the label of a certificate that promises nothing


NOT_FINITE = -2  # the label of a copy whose logits are not numbers: the certifier refuses the image


WRONG, FORCED = "wrong", "forced"  # why a draw stopped before n: another class is selected; more cannot move a verdict


@dataclass(frozen=True, slots=True)
class Counts:
    """Votes per class of one stage; they add up over batches, processes and machines."""

    votes: tuple[tuple[int, int], ...]  # (class, votes), by class, none of them 0
    n: int

    def __post_init__(self) -> None:
        if sum(v for _, v in self.votes) != self.n:
            raise ValueError(f"votes {self.votes!r} do not add up to n={self.n}")
        if any(v <= 0 for _, v in self.votes) or [c for c, _ in self.votes] != sorted({c for c, _ in self.votes}):
            raise ValueError(f"votes must be positive and sorted by class, got {self.votes!r}")

    @classmethod
    def of(cls, votes: Sequence[tuple[int, int]] | Sequence[Sequence[int]]) -> Counts:
        """From (class, votes) pairs in any order."""
        pairs = tuple(sorted((int(c), int(v)) for c, v in votes if v))
        return cls(pairs, sum(v for _, v in pairs))

    def __add__(self, other: Counts) -> Counts:
        total = dict(self.votes)
        for c, v in other.votes:
            total[c] = total.get(c, 0) + v
        return Counts(tuple(sorted(total.items())), self.n + other.n)

    def __getitem__(self, label: int) -> int:
        return dict(self.votes).get(label, 0)

    def ranked(self) -> tuple[tuple[int, int], ...]:
        """(class, votes) from most to least; ties go to the lower class, as argmax does."""
        return tuple(sorted(self.votes, key=lambda cv: (-cv[1], cv[0])))


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a run: the votes, from which all else is computed."""

    index: int
    fingerprint: str  # of the pixels
    label: int
    selection: Counts
    estimation: Counts
    seconds: float  # its share of the passes that it was in
    looks: tuple[Counts, ...] = ()  # sequential: what each look added; they add up to the estimation
    stopped: str = ""  # why a draw of fixed size ended before n: WRONG or FORCED; "" where it did not

    @property
    def samples(self) -> int:
        """Noisy copies drawn, in both stages."""
        return self.selection.n + self.estimation.n

    def as_json(self) -> dict[str, Any]:
        """What a line of the store holds of it, before its seal."""
        record: dict[str, Any] = {
            "index": self.index,
            "fingerprint": self.fingerprint,
            "label": self.label,
            "selection": [list(cv) for cv in self.selection.votes],
            "estimation": [list(cv) for cv in self.estimation.votes],
            "seconds": self.seconds,
        }
        if self.looks:
            record["looks"] = [[list(cv) for cv in look.votes] for look in self.looks]
        if self.stopped:
            record["stopped"] = self.stopped
        return record

    def same_votes(self, other: Row) -> bool:
        """Whether two rows say the same of the same image; the time may differ."""
        return replace(self, seconds=0.0) == replace(other, seconds=0.0)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the certifier promises of one image: the smoothed label is constant within the open l2 ball."""

    label: int  # ABSTAIN where nothing is promised
    radius: float  # l2, pixels in [0, 1]; 0.0 where it abstains
    p_lower: float  # lower confidence bound on the selected class's probability

    @property
    def abstained(self) -> bool:
        """Whether it promises nothing."""
        return self.label == ABSTAIN

    def certifies(self, label: int, radius: float) -> bool:
        """Whether it counts as certified accurate there: right class, radius at least r (Cohen et al. 2019)."""
        return self.label == label and self.radius >= radius
