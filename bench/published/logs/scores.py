"""Certified accuracy of a log: as printed, and from the counts behind its radii at another alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.published.logs.infer_sampling import Sampling, count_ranges
from bench.published.logs.records import ImportedRow, Precision, number, printed_radii
from bench.types.errors import ReportError


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Certified accuracies of a log at some radii, as counts of its images."""

    radii: tuple[float, ...]  # l2, pixels in [0, 1]
    certified: tuple[int, ...]  # by the printed radii, or by the counts nearest to them
    least: tuple[int, ...]  # whatever the digits that were not printed
    most: tuple[int, ...]
    abstained: int | None  # None: the log does not tell abstention from a wrong class
    images: int
    acr: float  # average certified radius: mean of correct * radius, l2
    alpha: float | None  # of the certificates; None where it is not known

    @property
    def fractions(self) -> tuple[float, ...]:
        """Certified accuracy at each radius, of the images that the log has."""
        return tuple(k / self.images for k in self.certified)


def score(
    rows: Sequence[ImportedRow], radii: Sequence[float], sampling: Sampling | None = None, alpha: float | None = None
) -> Score:
    """Certified accuracies; an image counts at r if its class is right and its radius at least r.

    As printed without `alpha`. With it, each radius becomes a count of votes under `sampling` and the count a radius at
    `alpha`: an image may then abstain. Where the digits leave several counts, the nearest decides, and `least` and
    `most` say what the others would.
    Source: Cohen et al. 2019, Section 4; average certified radius, Zhai et al. 2020, Section 4.
    Raises: ReportError for an alpha above the log's own, at which its abstentions would need votes that no log has.
    """
    if alpha is None:
        ranges = _printed(rows, sampling)
    elif sampling is None:
        raise ValueError("another alpha needs the sampling that the radii came by")
    elif alpha > sampling.alpha:
        raise ReportError(
            f"a log of alpha={sampling.alpha:g} cannot be read at alpha={alpha:g}: the votes of its abstentions are "
            f"not known; give an alpha of at most {sampling.alpha:g}"
        )
    else:
        ranges = _rebounded(rows, sampling, alpha)
    own = [ranges[row.radius] if row.certified else (-1.0, -1.0, -1.0) for row in rows]
    right = [r for r, row in zip(own, rows, strict=True) if row.correct and row.certified]
    known = all(row.predict is not None for row in rows)
    return Score(
        radii=tuple(float(r) for r in radii),
        certified=tuple(sum(near >= r for _, near, _ in right) for r in radii),
        least=tuple(sum(low >= r for low, _, _ in right) for r in radii),
        most=tuple(sum(high >= r for _, _, high in right) for r in radii),
        abstained=sum(near < 0 for _, near, _ in own) if known else None,
        images=len(rows),
        acr=math.fsum(max(near, 0.0) for _, near, _ in right) / len(rows),
        alpha=alpha if alpha is not None else sampling.alpha if sampling is not None else None,
    )


def rounded_up(rows: Sequence[ImportedRow], radii: Sequence[float]) -> dict[float, int]:
    """Per radius the right images that count there only because their printed radius is not the whole of it."""
    precision = Precision.of(printed_radii(rows))
    texts = {row.radius for row in rows if row.certified}
    low = {text: precision.spread(text)[0] for text in texts}
    found = {}
    for r in radii:
        count = sum(row.correct and row.certified and low[row.radius] < r <= float(number(row.radius)) for row in rows)
        if r > 0 and count:
            found[float(r)] = count
    return found


def _printed(rows: Sequence[ImportedRow], sampling: Sampling | None) -> dict[str, tuple[float, float, float]]:
    radii = printed_radii(rows)
    precision = Precision.of(radii)
    spreads = {text: precision.spread(text) for text in radii}
    found = {text: (low, float(text), high) for text, (low, high) in spreads.items()}
    if sampling is None:
        return found
    # Where the counts are known, so are the radii that they allow.
    for text, (least, _, most) in count_ranges(rows, sampling).items():
        low, high = (float(r) for r in sampling.radius(np.array([least, most])))
        if spreads[text][0] <= low * (1 + 1e-9) and high * (1 - 1e-9) <= spreads[text][1]:
            found[text] = (low, float(text), high)
    return found


def _rebounded(rows: Sequence[ImportedRow], sampling: Sampling, alpha: float) -> dict[str, tuple[float, float, float]]:
    strict = replace(sampling, alpha=alpha)
    ranges = count_ranges(rows, sampling)
    new = strict.radius(np.array(list(ranges.values()), dtype=np.int64).reshape(-1, 3))
    return {text: (float(a), float(b), float(c)) for text, (a, b, c) in zip(ranges, new, strict=True)}
