"""Checkpoints of a training run: how far it is, its weights and moments; which file is one; trains nothing."""

from __future__ import annotations

import json
import math
import pickle
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor

from bench.types.atomic_file import atomic_path
from bench.types.errors import TrainingError, first_line

if TYPE_CHECKING:
    from methods.training.loop import Task

# What torch.load, and reading what it gives, raise on a damaged file depends on where the damage is.
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, NameError),
    *(ArithmeticError, MemoryError, ImportError, struct.error, pickle.UnpicklingError),
)
CHECKPOINT = "checkpoint.pt"
FORMAT = 1


@dataclass(slots=True)
class RunState:
    """How far a run is."""

    step: int = 0  # steps done
    seconds: float = 0.0
    asked: int = 0  # the signal that asked this process to stop
    stop: bool = False  # all processes together
    sums: dict[str, float] = field(default_factory=dict)  # of the losses since the last line of metrics
    summed: int = 0  # steps in them


def save(task: Task, path: Path, state: RunState) -> None:
    """Write a checkpoint, whole or not at all.

    Raises: TrainingError where it cannot be written.
    """
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
        raise unwritten(path, error) from error


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


def restore(task: Task, path: Path) -> RunState:
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
    return RunState(kept.step, kept.seconds, sums=kept.sums, summed=kept.summed)


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


def unwritten(path: Path, error: Exception) -> TrainingError:
    """The refusal of a file that cannot be written."""
    return TrainingError(f"cannot write {path}: {error}; free some space, then --resume")
