"""Frechet distance between two sets of features, each taken as a Gaussian; the features' space is its caller's."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


def frechet_distance(a: Array, b: Array) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), of the means and unbiased covariances of two sets.

    Shapes: (N, D) and (M, D).
    Source: Dowson & Landau 1982; Heusel et al. 2017, whose features are Inception's: there it is called FID.
    Differs: the trace of the root is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which are real
    and not negative, where a root of the product itself is complex once a covariance is singular.
    Raises: ValueError for sets of other widths, or fewer than two rows.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected two sets of at least 2 rows of one width, got {a.shape} and {b.shape}")
    (m1, s1), (m2, s2) = _moments(a), _moments(b)
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
    # Rounding may leave a distance of equal sets just below zero.
    return max(0.0, float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * shared))


def _moments(rows: Array) -> tuple[Array, Array]:
    wide = rows.astype(np.float64)
    return wide.mean(axis=0), np.atleast_2d(np.cov(wide, rowvar=False))
