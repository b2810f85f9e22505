"""The training stages of a study: each a process of its own, several at once, until the time is over."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.output import remark
from bench.types.errors import BenchError, StoreError, TrainingError

if TYPE_CHECKING:
    from typing import TextIO

    from bench.cli.jobs import Failure
    from bench.cli.study_file import Item, Study

ENDING_SECONDS = 20.0  # that an interrupted stage has to save its checkpoint
POLL_SECONDS = 0.1
_STEPS = re.compile(r"\bstep (\d+)/(\d+)\b")
_METRICS_STEP = re.compile(r'"step": (\d+)')
TOLD_SECONDS = 15.0  # between two lines of one stage, where several are told of


@dataclass(slots=True, kw_only=True)
class _Running:
    """A stage at work; what it says goes to files, which are read as they grow."""

    item: Item
    process: subprocess.Popen[bytes]
    log: TextIO  # being read
    output: Path
    held: ExitStack  # its lock
    said: list[str] = field(default_factory=list)
    told: float = 0.0


def train_stages(
    made: Study,
    stages: Sequence[Item],
    *,
    jobs: int = 1,
    deadline: float | None = None,
    ended: Callable[[Item], None] = lambda _item: None,
) -> list[Failure]:
    """Train what has no weights yet, `jobs` at once, parents first, else in order; what failed, and what was left.

    `deadline`, of time.monotonic: no stage is begun that cannot end by it in the seconds that it still declares, and
    those that run then are stopped, with their checkpoints kept. `ended` is called once a stage's weights are in their
    place, or were.
    """
    left = list(stages)
    running: list[_Running] = []
    failures: list[Failure] = []
    numbers = {item.name: number for number, item in enumerate(stages, start=1)}
    try:
        while left or running:
            for item in list(left):
                if len(running) >= jobs:
                    break
                awaited = {each.name for each in left} | {each.item.name for each in running}
                if made.weights(item.name).is_file():
                    left.remove(item)
                    remark(f"there  {item.name}{_trained_otherwise(made, item)}")
                    ended(item)
                elif missing := missing_parents(made, item):
                    if not awaited.intersection(missing):
                        left.remove(item)
                        failures.append(_failure(item, f"waits for {', '.join(missing)}"))
                elif deadline is not None and (needed := seconds_left(made, item) or 0.0) > deadline - time.monotonic():
                    left.remove(item)
                    rest = max(0.0, deadline - time.monotonic())
                    failures.append(_failure(item, f"not begun: {needed:.0f} s declared, {rest:.0f} s left"))
                elif begun := _begin(made, item, jobs):
                    left.remove(item)
                    remark(f"train  {numbers[item.name]}/{len(stages)}  {item.name}  -> {log_of(made, item).parent}")
                    running.append(begun)
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                try:
                    _finish(made, each, several=jobs > 1)
                except BenchError as error:
                    failures.append(_failure(each.item, str(error), log_of(made, each.item)))
                    remark(f"! failed  {each.item.name}: {error}")
                else:
                    ended(each.item)
            for each in running:
                _tell(each, several=jobs > 1)
            if running and deadline is not None and time.monotonic() > deadline:
                _stop(running)
                why = "stopped at the time limit; the same command goes on from its checkpoint"
                failures += [_failure(each.item, why, log_of(made, each.item)) for each in running]
                running.clear()
            elif left or running:
                time.sleep(POLL_SECONDS)
    except BaseException as error:
        _end(running, error)
        raise
    return failures


def missing_parents(made: Study, item: Item) -> list[str]:
    """Stages that an item waits for."""
    return [parent for parent in item.parents if not made.weights(parent).is_file()]


def record_of(made: Study, item: Item) -> Path:
    """What `rrcm-bench train --json` printed of a stage, and its words."""
    return made.weights(item.name).with_suffix(".json")


def log_of(made: Study, item: Item) -> Path:
    """Where a stage's own lines are."""
    return made.state / "train" / item.name / "log.txt"


def kept_of(made: Study, item: Item) -> tuple[Path, ...]:
    """The files from which a stage that was stopped goes on, its checkpoint first."""
    run = log_of(made, item).parent / "run"
    return run / "checkpoint.pt", run / "metrics.jsonl", log_of(made, item)


