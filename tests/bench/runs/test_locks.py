"""Two processes do not draw one run at once, and what a killed one leaves is swept when it is provably dead."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from one_job import certify
from places import SUPPORT

from bench.runs import locks
from bench.runs.execution.spool import DRIVER, is_orphan, lay_out
from bench.runs.locks import HOLDER, LOCK, drawing
from bench.runs.request import RunRequest, plan
from bench.runs.store import open_run
from bench.types import Execution, Row

HOW = Execution(("cpu",), 50)
TOY = f"{(SUPPORT / 'toy_method.py')}:TOY"
REQUEST = RunRequest(methods=(TOY,), dataset="digits", sigmas=(0.5,), n0=20, n=200, subset="first:4")


@contextmanager
def other_process(folder: Path, work: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock as another process would, works, and ends after a moment."""
    held = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    (folder / HOLDER).write_text(json.dumps({"host": "elsewhere", "pid": 4711}))

    def end() -> None:
        work()
        os.close(held)

    timer = threading.Timer(0.2, end)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)


def test_the_second_waits_says_for_whom_and_draws_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = plan(REQUEST)[0]
    whole = certify(job, HOW, tmp_path / "whole", lambda run, worker: None, lambda row: None)
    folder = open_run(tmp_path / "out", job.spec, HOW, {}).path
    half = next(whole.path.glob("rows*")).read_bytes().splitlines(keepends=True)[:2]
    drawn: list[Row] = []
    with other_process(folder, lambda: (folder / "rows-1.jsonl").write_bytes(b"".join(half)) and None):
        run = certify(job, HOW, tmp_path / "out", lambda run, worker: None, drawn.append)
    assert len(drawn) == 2
    assert [replace(row, seconds=0.0) for row in run.rows] == [replace(row, seconds=0.0) for row in whole.rows]
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("! process 4711 on 'elsewhere' draws this run already: waiting")
    assert said[1].startswith("! waited ")


def test_a_reminder_comes_while_it_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "REMIND_SECONDS", 0.05)
    with other_process(tmp_path), drawing(tmp_path) as waited:
        assert waited
    assert any("still draws this run" in record.getMessage() for record in caplog.records)


def test_a_finished_run_is_not_waited_for(tmp_path: Path) -> None:
    job = plan(REQUEST)[0]
    path = certify(job, HOW, tmp_path, lambda run, worker: None, lambda row: None).path
    started = []
    with other_process(path, lambda: started.append("released")):
        certify(job, HOW, tmp_path, lambda run, worker: started.append("begun"), lambda row: None)
    assert started == ["begun", "released"]


def test_the_holder_is_named_as_long_as_it_holds(tmp_path: Path) -> None:
    with drawing(tmp_path) as waited:
        assert not waited
        assert json.loads((tmp_path / HOLDER).read_text()) == {"host": platform.node(), "pid": os.getpid()}
    assert not (tmp_path / HOLDER).exists()
    with drawing(tmp_path):  # and again by the same process
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": [], "host": 1}', "\x00"])
def test_a_holder_that_is_not_readable_is_another_process(tmp_path: Path, text: str) -> None:
    (tmp_path / HOLDER).write_text(text)
    assert locks._holder(tmp_path) == "another process"


def test_a_file_system_without_locks_is_said_and_drawn_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object, **_wait: object) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks, "_acquire", unable)
    run = certify(plan(REQUEST)[0], HOW, tmp_path, lambda run, worker: None, lambda row: None)
    assert run.done
    assert "cannot be locked ([Errno 37] No locks available)" in caplog.records[0].getMessage()


def test_a_run_that_is_removed_while_it_is_waited_for_is_drawn_anew(tmp_path: Path) -> None:
    job = plan(REQUEST)[0]
    folder = open_run(tmp_path, job.spec, HOW, {}).path
    # Without complaint: the one that waits looks for the lock again and again, and makes its file anew meanwhile.
    with other_process(folder, lambda: shutil.rmtree(folder, ignore_errors=True)):
        assert certify(job, HOW, tmp_path, lambda run, worker: None, lambda row: None).done


def test_a_pipe_in_place_of_the_holder_keeps_nobody_waiting(tmp_path: Path) -> None:
    job = plan(REQUEST)[0]
    folder = open_run(tmp_path, job.spec, HOW, {}).path
    os.mkfifo(folder / HOLDER)
    assert certify(job, HOW, tmp_path, lambda run, worker: None, lambda row: None).done


def test_what_a_killed_process_left_of_a_record_is_swept(tmp_path: Path) -> None:
    job = plan(REQUEST)[0]
    folder = open_run(tmp_path, job.spec, HOW, {}).path
    (folder / ".run.json.1-abcdef").write_text("{")
    certify(job, HOW, tmp_path, lambda run, worker: None, lambda row: None)
    assert {path.name.partition("-")[0] for path in folder.iterdir()} == {LOCK, "run.json", "rows"}


def test_a_spool_is_an_orphan_only_where_its_driver_is_surely_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    lay_out(tmp_path)
    assert not is_orphan(tmp_path)
    (tmp_path / DRIVER).write_text(json.dumps({"host": platform.node(), "pid": gone.pid}))
    assert is_orphan(tmp_path)
    (tmp_path / DRIVER).write_text("{")
    assert not is_orphan(tmp_path)
