"""Costs of a training run, from a micro-batch on this device; it stores nothing.

Of one process: several take whole steps together, which tells their speed better than any estimate.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from methods.training.checkpoints import RunState
from methods.training.distributed_setup import compiled_loss, compiles_whole, set_up
from methods.training.loader import Batch, BatchLoader
from methods.training.loop import Task, stepper
from methods.training.memory import counted, needed
from methods.training.resident import block_steps
from methods.training.sharding import Share

if TYPE_CHECKING:
    from methods.training.run_stage import TrainingContext

Loss = Callable[[int, Any], Mapping[str, Tensor]]

ENOUGH_S = 0.5  # of steps of one size; where one takes longer, it is the only one
SLOW_S = 4.0  # a first step that takes longer is the one that counts
LOADED_S = 0.5  # of images that the loader makes
FEWEST = 2  # images: a batch norm needs two
MADE = 32  # images that a loader makes for what is timed, at most; more are these again
PROCESSES = (1, 2, 4, 8, 16, 32)  # whose memory is told


def cost(context: TrainingContext, task: Task) -> dict[str, Any]:
    """Seconds, arithmetic, bytes and images a second of the whole run, as plain values.

    Error: of the micro-batch, where it is smaller than a process's own, for a GPU is then not filled.
    """
    settings, loader = context.settings, context.loader
    whole = settings.batch // settings.accumulate
    few = min(FEWEST, whole)
    most = max(few, min(whole, getattr(settings, "micro_batch", 0) or whole))
    batch, on_cuda = next(_repeated(loader, few)), task.device.startswith("cuda")
    began = time.perf_counter()
    flops, convolved, kept = _counted(task, batch)
    seconds = time.perf_counter() - began
    # Sizes are tried without compilation, which would take a minute for each.
    made = set_up(task, replace(settings, compile="never"), context.world)[0]
    if on_cuda:
        images, seconds, fixed = _measured_at_once(
            replace(made, loss=compiled_loss(task, settings, quick=True)), loader, most
        )
    elif seconds > SLOW_S and settings.compile != "true" and not settings.checkpoint:
        fixed = _fixed_seconds(made)  # of gradients that are there; a second pass would tell the same
        images, seconds = few, seconds + fixed
    else:
        images, seconds, fixed = _measured(made, lambda: compiled_loss(task, settings, quick=True), loader, most)
    per_image = (seconds - fixed) / images * (1 + task.again) + fixed / settings.batch
    total = settings.batch * task.steps
    per_process = task.memory or (lambda images: (round(kept / few * images), 0))
    memory = [
        needed(task.modules.values(), task.optimiser, context, n, per_process)
        for n in PROCESSES
        if not settings.batch % (n * settings.accumulate)
    ]
    return {
        "seconds": total * per_image,
        "images_per_second": 1 / per_image,
        "micro_batch": images,
        "flops_per_image": flops / few,
        "flops": flops / few * total,
        "convolutions": convolved / flops,
        "left_uncompiled": compiles_whole(task, settings),
        "synthetic": context.synthetic,
        "loader": {"gives": _loader_speed(loader), "workers": settings.workers, "cores": os.cpu_count() or 1},
        "memory": [{**asdict(row), "total": row.total} for row in memory],
    }


def _counted(task: Task, batch: Batch) -> tuple[int, int, int]:
    """FLOP, 2 x MAC, of the loss of a batch and its gradients, those of convolutions, and bytes kept in between."""
    ignored: list[Tensor] = [p for module in task.modules.values() for p in (*module.parameters(), *module.buffers())]
    device, convolution = torch.device(task.device).type, torch.backends.cudnn
    before, convolution.benchmark = convolution.benchmark, False  # no search for kernels that are run once
    # Kernels for attention on a CPU are in no register of countable operations; the plain one is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        with counted(ignored) as kept, torch.autocast(device, dtype=torch.bfloat16, enabled=task.bf16):
            loss = task.loss(0, batch)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
    convolution.benchmark = before
    convolved = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))
    return counter.get_total_flops(), convolved, kept[-1]


def _repeated(loader: BatchLoader, images: int) -> Iterator[Batch]:
    """The same few images again and again: what is timed is the network."""
    made = next(replace(loader, batch=min(images, MADE), workers=0, shares=(Share(),)).batches(0))
    again = torch.arange(images, device=made.labels.device) % len(made.labels)
    batch = Batch(tuple(view[again] for view in made.views), made.labels[again])
    while True:
        yield batch


def _measured_at_once(task: Task, loader: BatchLoader, most: int) -> tuple[int, float, float]:
    """The same of the largest micro-batch that fits a GPU: smaller ones would cost a search for kernels each."""
    images = most
    while True:
        try:
            seconds, fixed = _step_seconds(task, _repeated(loader, images), ENOUGH_S)
            return images, seconds, min(fixed, seconds)
        except torch.OutOfMemoryError:
            if images <= FEWEST:
                raise
        # After the handler, which holds the tensors of the failed step.
        torch.cuda.empty_cache()
        images = max(FEWEST, images // 4)


def _measured(task: Task, compiled: Callable[[], Loss], loader: BatchLoader, most: int) -> tuple[int, float, float]:
    """Images of the largest micro-batch that was timed, seconds of its step, and those of them that any step takes."""
    images = min(FEWEST, most)
    while True:
        seconds, fixed = _step_seconds(task, _repeated(loader, images), 0.0)
        if images == most or seconds > ENOUGH_S:
            break
        images = min(most, 4 * images)
    loss = compiled()
    if seconds < ENOUGH_S or loss is not task.loss:
        seconds, fixed = _step_seconds(replace(task, loss=loss), _repeated(loader, images), ENOUGH_S)
    return images, seconds, min(fixed, seconds)


def _step_seconds(task: Task, batches: Iterator[Batch], enough: float) -> tuple[float, float]:
    """Seconds of a step, and of what it does once, whatever its images: the optimiser and averages."""
    done, on_cuda = 0, task.device.startswith("cuda")
    with stepper(replace(task, accumulate=1), RunState()) as (take, losses):
        began = time.perf_counter()
        take(0, batches)  # warms caches and allocators
        losses.read()  # waits for the device
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        # On CUDA the first step also chooses and compiles kernels: it says nothing of the others.
        while (seconds < SLOW_S or on_cuda) and (not done or time.perf_counter() - began < enough):
            take(done + 1, batches)
            done += 1
            if done % 8 == 1:
                losses.read()
        losses.read()
        seconds = (time.perf_counter() - began) / done if done else seconds
    return seconds, _fixed_seconds(task)


def _fixed_seconds(task: Task) -> float:
    began = time.perf_counter()
    task.optimiser.step()
    task.after(0)
    if task.device.startswith("cuda"):
        torch.cuda.synchronize(task.device)
    return time.perf_counter() - began


def _loader_speed(loader: BatchLoader) -> float:
    """Images a second of the loader with its workers on this machine's cores, from what one of them makes."""
    if loader.resident:
        return _block_speed(replace(loader, shares=(Share(),)))
    settings = replace(loader, batch=min(loader.batch, 16), workers=0, device="cpu", shares=(Share(),))
    batches = settings.batches(0)
    next(batches)
    began, made = time.perf_counter(), 0
    while not made or time.perf_counter() - began < LOADED_S:
        made += len(next(batches).labels)
    return made / (time.perf_counter() - began) * max(1, min(loader.workers, os.cpu_count() or 1))


def _block_speed(loader: BatchLoader) -> float:
    """Images a second of batches that the device makes for many steps at a time."""
    batches, steps = loader.batches(0), block_steps(loader.batch)
    for _ in range(steps):  # the images are sent before the first
        next(batches)
    began = time.perf_counter()
    for _ in range(steps):
        last = next(batches)
    float(last.views[0][0, 0, 0, 0])  # waits for the device
    return steps * loader.batch / (time.perf_counter() - began)