def seconds_left(made: Study, item: Item) -> float | None:
    """Declared seconds, of a stage that was stopped those of the steps that its checkpoint lacks."""
    checkpoint, metrics, log = kept_of(made, item)
    if item.seconds is None or not checkpoint.is_file():
        return item.seconds
    said = _STEPS.findall(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
    told = _METRICS_STEP.findall(metrics.read_text(encoding="utf-8", errors="replace")) if metrics.is_file() else []
    if not said:
        return item.seconds
    done, total = map(int, said[-1])  # told seldom: the metrics know better how far it is
    return item.seconds * max(0.0, 1 - max(done, *map(int, told[-1:] or ["0"])) / max(total, 1))


def own_command(words: Sequence[str]) -> list[str]:
    """This program in a process of its own."""
    # -P: a folder `bench` of the user's must not be taken for this package.
    return [sys.executable, "-P", "-c", "from bench.cli import main; main()", *words]


def own_environment(jobs: int = 1) -> dict[str, str]:
    """That of such a process: this tree, and its share of the cores where several run."""
    import bench

    path = os.pathsep.join(filter(None, (str(Path(bench.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    few = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    return {**few, **os.environ, "PYTHONPATH": path}


def _failure(item: Item, reason: str, log: Path | None = None) -> Failure:
    from bench.cli.jobs import Failure

    return Failure(what=item.name, reason=reason, log=log)


def _begin(made: Study, item: Item, jobs: int) -> _Running | None:
    """A stage as `rrcm-bench train` would run it; None while another process is at it."""
    from filelock import Timeout

    from bench.runs.locks import drawing

    log, weights = log_of(made, item), made.weights(item.name)
    with ExitStack() as held:
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            weights.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write {str(log.parent)!r}: {error.strerror}; give --out another folder"
            ) from error
        try:
            held.enter_context(drawing(log.parent, wait=False))
        except Timeout:
            return None
        if weights.is_file():  # another process was at it
            return None
        output = log.with_name("result.json")
        with log.open("wb") as err, output.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603
                own_command(["train", *item.words, "--out", str(log.parent / "run"), "--json"]),
                env=own_environment(jobs),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=_with_parent,
            )
        reading = held.enter_context(log.open(encoding="utf-8", errors="replace"))
        return _Running(item=item, process=process, log=reading, output=output, held=held.pop_all())


def _tell(running: _Running, *, several: bool) -> None:
    """New lines of a stage; where several are at work, the last one now and then."""
    new = [line.rstrip() for line in running.log if line.strip()]
    running.said += new
    if not several:
        for line in new:
            remark(f"  {line}")
    elif new and time.monotonic() - running.told > TOLD_SECONDS:
        remark(f"  {running.item.name}: {new[-1]}")
        running.told = time.monotonic()


def _finish(made: Study, running: _Running, *, several: bool) -> None:
    """Put the weights of a stage that has ended in their place.

    Raises: TrainingError with its last line.
    """
    from bench.types.atomic_file import atomic_write

    item = running.item
    with running.held:
        _tell(running, several=several)
        if running.process.returncode:
            last = next(reversed(running.said), f"it ended with {running.process.returncode}").strip()
            raise TrainingError(last.removeprefix("rrcm-bench: "))
        result: dict[str, Any] = json.loads(running.output.read_text(encoding="utf-8"))
        content = Path(result["weights"]).read_bytes()
        if item.half:
            from bench.weights.half import halved

            content = halved(content)
        atomic_write(record_of(made, item), json.dumps({"words": item.words, "result": result}, indent=1) + "\n")
        atomic_write(made.weights(item.name), content)


def _trained_otherwise(made: Study, item: Item) -> str:
    """Words after the name of a stage whose weights were made by other settings than it has now."""
    try:
        words = json.loads(record_of(made, item).read_text(encoding="utf-8"))["words"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # dropped in
    return "" if _settings(words) == _settings(item.words) else ", trained by other settings: remove it to train anew"


def _settings(words: Sequence[str]) -> list[str]:
    """Words but for paths, which differ by machine."""
    return [word for word in words if not re.search(r"[/\\]", word)]


def _stop(running: Sequence[_Running]) -> None:
    """End stages in order, all at once: each keeps its checkpoint."""
    for each in running:
        each.process.terminate()
    for each in running:
        try:
            each.process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
        each.held.close()


def _end(running: Sequence[_Running], error: BaseException) -> None:
    """Let stages end in order. Ctrl-C of a terminal has reached them by itself."""
    if isinstance(error, KeyboardInterrupt) and signal.SIGTERM not in error.args:
        until = time.monotonic() + ENDING_SECONDS
        for each in running:
            with suppress(subprocess.TimeoutExpired):
                each.process.wait(max(0.0, until - time.monotonic()))
    _stop([each for each in running if each.process.poll() is None])
    for each in running:
        each.held.close()


def _with_parent() -> None:
    """On Linux: a stage dies with whoever started it, even by kill -9, for the next one goes on from its checkpoint."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of <sys/prctl.h>
