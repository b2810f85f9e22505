"""Workers as submitit's jobs, run by its local executor: they die, the driver dies, and no row can tell."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from plane_runs import REQUEST, compute, timeless

from bench.runs.execution import slurm, spool
from bench.runs.execution.dispatch import Task
from bench.runs.execution.slurm import parse_options
from bench.runs.image_state import Unit
from bench.runs.request import plan
from bench.runs.store import find_runs
from bench.smoothing.noise import ESTIMATE
from bench.types import Execution, Row
from bench.types.errors import BenchError, DeviceError, MethodError, UsageError


def jobs_here(count: int) -> Execution:
    return Execution(("cpu",), 50, "slurm", count, ("cluster=local",))


def pids(out: Path) -> list[int]:
    return [int(path.stem.split("-")[-2]) for path in out.glob(".spool-*/ready/*.json")]


# ---- jobs ------------------------------------------------------------------------------------------------------------


def test_neither_a_killed_job_nor_ctrl_c_moves_a_row_or_leaves_a_file(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'rrcm-bench[slurm]'")
    job, rows = plan(replace(REQUEST, params=("pause=0.02",)))[0], []
    out = tmp_path / "jobs"

    def strike(row: Row) -> None:
        rows.append(row.index)
        if len(rows) == 3:
            os.kill(pids(out)[0], signal.SIGKILL)
        if len(rows) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(job, out, jobs_here(1), strike)
    (stopped,) = find_runs([out])
    assert len(stopped.rows) == 8
    assert [path.name for path in out.iterdir()] == [stopped.path.name]
    finished = compute(job, out, Execution(("cpu",), 200), lambda row: rows.append(row.index))
    assert sorted(rows) == list(range(10))  # nothing twice
    assert timeless(finished) == timeless(compute(plan(REQUEST)[0], tmp_path / "local", Execution(("cpu",), 64)))


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(("auto",), None, "slurm", 1, ("cluster=local",)), "say what each job is to have"),
        (Execution(("cpu",), None, "slurm", 1, ("cluster=lsf",)), "expected slurm, or local"),
        (Execution(("cpu",), None, "slurm", 1, ("cluster=local", "partition")), "expected KEY=VALUE"),
    ],
)
def test_words_that_no_queue_knows_are_refused_in_one_line(tmp_path: Path, execution: Execution, words: str) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'rrcm-bench[slurm]'")
    with pytest.raises(BenchError, match=words) as caught:
        compute(plan(REQUEST)[0], tmp_path, execution)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_queue_is_asked_for_one_array_and_no_job_stays_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'rrcm-bench[slurm]'")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, line in {
        "sbatch": f'cp "${{@: -1}}" {tmp_path}/script; echo Submitted batch job 17',
        "scancel": f'echo "$@" >> {tmp_path}/cancelled',
        "sacct": 'echo "JobID|State|NodeList"',
        "srun": "exit 1",
    }.items():
        (commands / name).write_text(f"#!/bin/bash\n{line}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "STOP_SECONDS", 0.0)
    asked = Execution(("cuda",), None, "slurm", 300, ("partition=gpu", "timeout_min=30"))
    with slurm.slurm_pool(asked, tmp_path / "out") as pool:
        assert pool.room() == 0  # nobody has come yet
        assert pool.receive() == []
    lines = (tmp_path / "script").read_text().splitlines()
    for words in ("--array=0-299%300", "--gpus-per-node=1", "--partition=gpu", "--time=30", "--nodes=1"):
        assert f"#SBATCH {words}" in lines
    assert set((tmp_path / "cancelled").read_text().split()) == {f"17_{k}" for k in range(300)}
    assert not list((tmp_path / "out").iterdir())


def test_options_go_by_the_names_of_sbatch_and_submitit() -> None:
    assert parse_options(("partition=gpu", "timeout_min=30", "slurm_qos=low", "cluster=local")) == {
        "slurm_partition": "gpu",
        "timeout_min": 30,
        "slurm_qos": "low",
        "cluster": "local",
    }
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        parse_options(("=3",))


# ---- the spool -------------------------------------------------------------------------------------------------------


def test_the_spool_of_a_killed_driver_is_removed_and_no_other(tmp_path: Path) -> None:
    for name, age in {"own": 0, "live": 30, "old": 3600}.items():
        made = tmp_path / f".spool-{name}"
        spool.lay_out(made)
        spool.put(made / "beat", 1)
        then = time.time() - age
        os.utime(made / "beat", (then, then))
    slurm._sweep(tmp_path, tmp_path / ".spool-own")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".spool-live", ".spool-own"]


class Echo:
    batch = 8
    compile = "never"

    def count(self, units):
        return []


def echo(_device: str, _batch: int | None) -> Echo:
    return Echo()


def worker(folder: Path) -> spool.SpoolWorker:
    if (folder / "makers").exists():
        spool.write_maker(folder, 0, echo)
    return spool.SpoolWorker(folder, "cpu", None, 1)


def test_a_worker_ends_when_its_driver_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "DEAD_SECONDS", 0.2)
    spool.lay_out(tmp_path)
    spool.put(tmp_path / "beat", 1)
    started = time.monotonic()
    assert worker(tmp_path)(0) == "the driver is gone"
    assert time.monotonic() - started >= 0.2


def test_a_parcel_is_claimed_once_and_answered_once(tmp_path: Path) -> None:
    spool.lay_out(tmp_path)
    spool.write_parcel(tmp_path, Task(4, (Unit(0, ESTIMATE, 0, 10),)))
    claims = [worker(tmp_path)._claim(name) for name in ("a", "b")]
    assert claims[0] is not None
    assert claims[1] is None
    claims[0].rename(tmp_path / "todo" / "000000004.json")
    (tmp_path / "stop").touch()
    assert worker(tmp_path)(0) == "done"  # told to stop before it claims
    (tmp_path / "stop").unlink()

    def stop_after(units):
        (tmp_path / "stop").touch()
        return []

    Echo.count, kept = lambda _self, units: stop_after(units), Echo.count
    try:
        assert worker(tmp_path)(0) == "done"
    finally:
        Echo.count = kept
    assert [(answer.number, answer.counted) for answer in spool.read_answers(tmp_path)] == [(4, ())]
    assert list(spool.read_answers(tmp_path)) == []
    assert not spool.listed(tmp_path / "taken")


def refuse(_device: str, _batch: int | None) -> Echo:
    raise MethodError("no such\nmethod")


def test_what_a_job_raises_is_an_answer_and_its_worker_goes_on(tmp_path: Path) -> None:
    spool.lay_out(tmp_path)
    spool.write_maker(tmp_path, 7, refuse)
    working = worker(tmp_path)
    for number, job in enumerate((7, 0)):
        spool.write_parcel(tmp_path, Task(number, (), job=job))
    handed = spool.Worker("cpu", None)
    for _ in range(2):
        claimed = working._claim("one")
        assert claimed is not None
        working._answer("one", handed, claimed)
    first, second = spool.read_answers(tmp_path)
    assert first.failure is not None
    told = first.failure.error()
    assert isinstance(told, MethodError)
    assert str(told) == "no such method"
    assert "in refuse" in first.failure.trace
    assert second.counted == ()
    assert second.worker is not None
    assert second.worker["batch"] == 8


def test_what_another_wrote_into_the_spool_is_data_not_code(tmp_path: Path) -> None:
    path = tmp_path / "error.json"
    spool.put(path, {"kind": "MethodError", "message": "bad"})
    assert isinstance(spool.read_error(path).error(), MethodError)
    for kind in ("annotations", "SystemExit", "eval", "first_line"):
        spool.put(path, {"kind": kind, "message": "bad"})
        assert type(spool.read_error(path).error()) is DeviceError
