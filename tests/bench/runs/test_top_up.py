"""A topped-up run is, vote by vote, the run that draws all its copies; only what may be kept is kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from one_job import dispatch
from plane_runs import REQUEST as STOPPING
from plane_runs import compute, timeless

from bench.runs.certify import ImageCertifier, Job, make_worker
from bench.runs.execution.dispatch import Task, TaskResult
from bench.runs.image_state import ImageState
from bench.runs.request import plan
from bench.runs.store import Run, read_run
from bench.runs.top_up import topped_up
from bench.types import Counts, Execution, Row
from bench.types.errors import SpecError, StoreError

FIXED = replace(STOPPING, certifier="cohen", radii=(), n0=30, n=500, subset="first:6")
HERE = Execution(("cpu",), 70)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return compute(plan(FIXED)[0], tmp_path_factory.mktemp("base"), HERE)


@pytest.fixture(scope="module")
def job() -> Job:
    return plan(replace(FIXED, n=1700, subset="first:8", alpha=0.01))[0]  # other images and another alpha are no matter


@pytest.fixture(scope="module")
def whole(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return compute(job, tmp_path_factory.mktemp("whole"), HERE)


@pytest.mark.parametrize("batch", [70, 33])
def test_every_vote_is_that_of_a_run_from_nothing(base: Run, job: Job, whole: Run, tmp_path: Path, batch: int) -> None:
    made = compute(topped_up(job, [base]), tmp_path, Execution(("cpu",), batch))
    assert timeless(made) == timeless(whole)
    assert made.spec == whole.spec
    assert made.sealed
    assert made.made_from is not None
    assert [each["digest"] for each in made.made_from["runs"]] == [base.spec.digest()]
    assert whole.made_from is None


@dataclass
class OneWorker:
    """A pool of a worker in this process."""

    worker: ImageCertifier
    workers: int = 1
    batch: int = 64
    sent: list[Task] = field(default_factory=list)

    def room(self) -> int:
        return 2 - len(self.sent)

    def send(self, task: Task) -> None:
        self.sent.append(task)

    def receive(self) -> list[TaskResult]:
        task = self.sent.pop()
        return [TaskResult(task.number, tuple(self.worker.count(task.units)))]


def test_workers_elsewhere_top_up_to_the_same_votes(base: Run, job: Job, whole: Run) -> None:
    given = topped_up(job, [base]).given
    pool = OneWorker(make_worker(job, "cpu", 64))
    rows = dispatch(job.spec, job.indices, pool, job.images.__getitem__, given)
    assert sorted((replace(row, seconds=0.0) for row in rows), key=lambda row: row.index) == timeless(whole)


def test_only_the_copies_that_are_not_there_are_drawn(base: Run, job: Job) -> None:
    given = topped_up(job, [base]).given
    assert sorted(given) == list(range(6))
    (unit,) = ImageState(job.spec, 0, given=given[0]).take(10**6)
    assert (unit.stage, unit.first, unit.copies) == ("estimate", 500, 1200)


def test_the_run_with_most_of_the_copies_is_taken(base: Run, job: Job, tmp_path: Path) -> None:
    other = compute(plan(replace(FIXED, n=900))[0], tmp_path, HERE)
    assert {row.estimation.n for row in topped_up(job, [base, other]).given.values()} == {900}


@pytest.mark.parametrize("change", [{"seed": 1}, {"n0": 31}, {"sigmas": (0.25,)}, {"n": 500}, {"n": 100}])
def test_a_run_of_other_copies_or_of_no_fewer_is_left_alone(base: Run, change: dict[str, object]) -> None:
    (other,) = plan(replace(FIXED, **{"n": 1700, **change}))
    assert topped_up(other, [base]) == other


def test_a_look_that_was_taken_is_never_taken_again(base: Run, job: Job, tmp_path: Path) -> None:
    early = replace(FIXED, radii=(0.25,), early_stop=True)
    stopped = compute(plan(early)[0], tmp_path, HERE)
    assert topped_up(job, [stopped]) == job
    for stopping in (STOPPING, replace(early, n=1700)):
        with pytest.raises(SpecError, match="may stop"):
            topped_up(plan(stopping)[0], [base])


def test_an_edited_run_is_not_topped_up(base: Run, job: Job) -> None:
    with pytest.raises(StoreError, match="was edited"):
        topped_up(job, [replace(base, edited="a seal does not fit")])


def test_votes_on_another_image_are_refused_and_not_stored(base: Run, job: Job, tmp_path: Path) -> None:
    def moved(row: Row) -> Row:
        return replace(row, fingerprint="ab" * 32)

    with pytest.raises(StoreError, match="another here than in the run to top up"):
        compute(topped_up(job, [replace(base, rows=tuple(map(moved, base.rows)))]), tmp_path, HERE)
    (folder,) = tmp_path.iterdir()
    assert not read_run(folder).rows


def test_a_topped_up_run_that_began_from_nothing_says_so_too(base: Run, job: Job, whole: Run, tmp_path: Path) -> None:
    def stop(_row: Row) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(job, tmp_path, HERE, stop)
    made = compute(topped_up(job, [base]), tmp_path, HERE)
    assert timeless(made) == timeless(whole)
    assert (made.made_from or {})["how"] == "top-up"
    assert not made.edited


def test_counts_of_a_given_row_stand_as_they_are(base: Run, job: Job) -> None:
    state = ImageState(job.spec, 0, given=base.rows[0])
    (unit,) = state.take(10**6)
    state.add(unit, Counts.of([(1, unit.copies)]), 1.0)
    assert state.decide(base.rows[0].label) == ""
    row = state.row(base.rows[0].fingerprint, base.rows[0].label, "")
    assert row.selection == base.rows[0].selection
    assert row.estimation == base.rows[0].estimation + Counts.of([(1, 1200)])
