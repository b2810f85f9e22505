"""Workers of a Ray cluster: that of RAY_ADDRESS, or one started on this machine for the length of a run."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.runs.execution.dispatch import MAX_ASKED, Task, TaskResult, WorkerTasks, choose
from bench.runs.execution.worker import Maker, Worker, failure_of
from bench.types import Execution
from bench.types.errors import BenchError, DeviceError, first_line
from bench.types.limits import digits

OBJECT_STORE_BYTES = 100 * 2**20  # counts alone go through it; by default it would be a third of the memory
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105  a name
PREFIX = "rrcm-ray-"
PLACE_SECONDS = 60.0  # without a place for any worker: then the cluster has none
WAIT_SECONDS = 1.0
IDLE_SECONDS = 0.05
STARTS = 3  # for each worker asked for, that may die before they are ready


@dataclass(slots=True, eq=False)
class WorkerHandle(WorkerTasks):
    """One worker and what it was asked."""

    actor: Any
    placed: Any  # its first answer: the cluster has found a place for it
    started: Any  # its second: it can count
    told: dict[str, Any] | None = None  # of itself, once it is ready


@dataclass(slots=True)
class RayPool:
    """Actors with one GPU, or one CPU core, each; those that die are replaced as long as the cluster has a place."""

    ray: Any
    device: str
    asked_batch: int | None
    asked: int  # workers
    handles: list[WorkerHandle] = field(default_factory=list)
    died: int = 0  # before they were ready
    makers: dict[int, Any] = field(default_factory=dict)  # job -> where ray keeps its maker
    alone_since: float = field(default_factory=time.monotonic)  # no worker has had a place

    def __post_init__(self) -> None:
        self.handles = [self._handle() for _ in range(self.asked)]

    @property
    def workers(self) -> int:
        """How many are ready now."""
        return sum(handle.told is not None for handle in self.handles)

    def add(self, job: int, maker: Maker) -> None:
        """Say how a job's network is built, before its first task."""
        self.makers[job] = self.ray.put(maker)

    def room(self) -> int:
        """How many more tasks they would take now."""
        return sum(MAX_ASKED - len(handle.tasks) for handle in self.handles if handle.told)

    def send(self, task: Task) -> None:
        """Hand a task to the one with the fewest; of equals to one that is at the same job."""
        handle, new = choose((handle for handle in self.handles if handle.told), task)
        maker = self.makers[task.job] if new else None
        handle.tasks[handle.actor.count.remote(task, maker)] = task.number

    def receive(self) -> list[TaskResult]:
        """What has come back; waits a second where nothing has.

        Raises: DeviceError where the cluster has no place for any.
        """
        awaited = {ref: handle for handle in self.handles for ref in self._awaited(handle)}
        if not awaited:
            time.sleep(IDLE_SECONDS)
            return []
        done, _ = self.ray.wait(list(awaited), timeout=WAIT_SECONDS)
        done, _ = self.ray.wait(list(awaited), num_returns=len(awaited), timeout=0) if done else ([], [])
        results: list[TaskResult] = []
        for ref in done:
            handle = awaited[ref]
            if handle in self.handles:  # not buried by what else it was asked
                results += self._result(handle, ref)
        self._look_for_places()
        return results

    def close(self) -> None:
        """End the workers; whatever they are at is drawn again."""
        for handle in self.handles:
            self.ray.kill(handle.actor)
        self.handles = []

    def _handle(self) -> WorkerHandle:
        gpus = 1 if self.device.startswith("cuda") else 0
        remote = self.ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD")(Worker)
        actor = remote.remote(self.device, self.asked_batch)
        return WorkerHandle(actor, actor.__ray_ready__.remote(), actor.start.remote())

    def _awaited(self, handle: WorkerHandle) -> list[Any]:
        if handle.told:
            return list(handle.tasks)
        return [handle.started] if handle.placed is None else [handle.placed]

    def _result(self, handle: WorkerHandle, ref: Any) -> list[TaskResult]:
        from ray.exceptions import RayError, RayTaskError

        try:
            value = self.ray.get(ref)
        except RayTaskError as error:
            if ref in handle.tasks:  # it could not even read the job
                return [TaskResult(handle.tasks.pop(ref), None, failure=failure_of(error.cause))]
            cause = error.cause
            raise (cause if isinstance(cause, BenchError) else error) from None
        except RayError:  # killed, out of reach, or its machine is gone with the answer on it
            return self._replace_dead(handle)
        if ref == handle.placed:
            handle.placed = None
        elif ref == handle.started:
            handle.told = value
        else:
            del handle.tasks[ref]
            result: TaskResult = value
            return [result]
        return []

    def _replace_dead(self, handle: WorkerHandle) -> list[TaskResult]:
        self.handles.remove(handle)
        self.ray.kill(handle.actor)  # it may be out of reach and yet hold its GPU
        logging.getLogger(__name__).warning("! a ray worker died: another counts what it was at, which moves no vote")
        if handle.told is None and handle.placed is None:
            self.died += 1
            if self.died > STARTS * self.asked:
                raise DeviceError(
                    f"{self.died} workers died before they could count (out of memory, or killed); the rows so "
                    "far are kept: the same command goes on from them, with fewer --workers if it was memory"
                )
        self.handles.append(self._handle())
        return [TaskResult(number, None) for number in handle.tasks.values()]

    def _look_for_places(self) -> None:
        if any(handle.told or handle.placed is None for handle in self.handles):
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > PLACE_SECONDS:
            there = self.ray.cluster_resources()
            needs = "1 CPU and 1 GPU" if self.device.startswith("cuda") else "1 CPU"
            raise DeviceError(
                f"no worker found a place in {PLACE_SECONDS:.0f} s: each needs {needs}, the ray cluster has "
                f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, in part taken; wait until one is free"
            )


