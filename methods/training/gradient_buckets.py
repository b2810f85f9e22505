"""Gradients averaged over the processes while the backward pass goes on; no loss, no optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from methods.training.distributed import World, buckets


class GradientBuckets:
    """Buckets of parameters, each reduced as soon as all of its gradients are there.

    Own code in place of DistributedDataParallel, which wraps one module with one forward pass: a loss here is a closure
    over any number of modules, called in any order. As there, buckets follow the parameters from the last to the first
    and are sent in that order, so that all processes send the same; which parameters have a gradient is the same
    everywhere, since the same loss has built the graph.
    Source: Li et al. 2020, PyTorch Distributed, Section 3.2.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], world: World) -> None:
        self._world = world
        self._buckets = [list(each) for each in buckets([p for p in reversed(parameters) if p.requires_grad])]
        self._missing: list[int] = []
        self._sent: list[tuple[list[Tensor], Tensor, Any]] = []
        self._next = 0
        self._armed = False
        self._hooks: list[Any] = []
        for i, bucket in enumerate(self._buckets):
            for parameter in bucket:
                hook = parameter.register_post_accumulate_grad_hook(lambda _p, i=i: self._arrived(i))  # type: ignore[no-untyped-call]
                self._hooks.append(hook)

    def arm(self) -> None:
        """Send buckets in the next backward pass, which is the last of the step."""
        self._missing = [len(bucket) for bucket in self._buckets]
        self._next, self._armed = 0, True

    def finish(self) -> None:
        """Send what is left, wait for all, and put the means in the gradients' place."""
        self._armed = False
        while self._next < len(self._buckets):
            self._send()
        for gradients, flat, work in self._sent:
            work.wait()
            flat /= self._world.size
            means = _unflatten_dense_tensors(flat, gradients)  # type: ignore[no-untyped-call]
            torch._foreach_copy_(gradients, list(means))
        self._sent = []

    def remove(self) -> None:
        """Take the hooks from the parameters."""
        for hook in self._hooks:
            hook.remove()

    def _arrived(self, i: int) -> None:
        if not self._armed:
            return
        self._missing[i] -= 1
        while self._next < len(self._buckets) and not self._missing[self._next]:
            self._send()

    def _send(self) -> None:
        gradients = [p.grad for p in self._buckets[self._next] if p.grad is not None]
        self._next += 1
        if gradients:
            flat = _flatten_dense_tensors(gradients)  # type: ignore[no-untyped-call]
            self._sent.append((gradients, flat, dist.all_reduce(flat, async_op=True)))
