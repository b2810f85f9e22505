from __future__ import annotations

import random
from fractions import Fraction

import pytest

from bench.report import units


def test_a_printed_radius_never_exceeds_the_true_one() -> None:
    source = random.Random(1)
    radii = [source.uniform(0, 4) for _ in range(2000)] + [0.0, 0.3, 1.0, 0.9999999, 1e-9, 0.0005]
    for radius in radii:
        printed = Fraction(units.certified_radius(radius))
        assert printed <= Fraction(radius) < printed + Fraction(1, 1000)


def test_a_radius_that_is_no_number_is_refused() -> None:
    for radius in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="certified radius"):
            units.certified_radius(radius)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12ms"), (0.41, "0.41s"), (6, "6s"), (59.6, "1min"), (80, "1min 20s"), (240, "4min"), (3140, "52min 20s"),
     (7980, "2h 13min"), (3599.9, "1h"), (90000, "1d 1h"), (86399, "1d")],
)  # fmt: skip
def test_durations_read_as_in_the_paper(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_percentages_show_every_image_of_five_hundred() -> None:
    assert units.percent(0.768) == "76.8 %"
    assert len({units.points(k / 500) for k in range(501)}) == 501


def test_column_radii_are_exact_and_of_one_length() -> None:
    assert units.grid((0, 0.25, 1.5)) == ("0.00", "0.25", "1.50")
    assert units.grid((0.0, 0.5, 2.5)) == ("0.0", "0.5", "2.5")
    assert units.grid((0.0, 10.0)) == ("0.0", "10.0")


def test_a_noise_level_is_never_rounded() -> None:
    assert [units.noise_level(s) for s in (0.25, 0.5, 1.0, 0.125, 10.0)] == ["0.25", "0.50", "1.00", "0.125", "10.00"]
