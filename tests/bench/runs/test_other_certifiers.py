"""Runs by the certifiers beside cohen and sequential: what is stored decides again, and alpha is spent once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from one_job import certify
from plane_runs import REQUEST

from bench.certification.bounds import lower_bound, randomised_bound
from bench.certification.stopping_rule import DESIGNS, design_of
from bench.report.accuracy import certified_accuracy, promise
from bench.report.grouping import groups
from bench.runs.request import RunRequest, plan
from bench.runs.store import Run, read_run
from bench.smoothing.noise import ESTIMATE, NoiseKey, bound_uniform
from bench.types import Execution
from bench.types.errors import ReportError, StoreError

RADII = (0.0, 0.25, 0.5, 0.75)
FIXED = replace(REQUEST, certifier="cohen", radii=(), subset="first:20")
OTHERS = ("betting", "union", "adaptive")


def compute(request: RunRequest, out: Path) -> Run:
    return certify(plan(request)[0], Execution(("cpu",), 512), out, lambda _run, _worker: None, lambda _row: None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    made = {name: compute(replace(FIXED, certifier=name), out) for name in ("cohen", "randomised")}
    for name in DESIGNS:
        made[name] = compute(replace(FIXED, certifier=name, radii=RADII), tmp_path_factory.mktemp(name))
    return made


@pytest.mark.parametrize("name", OTHERS)
def test_a_stored_run_decides_again_as_it_did(runs: dict[str, Run], name: str) -> None:
    run = read_run(runs[name].path)
    assert run.rows == runs[name].rows
    assert run.spec.certifier == name
    assert run.spec.looks == design_of(run.spec).looks
    assert json.loads((run.path / "run.json").read_text())["spec"]["certifier"] == name
    score = certified_accuracy(run, RADII)
    # Looser at equal alpha than all n samples at one look, on copies that are the same.
    assert all(a <= b for a, b in zip(score.certified, certified_accuracy(runs["cohen"], RADII).certified, strict=True))
    assert score.certified[0] > 0
    assert sum(row.samples for row in run.rows) < len(run.rows) * run.spec.n


def test_votes_are_those_of_every_other_certifier(runs: dict[str, Run]) -> None:
    whole = {row.index: row.estimation for row in runs["cohen"].rows}
    for name in DESIGNS:
        for row in runs[name].rows:
            taken, all_of_them = row.estimation, whole[row.index]
            assert all(taken[c] <= all_of_them[c] for c, _ in taken.votes)  # the first of the same copies


def test_runs_of_two_certifiers_share_no_digest_and_no_table(runs: dict[str, Run]) -> None:
    assert len({run.spec.digest() for run in runs.values()}) == len(runs)
    found = groups(list(runs.values()), "pa")
    assert len(found) == len(runs)
    captions = " ".join(group.caption() for group in found)
    assert all(f"certifier {name}" in captions for name in ("randomised", *OTHERS))


def test_alpha_is_spent_by_one_test_alone(tmp_path: Path) -> None:
    few = replace(FIXED, certifier="sequential", radii=RADII, subset="first:2")
    compute(few, tmp_path)
    with pytest.raises(
        StoreError, match=r"registered --certifier sequential, n=2000 .* --certifier betting, n=2000 cannot"
    ):
        compute(replace(few, certifier="betting"), tmp_path)
    assert compute(replace(few, certifier="betting", seed=1), tmp_path).done


# ---- the randomised bound --------------------------------------------------------------------------------------------


def test_a_randomised_radius_is_computed_again_from_what_is_stored(runs: dict[str, Run]) -> None:
    run = read_run(runs["randomised"].path)
    larger = 0
    for row, exact in zip(run.rows, runs["cohen"].rows, strict=True):
        assert (row.selection, row.estimation) == (exact.selection, exact.estimation)
        label = row.selection.ranked()[0][0]
        u = bound_uniform(run.spec.seed, row.fingerprint, run.spec.sigma)
        held = promise(run.spec, row)
        assert held.p_lower == randomised_bound(row.estimation[label], run.spec.n, run.spec.alpha, u)
        assert held.p_lower >= lower_bound(row.estimation[label], run.spec.n, run.spec.alpha)
        larger += held.radius > promise(runs["cohen"].spec, exact).radius
    assert larger
    with pytest.raises(ReportError, match="of 'pa' alone"):
        certified_accuracy(run, RADII, "papb")


def test_the_uniform_numbers_are_uniform_and_keyed_apart() -> None:
    values = [bound_uniform(0, f"{k:064x}", 0.5) for k in range(2_000)]
    assert len(set(values)) == len(values)
    assert 0 < min(values) < max(values) < 1
    from scipy.stats import kstest

    assert kstest(values, "uniform").pvalue > 1e-6  # these are fixed numbers: no alarm is random
    assert bound_uniform(0, "a", 0.5) == bound_uniform(0, "a", 0.5)
    assert len({bound_uniform(s, f, g) for s in (0, 1) for f in ("a", "b") for g in (0.5, 1.0)}) == 8
    key = NoiseKey(0, "a", 0.5, ESTIMATE)
    assert len({key.philox(purpose) for purpose in ("bound", "smoothing", "method")}) == 3
