"""A task spread over processes, compiled, checkpointed, its weights averaged; no loss, no step.

The settings that decide it are in `StageSettings`. With one process, one micro-batch and no average, a task stays as it
was given, to the last bit.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.types.errors import TrainingError, first_line
from methods.nets.vit import ClassToken, Tokens
from methods.training import distributed
from methods.training.distributed import World
from methods.training.loop import Task
from methods.training.settings import StageSettings

BACKEND = "inductor"  # of torch.compile
GRAPHS = "cudagraphs"  # its backend that translates nothing: the kernels as they are, asked for all at once
LARGE = 10**7  # weights of a residual network that is worth compiling; a CIFAR ResNet-110 has 1.7 million
COMPILED_FROM = 2000  # steps of a run that earn back the half minute of compiling a transformer's blocks
WHOLE_FROM = 10_000  # and the minute of a ResNet-50
AVERAGED = "averaged"  # a module of that name is a stage's own average: another is not made
# Settings that cannot change a weight but by rounding. With batch norm, the number of images that it sees together can:
# `set_up` records that number instead.
EXECUTION = ("workers", "compile", "checkpoint", "micro_batch", "accumulate", "sync_bn", "keep_every")


def set_up(task: Task, settings: StageSettings, world: World) -> tuple[Task, Callable[[], None]]:
    """The task as the settings want it executed, and a function that puts averaged weights in place at the end.

    Raises: TrainingError where batch norm cannot be shared, or there are no blocks to checkpoint.
    """
    trained = dict(task.modules)
    if task.device.startswith("cuda"):
        for module in trained.values():
            _channels_last(module)
    modules, after = dict(trained), [task.after]
    identity = dict(task.identity)
    averaged: dict[str, nn.Module] = {}
    if settings.ema > 0 and AVERAGED not in trained:
        learning = {
            name: module for name, module in trained.items() if any(p.requires_grad for p in module.parameters())
        }
        averaged = {name: copy.deepcopy(module).requires_grad_(False) for name, module in learning.items()}
        modules |= {f"{name}.{AVERAGED}": module for name, module in averaged.items()}
        after.append(_average(averaged, learning, settings.ema))
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
    if settings.checkpoint:
        _checkpoint_blocks(trained)
    loss = compiled_loss(replace(task, modules=trained), settings)

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


def compiled_loss(
    task: Task, settings: StageSettings, *, quick: bool = False
) -> Callable[[int, Any], Mapping[str, Tensor]]:
    """The task's loss with its networks compiled in place, where the settings want it; names of weights stay.

    `quick` leaves out whole networks, which take up to a minute, unless they are asked for.
    """
    if settings.compile == "true":
        for module in task.modules.values():
            module.compile(backend=BACKEND)
        return _with_compile_error(task.loss)
    if settings.compile == "graphs" and task.device.startswith("cuda") and settings.accumulate == 1:
        # Of one micro-batch a step: a graph's gradients lie where those of the next one will.
        return _compiled_modules(list(task.modules.values()), task.loss, GRAPHS)
    if settings.compile == "auto" and task.device.startswith("cuda") and task.steps >= COMPILED_FROM:
        # Not with checkpoints: what is computed again is then computed as it was written.
        modules = () if settings.checkpoint else task.modules.values()
        whole = compiles_whole(task, settings) and not quick
        parts = [part for module in modules for part in _parts(module) if whole or part is not module]
        return _compiled_modules(parts, task.loss, BACKEND)
    return task.loss


def uncompile(modules: Iterable[nn.Module]) -> None:
    """Networks as they were written: what is compiled is for a step's batches, and would be made anew for others."""
    for module in modules:
        for part in module.modules():
            part._compiled_call_impl = None


def compiled(function: Callable[..., Any], settings: StageSettings) -> Callable[..., Any]:
    """A method of a network that a loss calls beside `forward`, compiled where the settings say so."""
    made: Callable[..., Any] = torch.compile(function, backend=BACKEND) if settings.compile == "true" else function
    return made


def _blocks(module: nn.Module) -> list[nn.Module]:
    """Blocks of a transformer, by timm's name for them; none of another network."""
    found = [part for name, part in module.named_modules() if name.rpartition(".")[2] == "blocks"]
    return [block for part in found for block in part.children()]


