"""The one training loop: steps, checkpoints, metrics, resumption; knows no method, no data set, no loss.

A run is a function of its settings and seed alone: all randomness is keyed by the step (rng.py), so a checkpoint needs
no generator state, and N steps equal k steps, a resumption and N - k steps, to the last bit on one device. Several
processes (distributed.py) take the same steps together; the first of them writes files and reports progress.
"""

from __future__ import annotations

import json
import math
import pickle
import signal
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from bench.types.atomic_file import atomic_path, atomic_write
from bench.types.errors import TrainingError, first_line
from methods.training import distributed
from methods.training.distributed import ALONE, World
from methods.training.progress import Progress
from methods.training.sharding import Share, use_share

# What torch.load, and reading what it gives, raise on a damaged file depends on where the damage is.
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, NameError),
    *(ArithmeticError, MemoryError, ImportError, struct.error, pickle.UnpicklingError),
)
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Modules in training, with the loss and the learning rate of each step."""

    modules: Mapping[str, nn.Module]  # all that a checkpoint must hold
    optimiser: torch.optim.Optimizer  # each group carries "base_lr"
    batches: Callable[[int], Iterator[Any]]  # the batches from a step on, `accumulate` of them a step
    loss: Callable[[int, Any], Mapping[str, Tensor]]  # "loss" is minimised; the others are reported
    rate: Callable[[int], float]  # share of the full learning rate
    steps: int
    identity: Mapping[str, Any]  # settings that make two runs the same; plain values
    after: Callable[[int], None] = lambda _step: None  # after each optimiser step: the EMA
    clip: float = 0.0  # largest gradient norm; 0: none
    clip_from: int = 0  # first step that is clipped
    bf16: bool = False  # autocast
    device: str = "cpu"
    accumulate: int = 1  # micro-batches of a step, one after the other
    world: World = ALONE  # processes of a step, side by side


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Intervals of logging and saving; they cannot change a weight."""

    log_every: int = 50  # steps
    save_every: int = 1000  # steps
    save_seconds: float = 300.0  # and at least this often
    stop_after: int | None = None  # stop as if interrupted, once this many steps are done


@dataclass(slots=True)
class _State:
    step: int = 0
    seconds: float = 0.0
    asked: int = 0  # the signal that asked this process to stop
    stop: bool = False  # all processes together
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0


def run(task: Task, out: Path, *, resume: bool, intervals: Intervals | None = None) -> float:
    """Train to the last step; seconds spent, those before a resumption included.

    Leaves metrics.jsonl (means since the line before) and checkpoint.pt in `out`.
    Raises: TrainingError where the folder holds another run, or the loss stops being finite (the last checkpoint
    stays); KeyboardInterrupt after Ctrl-C, once the step in progress is finished and saved.
    """
    intervals = intervals or Intervals()
    state = _State()
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{out} already holds a training run; give --resume to go on with it, or another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the folder {out}: {error}; give another --out") from error
    if checkpoint.exists():
        state = _restore(task, checkpoint)
    if not distributed.same_everywhere(state.step, task.world):
        raise TrainingError(
            f"all processes must see the same {checkpoint}, this one goes on from step {state.step}; "
            "give an --out on a disk that they share"
        )
    leads = task.world.leads
    if leads:
        _trim_metrics(out / METRICS, state.step)
    if state.step >= task.steps:
        return state.seconds
    with Progress(task.steps, state.step, quiet=not leads) as progress, _deferred_interrupt(state, task.world):
        _steps(task, out, state, intervals, progress)
    if leads:
        _save(task, checkpoint, state)
    if state.step < task.steps:
        raise KeyboardInterrupt(state.asked or signal.SIGINT)
    return state.seconds


