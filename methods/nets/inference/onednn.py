"""Residual blocks on a CPU whose sum and ReLU are done by oneDNN in the pass that convolves."""

from __future__ import annotations

from functools import cache
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.nets.cifar_resnet import BasicBlock, CifarResNet

CLOSE = 0.02  # of half precision, where values are of order 1
SHAPE = (4, 16, 8, 8)  # of the maps that it is tried on


class FusedBlock(nn.Module):
    """A block without batch norms, over whose input its output is written where that is the shortcut.

    Differs: in half precision the sum is rounded once, the convolution before it not at all; in float32 nothing.
    """

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        block = self.block
        dtype = block.conv1.weight.dtype
        half = torch.is_autocast_enabled("cpu")
        # torch convolves a single small map in float32 without oneDNN: it must go on to, or its last bits would change.
        alone = len(x) == 1 and dtype == torch.float32
        if alone or torch.is_grad_enabled() or x.dtype != dtype or half != (dtype != torch.float32):
            y: Tensor = block(x)
            return y
        y = _convolved(x, block.conv1)
        return _added(block.shortcut(x), y, block.conv2)


def fuse_blocks(network: nn.Module, dtype: torch.dtype) -> int:
    """Let the residual blocks of a network in eval mode, its batch norms folded, run fused, in place; how many do.

    Those of a `CifarResNet` alone: there a block's input is read by nothing else, and may be written over.
    """
    # A network may be optimised again, behind another normaliser: what is fused, no child of a stage any more, stays.
    stages = [stage for part in network.modules() if type(part) is CifarResNet for stage in part.children()]
    found = [(stage, name, m) for stage in stages for name, m in stage.named_children() if _folded(m)]
    if not found or not fused_convolutions(dtype):
        return 0
    for stage, name, block in found:
        stage.set_submodule(name, FusedBlock(block).eval())
    return len(found)


@cache
def fused_convolutions(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolutions are there, and right: in float32 to the last bit, so that no vote moves.

    The operators are torch's private ones. Not chosen by time, which would let a busy machine choose how it rounds.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # its initialisation draws
        conv = nn.Conv2d(SHAPE[1], SHAPE[1], 3, padding=1, dtype=dtype).requires_grad_(False)
    for part in conv.parameters():
        part.copy_(torch.randn(part.shape, generator=generator) / 12)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    x, other = (torch.randn(SHAPE, generator=generator).to(dtype) for _ in range(2))
    x, other = (part.contiguous(memory_format=torch.channels_last) for part in (x, other))
    with torch.inference_mode():
        plain = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1)), F.relu(conv(x) + other)
        try:
            fused = _convolved(x, conv), _added(other, x, conv)
        except (RuntimeError, TypeError, NotImplementedError, AttributeError):
            return False
    if dtype == torch.float32:
        return all(torch.equal(a, b) for a, b in zip(fused, plain, strict=True))
    return all(bool((a - b).abs().max() <= CLOSE * b.abs().max()) for a, b in zip(fused, plain, strict=True))


def _convolved(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """ReLU of the convolution."""
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups, "relu", [], ""
    )
    return y


def _added(other: Tensor, x: Tensor, conv: nn.Conv2d) -> Tensor:
    """ReLU of the convolution's sum with another map, written over that."""
    sizes = (conv.padding, conv.stride, conv.dilation, conv.groups)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        other, x, conv.weight, conv.bias, *sizes, "add", 1.0, "relu", [], ""
    )
    return y


def _folded(module: nn.Module) -> TypeGuard[BasicBlock]:
    return (
        type(module) is BasicBlock
        and not module.training
        and isinstance(module.bn1, nn.Identity)
        and isinstance(module.bn2, nn.Identity)
    )
