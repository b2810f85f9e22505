"""The distance against closed forms, and against the root of the product itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from bench.runs.representation.frechet import frechet_distance

RNG = np.random.default_rng(7)


def test_a_shift_costs_its_square() -> None:
    rows = RNG.normal(size=(50, 6))
    assert frechet_distance(rows, rows + 3.0) == pytest.approx(9 * 6, rel=1e-12)
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-12)


def test_a_scaling_costs_what_one_dimension_says() -> None:
    # In one dimension the distance is (m1 - m2)^2 + (s1 - s2)^2.
    rows = RNG.normal(size=(40, 1))
    assert frechet_distance(rows, 3 * rows) == pytest.approx(
        (2 * rows.mean()) ** 2 + (2 * rows.std(ddof=1)) ** 2, rel=1e-12
    )


def test_it_is_the_trace_of_the_root_of_the_product() -> None:
    a, b = RNG.normal(size=(200, 8)), RNG.normal(size=(200, 8)) @ RNG.normal(size=(8, 8)) + 1
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(np.real(sqrtm(s1 @ s2)))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [30, 5])  # 5: covariances of rank 4 in 8 dimensions
def test_singular_covariances_do_no_harm(rows: int) -> None:
    a, b = RNG.normal(size=(rows, 8)), RNG.normal(size=(rows, 8)) + 1
    # With S1 = A'A and S2 = B'B the trace of the root of their product is the sum of the singular values of A B'.
    A, B = ((each - each.mean(0)) / np.sqrt(rows - 1) for each in (a, b))
    shared = np.linalg.svd(A @ B.T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + (A**2).sum() + (B**2).sum() - 2 * shared
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_a_rotation_of_both_changes_nothing() -> None:
    a, b = RNG.normal(size=(60, 5)), RNG.normal(size=(70, 5)) * 2
    turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="one width"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
