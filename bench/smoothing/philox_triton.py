"""The noise of `philox` as one fused kernel for CUDA devices: integers, normals, scaling, sum with the image.

Imported only where triton is. Nothing of it is needed for a vote: `philox` makes the same noise without it.
"""

# A kernel's types are triton's own, which mypy cannot read.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from bench.types.errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

LANES = 64  # of a program; each makes two counter blocks, 16 normals: images of 32x32 and 224x224 fill their programs
WARPS = 2
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
def _normals(radius, angle):
    """Both normals of each radius and angle, given as 32-bit words: two tensors of their shape."""
    uniform = radius.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    r = tl.sqrt_rn(-2.0 * tl.log(uniform))
    phi = angle.to(tl.float32) * 1.4629180792671596e-09
    return r * tl.cos(phi), r * tl.sin(phi)


@triton.jit
def _words(w0, w1, w2, w3, lanes: tl.constexpr):
    """The eight 32-bit words of each block, the low half of each 64-bit word first: (lanes, 8)."""
    # join appends an axis, and the last one is the nearest: words 0 and 2 first, then their neighbours, then halves.
    low = tl.join(tl.join(w0.to(tl.uint32), w2.to(tl.uint32)), tl.join(w1.to(tl.uint32), w3.to(tl.uint32)))
    high = tl.join(
        tl.join((w0 >> 32).to(tl.uint32), (w2 >> 32).to(tl.uint32)),
        tl.join((w1 >> 32).to(tl.uint32), (w3 >> 32).to(tl.uint32)),
    )
    return tl.reshape(tl.join(low, high), (lanes, 8))


@triton.jit(do_not_specialize=["k0", "k1", "draw", "first", "groups"])
def _fill(
    out,
    x,
    k0: tl.uint64,
    k1: tl.uint64,
    draw: tl.uint64,
    first: tl.uint64,
    groups,  # counter blocks in half a copy
    sigma,
    shifted: tl.constexpr,
    lanes: tl.constexpr,
):
    copy = tl.program_id(0)
    group = tl.program_id(1) * lanes + tl.arange(0, lanes)
    zeros = tl.zeros((lanes,), tl.uint64)
    k0, k1, c2 = zeros + k0, zeros + k1, zeros + draw
    blocks = groups.to(tl.uint64)
    counter = (zeros + first + copy.to(tl.uint64)) * (2 * blocks) + group.to(tl.uint64)
    r0, r1, r2, r3 = _block(counter, c2, k0, k1)
    a0, a1, a2, a3 = _block(counter + blocks, c2, k0, k1)
    cosines, sines = _normals(_words(r0, r1, r2, r3, lanes), _words(a0, a1, a2, a3, lanes))
    at = (group * 8)[:, None] + tl.arange(0, 8)[None, :]
    half = groups * 8
    there = at < half
    if shifted:
        cosines = cosines * sigma + tl.load(x + at, mask=there, other=0.0)
        sines = sines * sigma + tl.load(x + half + at, mask=there, other=0.0)
    row = out + copy.to(tl.int64) * groups * 16
    tl.store(row + at, cosines, mask=there)
    tl.store(row + half + at, sines, mask=there)


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
    with torch.cuda.device_of(out):
        # Without fusion a sum is rounded where the CPU rounds it; said, for triton's own default is to change.
        _fill[(copies, triton.cdiv(groups, LANES))](
            out,
            shift,
            *words,
            groups,
            sigma,
            shifted=x is not None,
            lanes=LANES,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )


def works(plain: Tensor, key: int, draw: int, first: int) -> bool:
    """Whether it compiles for the device of some plain noise, and makes the same; says why not.

    triton needs a C compiler at first use, and not every device is one of its own.
    """
    found = torch.empty_like(plain)
    try:
        fill(found, key, draw, first, None, 1.0)
        apart = float((found - plain).abs().max())
    except (RuntimeError, OSError, ImportError, triton.TritonError) as error:
        _warn(plain.device, f"{type(error).__name__}: {first_line(error)}")
        return False
    if not apart <= CLOSE:
        _warn(plain.device, f"it is {apart:.2g} off, expected at most {CLOSE:g}")
    return apart <= CLOSE


def _warn(device: torch.device, reason: str) -> None:
    logging.getLogger(__name__).warning(
        "! the fused noise kernel is not used on %s, the same noise comes more slowly: %s", device, reason
    )
