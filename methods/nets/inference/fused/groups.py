"""Group norm with what stands around it, on maps whose channels lie fastest last: two passes over memory, not six.

Statistics are float32, formed in chunks of pixels and merged (Chan et al. 1979), so that large means cancel nothing.
"""

# A kernel's types are triton's own, which mypy cannot read.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from methods.nets.inference.fused.maps import laid

CHUNK = 1024  # pixels whose statistics one program makes, at most
ROWS, COLUMNS = 32, 64  # pixels and channels at a time


@triton.jit
def _statistics(x, means, squares, pixels, C, parts, chunk: tl.constexpr, block_p: tl.constexpr, block_c: tl.constexpr):
    part, copy = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    first = part * chunk
    base = x + copy * pixels * C
    # Sums of what differs from the first pixel: it lies as near the mean as any other.
    origin = tl.load(base + first * C + c, mask=c < C, other=0.0).to(tl.float32)
    sums = tl.zeros((block_p, block_c), tl.float32)
    sums_2 = tl.zeros((block_p, block_c), tl.float32)
    for start in range(0, chunk, block_p):
        p = first + start + tl.arange(0, block_p)
        there = (p < pixels)[:, None] & (c < C)[None, :]
        v = tl.load(base + p[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
        v = tl.where(there, v - origin[None, :], 0.0)
        sums += v
        sums_2 += v * v
    count = tl.minimum(chunk, pixels - first).to(tl.float32)
    s = tl.sum(sums, axis=0)
    at = (copy * parts + part) * C + c
    tl.store(means + at, origin + s / count, mask=c < C)
    tl.store(squares + at, tl.sum(sums_2, axis=0) - s * s / count, mask=c < C)


@triton.jit
def _merge(
    means, squares, weight, bias, before, film, scale, shift, pixels, C, parts, eps, step_before, step_film,
    members, moved: tl.constexpr, filmed: tl.constexpr,
    chunk: tl.constexpr, block_k: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    copy, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    member = tl.arange(0, block_c)
    c = group * members + member
    mine = member < members
    k = tl.arange(0, block_k)
    there = (k < parts)[:, None] & mine[None, :]
    at = (copy * parts + k)[:, None] * C + c[None, :]
    count = tl.where(k < parts, tl.minimum(chunk, pixels - k * chunk), 0).to(tl.float32)[:, None]
    mean = tl.load(means + at, mask=there, other=0.0)
    if moved:
        move = tl.load(before + copy * step_before + c, mask=mine, other=0.0)
        mean += move[None, :]
    total = 1.0 * pixels * members
    middle = tl.sum(tl.sum(tl.where(there, mean * count, 0.0), axis=1), axis=0) / total
    apart = tl.where(there, (mean - middle) * (mean - middle) * count, 0.0)
    apart += tl.load(squares + at, mask=there, other=0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(tl.sum(apart, axis=1), axis=0) / total + eps)
    by = inverse * tl.load(weight + c, mask=mine, other=0.0)
    off = tl.load(bias + c, mask=mine, other=0.0) - middle * by
    if moved:
        off += move * by
    if filmed:
        gain = 1.0 + tl.load(film + copy * step_film + c, mask=mine, other=0.0).to(tl.float32)
        by *= gain
        off = off * gain + tl.load(film + copy * step_film + C + c, mask=mine, other=0.0).to(tl.float32)
    tl.store(scale + copy * C + c, by, mask=mine)
    tl.store(shift + copy * C + c, off, mask=mine)


@triton.jit
def _value(x, at, there, by, off, affine: tl.constexpr, silu: tl.constexpr):
    v = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    if affine:
        v = v * by[None, :] + off[None, :]
    if silu:
        v = v * tl.sigmoid(v)
    return v


@triton.jit
def _apply(
    x, scale, shift, out, pixels, parts, H, W, C, affine: tl.constexpr, silu: tl.constexpr, resample: tl.constexpr,
    block_p: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    copy = (tl.program_id(0) // parts).to(tl.int64)
    p = tl.program_id(0) % parts * block_p + tl.arange(0, block_p)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    there = (p < pixels)[:, None] & (c < C)[None, :]
    by = tl.full((block_c,), 1.0, tl.float32)
    off = tl.zeros((block_c,), tl.float32)
    if affine:
        by = tl.load(scale + copy * C + c, mask=c < C, other=0.0)
        off = tl.load(shift + copy * C + c, mask=c < C, other=0.0)
    base = x + copy * H * W * C
    if resample == "double":
        source = (p // (2 * W)) // 2 * W + p % (2 * W) // 2
        v = _value(base, source[:, None] * C + c[None, :], there, by, off, affine, silu)
    elif resample == "halve":
        half = W // 2
        source = (p // half) * 2 * W + p % half * 2
        v = tl.zeros((block_p, block_c), tl.float32)
        for corner in tl.static_range(4):
            near = source + corner // 2 * W + corner % 2
            v += _value(base, near[:, None] * C + c[None, :], there, by, off, affine, silu)
        v *= 0.25
    else:
        v = _value(base, p[:, None] * C + c[None, :], there, by, off, affine, silu)
    at = p[:, None] * C + c[None, :]
    tl.store(out + copy * pixels * C + at, v.to(out.dtype.element_ty), mask=there)


def group_norm(
    x: Tensor, norm: torch.nn.GroupNorm, *, silu: bool, before: Tensor | None = None, film: Tensor | None = None,
    resample: str = "",
) -> Tensor:  # fmt: skip
    """Group norm of x + before; then, where asked for, (1 + film's scale) y + film's shift, SiLU, and resampling.

    Shapes: x (B, C, H, W) channels-last in half; before (C,), (1, C) or (B, C) float32; film (1 or B, 2C), scales
    first; result channels-last: "double" repeats each pixel, "halve" is the mean of 2x2.
    """
    B, C, H, W = x.shape
    x = laid(x)
    chunk = min(CHUNK, max(ROWS, triton.next_power_of_2(H * W)))
    parts = triton.cdiv(H * W, chunk)
    statistics = torch.empty(2, B, parts, C, device=x.device)
    affine = torch.empty(2, B, C, device=x.device)
    members = C // norm.num_groups
    columns = triton.cdiv(C, COLUMNS)
    with torch.cuda.device_of(x):
        _statistics[(parts * B, columns)](
            x, statistics[0], statistics[1], H * W, C, parts, chunk=chunk, block_p=ROWS, block_c=COLUMNS, num_warps=4
        )
        _merge[(B, norm.num_groups)](
            statistics[0], statistics[1], norm.weight, norm.bias, x if before is None else before,
            x if film is None else film, affine[0], affine[1], H * W, C, parts, norm.eps, _step(before, C),
            _step(film, 2 * C), members, moved=before is not None, filmed=film is not None,
            chunk=chunk, block_k=triton.next_power_of_2(parts), block_c=triton.next_power_of_2(members), num_warps=4,
        )  # fmt: skip
    return _resampled(x, affine, silu=silu, resample=resample)


def doubled(x: Tensor) -> Tensor:
    """Each pixel as 2x2: (B, C, H, W) channels-last -> (B, C, 2H, 2W)."""
    return _resampled(x, None, silu=False, resample="double")


def halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels: (B, C, H, W) channels-last -> (B, C, H / 2, W / 2)."""
    return _resampled(x, None, silu=False, resample="halve")


def _resampled(x: Tensor, affine: Tensor | None, *, silu: bool, resample: str) -> Tensor:
    B, C, H, W = x.shape
    x = laid(x)
    rows, columns = {"double": (2 * H, 2 * W), "halve": (H // 2, W // 2)}.get(resample, (H, W))
    out = torch.empty(B, C, rows, columns, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    scale, shift = (x, x) if affine is None else (affine[0], affine[1])
    parts = triton.cdiv(rows * columns, ROWS)
    with torch.cuda.device_of(x):
        _apply[(parts * B, triton.cdiv(C, COLUMNS))](
            x, scale, shift, out, rows * columns, parts, H, W, C,
            affine=affine is not None, silu=silu, resample=resample, block_p=ROWS, block_c=COLUMNS, num_warps=4,
        )  # fmt: skip
    return out


def _step(rows: Tensor | None, values: int) -> int:
    """From one copy's values to the next one's: none where all copies have the same."""
    return 0 if rows is None or rows.numel() == values else values
