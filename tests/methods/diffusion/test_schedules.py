"""Schedules and sub-sequences, against numbers of the authors' own code; and where a sigma has no level."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from places import GOLDEN_FILES, SHARED_FOLDER

from bench.types.errors import MethodError
from methods.diffusion.schedules import level, level_sigma, schedule, subsequence

GOLDEN: dict[str, Any] = json.loads((GOLDEN_FILES / "diffusion.json").read_text())["schedules"]
WHOLE = SHARED_FOLDER / "golden" / "diffusion_schedules.json"
NAMES = {"linear-1000": "imagenet_guided_linear_1000", "cosine-4000": "cifar10_improved_cosine_4000"}


def check_against(name: str, record: dict[str, Any]) -> int:
    """How many sub-sequences were compared."""
    made, compared = schedule(name), 0
    assert len(made.betas) == record["T"]
    assert made.alphas_bar[0] == pytest.approx(record["abar_0"], rel=1e-12)
    assert made.alphas_bar[-1] == pytest.approx(record["abar_last"], rel=1e-12)
    for text, row in record["per_sigma"].items():
        sigma = float(text)
        t = level(made, sigma, "first")
        assert t == row["dds_t"]
        assert math.sqrt(made.alphas_bar[t]) == pytest.approx(row["sqrt_abar_t"], rel=1e-12)
        assert level_sigma(made, t) == pytest.approx(row["effective_sigma"], rel=1e-12)
        assert level(made, sigma, "nearest") == row["densepure_t"]
        for steps, expected in row.get("densepure_steps", {}).items():
            sub = subsequence(made, sigma, int(steps))
            assert list(sub.times) == expected["indices_desc"]
            assert sub.betas[::-1] == pytest.approx(expected["betas_asc"], rel=1e-12)
            assert sub.alphas_bar[::-1] == pytest.approx(expected["alphas_cumprod_asc"], rel=1e-12)
            assert sub.posterior_variances[::-1] == pytest.approx(expected["posterior_var_asc"], rel=1e-12, abs=0)
            assert sub.scale == pytest.approx(1 / math.sqrt(1 + 4 * sigma**2), rel=1e-15)
            compared += 1
    return compared


@pytest.mark.parametrize("name", NAMES)
def test_levels_and_steps_are_those_of_the_published_samplers(name: str) -> None:
    assert check_against(name, GOLDEN[name]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_sigma_and_number_of_steps_agrees(name: str) -> None:
    if not WHOLE.is_file():
        pytest.skip("../shared is absent: the golden sub-sequences of all sigmas are not compared")
    assert check_against(name, json.loads(WHOLE.read_text())[NAMES[name]]) == 24


@pytest.mark.parametrize("name", ["linear-1000", "cosine-4000", "cosine-1000"])
def test_the_first_level_is_the_first_with_no_less_noise(name: str) -> None:
    made = schedule(name)
    for sigma in (0.05, 0.125, 0.25, 0.3, 0.5, 1.0, 3.0):
        t = level(made, sigma, "first")
        assert level_sigma(made, t) >= sigma > level_sigma(made, t - 1)


def test_a_level_of_exactly_that_noise_is_taken() -> None:
    made = schedule("linear-1000")
    for t in (1, 100, 259, 999):
        assert level(made, level_sigma(made, t), "first") == t
        assert level(made, level_sigma(made, t), "nearest") == t


def test_level_0_is_never_the_first() -> None:
    assert level(schedule("linear-1000"), 1e-6, "first") == 1


def test_the_steps_start_where_the_noise_is_sigma() -> None:
    for name in ("linear-1000", "cosine-4000", "cosine-1000"):
        for sigma in (0.12, 0.25, 0.5, 1.0, 2.0):
            sub = subsequence(schedule(name), sigma, 5)
            assert math.sqrt((1 - sub.alphas_bar[0]) / sub.alphas_bar[0]) / 2 == pytest.approx(sigma, rel=0.02)
            assert sub.previous == (*sub.alphas_bar[1:], 1.0)
            assert sub.posterior_variances[-1] == 0.0


def test_a_closed_form_and_its_sums_agree_up_to_one_level() -> None:
    made = schedule("cosine-1000")
    assert made.continuous is not None
    clean = made.continuous(0.0)
    closed = np.array([made.continuous((t + 1) / 1000) / clean for t in range(999)])
    assert made.alphas_bar[:999] == pytest.approx(closed, rel=1e-9)
    assert made.time_scale == 1.0
    assert schedule("cosine-4000").time_scale == 0.25


def test_one_schedule_serves_all_and_cannot_be_written() -> None:
    made = schedule("cosine-4000")
    assert schedule("cosine-4000") is made
    with pytest.raises(ValueError, match="read-only"):
        made.betas[0] = 0.0
    assert level(pickle.loads(pickle.dumps(made)), 0.5, "nearest") == 1984


@pytest.mark.parametrize(
    "name", ["", "linear", "linear-", "cosine-0", "cosine-1", "sqrt-1000", "linear-5", "linear-1e3"]
)
def test_an_unknown_schedule_is_refused(name: str) -> None:
    with pytest.raises(MethodError, match=r"give 'linear-1000'$"):
        schedule(name)


@pytest.mark.parametrize("rounding", ["first", "nearest"])
def test_a_sigma_beyond_the_schedule_is_refused_with_the_largest(rounding: Any) -> None:
    with pytest.raises(MethodError, match=r"sigma 80 is beyond linear-1000, whose noisiest level has sigma 78\.7"):
        level(schedule("linear-1000"), 80.0, rounding)
    for sigma in (0.0, -0.25, math.nan):
        with pytest.raises(MethodError, match="expected a positive number"):
            level(schedule("cosine-4000"), sigma, rounding)


def test_more_steps_than_levels_are_refused() -> None:
    with pytest.raises(MethodError, match="too few for 10 steps; give fewer steps, or a larger sigma"):
        subsequence(schedule("linear-1000"), 0.01, 10)
    with pytest.raises(MethodError, match="at least 1"):
        subsequence(schedule("linear-1000"), 0.5, 0)
