"""Best of several noise levels at each radius: an oracle's choice on the reported images, or one made on others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.accuracy import certified_accuracy, digest, name
from bench.runs.store import Run
from bench.types.errors import ReportError


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The winner at one radius."""

    radius: float
    run: Run
    certified: int  # images, out of the envelope's


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Per radius the best run of one method."""

    best: tuple[Best, ...]  # by radius, as asked
    images: int  # reported on: all that every compared run has certified, or the half that did not choose
    compared: tuple[Run, ...]
    left_out: tuple[Run, ...]  # not done while others are: a few images must not beat many
    chosen_on: int = 0  # images that chose the winners and are not reported on; 0: those reported on chose


def envelope(
    runs: Sequence[Run],
    radii: Sequence[float],
    bound: str = "pa",
    alpha: float | None = None,
    *,
    disjoint: bool = False,
) -> Envelope:
    """Per radius the largest certified accuracy over the runs of one method; ties go to the smaller sigma.

    `disjoint`: half of the images, told by their fingerprints, choose the winners; the other half is reported on.
    Where some runs are done, those that are not are left out; where none is, only the images that all share count.
    Differs: without `disjoint` chosen on the images that it is reported on, as all published best-over-sigma rows are,
    and so too high by the winner's curse; whoever prints it must say so.
    Raises: ReportError for no runs, or runs of another method, dataset or subset, or without an image in common.
    """
    if not runs:
        raise ReportError("an envelope needs at least one run, got none; run `rrcm-bench run` first")
    kinds = {(r.spec.method, r.spec.dataset, r.spec.subset_fingerprint, r.spec.shape, r.spec.n) for r in runs}
    if len(kinds) > 1:
        raise ReportError(
            "an envelope is over runs of one method on the same images with one n, got "
            + ", ".join(name(r) for r in runs)
            + "; report them in separate tables"
        )
    compared, shared = in_common(runs)
    if not shared:
        raise ReportError(
            "no image is in all of "
            + ", ".join(name(r) for r in compared)
            + "; resume them with the same spec, or report them by sigma"
        )
    keys = {row.index: row.fingerprint for row in compared[0].rows}
    choosing = frozenset(i for i in shared if chooses(keys[i])) if disjoint else shared
    reported = shared - choosing if disjoint else shared
    if not choosing or not reported:
        raise ReportError(
            f"a disjoint choice of sigma needs images in both halves, got {len(choosing)} that choose and "
            f"{len(reported)} to report on; certify more images, or leave --select at oracle"
        )
    scores = [(r, certified_accuracy(r, radii, bound, alpha, only=choosing)) for r in compared]
    shown = {digest(r): certified_accuracy(r, radii, bound, alpha, only=reported) for r in compared}
    best = []
    for k, radius in enumerate(radii):
        most = max(score.certified[k] for _, score in scores)
        # By sigma ascending: the first of those that tie is the smallest.
        winner = next(r for r, score in scores if score.certified[k] == most)
        best.append(Best(radius=float(radius), run=winner, certified=shown[digest(winner)].certified[k]))
    left_out = tuple(r for r in runs if not any(r is c for c in compared))
    return Envelope(
        best=tuple(best),
        images=len(reported),
        compared=compared,
        left_out=left_out,
        chosen_on=len(choosing) if disjoint else 0,
    )


def chooses(fingerprint: str) -> bool:
    """Whether an image is of the half that chooses: by a hash of its identity, whatever its index or order."""
    return hashlib.sha256(f"choose {fingerprint}".encode()).digest()[0] % 2 == 0


def in_common(runs: Sequence[Run]) -> tuple[tuple[Run, ...], frozenset[int]]:
    """The runs that may compete, by sigma, and the images that all of them have certified, perhaps none."""
    done = [r for r in runs if r.done]
    compared = tuple(sorted(done or runs, key=lambda r: (r.spec.sigma, digest(r))))
    return compared, frozenset.intersection(*(frozenset(row.index for row in r.rows) for r in compared))
