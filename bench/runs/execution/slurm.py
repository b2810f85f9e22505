"""Workers as a Slurm job array, by submitit; they and this process meet in a folder that all machines share."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.runs.execution.dispatch import MAX_ASKED, Task, TaskResult
from bench.runs.execution.spool import (
    BEAT_SECONDS,
    DEAD_SECONDS,
    Heartbeat,
    SpoolWorker,
    is_orphan,
    lay_out,
    listed,
    put,
    read_answers,
    read_error,
    told,
    write_maker,
    write_parcel,
)
from bench.runs.execution.worker import Maker
from bench.types import Execution
from bench.types.errors import DeviceError, UsageError
from bench.types.limits import digits

WAIT_SECONDS = 0.05
LOOK_SECONDS = 2.0  # between two looks at who lives
RESTARTS = 4  # of each handle with no answer in between, for jobs that end without a word
FORGOTTEN_SECONDS = 600.0  # without a heartbeat of its driver
STOP_SECONDS = 5.0  # that workers have to end by themselves
MINUTES = 240  # of a job, unless told otherwise; a run goes on in the next
DRIVER_WORD = "driver_"  # how options of the driver's own job begin (`run --detach`)
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")  # variables that a job finds in its environment
SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "nodes", "tasks_per_node", "stderr_to_stdout")


@dataclass(slots=True)
class SlurmPool:
    """Jobs that claim tasks from a spool; a job that ends before its time is submitted again."""

    spool: Path
    executor: Any  # submitit's
    work: SpoolWorker
    jobs: dict[int, Any] = field(default_factory=dict)  # handle -> job
    former: list[Any] = field(default_factory=list)  # jobs that have ended
    ready_: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # name of a live worker -> what it told
    gone: set[str] = field(default_factory=set)
    outstanding: set[int] = field(default_factory=set)
    restarts: int = 0
    _pulse: Heartbeat = field(default_factory=Heartbeat)
    _beats: int = 0
    _beaten: float = 0.0
    _looked: float = 0.0

    @property
    def workers(self) -> int:
        """How many are ready now."""
        return len(self.ready_)

    def add(self, job: int, maker: Maker) -> None:
        """Say how a job's network is built, before its first task."""
        write_maker(self.spool, job, maker)

    def room(self) -> int:
        """How many more tasks they would take now."""
        return max(0, MAX_ASKED * self.workers - len(self.outstanding))

    def send(self, task: Task) -> None:
        """Lay a task out for whoever is free first."""
        self.outstanding.add(task.number)
        write_parcel(self.spool, task)

    def receive(self) -> list[TaskResult]:
        """What has come back; waits a little where nothing has.

        Raises: what a worker raised before it began; DeviceError where jobs end without a word.
        """
        self._beat()
        results = [result for result in read_answers(self.spool) if result.number in self.outstanding]
        self.outstanding -= {result.number for result in results}
        if results:
            self.restarts = 0
        if time.monotonic() - self._looked > (LOOK_SECONDS if self.workers else 0.2):
            self._looked = time.monotonic()
            self._raise_errors()
            self._greet()
            results += self._replace_dead()
        if not results:
            time.sleep(WAIT_SECONDS)
        return results

    def start(self, count: int) -> None:
        """Submit that many jobs, as one array."""
        self._beat()
        with clean_slurm():
            self.jobs = dict(enumerate(self.executor.map_array(self.work, range(count))))

    def close(self) -> None:
        """End the jobs, and leave no file."""
        (self.spool / "stop").touch()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not all(_ended(job) for job in self.jobs.values()):
            time.sleep(0.05)
        for job in self.jobs.values():
            if not _ended(job):
                job.cancel(check=False)
        for job in (*self.jobs.values(), *self.former):
            # Of submitit's local executor, which leaves its children to whoever started them.
            if (child := getattr(job, "_process", None)) is not None:
                child.wait()
        shutil.rmtree(self.spool, ignore_errors=True)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self._beaten, self._beats = time.monotonic(), self._beats + 1
            put(self.spool / "beat", self._beats)

    def _raise_errors(self) -> None:
        for path in listed(self.spool / "errors"):
            raise read_error(path).error()

    def _greet(self) -> None:
        for path in listed(self.spool / "ready"):
            if path.stem not in self.gone and path.stem not in self.ready_:
                self.ready_[path.stem] = told(path)

    def _replace_dead(self) -> list[TaskResult]:
        """Answers for the tasks of workers that are gone; their handles are filled again."""
        ended = {handle for handle, job in self.jobs.items() if _ended(job)}
        lost: list[TaskResult] = []
        for name, record in list(self.ready_.items()):
            if record["handle"] in ended or self._pulse.silent(self.spool / "beats" / name) > DEAD_SECONDS:
                logging.getLogger(__name__).warning(
                    "! worker %s is gone: another counts what it was at, which moves no vote", name
                )
                del self.ready_[name]
                self.gone.add(name)
                for path in listed(self.spool / "taken"):
                    number, _, owner = path.name.partition(".")
                    if owner == name:
                        path.unlink(missing_ok=True)
                        lost.append(TaskResult(int(number), None))
        for handle in sorted(ended):
            self.restarts += 1
            if self.restarts > RESTARTS * len(self.jobs):
                said = _last_line(self.spool / "jobs")
                raise DeviceError(
                    f"{self.restarts} jobs ended without a result, the last {self.jobs[handle].job_id}: {said}; the "
                    "rows so far are kept: the same command goes on from them"
                )
            self.former.append(self.jobs[handle])
            with clean_slurm():
                self.jobs[handle] = self.executor.submit(self.work, handle)
        # A worker that was given up may have answered at its last moment: that answer is taken.
        answered = {int(path.name.partition("-")[0]) for path in listed(self.spool / "done")}
        lost = [result for result in lost if result.number in self.outstanding and result.number not in answered]
        self.outstanding -= {result.number for result in lost}
        return lost


