"""A task spread over processes, cut into micro-batches, compiled, its weights averaged; no loss, no step.

The settings that decide it are in `StageSettings`. With one process, one micro-batch and no average, a task stays as it
was given, to the last bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.types.errors import TrainingError, first_line
from methods.training import distributed
from methods.training.distributed import World
from methods.training.loop import Task
from methods.training.settings import StageSettings

BACKEND = "inductor"  # of torch.compile
AVERAGED = "averaged"  # a module of that name is a stage's own average: another is not made
# Settings that cannot change a weight but by rounding. With batch norm, the number of images that it sees together can:
# `set_up` records that number instead.
EXECUTION = ("workers", "compile", "accumulate", "sync_bn")


def set_up(task: Task, settings: StageSettings, world: World) -> tuple[Task, Callable[[], None]]:
    """The task as the settings want it executed, and a function that puts averaged weights in place at the end.

    Raises: TrainingError where batch norm cannot be shared.
    """
    trained = dict(task.modules)
    modules, after = dict(trained), [task.after]
    identity = dict(task.identity)
    averaged: dict[str, nn.Module] = {}
    if settings.ema > 0 and AVERAGED not in trained:
        learning = {
            name: module for name, module in trained.items() if any(p.requires_grad for p in module.parameters())
        }
        averaged = {name: copy.deepcopy(module).requires_grad_(False) for name, module in learning.items()}
        modules |= {f"{name}.{AVERAGED}": module for name, module in averaged.items()}
        after.append(lambda step: _update_average(averaged, learning, settings.ema, step))
    together = settings.batch // settings.accumulate
    if any(distributed.batch_norms(module) for module in trained.values()):
        if not settings.sync_bn:
            together //= world.size
        if together != settings.batch:
            identity["batch_norm_sees"] = together
    if world.size > 1:
        distributed.broadcast_weights(modules.values())
        if settings.sync_bn:
            for module in trained.values():
                distributed.sync_batch_norms(module, world)
        else:
            after.insert(0, lambda _step: distributed.average_buffers(trained.values(), world))
    loss = task.loss
    if settings.compile:
        for module in trained.values():
            module.compile(backend=BACKEND)  # in place: the names of the weights stay
        loss = _with_compile_error(loss)

    def all_after(step: int) -> None:
        for each in after:
            each(step)

    def finish() -> None:
        for name, module in averaged.items():
            trained[name].load_state_dict(module.state_dict())

    made = replace(
        task,
        modules=modules,
        loss=loss,
        after=all_after,
        identity=identity,
        accumulate=settings.accumulate,
        world=world,
    )
    return made, finish


def compiled(function: Callable[..., Any], settings: StageSettings) -> Callable[..., Any]:
    """A method of a network that a loss calls beside `forward`, compiled where the settings say so."""
    made: Callable[..., Any] = torch.compile(function, backend=BACKEND) if settings.compile else function
    return made


def _update_average(
    averaged: Mapping[str, nn.Module], trained: Mapping[str, nn.Module], decay: float, step: int
) -> None:
    """Move averages towards the weights: parameters and running statistics alike; counters are copied.

    The decay grows from 0.1 as (1 + step) / (10 + step), so that a short run does not export its initial weights.
    Own code: timm's ModelEmaV3 warms up by another curve, diffusers' EMAModel leaves out buffers, torch's AveragedModel
    copies at the first step.
    Source: Tarvainen & Valpola 2017, Section 2.
    """
    rate = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for name, module in averaged.items():
            now = trained[name].state_dict()
            for key, slow in module.state_dict().items():
                if slow.is_floating_point():
                    slow.lerp_(now[key], rate)
                else:
                    slow.copy_(now[key])


def _with_compile_error(loss: Callable[[int, Any], Mapping[str, Tensor]]) -> Callable[[int, Any], Mapping[str, Tensor]]:
    from torch._dynamo.exc import TorchDynamoException

    def guarded(step: int, batch: Any) -> Mapping[str, Tensor]:
        try:
            return loss(step, batch)
        except TorchDynamoException as error:
            raise TrainingError(
                f"compile=true needs a compiler that torch.compile can use, got {first_line(error, 150)!r}; leave "
                "--set compile out"
            ) from error

    return guarded
