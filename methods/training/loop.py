"""The one training loop: steps, checkpoints, metrics, resumption; knows no method, no data set, no loss.

A run is a function of its settings and seed alone: all randomness is keyed by the step (rng.py), so a checkpoint needs
no generator state, and N steps equal k steps, a resumption and N - k steps, to the last bit on one device. Several
processes (distributed.py) take the same steps together; the first of them writes files and reports progress.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from bench.types.atomic_file import atomic_write
from bench.types.errors import TrainingError, first_line
from methods.training import distributed
from methods.training.checkpoints import CHECKPOINT, RunState, restore, save, unwritten
from methods.training.distributed import ALONE, World
from methods.training.gradient_buckets import GradientBuckets
from methods.training.progress import Progress
from methods.training.sharding import Share, use_share
from methods.training.step_losses import StepLosses

METRICS = "metrics.jsonl"
# Devices on which reading costs nothing: a loss that is not finite is met there before it has moved the weights.
READ_AT_ONCE = ("cpu",)


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
    # Bytes that the backward pass keeps of so many images of a batch, and of the rows of all; None: counted in a pass.
    memory: Callable[[int], tuple[int, int]] | None = None
    again: float = 0.0  # forward passes that a step computes twice, as a share of its arithmetic
    keep_every: int = 0  # steps between two calls of `keep`; 0: none
    keep: Callable[[int], None] = lambda _steps: None  # of the first process, after so many steps: exports the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Intervals of logging and saving; they cannot change a weight."""

    log_every: int = 50  # steps
    save_every: int = 1000  # steps
    save_seconds: float = 300.0  # and at least this often
    stop_after: int | None = None  # stop as if interrupted, once this many steps are done


def run(task: Task, out: Path, *, resume: bool, intervals: Intervals | None = None) -> float:
    """Train to the last step; seconds spent, those before a resumption included.

    Leaves metrics.jsonl (means since the line before) and checkpoint.pt in `out`.
    Raises: TrainingError where the folder holds another run, or the loss stops being finite (the last checkpoint
    stays); KeyboardInterrupt after Ctrl-C, once the step in progress is finished and saved.
    """
    intervals = intervals or Intervals()
    state = RunState()
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{out} already holds a training run; give --resume to go on with it, or another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the folder {out}: {error}; give another --out") from error
    if checkpoint.exists():
        state = restore(task, checkpoint)
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
    with (
        Progress(task.steps, state.step, quiet=not leads) as progress,
        _deferred_interrupt(state, task.world),
        distributed.lost_processes(task.world),
        _lost_workers(),
    ):
        _steps(task, out, state, intervals, progress)
    if leads:
        save(task, checkpoint, state)
    if state.step < task.steps:
        raise KeyboardInterrupt(state.asked or signal.SIGINT)
    return state.seconds


def probe(task: Task, steps: int = 3) -> float:
    """Estimated seconds of the whole run, from a few steps, which change the modules; nothing is saved."""
    batches = task.batches(0)
    with stepper(task, RunState()) as (take, losses):
        take(0, batches)  # the first one warms caches and allocators
        losses.read()
        began = time.perf_counter()
        for step in range(1, steps + 1):
            take(step, batches)
        losses.read()  # waits for the device
        return (time.perf_counter() - began) / steps * task.steps


def _steps(task: Task, out: Path, state: RunState, intervals: Intervals, progress: Progress) -> None:
    batches = task.batches(state.step)
    began = time.perf_counter() - state.seconds
    saved = time.perf_counter()
    leads = task.world.leads
    with stepper(task, state) as (take, losses):
        while state.step < task.steps and not state.stop:
            take(state.step, batches)
            state.step += 1
            state.seconds = time.perf_counter() - began
            state.summed += 1
            due = state.step % intervals.save_every == 0 or time.perf_counter() - saved > intervals.save_seconds
            # Among several processes a wish to stop counts in the step that all have learnt of it, else some would wait
            # for the others for ever; and all read their losses where the first one saves.
            state.stop, due = distributed.wanted_by_any((bool(state.asked), due and leads), task.world)
            if intervals.stop_after is not None and state.step >= intervals.stop_after:
                state.stop = True
            logged = state.step % intervals.log_every == 0 or state.step == task.steps
            kept = task.keep_every > 0 and state.step % task.keep_every == 0
            if logged or due or kept or state.stop:
                losses.read()  # before anything is saved: a checkpoint of a loss that is not finite is worth nothing
            if logged:
                means = {name: value / state.summed for name, value in state.sums.items()}
                rate = max(group["lr"] for group in task.optimiser.param_groups)
                if leads:
                    _add(out / METRICS, {"step": state.step, **means, "lr": rate, "seconds": round(state.seconds, 3)})
                progress.advance(state.step, means)
                state.sums.clear()
                state.summed = 0
            if kept and leads:
                task.keep(state.step)
            if due and leads:
                save(task, out / CHECKPOINT, state)
                saved = time.perf_counter()


def _add(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to the metrics.

    Raises: TrainingError where it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise unwritten(path, error) from error


@contextmanager
def stepper(task: Task, state: RunState) -> Iterator[tuple[Callable[[int, Iterator[Any]], None], StepLosses]]:
    """A function that takes one step, and the losses that it leaves."""
    parameters = [p for group in task.optimiser.param_groups for p in group["params"]]
    losses = StepLosses(state, task.world)
    shares = [
        Share(task.world.rank * task.accumulate + micro, task.world.size * task.accumulate)
        for micro in range(task.accumulate)
    ]
    sent = GradientBuckets(parameters, task.world) if task.world.size > 1 else None
    at_once = torch.device(task.device).type in READ_AT_ONCE

    def take(step: int, batches: Iterator[Any]) -> None:
        factor = task.rate(step)
        for group in task.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        task.optimiser.zero_grad(set_to_none=True)
        parts = []
        for micro, share in enumerate(shares):
            if sent and micro == len(shares) - 1:
                sent.arm()
            parts.append(_gradients(task, step, next(batches), share))
        if sent:
            sent.finish()
        losses.add(step, parts)
        if at_once:
            losses.read()
        if task.clip > 0 and step >= task.clip_from:
            losses.add_norm(nn.utils.clip_grad_norm_(parameters, task.clip))
        task.optimiser.step()
        task.after(step)

    try:
        yield take, losses
    finally:
        if sent:
            sent.remove()


def _gradients(task: Task, step: int, batch: Any, share: Share) -> Mapping[str, Tensor]:
    """Losses of a share of the batch, whose part of the gradient is added to what is there."""
    device = torch.device(task.device).type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=task.bf16), use_share(share):
        losses = task.loss(step, batch)
    loss = losses["loss"]
    # Shares are equal, so the mean of their means is the mean over the batch.
    (loss if task.accumulate == 1 else loss / task.accumulate).backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() for name, value in losses.items()}


@contextmanager
def _lost_workers() -> Iterator[None]:
    """Torch tells of a loader's worker that has died from a signal handler, wherever the process then is.

    Raises: TrainingError.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingError(
            f"a worker that decodes images died: {first_line(error, 100)}; memory or room in /dev/shm may be short: "
            "lower --set workers=..., and give --resume to go on from the last checkpoint"
        ) from error


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
        raise unwritten(path, error) from error


@contextmanager
def _deferred_interrupt(state: RunState, world: World) -> Iterator[None]:
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
