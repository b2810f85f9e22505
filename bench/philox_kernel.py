"""The noise of bench.philox as one fused kernel for CUDA devices: integers, normals, scaling, sum with the image.

Imported only where triton is. Nothing of it is needed for a vote: bench.philox makes the same noise without it.
"""

# A kernel's types are triton's own, which mypy cannot read.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

LANES = 128  # of a program; each makes two counter blocks, 16 normals
CLOSE = 4e-6  # that logarithm, sine and cosine of two libraries may lie apart, at radii up to 6.8


@triton.jit
def _block(c0, c2, k0, k1):
    """The four words of one counter whose second and fourth limb are 0."""
    c1 = tl.zeros_like(c0)
    c3 = tl.zeros_like(c0)
    m0 = tl.full(c0.shape, 0xD2E7470EE14C6C93, tl.uint64)
    m1 = tl.full(c0.shape, 0xCA5A826395121157, tl.uint64)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, m0), c0 * m0
        high1, low1 = tl.umulhi(c2, m1), c2 * m1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = k0 + 0x9E3779B97F4A7C15
        k1 = k1 + 0xBB67AE8584CAA73B
    return c0, c1, c2, c3


@triton.jit
def _pair(out, x, at, half, radius, angle, sigma, there, shifted: tl.constexpr):
    """Both normals of one radius and one angle, stored half a copy apart; `at` counts from the copy's first value."""
    r = tl.sqrt_rn(-2.0 * tl.log(radius.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10))
    phi = angle.to(tl.float32) * 1.4629180792671596e-09
    for part in tl.static_range(2):
        eps = r * (tl.cos(phi) if part == 0 else tl.sin(phi))
        place = at + part * half
        if shifted:
            eps = eps * sigma + tl.load(x + place, mask=there, other=0.0)
        tl.store(out + place, eps, mask=there)


@triton.jit(do_not_specialize=["k0", "k1", "draw", "first", "copies", "groups", "values"])
def _fill(
    out,
    x,
    k0: tl.uint64,
    k1: tl.uint64,
    draw: tl.uint64,
    first: tl.uint64,
    copies,
    groups,  # counter blocks in half a copy
    values,
    sigma,
    shifted: tl.constexpr,
    lanes: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * lanes + tl.arange(0, lanes)
    there = index < copies.to(tl.int64) * groups
    copy, group = index // groups, index % groups
    zeros = tl.zeros((lanes,), tl.uint64)
    k0, k1, c2 = zeros + k0, zeros + k1, zeros + draw
    counter = (zeros + first + copy.to(tl.uint64)) * (2 * groups).to(tl.uint64) + group.to(tl.uint64)
    r0, r1, r2, r3 = _block(counter, c2, k0, k1)
    a0, a1, a2, a3 = _block(counter + groups.to(tl.uint64), c2, k0, k1)
    row = out + copy * values
    at = group * 8
    half = groups * 8
    # The low half of each word comes first.
    _pair(row, x, at, half, r0 & 0xFFFFFFFF, a0 & 0xFFFFFFFF, sigma, there, shifted)
    _pair(row, x, at + 1, half, r0 >> 32, a0 >> 32, sigma, there, shifted)
    _pair(row, x, at + 2, half, r1 & 0xFFFFFFFF, a1 & 0xFFFFFFFF, sigma, there, shifted)
    _pair(row, x, at + 3, half, r1 >> 32, a1 >> 32, sigma, there, shifted)
    _pair(row, x, at + 4, half, r2 & 0xFFFFFFFF, a2 & 0xFFFFFFFF, sigma, there, shifted)
    _pair(row, x, at + 5, half, r2 >> 32, a2 >> 32, sigma, there, shifted)
    _pair(row, x, at + 6, half, r3 & 0xFFFFFFFF, a3 & 0xFFFFFFFF, sigma, there, shifted)
    _pair(row, x, at + 7, half, r3 >> 32, a3 >> 32, sigma, there, shifted)


def fill(out: Tensor, key: int, draw: int, first: int, x: Tensor | None, sigma: float) -> None:
    """Normals of copies `first` on into out (copies, values) float32; x + sigma * normals where there is an x.

    Raises: ValueError unless both halves of a copy are whole counter blocks: values must be a multiple of 16.
    """
    copies, values = out.shape
    if values % 16:
        raise ValueError(f"values must be a multiple of 16, got {values}")
    groups = values // 16
    shift = out if x is None else x.reshape(-1).contiguous()
    words = key & (2**64 - 1), key >> 64, draw, first
    grid = (triton.cdiv(copies * groups, LANES),)
    with torch.cuda.device_of(out):
        _fill[grid](out, shift, *words, copies, groups, values, sigma, shifted=x is not None, lanes=LANES)


def works(plain: Tensor, key: int, draw: int, first: int) -> bool:
    """Whether it compiles for the device of some plain noise, and makes the same; says why not.

    triton needs a C compiler at first use, and not every device is one of its own.
    """
    found = torch.empty_like(plain)
    try:
        fill(found, key, draw, first, None, 1.0)
        apart = float((found - plain).abs().max())
    except (RuntimeError, OSError, ImportError, triton.TritonError) as error:
        _warn(plain.device, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return False
    if not apart <= CLOSE:
        _warn(plain.device, f"it is {apart:.2g} off, expected at most {CLOSE:g}")
    return apart <= CLOSE


def _warn(device: torch.device, reason: str) -> None:
    logging.getLogger(__name__).warning(
        "! the fused noise kernel is not used on %s, the same noise comes more slowly: %s", device, reason
    )
