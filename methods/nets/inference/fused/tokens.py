"""Kernels on rows of tokens: patches out of pixels, residual sum and layer norm at once, GELU."""

# A kernel's types are triton's own, which mypy cannot read.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048  # values of a program of the elementwise kernels


@triton.jit
def _patches(
    x, out, shift, scale, gain, before, H, W, columns, values,
    channels: tl.constexpr, side: tl.constexpr, width: tl.constexpr, single: tl.constexpr, split: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    copy = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * block + tl.arange(0, block)
    q = n % width
    place = n // width
    c = q // (side * side)
    part = c // channels
    if split:
        c = tl.where(part < 3, c % channels, channels)
    row = place // columns * side + q // side % side - before
    column = place % columns * side + q % side - before
    inside = (n < values) & (c < channels) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
    value = tl.load(x + copy * (channels * H * W) + (c * H + row) * W + column, mask=inside, other=0.0)
    if single:
        off, by = tl.load(shift) + 0.0 * value, tl.load(scale) + 0.0 * value
    else:
        off = tl.load(shift + c, mask=inside, other=0.0)
        by = tl.load(scale + c, mask=inside, other=1.0)
    value = tl.div_rn(value - off, by) * gain
    value = tl.where(inside, value, 0.0)
    if split:
        value = tl.where(part == 1, value - value.to(out.dtype.element_ty).to(tl.float32), value)
    tl.store(out + copy * values + n, value.to(out.dtype.element_ty), mask=n < values)


@triton.jit
def _add_norm(
    stream, branch, weight, bias, kept, out, D, eps, tokens, prefix,
    added: tl.constexpr, assembled: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    there = column < D
    if assembled:  # the first sum: a table of T rows, on which the patches of each copy stand behind the prefix
        token = row % tokens
        x = tl.load(stream + token * D + column, mask=there, other=0.0)
        patch = (row // tokens) * (tokens - prefix) + token - prefix
        x += tl.load(branch + patch * D + column, mask=there & (token + 0 * column >= prefix), other=0.0).to(tl.float32)
        tl.store(kept + row * D + column, x, mask=there)
    else:
        x = tl.load(stream + row * D + column, mask=there, other=0.0)
        if added:
            x += tl.load(branch + row * D + column, mask=there, other=0.0).to(tl.float32)
            tl.store(kept + row * D + column, x, mask=there)
    mean = tl.sum(x, axis=0) / D
    centred = tl.where(there, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / D + eps)
    y = centred * scale * tl.load(weight + column, mask=there, other=0.0)
    y += tl.load(bias + column, mask=there, other=0.0)
    tl.store(out + row * D + column, y.to(out.dtype.element_ty), mask=there)


@triton.jit
def _gelu(x, values, block: tl.constexpr):
    n = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    there = n < values
    v = tl.load(x + n, mask=there, other=0.0).to(tl.float32)
    # erfc by formula 7.1.26 of Abramowitz & Stegun 1964, 1.5e-7 off: far below the rounding of the result, and a
    # third of the instructions of erf, which would outlast the memory.
    z = tl.abs(v) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * tl.exp(-z * z)
    y = 0.5 * v * tl.where(v > 0, 2.0 - tail, tail)
    tl.store(x + n, y.to(x.dtype.element_ty), mask=there)


def patches(
    x: Tensor, shift: Tensor, scale: Tensor, dtype: torch.dtype, *, side: int, gain: float = 1.0, before: int = 0,
    after: int = 0, width: int | None = None, split: bool = False,
) -> Tensor:  # fmt: skip
    """Squares of `side` pixels as rows of values: ((x - shift) / scale) * gain, rounded once.

    `before` and `after` pixels of zeros are put around the normalised image, and zeros behind each row's values up to
    `width` of them; where they are to be split, first what rounding has left of them, and themselves again.
    Shapes: x (B, C, H, W) float32, shift and scale both (1, C, 1, 1) or both one number; result (B, I, J, width), the
    values of a square in the order (C, side, side).
    """
    B, C, H, W = x.shape
    x = x.float().contiguous()
    rows, columns = (H + before + after) // side, (W + before + after) // side
    width = width or C * side * side
    out = torch.empty(B, rows, columns, width, dtype=dtype, device=x.device)
    values = rows * columns * width
    with torch.cuda.device_of(x):
        _patches[(B, triton.cdiv(values, BLOCK))](
            x, out, shift, scale, gain, before, H, W, columns, values,
            channels=C, side=side, width=width, single=scale.numel() == 1, split=split, block=BLOCK, num_warps=4,
        )  # fmt: skip
    return out


def add_norm(stream: Tensor, branch: Tensor | None, norm: torch.nn.LayerNorm, dtype: torch.dtype) -> Tensor:
    """The layer norm of stream + branch, in half precision; the float32 stream itself becomes that sum.

    Shapes: stream (..., D) float32, branch the same in half, both contiguous; result (..., D).
    """
    out = torch.empty(stream.shape, dtype=dtype, device=stream.device)
    _normalise(stream, branch, norm, stream, out, 0, 0)
    return out


def assemble_norm(
    table: Tensor, patched: Tensor, norm: torch.nn.LayerNorm, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Tokens as a table of T rows plus each copy's patches, which stand behind; and their layer norm.

    Shapes: table (T, D) float32, patched (B, P, D) in half; result (B, T, D) float32 and the same in half.
    """
    (B, P, D), T = patched.shape, len(table)
    stream = torch.empty(B, T, D, device=table.device)
    out = torch.empty(B, T, D, dtype=dtype, device=table.device)
    _normalise(table, patched, norm, stream, out, T, T - P)
    return stream, out


def gelu_(x: Tensor) -> Tensor:
    """GELU by the error function, in place; 1.5e-7 off before it is rounded.

    Shapes: contiguous, any.
    """
    with torch.cuda.device_of(x):
        _gelu[(triton.cdiv(x.numel(), BLOCK),)](x, x.numel(), block=BLOCK, num_warps=4)
    return x


def _normalise(
    stream: Tensor, branch: Tensor | None, norm: torch.nn.LayerNorm, kept: Tensor, out: Tensor, tokens: int, prefix: int
) -> None:
    D = out.shape[-1]
    with torch.cuda.device_of(out):
        _add_norm[(out.numel() // D,)](
            stream, stream if branch is None else branch, norm.weight, norm.bias, kept, out, D, norm.eps,
            max(tokens, 1), prefix, added=branch is not None, assembled=tokens > 0,
            block=triton.next_power_of_2(D), num_warps=4,
        )  # fmt: skip