def probe(task: Task, steps: int = 3) -> float:
    """Estimated seconds of the whole run, from a few steps, which change the modules; nothing is saved."""
    batches = task.batches(0)
    _train_step(task, 0, batches, _State())  # the first one warms caches and allocators
    began = time.perf_counter()
    for step in range(1, steps + 1):
        _train_step(task, step, batches, _State())
    return (time.perf_counter() - began) / steps * task.steps


def _steps(task: Task, out: Path, state: _State, intervals: Intervals, progress: Progress) -> None:
    batches = task.batches(state.step)
    began = time.perf_counter() - state.seconds
    saved = time.perf_counter()
    leads = task.world.leads
    while state.step < task.steps and not state.stop:
        parts, rate, wanted = _train_step(task, state.step, batches, state)
        state.step += 1
        state.seconds = time.perf_counter() - began
        for name, value in parts.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.summed += 1
        if state.step % intervals.log_every == 0 or state.step == task.steps:
            means = {name: value / state.summed for name, value in state.sums.items()}
            line = {"step": state.step, **means, "lr": rate, "seconds": round(state.seconds, 3)}
            if leads:
                _add(out / METRICS, line)
            progress.advance(state.step, means)
            state.sums, state.summed = {}, 0
        due = state.step % intervals.save_every == 0 or time.perf_counter() - saved > intervals.save_seconds
        if due and leads:
            _save(task, out / CHECKPOINT, state)
            saved = time.perf_counter()
        # Among several processes a wish to stop counts in the step that all have learnt of it, else some would wait
        # for the others for ever.
        state.stop = wanted if task.world.size > 1 else bool(state.asked)
        if intervals.stop_after is not None and state.step >= intervals.stop_after:
            state.stop = True


def _add(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to the metrics.

    Raises: TrainingError where it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise _unwritten(path, error) from error


def _train_step(task: Task, step: int, batches: Iterator[Any], state: _State) -> tuple[dict[str, float], float, bool]:
    """Means of the losses, the learning rate, and whether a process wants to stop."""
    factor = task.rate(step)
    for group in task.optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    task.optimiser.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    for micro in range(task.accumulate):
        share = Share(task.world.rank * task.accumulate + micro, task.world.size * task.accumulate)
        for name, value in _gradients(task, step, next(batches), share).items():
            sums[name] = sums.get(name, 0.0) + value
    means = {name: value / task.accumulate for name, value in sums.items()}
    parts, wanted = distributed.average_losses(means, bool(state.asked), task.world)
    if not math.isfinite(parts["loss"]):
        raise TrainingError(
            f"the loss must stay finite, got {parts['loss']} at step {step}; stopped, and a checkpoint saved before "
            "stays: lower lr (--set lr=...), or clip gradients (--set clip=1.0), and start in another --out"
        )
    parameters = [p for group in task.optimiser.param_groups for p in group["params"]]
    if task.world.size > 1:
        distributed.average_gradients(parameters, task.world)
    if task.clip > 0 and step >= task.clip_from:
        parts["grad_norm"] = float(nn.utils.clip_grad_norm_(parameters, task.clip))
    task.optimiser.step()
    task.after(step)
    return parts, max(group["lr"] for group in task.optimiser.param_groups), wanted


def _gradients(task: Task, step: int, batch: Any, share: Share) -> dict[str, float]:
    """Losses of a share of the batch, whose part of the gradient is added to what is there."""
    device = torch.device(task.device).type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=task.bf16), use_share(share):
        losses = task.loss(step, batch)
    loss = losses["loss"]
    # Shares are equal, so the mean of their means is the mean over the batch.
    (loss if task.accumulate == 1 else loss / task.accumulate).backward()  # type: ignore[no-untyped-call]
    return {name: float(value.detach()) for name, value in losses.items()}


