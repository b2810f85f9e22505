"""The kernels' results by torch's own operations, to compare with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patches(
    x: Tensor, shift: Tensor, scale: Tensor, dtype: torch.dtype, *, side: int, gain: float = 1.0, before: int = 0,
    after: int = 0, width: int | None = None, split: bool = False,
) -> Tensor:  # fmt: skip
    """As `tokens.patches`."""
    B, C = x.shape[:2]
    x = F.pad((x.float() - shift) / scale * gain, (before, after, before, after))
    rows, columns = x.shape[2] // side, x.shape[3] // side
    squares = x[:, :, : rows * side, : columns * side].reshape(B, C, rows, side, columns, side)
    cut = squares.permute(0, 2, 4, 1, 3, 5).reshape(B, rows, columns, C * side * side)
    if split:
        cut = torch.cat((cut, cut - cut.to(dtype).float(), cut), dim=3)
    return F.pad(cut, (0, (width or cut.shape[3]) - cut.shape[3])).to(dtype)


def add_norm(stream: Tensor, branch: Tensor | None, norm: nn.LayerNorm, dtype: torch.dtype) -> Tensor:
    """As `tokens.add_norm`."""
    if branch is not None:
        stream += branch.float()
    return F.layer_norm(stream, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def assemble_norm(table: Tensor, patched: Tensor, norm: nn.LayerNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """As `tokens.assemble_norm`."""
    stream = table + F.pad(patched.float(), (0, 0, len(table) - patched.shape[1], 0))
    return stream, add_norm(stream, None, norm, dtype)


def gelu_(x: Tensor) -> Tensor:
    """As `tokens.gelu_`."""
    return x.copy_(F.gelu(x.float()))


def finish(y: Tensor, bias: Tensor | None, other: Tensor | None = None, *, relu: bool) -> Tensor:
    """As `maps.finish`."""
    total = y.float()
    if bias is not None:
        total = total + bias.float()[:, None, None]
    if other is not None:
        total = total + other.float()
    return y.copy_(F.relu(total) if relu else total)


def finish_pool(y: Tensor, bias: Tensor) -> Tensor:
    """As `maps.finish_pool`."""
    return F.max_pool2d(F.relu(y.float() + bias[:, None, None]), 3, 2, 1).to(y.dtype)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None = None, *, kernel: int, stride: int, relu: bool
) -> Tensor:
    """As `maps.convolve`."""
    taps = weight.float().view(kernel, kernel, *weight.shape[1:]).permute(3, 2, 0, 1)
    total = F.conv2d(x.float(), taps, bias, stride, kernel // 2)
    if other is not None:
        total = total + other.float()
    return (F.relu(total) if relu else total).to(x.dtype)


def whole(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, stride: int, padding: int) -> Tensor:
    """As `maps.whole`."""
    total = F.conv2d(x.float(), weight.float(), bias.float(), stride, padding)
    return F.relu(total if other is None else total + other.float()).to(x.dtype)


def group_norm(
    x: Tensor, norm: nn.GroupNorm, *, silu: bool, before: Tensor | None = None, film: Tensor | None = None,
    resample: str = "",
) -> Tensor:  # fmt: skip
    """As `groups.group_norm`."""
    y = x.float() if before is None else x.float() + before.reshape(-1, x.shape[1], 1, 1)
    y = F.group_norm(y, norm.num_groups, norm.weight, norm.bias, norm.eps)
    if film is not None:
        gain, shift = film.float()[:, :, None, None].chunk(2, dim=1)
        y = y * (1 + gain) + shift
    y = F.silu(y) if silu else y
    if resample:
        y = doubled(y) if resample == "double" else halved(y)
    return y.to(x.dtype)


def doubled(x: Tensor) -> Tensor:
    """As `groups.doubled`."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def halved(x: Tensor) -> Tensor:
    """As `groups.halved`."""
    return F.avg_pool2d(x.float(), 2).to(x.dtype)
