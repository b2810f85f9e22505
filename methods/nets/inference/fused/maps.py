"""Kernels on maps of channels, which lie fastest last in memory: what follows a convolution, and small convolutions."""

# A kernel's types are triton's own, which mypy cannot read.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # values of a program
PIXELS, WARPS = 128, 4  # of a program that convolves


@triton.jit
def _finish(
    y, bias, other, out, rows, C,
    biased: tl.constexpr, added: tl.constexpr, relu: tl.constexpr, block_r: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * block_r + tl.arange(0, block_r)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    at = row[:, None] * C + c[None, :]
    there = (row < rows)[:, None] & (c < C)[None, :]
    v = tl.load(y + at, mask=there, other=0.0).to(tl.float32)
    if biased:
        v += tl.load(bias + c, mask=c < C, other=0.0)[None, :]
    if added:
        v += tl.load(other + at, mask=there, other=0.0).to(tl.float32)
    if relu:
        v = tl.maximum(v, 0.0)
    tl.store(out + at, v.to(out.dtype.element_ty), mask=there)


# Sizes of maps are no constants of the kernel, whatever they are: a map of one pixel runs the same code as any other.
@triton.jit(do_not_specialize=["pixels", "H", "W", "rows", "columns"])
def _pool(y, bias, out, pixels, H, W, rows, columns, C, block_p: tl.constexpr, block_c: tl.constexpr):
    p = tl.program_id(0) * block_p + tl.arange(0, block_p)
    c = tl.arange(0, block_c)
    copy = (p // (rows * columns)).to(tl.int64)
    i = p // columns % rows
    j = p % columns
    largest = tl.full((block_p, block_c), float("-inf"), tl.float32)
    for k in tl.static_range(9):
        row = 2 * i - 1 + k // 3
        column = 2 * j - 1 + k % 3
        inside = (p < pixels) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
        at = ((copy * H + row) * W + column) * C
        v = tl.load(y + at[:, None] + c[None, :], mask=inside[:, None] & (c < C)[None, :], other=float("-inf"))
        largest = tl.maximum(largest, v.to(tl.float32))
    largest = tl.maximum(largest + tl.load(bias + c, mask=c < C, other=0.0)[None, :], 0.0)
    at = p.to(tl.int64)[:, None] * C + c[None, :]
    tl.store(out + at, largest.to(out.dtype.element_ty), mask=(p < pixels)[:, None] & (c < C)[None, :])


@triton.jit(do_not_specialize=["pixels", "H", "W", "rows", "columns"])
def _convolve(
    x, weight, bias, other, out, pixels, H, W, rows, columns,
    kernel: tl.constexpr, stride: tl.constexpr, inputs: tl.constexpr, outputs: tl.constexpr,
    added: tl.constexpr, relu: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * block + tl.arange(0, block)
    k = tl.arange(0, inputs)
    o = tl.arange(0, outputs)
    copy = p // (rows * columns)
    i = p // columns % rows
    j = p % columns
    total = tl.zeros((block, outputs), tl.float32)
    for tap in tl.static_range(kernel * kernel):
        row = i * stride + tap // kernel - kernel // 2
        column = j * stride + tap % kernel - kernel // 2
        inside = (p < pixels) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
        at = ((copy * H + row) * W + column) * inputs
        a = tl.load(x + at[:, None] + k[None, :], mask=inside[:, None], other=0.0)
        b = tl.load(weight + (tap * inputs + k)[:, None] * outputs + o[None, :])
        total = tl.dot(a, b, total)
    total += tl.load(bias + o)[None, :]
    at = p[:, None] * outputs + o[None, :]
    if added:
        total += tl.load(other + at, mask=(p < pixels)[:, None], other=0.0).to(tl.float32)
    if relu:
        total = tl.maximum(total, 0.0)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(p < pixels)[:, None])


def laid(x: Tensor) -> Tensor:
    """With channels fastest last: itself, unless a library returned another layout."""
    return x.contiguous(memory_format=torch.channels_last)


def finish(y: Tensor, bias: Tensor | None, other: Tensor | None = None, *, relu: bool) -> Tensor:
    """y + bias + other, then ReLU, rounded once, in place of y where its channels lie fastest last.

    Shapes: y and other (B, C, H, W) channels-last; bias (C,).
    """
    C, y = y.shape[1], laid(y)
    other = None if other is None else laid(other)
    rows = y.numel() // C
    block_c = min(triton.next_power_of_2(C), 256)
    block_r = TILE // block_c
    with torch.cuda.device_of(y):
        _finish[(triton.cdiv(rows, block_r), triton.cdiv(C, block_c))](
            y, y if bias is None else bias, y if other is None else other, y, rows, C,
            biased=bias is not None, added=other is not None, relu=relu, block_r=block_r, block_c=block_c, num_warps=4,
        )  # fmt: skip
    return y


def finish_pool(y: Tensor, bias: Tensor) -> Tensor:
    """The largest of 3x3 at steps of 2, a row of padding around; then bias and ReLU, as if they had been first.

    Shapes: y (B, C, H, W) channels-last, C <= 256; bias (C,) float32.
    """
    B, C, H, W = y.shape
    y = laid(y)
    rows, columns = (H + 1) // 2, (W + 1) // 2
    out = torch.empty(B, C, rows, columns, dtype=y.dtype, device=y.device, memory_format=torch.channels_last)
    block_c = triton.next_power_of_2(C)
    block_p, pixels = max(1, 2048 // block_c), B * rows * columns
    with torch.cuda.device_of(y):
        _pool[(triton.cdiv(pixels, block_p),)](
            y, bias, out, pixels, H, W, rows, columns, C, block_p=block_p, block_c=block_c, num_warps=4
        )
    return out


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None = None, *, kernel: int, stride: int, relu: bool
) -> Tensor:
    """A convolution of few channels, all of whose outputs one program makes; with bias, sum and ReLU.

    Shapes: x (B, C, H, W) channels-last; weight (kernel * kernel, C, O), odd kernel, padded by half of it; bias (O,)
    float32; C and O powers of 2 from 16 on; result (B, O, H / stride, W / stride).
    """
    B, C, H, W = x.shape
    O = weight.shape[2]  # noqa: E741  the field's letter for output channels
    rows, columns = (H - 1) // stride + 1, (W - 1) // stride + 1
    out = torch.empty(B, O, rows, columns, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    x, pixels = laid(x), B * rows * columns
    other = None if other is None else laid(other)
    with torch.cuda.device_of(x):
        _convolve[(triton.cdiv(pixels, PIXELS),)](
            x, weight, bias, x if other is None else other, out, pixels, H, W, rows, columns,
            kernel=kernel, stride=stride, inputs=C, outputs=O, added=other is not None, relu=relu, block=PIXELS,
            num_warps=WARPS,
        )  # fmt: skip
    return out


def whole(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, stride: int, padding: int) -> Tensor:
    """relu(convolution + bias + other) by cuDNN, all in half precision.

    Shapes: x (B, C, H, W), weight (O, C, k, k) and other (B, O, H', W') channels-last; bias (O,).
    Raises: RuntimeError where cuDNN has no such kernel.
    """
    place = ([stride] * 2, [padding] * 2, [1, 1], 1)
    made: Tensor
    if other is None:
        made = torch.ops.aten.cudnn_convolution_relu(x, weight, bias, *place)
    else:
        made = torch.ops.aten.cudnn_convolution_add_relu(x, weight, other, 1.0, bias, *place)
    return made