@contextmanager
def ray_pool(execution: Execution) -> Iterator[RayPool]:
    """The workers that an execution asks for, until the block ends.

    Raises: DeviceError where ray is not installed, its cluster does not answer, or has not what is asked.
    """
    # Nothing of a run is sent to the makers of ray. What its daemons say it would print on stdout, among the results;
    # this is how ray itself lets lines be dropped, read when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if not os.environ.get("RAY_ADDRESS"):
        # A cluster of this machine alone listens where no other can reach it: as ray does wherever it takes no part in
        # clusters, which this variable says, though it is named after where that is the rule.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise DeviceError(
            "--executor ray needs ray, which is not installed; `pip install 'rrcm-bench[ray]'`, or --executor local"
        ) from None
    with _connected(ray, execution.workers):
        there = ray.cluster_resources()
        device = _device(execution.devices[0], there)
        workers = execution.workers or int(there.get("GPU" if device.startswith("cuda") else "CPU", 1))
        pool = RayPool(ray, device, execution.batch, max(workers, 1))
        try:
            yield pool
        finally:
            if ray.is_initialized():
                pool.close()


def _device(word: str, there: dict[str, float]) -> str:
    """What each worker computes on: one GPU where the cluster has any, unless told otherwise.

    Raises: DeviceError for GPUs that it does not have.
    """
    if word == "auto":
        return "cuda:0" if there.get("GPU") else "cpu"
    if word == "cuda" and not there.get("GPU"):
        raise DeviceError("--device cuda: the ray cluster has no GPU; expected some, or --device cpu")
    return "cuda:0" if word == "cuda" else word


@contextmanager
def _connected(ray: Any, workers: int | None) -> Iterator[None]:
    """A connection to a cluster, closed at the end if it was opened here; a cluster started here leaves nothing."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DeviceError(
                f"no ray cluster answers at RAY_ADDRESS={address!r} ({first_line(error)}); "
                "start it, or unset RAY_ADDRESS to have one started on this machine"
            ) from None
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Its sockets have long names below this folder, and a name may have 107 letters: not TMPDIR, which may be deep.
    # The token keeps other users of this machine out of the cluster; ray would write one into the home folder.
    own_token = not {"RAY_AUTH_MODE", TOKEN, "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if own_token:
        os.environ[TOKEN] = secrets.token_hex(32)
    place = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108
    _sweep(place)
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            num_cpus=max(workers or 0, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            # Ray opens the folder that it is given to all users; the one around it stays this user's own.
            _temp_dir=str(Path(folder, "r")),
            **quiet,
        )
        try:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # ray's own would end the process with a trace of its stack
            yield
        finally:
            ray.shutdown()
    finally:
        if own_token:
            del os.environ[TOKEN]
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders of this user's clusters whose driver was killed before it could."""
    for folder in place.glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            if digits(number) is not None and folder.stat().st_uid == os.getuid():
                os.kill(int(number), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another sweeps too, or the process is another user's
            continue