def _parts(module: nn.Module) -> list[nn.Module]:
    """What is compiled of a network: a transformer's blocks and what is known around them, or all of a large ResNet."""
    if blocks := _blocks(module):
        return [*blocks, *(part for part in module.modules() if type(part) in (Tokens, ClassToken))]
    return [module] if _large_resnet(module) else []


def compiles_whole(task: Task, settings: StageSettings) -> bool:
    """Whether a whole network is compiled, which takes up to a minute, unasked."""
    long = settings.compile == "auto" and task.device.startswith("cuda") and task.steps >= WHOLE_FROM
    return long and any(module in _parts(module) for module in task.modules.values())


def _large_resnet(module: nn.Module) -> bool:
    """Whether half of a network's step goes into kernels of batch norms, sums and ReLUs, that inductor makes few of.

    Compiled, a ResNet-50 trains on 1.42 times as many images a second on an H200. Not where batch norms are shared
    among processes: they wait for each other.
    """
    norms = [norm for _, norm in distributed.batch_norms(module) if isinstance(norm, nn.BatchNorm2d)]
    shared = any("forward" in vars(norm) for norm in norms)
    return bool(norms) and not shared and sum(p.numel() for p in module.parameters() if p.requires_grad) >= LARGE


def _channels_last(module: nn.Module) -> None:
    """The layout that a GPU's convolutions compute in, for residual networks."""
    if any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        module.to(memory_format=torch.channels_last)


def _checkpoint_blocks(trained: Mapping[str, nn.Module]) -> None:
    """Keep the inputs of blocks alone, and compute the rest again in the backward pass.

    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.
    Raises: TrainingError for networks without blocks.
    """
    learning = [module for module in trained.values() if any(p.requires_grad for p in module.parameters())]
    blocks: list[Any] = [block for module in learning for block in _blocks(module)]
    if not blocks:
        raise TrainingError(
            "checkpoint=true computes the blocks of a transformer twice, this network has none; leave --set checkpoint "
            "out, or lower --set batch=..."
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _compiled_modules(
    modules: list[nn.Module], loss: Callable[[int, Any], Mapping[str, Tensor]], backend: Any
) -> Callable[[int, Any], Mapping[str, Tensor]]:
    """A loss whose modules are compiled, or left as they are where that cannot be."""
    if not modules:
        return loss
    from torch._dynamo.exc import TorchDynamoException

    for module in modules:
        module.compile(backend=backend)

    def guarded(step: int, batch: Any) -> Mapping[str, Tensor]:
        # What graphs of the step before have left may be overwritten.
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            return loss(step, batch)
        except TorchDynamoException as error:
            print(f"! goes on without torch.compile, which said {first_line(error, 150)!r}", file=sys.stderr)
            uncompile(modules)
            return loss(step, batch)

    return guarded


def _average(
    averaged: Mapping[str, nn.Module], trained: Mapping[str, nn.Module], decay: float
) -> Callable[[int], None]:
    """Move averages towards the weights after a step: parameters and running statistics alike; counters are copied.

    The decay grows from 0.1 as (1 + step) / (10 + step), so that a short run does not export its initial weights.
    Own code: timm's ModelEmaV3 warms up by another curve, diffusers' EMAModel leaves out buffers, torch's AveragedModel
    copies at the first step.
    Source: Tarvainen & Valpola 2017, Section 2.
    """
    pairs = [
        pair
        for name, module in averaged.items()
        for pair in zip(module.state_dict().values(), trained[name].state_dict().values(), strict=True)
    ]
    moving = [pair for pair in pairs if pair[0].is_floating_point()]
    slow, now = [left for left, _ in moving], [right for _, right in moving]
    counters = [pair for pair in pairs if not pair[0].is_floating_point()]
    counted, counting = [left for left, _ in counters], [right for _, right in counters]

    def update(step: int) -> None:
        torch._foreach_lerp_(slow, now, 1 - min(decay, (1 + step) / (10 + step)))
        if counted:
            torch._foreach_copy_(counted, counting)

    return update


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
