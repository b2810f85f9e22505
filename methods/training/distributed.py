"""Several processes that train one network together: joining them, averaging numbers, sharing records; no loss.

Every process holds all weights and sees its share of each batch; its gradients are averaged by gradient_buckets.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from bench.types.errors import TrainingError, first_line
from methods.training.losses import at_least_float32

BUCKET = 2**23  # values of one all-reduce: few calls, and little memory on top
PATIENCE = timedelta(hours=2)  # the others wait for the first to evaluate and to write
LOST = ("gloo", "nccl", "connection", "peer")  # words of what torch raises where a process is gone
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Held = TypeVar("Held", bound=Tensor)


@dataclass(frozen=True, slots=True)
class World:
    """Number of processes of a run, and the rank of this one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0


ALONE = World()


def join(device: str) -> World:
    """Join the other processes that torchrun started; alone where there are none.

    Raises: TrainingError where they cannot be met.
    """
    if not dist.is_available():
        return ALONE
    if dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    if _count("WORLD_SIZE", 1) == 1:
        return ALONE
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(device)
    try:
        # Words go by gloo on either device: they need no kernel, and no wait for those in progress.
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"cannot meet the other {_count('WORLD_SIZE', 1) - 1} processes ({first_line(error, 150)}); start them by "
            "torchrun --nproc_per_node N --no-python rrcm-bench train ..., or unset WORLD_SIZE to train in one"
        ) from error
    return World(dist.get_rank(), dist.get_world_size())


def _count(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdigit():
        raise TrainingError(f"{name} must be a whole number, as torchrun sets it, got {text!r}; unset it")
    return int(text)


def broadcast_weights(modules: Iterable[nn.Module]) -> None:
    """Send the weights of the first process to all others."""
    with torch.no_grad():
        for tensor in (tensor for module in modules for tensor in module.state_dict().values()):
            plain = tensor.contiguous()  # a channels-last weight travels in another order
            dist.broadcast(plain, 0)
            tensor.copy_(plain)


def average_buffers(modules: Iterable[nn.Module], world: World) -> None:
    """Replace running statistics by their means over the processes, which have seen different images."""
    buffers = [buffer for module in modules for buffer in module.buffers() if buffer.is_floating_point()]
    _average(buffers, world)


def _average(tensors: list[Tensor], world: World) -> None:
    with torch.no_grad():
        for bucket in buckets(tensors):
            flat = _flatten_dense_tensors(bucket)  # type: ignore[no-untyped-call]
            dist.all_reduce(flat)
            flat /= world.size
            means = _unflatten_dense_tensors(flat, bucket)  # type: ignore[no-untyped-call]
            for tensor, mean in zip(bucket, means, strict=True):
                tensor.copy_(mean)


def buckets(tensors: Sequence[Held]) -> Iterator[list[Held]]:
    """Tensors in their order, cut into lists of one dtype that are reduced at once."""
    bucket: list[Held] = []
    for tensor in tensors:
        if bucket and (bucket[0].dtype != tensor.dtype or sum(t.numel() for t in bucket) + tensor.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def average_numbers(numbers: Sequence[float], world: World) -> list[float]:
    """Means over the processes; NaN in one is NaN in all."""
    if world.size == 1 or not numbers:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return [total / world.size for total in sums.tolist()]


def wanted_by_any(wishes: Sequence[bool], world: World) -> list[bool]:
    """Each wish, where a process has it."""
    if world.size == 1:
        return list(wishes)
    sums = torch.tensor(wishes, dtype=torch.float64)
    dist.all_reduce(sums)
    return [total > 0 for total in sums.tolist()]


@contextmanager
def lost_processes(world: World) -> Iterator[None]:
    """Tell in one line that another process is gone, which is met in the next exchange with it.

    Raises: TrainingError.
    """
    try:
        yield
    except RuntimeError as error:
        if world.size == 1 or not any(word in str(error).lower() for word in LOST):
            raise
        raise TrainingError(
            f"another of the {world.size} processes has ended ({first_line(error, 100)}); the last checkpoint stays: "
            "see what it said, then start all of them again with --resume"
        ) from error


def same_everywhere(number: int, world: World) -> bool:
    """Whether all processes have the same number; none goes on before all have answered."""
    if world.size == 1:
        return True
    numbers: list[Any] = [None] * world.size
    dist.all_gather_object(numbers, number)
    return len(set(numbers)) == 1


def broadcast_record(record: dict[str, Any] | None, world: World) -> dict[str, Any]:
    """The first process's record, in all of them."""
    records: list[Any] = [record]
    if world.size > 1:
        dist.broadcast_object_list(records, 0, device=torch.device("cpu"))
    assert records[0] is not None  # noqa: S101 - the first process always gives one
    first: dict[str, Any] = records[0]
    return first


def gathered(x: Tensor, world: World) -> Tensor:
    """Rows of all processes, in their order; no gradient flows through it.

    Shapes: x (B / size, D); result (B, D).
    """
    if world.size == 1:
        return x
    rows = x.detach().contiguous()
    parts = [torch.empty_like(rows) for _ in range(world.size)]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


def sync_batch_norms(module: nn.Module, world: World) -> None:
    """Normalise by the statistics of all processes' batches; names of weights stay.

    Own code, for torch's SyncBatchNorm wants CUDA, and other modules in the place of these.
    Raises: TrainingError for a batch norm that does more than normalise.
    """
    for name, norm in batch_norms(module):
        if type(norm) not in NORMS:
            raise TrainingError(
                f"sync_bn knows torch's own BatchNorm layers, got {type(norm).__name__} at {name!r}; "
                "give --set sync_bn=false"
            )
        norm.forward = partial(_normalised, norm, world)


def batch_norms(module: nn.Module) -> list[tuple[str, Any]]:
    """Batch norms of a network, by name."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


class _Sum(torch.autograd.Function):
    """Sum over the processes; so is its gradient, since each one's input is in every one's output."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _normalised(norm: Any, world: World, x: Tensor) -> Tensor:
    """Batch normalisation over the images of all processes, each of which has as many.

    Source: Ioffe & Szegedy 2015, Algorithm 1.
    """
    if not norm.training:
        evaluated: Tensor = type(norm).forward(norm, x)
        return evaluated
    wide = at_least_float32(x)
    dims = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    count = x.numel() // x.shape[1] * world.size
    mean = _summed(wide.sum(dims)) / count
    # Twice over the images: the difference of two large sums of squares would cancel.
    centred = wide - mean.view(shape)
    variance = _summed(centred.square().sum(dims)) / count
    result = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        result = result * norm.weight.view(shape) + norm.bias.view(shape)
    if norm.track_running_stats:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
            norm.running_var.lerp_((variance * (count / max(count - 1, 1))).to(norm.running_var.dtype), rate)
    narrow: Tensor = result.to(x.dtype)
    return narrow


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)
    return total