def _save(task: Task, path: Path, state: _State) -> None:
    record = {
        "format": FORMAT,
        "step": state.step,
        "seconds": state.seconds,
        "sums": state.sums,
        "summed": state.summed,
        "settings": json.dumps(dict(task.identity), sort_keys=True),
        "modules": {name: module.state_dict() for name, module in task.modules.items()},
        "optimiser": task.optimiser.state_dict(),
    }
    try:
        with atomic_path(path) as part, part.open("wb") as file:
            torch.save(record, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise _unwritten(path, error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """Fields of a checkpoint file."""

    format: int
    step: int
    seconds: float
    sums: dict[str, float]
    summed: int
    settings: str
    modules: dict[str, dict[str, Any]]
    optimiser: dict[str, Any]


def _restore(task: Task, path: Path) -> _State:
    """The state that a checkpoint holds, put into the task's modules and optimiser.

    Raises: TrainingError for a file that cannot be read, is no checkpoint, or is of another run.
    """
    if not path.is_file():
        raise TrainingError(f"{path} is no file; expected a checkpoint: give another --out")
    try:
        # torch reads tensors and plain values alone so: no code runs, whatever the file holds.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle protocol: what cannot be read is refused below
            record = torch.load(path, map_location=task.device, weights_only=True)
        kept = msgspec.convert(record, _Checkpoint, strict=True)
        stored = json.loads(kept.settings)
        if not isinstance(stored, dict) or not (0 <= kept.step <= task.steps and 0 <= kept.seconds < math.inf):
            raise ValueError(f"step {kept.step} of {task.steps}, after {kept.seconds} s")
        if not all(map(math.isfinite, kept.sums.values())) or kept.summed < 0:
            raise ValueError(f"sums of {kept.summed} steps that are no numbers")
    except _DAMAGE as error:
        raise TrainingError(
            f"cannot read the checkpoint {path} ({first_line(error, 100)}); delete it to start again"
        ) from error
    if kept.format != FORMAT:
        raise TrainingError(f"{path} has format {kept.format!r}, this version reads {FORMAT}; give another --out")
    asked = json.loads(json.dumps(dict(task.identity)))
    differing = sorted(key for key in stored.keys() | asked.keys() if stored.get(key) != asked.get(key))
    if differing:
        changes = ", ".join(f"{key}={stored.get(key)!r} there, {asked.get(key)!r} here" for key in differing)
        raise TrainingError(
            f"{path.parent} holds a run with other settings ({changes}); resume with the same, or give another --out"
        )
    try:
        for name, module in task.modules.items():
            module.load_state_dict(kept.modules[name])
        _restore_optimiser(task.optimiser, kept.optimiser)
    except _DAMAGE as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise TrainingError(
            f"the checkpoint {path} does not fit this run ({told}); delete it to start again, or give another --out"
        ) from error
    return _State(kept.step, kept.seconds, sums=kept.sums, summed=kept.summed)


def _restore_optimiser(optimiser: torch.optim.Optimizer, stored: dict[str, Any]) -> None:
    """Moments from a checkpoint; rates and decays stay those of the settings, whatever the file says.

    Raises: ValueError and its like where they are not of these parameters.
    """
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(stored)
    for group, values in zip(optimiser.param_groups, own, strict=True):
        for key in group.keys() - values.keys() - {"params"}:
            del group[key]
        group.update(values)
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)} for weights of {tuple(parameter.shape)}")


def _trim_metrics(path: Path, step: int) -> None:
    """Drop lines past the checkpoint, and a torn one, so that each step is told once."""
    if not path.exists():
        return
    try:
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                told = int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
            if told <= step:
                kept.append(line + "\n")
        atomic_write(path, "".join(kept))
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: Exception) -> TrainingError:
    return TrainingError(f"cannot write {path}: {error}; free some space, then --resume")


@contextmanager
def _deferred_interrupt(state: _State, world: World) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a stop between two steps; a second one stops a single process at once, unsaved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        # torchrun passes on what the terminal has already sent to all: a second signal is then not a second wish.
        if state.asked and world.size == 1:
            raise KeyboardInterrupt(number)
        state.asked = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