def queue_of(options: dict[str, Any]) -> str:
    """Slurm's own queue, or this machine in its place, taken out of the options.

    Raises: DeviceError where submitit or Slurm is not here; UsageError for another name.
    """
    if find_spec("submitit") is None:
        raise DeviceError(
            "--executor slurm needs submitit, which is not installed; `pip install 'rrcm-bench[slurm]'`, or "
            "--executor local"
        )
    cluster = str(options.pop("cluster", "slurm"))
    if cluster not in ("slurm", "local"):
        raise UsageError(f"--slurm cluster={cluster}: expected slurm, or local to try it on this machine")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise DeviceError(
            "no sbatch on this machine; expected a login node of a Slurm cluster, or --slurm cluster=local to try it"
        )
    return cluster


def submitter(folder: Path, cluster: str, asked: dict[str, Any], words: tuple[str, ...]) -> Any:
    """What submits jobs with these parameters; submitit's.

    Raises: UsageError for options that submitit does not know; `words` are those of the user.
    """
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    try:
        executor.update_parameters(**asked)
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"--slurm {' '.join(words)}: {' '.join(str(error).split())[:200]}; expected names of submitit or sbatch"
        ) from None
    return executor


@contextmanager
def clean_slurm() -> Iterator[None]:
    """No word of a job that this process may itself be: the jobs that it submits would take them as their own.

    Differs from submitit's own: a user's SLURM_CONF and defaults of sbatch stay.
    """
    own = [key for key in os.environ if key.startswith(_OF_A_JOB) and key != "SLURM_CONF"]
    hidden = {key: os.environ.pop(key) for key in own}
    try:
        yield
    finally:
        os.environ |= hidden


@contextmanager
def slurm_pool(execution: Execution, folder: Path) -> Iterator[SlurmPool]:
    """The workers that an execution asks for, until the block ends; they meet in `folder`.

    Raises: DeviceError where submitit or Slurm is not here; UsageError for options that submitit does not know.
    """
    options = for_workers(parse_options(execution.options))
    cluster = queue_of(options)
    (device,) = execution.devices
    if device == "auto":
        raise UsageError("--executor slurm: say what each job is to have, --device cuda or --device cpu")
    spool = folder / f".spool-{uuid.uuid4().hex[:10]}"
    lay_out(spool)
    _sweep(folder, spool)
    try:
        workers = execution.workers or 1
        asked = {
            "name": "rrcm-bench",
            "timeout_min": MINUTES,
            "cpus_per_task": 1,
            **({"gpus_per_node": 1} if device == "cuda" else {}),
            "slurm_array_parallelism": workers,  # else submitit lets 256 of them run at a time
            **options,
        }
        executor = submitter(spool / "jobs", cluster, asked, execution.options)
        threads = int(asked["cpus_per_task"])
        on = "cuda:0" if device == "cuda" else device
        pool = SlurmPool(spool, executor, SpoolWorker(spool, on, execution.batch, threads))
        pool.start(workers)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _sweep(folder: Path, own: Path) -> None:
    """Remove the spools whose drivers were killed before they could."""
    now = own.stat().st_mtime  # by the clock of the file system that all of them are on
    for spool in folder.glob(".spool-*"):
        try:
            if is_orphan(spool) or now - (spool / "beat").stat().st_mtime > FORGOTTEN_SECONDS:
                shutil.rmtree(spool, ignore_errors=True)
        except OSError:  # not begun yet, or another sweeps too
            continue


def parse_options(words: tuple[str, ...]) -> dict[str, Any]:
    """Options as submitit names them: its shared ones as they are, those of sbatch with their prefix.

    Raises: UsageError.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"--slurm {word!r}: expected KEY=VALUE, as partition=gpu or timeout_min=240")
        driver = DRIVER_WORD * key.startswith(DRIVER_WORD)
        key = key.removeprefix(DRIVER_WORD)
        name = driver + (key if key in (*SHARED, "cluster") or key.startswith("slurm_") else f"slurm_{key}")
        number = digits(value)
        options[name] = value if number is None else number
    return options


def for_workers(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the jobs that count: all but those of the driver's own."""
    return {key: value for key, value in options.items() if not key.startswith(DRIVER_WORD)}


def _ended(job: Any) -> bool:
    return bool(job.done())


def _last_line(logs: Path) -> str:
    """The last words of any job."""
    lines = [
        line
        for path in sorted(logs.glob("*.err"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return lines[-1].strip()[:200] if lines else "nothing was said"
