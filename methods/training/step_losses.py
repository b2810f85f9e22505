"""Losses of the steps of a run, read from the device only when somebody wants to see them; computes none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.types.errors import TrainingError
from methods.training import distributed
from methods.training.checkpoints import RunState
from methods.training.distributed import World


class StepLosses:
    """Losses that are still on the device, and their way into the sums of a run.

    Reading one waits until the device has done all that was asked of it before: a read in every step would leave it
    idle while the next step is prepared.
    """

    def __init__(self, state: RunState, world: World) -> None:
        self._state, self._world = state, world
        self._steps: list[tuple[int, Sequence[Mapping[str, Tensor]]]] = []
        self._norms: list[Tensor] = []

    def add(self, step: int, micro: Sequence[Mapping[str, Tensor]]) -> None:
        """Losses of the micro-batches of a step."""
        self._steps.append((step, micro))

    def add_norm(self, norm: Tensor) -> None:
        """Gradient norm of a step, which is the same in all processes."""
        self._norms.append(norm.detach())

    def read(self) -> None:
        """Add what is waiting to the sums; every process must read at the same step.

        Raises: TrainingError for the first step whose loss is not finite in a process.
        """
        found = [value for _, micro in self._steps for parts in micro for value in parts.values()] + self._norms
        values = iter(_numbers(found))
        means: list[float] = []
        for _, micro in self._steps:
            sums: dict[str, float] = {}
            for parts in micro:
                for name in parts:
                    sums[name] = sums.get(name, 0.0) + next(values)
            means += [value / len(micro) for value in sums.values()]
        averaged = iter(distributed.average_numbers(means, self._world))
        sums = self._state.sums
        for step, micro in self._steps:
            for name in micro[0]:
                mean = next(averaged)
                if name == "loss" and not math.isfinite(mean):
                    raise TrainingError(
                        f"the loss must stay finite, got {mean} at step {step}; stopped, and a checkpoint saved before "
                        "stays: lower lr (--set lr=...), or clip gradients (--set clip=1.0), and start in another --out"
                    )
                sums[name] = sums.get(name, 0.0) + mean
        for norm in values:
            sums["grad_norm"] = sums.get("grad_norm", 0.0) + norm
        self._steps, self._norms = [], []


def _numbers(found: Sequence[Tensor]) -> list[float]:
    if not found:
        return []
    numbers: list[float] = torch.stack([value.detach() for value in found]).double().tolist()
    return numbers
