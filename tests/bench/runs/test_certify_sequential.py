"""Runs whose images may stop: what is registered, stored, resumed and reported, against runs of all n samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from one_job import certify
from places import PROJECT
from plane_runs import timeless

from bench.certification.stopping_rule import design_of
from bench.report.accuracy import certified_accuracy, curve, promise
from bench.report.grouping import groups
from bench.report.tables.accuracy import by_sigma_tables
from bench.runs.certify import Job
from bench.runs.request import RunRequest, plan
from bench.runs.store import Run, find_runs, open_run, read_run
from bench.timing.dry_run import probe
from bench.types import FORCED, WRONG, Counts, Execution, Method, Row, RunSpec
from bench.types.errors import BenchError, ReportError, SpecError, StoreError, UsageError

RADII = (0.0, 0.25, 0.5, 0.75)
HERE = Path(__file__)
RESULTS = PROJECT / "results"


class Plane:
    """Class 0 or 1, by the side of a plane on which the copies of handwritten zeros and ones fall."""

    num_classes = 10

    def predict(self, x, noise):
        # A one is dark at the sides of its middle row, a zero in the centre.
        middle = x[:, 0, 3:5].double().sum(1)
        return (middle[:, 3:5].sum(1) - middle[:, [2, 5]].sum(1) > 0).long()


PLANE = Method(name="plane", title="", cite="", build=lambda _setting: Plane())
FIXED = RunRequest(methods=(f"{HERE}:PLANE",), dataset="digits", sigmas=(0.5,), n=2000, subset="first:30")
SEQUENTIAL = replace(FIXED, certifier="sequential", radii=RADII)
DEPLOY = replace(SEQUENTIAL, mode="deploy")
EARLY = replace(FIXED, early_stop=True, radii=RADII)


def compute(job: Job, out: Path, devices: tuple[str, ...] = ("cpu",)) -> Run:
    return certify(job, Execution(devices, 512), out, lambda _run, _worker: None, lambda _row: None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    asked = {
        "fixed": FIXED,
        "table": SEQUENTIAL,
        "deploy": DEPLOY,
        "early": EARLY,
        "early-deploy": replace(EARLY, mode="deploy"),
    }
    return {name: compute(plan(request)[0], out) for name, request in asked.items()}


def verdicts(run: Run) -> dict[int, tuple[bool, ...]]:
    """Of each image: whether it is certified accurate at each radius."""
    found = {}
    for row in run.rows:
        held = promise(run.spec, row)
        found[row.index] = tuple(held.certifies(row.label, r) for r in RADII)
    return found


def samples(run: Run) -> int:
    return sum(row.selection.n + row.estimation.n for row in run.rows)


# ---- decisions -------------------------------------------------------------------------------------------------------


def test_stopping_a_fixed_draw_early_changes_no_verdict_of_any_image(runs: dict[str, Run]) -> None:
    fixed = verdicts(runs["fixed"])
    assert len(set(fixed.values())) >= 3  # wrong, near, far
    for name in ("early", "early-deploy"):
        assert verdicts(runs[name]) == fixed
        assert samples(runs[name]) < samples(runs["fixed"])
    assert samples(runs["early"]) < samples(runs["early-deploy"])


def test_the_sequential_certifier_decides_as_all_n_samples_do_and_draws_fewer(runs: dict[str, Run]) -> None:
    fixed = verdicts(runs["fixed"])
    for name in ("table", "deploy"):
        found = verdicts(runs[name])
        # Only an image whose votes lie between the bounds at alpha and at 0.9 alpha may differ; here none does.
        assert found == fixed
        assert samples(runs[name]) < samples(runs["fixed"])
    assert 2 * samples(runs["table"]) < samples(runs["fixed"])


def test_why_an_image_stopped_is_in_its_row(runs: dict[str, Run]) -> None:
    for row in runs["early"].rows:
        wrong = row.selection.ranked()[0][0] != row.label
        assert row.stopped == (WRONG if wrong else FORCED if row.estimation.n < 2000 else "")
    assert {row.stopped for row in runs["early"].rows} == {WRONG, FORCED}
    assert not any(row.stopped for name in ("fixed", "table", "deploy") for row in runs[name].rows)


def test_the_counts_of_each_look_are_stored_and_add_up(runs: dict[str, Run]) -> None:
    for name in ("table", "deploy"):
        run = runs[name]
        assert all(row.selection.n == (0 if name == "table" else 100) for row in run.rows)
        for path in run.path.glob("rows*.jsonl"):
            for record in map(json.loads, path.read_text().splitlines()):
                sizes = [sum(votes for _, votes in look) for look in record["looks"]]
                assert (
                    sizes == [b - a for a, b in zip((0, *run.spec.looks), run.spec.looks, strict=False)][: len(sizes)]
                )
                assert sum(sizes) == sum(votes for _, votes in record["estimation"])


# ---- what is reported ------------------------------------------------------------------------------------------------


def test_on_the_grid_counts_are_exact_and_elsewhere_lower_bounds_that_say_so(runs: dict[str, Run]) -> None:
    radii = (0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.8)
    whole = certified_accuracy(runs["fixed"], radii)
    assert whole.at_least == ()
    assert not whole.acr_at_least
    for name in ("table", "deploy", "early", "early-deploy"):
        own = certified_accuracy(runs[name], radii)
        assert own.at_least == tuple(r not in RADII for r in radii)
        for k, r in enumerate(radii):
            assert own.certified[k] == whole.certified[k] if r in RADII else own.certified[k] <= whole.certified[k]
        assert own.acr_at_least
        assert own.acr <= whole.acr
        assert set(curve(runs[name]).steps) <= set(RADII)


def test_abstentions_are_told_only_where_the_verdicts_tell_them(runs: dict[str, Run]) -> None:
    for name, told in {"deploy": True, "early-deploy": True, "table": False, "early": False}.items():
        abstained = certified_accuracy(runs[name], RADII).abstained
        assert abstained == (certified_accuracy(runs["fixed"], RADII).abstained if told else None)


@pytest.mark.parametrize("change", [{"alpha": 0.01}, {"bound": "papb"}])
@pytest.mark.parametrize("name", ["table", "early"])
def test_votes_that_stopped_at_one_alpha_and_bound_are_not_read_by_another(
    runs: dict[str, Run], name: str, change: dict[str, Any]
) -> None:
    with pytest.raises(ReportError, match="certify with all n samples"):
        certified_accuracy(runs[name], RADII, **change)


def test_runs_that_stop_otherwise_do_not_share_a_table(runs: dict[str, Run]) -> None:
    made = groups(list(runs.values()), "pa")
    assert [len(group.runs) for group in made] == [1] * 5
    texts = {group.runs[0].spec.digest(): group.caption() for group in made}
    assert "sequential" in texts[runs["table"].spec.digest()]
    assert "mode deploy" in texts[runs["deploy"].spec.digest()]
    (table,) = by_sigma_tables([runs["table"]])
    assert [column.radius for column in table.columns if column.radius is not None] == list(RADII)
    assert any("lower bounds" in note for note in table.notes)
    acr = table.rows[0][[column.key for column in table.columns].index("acr")]
    assert acr.note == "at least"


# ---- what may not be done to rows ------------------------------------------------------------------------------------


def test_votes_cut_short_are_refused_not_read_as_a_draw_of_n(runs: dict[str, Run]) -> None:
    for name in ("early-deploy", "table"):
        run = runs[name]
        row = max(run.rows, key=lambda r: r.estimation.n)
        looks = row.looks[:3] if row.looks else ()
        few = sum(looks, Counts((), 0)) if looks else Counts.of([(row.label, 20)])
        with pytest.raises(ReportError, match=r"not decided|force no verdict"):
            certified_accuracy(replace(run, rows=(replace(row, estimation=few, looks=looks),)), RADII)
    short = replace(runs["fixed"].rows[0], estimation=Counts.of([(0, 1000)]))
    with pytest.raises(ReportError, match="has 1000 samples, expected n=2000"):
        certified_accuracy(replace(runs["fixed"], rows=(short,)), RADII)


def test_looks_drawn_beyond_the_decision_are_refused(runs: dict[str, Run]) -> None:
    run = runs["table"]
    row = min(run.rows, key=lambda r: r.estimation.n)
    taken = len(row.looks)
    more = Counts.of([(row.label, run.spec.looks[taken] - run.spec.looks[taken - 1])])
    beyond = replace(row, looks=(*row.looks, more), estimation=row.estimation + more)
    with pytest.raises(ReportError, match="no further look"):
        certified_accuracy(replace(run, rows=(beyond,)), RADII)


def test_rows_of_other_looks_are_refused_when_the_folder_is_read(runs: dict[str, Run], tmp_path: Path) -> None:
    job = plan(SEQUENTIAL)[0]
    run = open_run(tmp_path, job.spec, Execution(("cpu",)), {})
    record = runs["table"].rows[0].as_json()
    record["looks"] = [[[0, 49]]]
    record["estimation"] = [[0, 49]]
    (run.path / "rows-1.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(StoreError, match=r"n=49; its spec has n0=0, n=2000 and \d+ looks"):
        read_run(run.path)


# ---- what is registered ----------------------------------------------------------------------------------------------


def test_the_digests_of_committed_runs_are_what_they_were() -> None:
    found = sorted(RESULTS.glob("*/*/run.json"))
    if not found:
        pytest.skip("no results beside the tests")
    for path in found:
        record = json.loads(path.read_text())
        spec = RunSpec.from_json(record["spec"])
        assert spec.digest() == record["digest"], path
        if not spec.stops:
            assert spec.as_json() == record["spec"]


def test_all_that_is_fixed_beforehand_is_in_the_digest() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"radii": RADII[:3]},
        {"n": 3000},
        {"alpha": 0.002},
        {"beta": 0.01},
        {"mode": "deploy"},
        {"certifier": "cohen", "early_stop": True},
        {"certifier": "cohen", "early_stop": True, "mode": "deploy"},
        {"certifier": "cohen", "radii": ()},
        {"certifier": "randomised", "radii": ()},
        *({"certifier": name} for name in ("union", "betting", "adaptive")),
    ]
    specs = [plan(replace(SEQUENTIAL, **change))[0].spec for change in changes]
    assert len({spec.digest() for spec in specs}) == len(specs)
    for spec in specs:
        again = RunSpec.from_json(json.loads(json.dumps(spec.as_json())))
        assert again == spec
        assert again.digest() == spec.digest()


def test_a_spec_of_other_looks_than_this_versions_is_not_guessed_at() -> None:
    spec = plan(SEQUENTIAL)[0].spec
    with pytest.raises(SpecError, match="looks other than those of this version"):
        design_of(replace(spec, looks=(50, 2000), alphas=(0.0001, 0.0009)))


def test_a_radius_out_of_reach_holds_nowhere_and_hinders_none(tmp_path: Path, runs: dict[str, Run]) -> None:
    run = compute(plan(replace(SEQUENTIAL, radii=(*RADII, 5.0)))[0], tmp_path)
    score = certified_accuracy(run, run.spec.radii)
    assert score.certified == (*certified_accuracy(runs["table"], RADII).certified, 0)
    assert timeless(run) == timeless(runs["table"])


def test_n_is_not_extended_once_samples_were_seen(tmp_path: Path) -> None:
    few = replace(SEQUENTIAL, subset="first:3")
    first = compute(plan(few)[0], tmp_path)
    with pytest.raises(StoreError, match=r"registered n=2000 .* Resume with n=2000, or draw afresh") as caught:
        compute(plan(replace(few, n=4000))[0], tmp_path)
    assert "\n" not in str(caught.value)
    for hidden in ({"alpha": 0.002}, {"alpha": 0.002, "n": 4000}, {"limit": 2, "n": 4000}):
        with pytest.raises(StoreError, match=r"registered n=2000.* cannot be looked at afterwards"):
            compute(plan(replace(few, **hidden))[0], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # nothing was made for the refused ones
    for allowed in ({"seed": 1, "n": 4000}, {"radii": RADII[:2]}, {"mode": "deploy"}, {"limit": 2}):
        assert compute(plan(replace(few, **allowed))[0], tmp_path).done
    assert compute(plan(few)[0], tmp_path).rows == first.rows


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"certifier": "bayes"}, UsageError, "no certifier 'bayes'; expected one of: cohen, randomised, sequential"),
        ({"certifier": "sequential"}, UsageError, "no radii given"),
        ({"certifier": "betting"}, UsageError, "no radii given"),
        ({"certifier": "betting", "radii": RADII, "n": 11}, SpecError, "n=11 can never certify by this test"),
        ({"certifier": "randomised", "radii": RADII}, UsageError, "--radii is for runs that may stop"),
        ({"certifier": "randomised", "radii": RADII, "early_stop": True}, UsageError, "needs all n samples"),
        ({"early_stop": True}, UsageError, "no radii given"),
        ({"radii": RADII}, UsageError, "--radii is for runs that may stop"),
        ({"mode": "table"}, UsageError, "--mode is for runs that may stop"),
        ({"beta": 0.01}, UsageError, "--beta is for --certifier sequential"),
        ({"certifier": "sequential", "radii": RADII, "early_stop": True}, UsageError, "leave it out"),
        ({"certifier": "sequential", "radii": RADII, "mode": "both"}, UsageError, "no mode 'both'"),
        ({"certifier": "sequential", "radii": (0.5, 0.25)}, SpecError, "ascending"),
        ({"certifier": "sequential", "radii": RADII, "beta": 2.0}, SpecError, "beta must lie"),
        ({"certifier": "sequential", "radii": (9.0,)}, SpecError, "out of reach"),
        ({"certifier": "sequential", "radii": RADII, "n": 9}, SpecError, "smallest n"),
    ],
)
def test_a_registration_that_does_not_fit_is_refused_in_one_line(
    change: dict[str, Any], error: type[BenchError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        plan(replace(FIXED, **change))
    assert "\n" not in str(caught.value)


# ---- interruption, processes, plans ----------------------------------------------------------------------------------


def test_an_interrupted_sequential_run_ends_with_the_same_rows(runs: dict[str, Run], tmp_path: Path) -> None:
    job, computed = plan(SEQUENTIAL)[0], []

    def cut_short(row: Row) -> None:
        computed.append(row.index)
        if len(computed) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify(job, Execution(("cpu",), 64), tmp_path, lambda _run, _worker: None, cut_short)
    certify(job, Execution(("cpu",), 256), tmp_path, lambda _run, _worker: None, lambda row: computed.append(row.index))
    assert sorted(computed) == list(range(30))  # nothing twice
    (run,) = find_runs([tmp_path])
    assert run.conflicts == 0
    assert timeless(run) == timeless(runs["table"])


def test_two_processes_give_the_sequential_rows_of_one(runs: dict[str, Run], tmp_path: Path) -> None:
    assert timeless(compute(plan(SEQUENTIAL)[0], tmp_path, ("cpu", "cpu"))) == timeless(runs["table"])


def test_a_plan_foresees_the_samples_of_both_certifiers(runs: dict[str, Run]) -> None:
    told = [
        probe(plan(FIXED)[0], "cpu", 512, seconds=0.05, radii=RADII),
        probe(plan(SEQUENTIAL)[0], "cpu", 512, seconds=0.05),
    ]
    for cost in told:
        assert cost.fixed == 30 * 2100
        assert cost.sequential is not None
        assert samples(runs["table"]) / 2 < cost.sequential < 3 * samples(runs["table"])
    assert told[0].passes == told[0].fixed
    assert told[1].passes == told[1].sequential
    early = probe(plan(EARLY)[0], "cpu", 512, seconds=0.05)
    assert early.passes == pytest.approx(samples(runs["early"]), rel=0.3)
    assert probe(plan(FIXED)[0], "cpu", 512, seconds=0.05).sequential is None
