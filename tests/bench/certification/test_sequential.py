"""Sequential decisions against independent tables, against the fixed-n certifier, and against their definitions."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import GOLDEN_FILES

from bench.certification.bounds import certify, largest_radius, lower_bound, upper_bound
from bench.certification.sequential import (
    FINAL_SHARE,
    Design,
    certificate,
    copies_to_next_look,
    design,
    replay,
    start,
    step,
    target,
)
from bench.types import ABSTAIN, Counts
from bench.types.errors import SpecError

GOLDEN = json.loads((GOLDEN_FILES / "sequential.json").read_text())
RADII = (0.0, 0.25, 0.5, 0.75)
SMALL = design(0.5, RADII, 2000, 0.01)


@pytest.fixture(scope="module")
def registered() -> Design:
    return design(1.0, [entry["radius"] for entry in GOLDEN["grid"]], GOLDEN["n"], GOLDEN["alpha"], GOLDEN["beta"])


def counted(successes: int, n: int) -> Counts:
    return Counts.of([(7, successes), (3, n - successes)])


def test_looks_and_spending_are_those_computed_elsewhere(registered: Design) -> None:
    assert list(registered.looks) == GOLDEN["looks"]
    assert registered.alphas[:-1] == pytest.approx([GOLDEN["alpha_first"]] * 34, rel=1e-14)
    assert registered.alphas[-1] == pytest.approx(GOLDEN["alpha_last"], rel=1e-14)
    assert math.fsum(registered.alphas) == pytest.approx(GOLDEN["alpha"], rel=1e-14)
    assert math.fsum(registered.betas) == pytest.approx(GOLDEN["beta"], rel=1e-14)


def test_decision_counts_are_those_computed_elsewhere(registered: Design) -> None:
    for k, entry in enumerate(GOLDEN["grid"]):
        for j, accept, futile in zip(GOLDEN["at"], entry["accept"], entry["futile"], strict=True):
            assert registered.accept[j][k] == (registered.looks[j] + 1 if accept is None else accept)
            assert registered.futile[j][k] == futile


def test_every_golden_decision_count_holds(golden_certificate: dict) -> None:
    golden = golden_certificate["sequential"]
    plan = design(1.0, [e["radius_over_sigma"] for e in golden["grid"]], 100_000, golden["alpha"], golden["beta"])
    assert list(plan.looks) == golden["looks"]
    assert plan.alphas == pytest.approx(golden["alpha_j"], rel=1e-14)
    for k, entry in enumerate(golden["grid"]):
        assert plan.thresholds[k] == entry["p0"]
        reached = [row[k] if row[k] <= n else None for row, n in zip(plan.accept, plan.looks, strict=True)]
        assert reached == entry["accept_at"]
        assert [row[k] for row in plan.futile] == entry["futile_at"]


def test_every_acceptance_count_is_where_the_fixed_certifier_turns() -> None:
    for n, alpha, row in zip(SMALL.looks, SMALL.alphas, SMALL.accept, strict=True):
        for radius, least in zip(RADII, row, strict=True):
            for successes in {least - 1, min(least, n)}:
                votes = counted(successes, n)
                promise = certify(Counts.of([(7, 1)]), votes, sigma=0.5, alpha=alpha)
                assert promise.certifies(7, radius) == (successes >= least), (n, radius, successes)


def test_with_one_look_it_is_the_fixed_certifier() -> None:
    plan = design(0.25, (0.0, 0.1, 0.25), 50, 0.001)
    assert plan.looks == (50,)
    for successes in range(51):
        promise = certify(Counts.of([(7, 1)]), counted(successes, 50), sigma=0.25, alpha=0.001)
        decision = step(plan, start(plan), successes, 50)
        assert decision.done
        assert decision.accepted == sum(promise.certifies(7, r) for r in plan.radii)


@st.composite
def paths(draw: st.DrawFn) -> list[int]:
    """A count at each look of SMALL, by a success rate that may change from look to look."""
    counts, last = [], 0
    rate = draw(st.floats(0, 1))
    for n, before in zip(SMALL.looks, (0, *SMALL.looks), strict=False):
        if draw(st.integers(0, 4)) == 0:
            rate = draw(st.floats(0, 1))
        last += round(rate * (n - before))
        counts.append(last)
    return counts


def settled(counts: list[int], radius: float, p: float) -> tuple[int, bool]:
    """(look, verdict) of one radius alone, from bounds; the look past the last if it stays undecided."""
    for j, (successes, n) in enumerate(zip(counts, SMALL.looks, strict=True)):
        if certify(Counts.of([(7, 1)]), counted(successes, n), sigma=0.5, alpha=SMALL.alphas[j]).certifies(7, radius):
            return j, True
        if upper_bound(successes, n, SMALL.betas[j]) < p:
            return j, False
    return len(counts), False


@settings(deadline=None, max_examples=200)
@given(paths())
def test_each_radius_is_decided_as_if_it_were_alone(counts: list[int]) -> None:
    alone = [settled(counts, r, p) for r, p in zip(RADII, SMALL.thresholds, strict=True)]
    looks = min(max(j for j, _ in alone) + 1, len(counts))
    decision = replay(SMALL, counts[:looks])
    assert decision.done
    assert decision.looks == looks
    assert decision.n == SMALL.looks[looks - 1]
    assert decision.accepted == sum(verdict for _, verdict in alone)
    assert len(RADII) - decision.rejected == sum(not verdict and j < len(counts) for j, verdict in alone)


@settings(deadline=None, max_examples=200)
@given(paths())
def test_the_certificate_says_on_the_grid_what_the_verdicts_say(counts: list[int]) -> None:
    decision = start(SMALL)
    while not decision.done:
        n = decision.n + copies_to_next_look(SMALL, decision)
        decision = step(SMALL, decision, counts[decision.looks], n)
        promise = certificate(SMALL, decision, 7)
        assert [promise.certifies(7, r) for r in RADII] == [k < decision.accepted for k in range(len(RADII))]
        assert promise.radius <= RADII[-1]
    assert copies_to_next_look(SMALL, decision) == 0


def test_a_radius_given_up_stays_given_up_when_a_later_look_would_reach_it() -> None:
    plan = design(0.5, (0.0, 0.005), 100_000, 0.001)
    j = 28
    low = plan.futile[j][1]
    assert low > plan.futile[j][0]
    path = [*(n // 2 for n in plan.looks[:j]), low]
    given_up = replay(plan, path)
    assert (given_up.accepted, given_up.rejected, given_up.done) == (0, 1, False)
    after = step(plan, given_up, low + plan.looks[j + 1] - plan.looks[j], plan.looks[j + 1])
    assert after.p_lower >= plan.thresholds[1]
    assert (after.accepted, after.rejected, after.done) == (1, 1, True)
    promise = certificate(plan, after, 7)
    assert (promise.label, promise.radius) == (7, 0.0)


def test_the_bound_kept_is_the_best_of_all_looks() -> None:
    decision = replay(SMALL, [45, 50])
    assert decision.p_lower == lower_bound(45, 50, SMALL.alphas[0]) > lower_bound(50, 63, SMALL.alphas[1])


def test_nothing_is_promised_of_a_class_below_a_half() -> None:
    decision = replay(SMALL, [0])
    assert decision.done
    assert certificate(SMALL, decision, 7).label == ABSTAIN


def test_counts_that_cannot_be_are_refused() -> None:
    first = step(SMALL, start(SMALL), 30, 50)
    with pytest.raises(ValueError, match="registered at n=63, got n=79"):
        step(SMALL, first, 40, 79)
    with pytest.raises(ValueError, match="went from 30 to 44"):
        step(SMALL, first, 44, 63)
    with pytest.raises(ValueError, match="went from 30 to 29"):
        step(SMALL, first, 29, 63)
    over = step(SMALL, start(SMALL), 0, 50)
    with pytest.raises(ValueError, match="no further look"):
        step(SMALL, over, 0, 63)
    with pytest.raises(ValueError, match="no further look"):
        replay(SMALL, [0, 0])


def test_the_class_is_the_true_one_for_tables_and_the_selected_one_for_users() -> None:
    votes = Counts.of([(2, 60), (5, 40)])
    assert target("table", label=5, selection=votes) == 5
    assert target("deploy", label=5, selection=votes) == 2
    with pytest.raises(ValueError, match="needs the true label"):
        target("table", selection=votes)
    with pytest.raises(ValueError, match="selection of its own"):
        target("deploy", label=5)
    with pytest.raises(ValueError, match="mode must be one of"):
        target("both", label=5, selection=votes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": 0.0}, "sigma must be a positive"),
        ({"alpha": 0.5}, "alpha must lie"),
        ({"beta": 0.0}, "beta must lie"),
        ({"n": 9}, "smallest n that can is 10"),
        ({"radii": ()}, "radii must be distinct"),
        ({"radii": (0.5, 0.25)}, "radii must be distinct"),
        ({"radii": (0.25, 0.25)}, "radii must be distinct"),
        ({"radii": (-0.1,)}, "radii must be distinct"),
        ({"radii": (math.nan,)}, "radii must be distinct"),
        ({"radii": (0.0, 1.0)}, "radius 1.0 is out of reach of n=100000 at sigma=0.25"),
    ],
)
def test_a_design_that_cannot_work_is_refused_in_one_line(change: dict, words: str) -> None:
    asked = {"sigma": 0.25, "radii": (0.0, 0.25), "n": 100_000, "alpha": 0.001, **change}
    with pytest.raises(SpecError, match=words) as caught:
        design(**asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alpha", [0.001, 1e-15, 1e-20])
def test_the_smallest_n_named_is_the_smallest_that_works(alpha: float) -> None:
    with pytest.raises(SpecError) as caught:
        design(0.5, (0.0,), 1, alpha)
    least = int(str(caught.value).rsplit(maxsplit=1)[-1])
    assert design(0.5, (0.0,), least, alpha).accept[-1][0] <= least
    with pytest.raises(SpecError):
        design(0.5, (0.0,), least - 1, alpha)


def test_the_largest_radius_is_in_reach_and_nothing_beyond() -> None:
    top = largest_radius(2000, sigma=0.5, alpha=FINAL_SHARE * 0.01)
    assert design(0.5, (top,), 2000, 0.01).accept[-1] == (2000,)
    with pytest.raises(SpecError, match="out of reach"):
        design(0.5, (math.nextafter(top, math.inf),), 2000, 0.01)


def test_radii_beyond_reach_are_left_out_where_that_is_asked_for_and_only_they() -> None:
    top = largest_radius(2000, sigma=0.5, alpha=FINAL_SHARE * 0.01)
    beyond = math.nextafter(top, math.inf)
    assert design(0.5, (0.0, top, beyond), 2000, 0.01, reachable=True) == design(0.5, (0.0, top), 2000, 0.01)
    with pytest.raises(SpecError, match="radii must be distinct"):
        design(0.5, (beyond, 0.0), 2000, 0.01, reachable=True)
    with pytest.raises(SpecError, match="out of reach"):
        design(0.5, (beyond,), 2000, 0.01, reachable=True)
