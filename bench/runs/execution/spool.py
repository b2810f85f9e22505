"""Tasks as files in a folder that all machines share: claimed by renaming, answered by renaming, nothing locked.

A worker lives by its heartbeat and by the driver's: it dies with the driver, and what it had claimed is handed to
another. What the driver reads is JSON, for a folder that others can write to must not be able to run code there; the
jobs are pickles, as those are that submitit hands to the workers.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.runs.execution.dispatch import Failure, Task, TaskResult
from bench.runs.execution.worker import Maker, Worker, failure_of
from bench.runs.image_state import Counted, Unit
from bench.types import Counts
from bench.types.atomic_file import atomic_write, is_dead

BEAT_SECONDS = 2.0
# A shared file system may show a change this late; beyond it, no change means no life.
DEAD_SECONDS = 60.0
IDLE_SECONDS = (0.05, 1.0)  # between two looks at an empty folder: at first, and after a while
DRIVER = "driver.json"
FOLDERS = ("makers", "todo", "taken", "done", "ready", "beats", "errors")


def lay_out(spool: Path) -> None:
    """Make the folders of a spool, and say whose it is."""
    for name in FOLDERS:
        (spool / name).mkdir(parents=True, exist_ok=True)
    put(spool / DRIVER, {"host": platform.node(), "pid": os.getpid()})


def is_orphan(spool: Path) -> bool:
    """Whether a spool's driver was a process of this machine that is gone."""
    try:
        record = json.loads((spool / DRIVER).read_text(encoding="utf-8"))
        return is_dead(record["host"], record["pid"])
    except (OSError, ValueError, TypeError, LookupError):
        return False


def put(path: Path, record: Any) -> None:
    """Write a JSON file whole or not at all."""
    atomic_write(path, json.dumps(record), durable=False)  # a heartbeat must not wait for the disk


def listed(folder: Path) -> list[Path]:
    """The whole files of a folder, by name; none where it is gone."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except FileNotFoundError:
        return []


def write_maker(spool: Path, job: int, maker: Maker) -> None:
    """Say how a job's network is built, before any of its tasks is there."""
    atomic_write(spool / "makers" / f"{job}.pickle", pickle.dumps(maker), durable=False)


def write_parcel(spool: Path, task: Task) -> None:
    """Put a task where any worker may claim it."""
    units = [[u.index, u.stage, u.first, u.copies] for u in task.units]
    put(spool / "todo" / f"{task.number:09}.json", {"number": task.number, "job": task.job, "units": units})


def read_answers(spool: Path) -> Iterator[TaskResult]:
    """What became of tasks, each once."""
    for path in listed(spool / "done"):
        record = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        if record["failure"]:
            yield TaskResult(record["number"], None, failure=Failure(*record["failure"]))
        else:
            yield TaskResult(record["number"], tuple(map(_counted, record["counted"])), record["worker"])


def read_error(path: Path) -> Failure:
    """Why a worker never began."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return Failure(record["kind"], record["message"], record.get("trace", ""))


@dataclass(slots=True)
class Heartbeat:
    """Tells who lives: by changes of a file's content, for the clocks of two machines are not one."""

    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def silent(self, path: Path) -> float:
        """Seconds, by this machine's clock, for which the content has been what it is now."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            text = ""
        before = self._seen.get(path.name)
        if before is None or before[0] != text:
            self._seen[path.name] = text, time.monotonic()
            return 0.0
        return time.monotonic() - before[1]


@dataclass(slots=True)
class SpoolWorker:
    """A worker's whole life: claim and count tasks until the driver stops, or is gone."""

    spool: Path
    device: str
    batch: int | None
    threads: int

    def __call__(self, handle: int) -> str:
        """Work; what ended it. `handle` is its place among the jobs."""
        import torch

        torch.set_num_threads(self.threads)
        name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        worker = Worker(self.device, self.batch)
        try:
            put(self.spool / "ready" / f"{name}.json", {**worker.start(), "handle": handle})
            threading.Thread(target=self._beat, args=(name,), daemon=True).start()
            return self._work(name, worker)
        except Exception as error:  # the driver says it to the user; a job's own output nobody reads
            put(self.spool / "errors" / f"{name}.json", asdict(failure_of(error)))
            raise

    def checkpoint(self, handle: int) -> Any:
        """What submitit starts again where Slurm takes the machine back: a new worker in the same handle."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, handle)

    def _work(self, name: str, worker: Worker) -> str:
        heartbeat, idle = Heartbeat(), IDLE_SECONDS[0]
        while not (self.spool / "stop").exists():
            if heartbeat.silent(self.spool / "beat") > DEAD_SECONDS:
                return "the driver is gone"
            claimed = self._claim(name)
            if claimed is None:
                time.sleep(idle)
                idle = min(1.5 * idle, IDLE_SECONDS[1])
                continue
            idle = IDLE_SECONDS[0]
            self._answer(name, worker, claimed)
        return "done"

    def _answer(self, name: str, worker: Worker, claimed: Path) -> None:
        record = json.loads(claimed.read_text(encoding="utf-8"))
        task = Task(record["number"], tuple(Unit(*unit) for unit in record["units"]), job=record["job"])
        result = worker.count(task, None if worker.knows(task.job) else self._maker(task.job))
        put(self.spool / "done" / f"{task.number:09}-{name}.json", _record(result))
        claimed.unlink(missing_ok=True)

    def _maker(self, job: int) -> Maker:
        made: Maker = pickle.loads((self.spool / "makers" / f"{job}.pickle").read_bytes())  # noqa: S301  as submitit
        return made

    def _claim(self, name: str) -> Path | None:
        for path in listed(self.spool / "todo"):
            mine = self.spool / "taken" / f"{path.stem}.{name}"
            try:
                path.rename(mine)
            except FileNotFoundError:  # another was faster
                continue
            return mine
        return None

    def _beat(self, name: str) -> None:
        beats = 0
        while (self.spool / "beats").is_dir():
            beats += 1
            try:
                put(self.spool / "beats" / name, beats)
            except OSError:  # the driver has cleaned up
                return
            time.sleep(BEAT_SECONDS)


def told(path: Path) -> Mapping[str, Any]:
    """What a ready worker says of itself."""
    record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _record(result: TaskResult) -> dict[str, Any]:
    failure = result.failure
    return {
        "number": result.number,
        "counted": [_as_list(each) for each in result.counted or ()],
        "worker": result.worker,
        "failure": failure and [failure.kind, failure.message, failure.trace],
    }


def _as_list(each: Counted) -> list[Any]:
    unit = each.unit
    return [
        *(unit.index, unit.stage, unit.first, unit.copies),
        *(each.counts.votes, each.fingerprint, each.label, each.stored, each.seconds),
    ]


def _counted(record: list[Any]) -> Counted:
    index, stage, first, copies, votes, fingerprint, label, stored, seconds = record
    return Counted(
        unit=Unit(index, stage, first, copies),
        counts=Counts.of(votes),
        fingerprint=fingerprint,
        label=label,
        stored=stored,
        seconds=seconds,
    )
