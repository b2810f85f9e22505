"""The random stream behind all noise: Philox 4x64-10 by key and counter, and its normals; the same on every device.

Integers are made by numpy on a CPU, or by C where there is a compiler; by torch on any other device, and by one fused
kernel on a CUDA device with triton.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

WORDS = 8  # 32-bit words in one Philox 4x64 counter block
ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_MASK = 2**64 - 1
_COUNTERS = 1 << 256
# Words that one thread works on at a time: many, for a chunk costs 70 us of Python (AMD EPYC, 2.4 GHz) beside 5.6 ns a
# word; and few enough to stay in a shared cache from integers to normals.
CHUNK = 192 * 1024
DEVICE_CHUNK = 1 << 24  # words on another device: one int64 each, several times over
PROBE = (3, 3072)  # copies and values that the kernel must show itself right on, of that key, draw and first copy
PROBE_KEY = ((0xFEDCBA9876543210 << 64) + 0x8123456789ABCDEF, 3, 10**9)

# Values of which this process makes the noise without a library of its own (0.4 s): what is short builds none.
BUILD_AFTER = 100_000_000

_made = 0  # of them so far, about: threads may forget some
_own = threading.local()  # a generator of integers for each thread


def integers(key: int, draw: int, first: int, copies: int, values: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Random 32-bit words of `copies` copies from copy `first` on.

    Shapes: (copies, P), P = values rounded up to a multiple of 8. Copy i owns counters
    draw * 2^128 + [i, i+1) * P/8.
    Source: Salmon et al. 2011, Philox 4x64 with 10 rounds, by numpy; tests hold an independent slow one.
    """
    import numpy as np

    blocks = -(-values // WORDS)
    if not hasattr(_own, "source"):
        _own.source = np.random.Philox()
    # numpy advances the counter before the first block. Setting the state is 4 times faster than a new generator.
    counter = ((draw << 128) + first * blocks - 1) % _COUNTERS
    _own.source.state = {
        "bit_generator": "Philox",
        "state": {
            "counter": np.array(_limbs(counter, 4), dtype=np.uint64),
            "key": np.array(_limbs(key, 2), dtype=np.uint64),
        },
        "buffer": np.zeros(4, dtype=np.uint64),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    words: np.ndarray[Any, np.dtype[np.uint64]] = _own.source.random_raw(copies * blocks * 4)
    # The low half of each 64-bit word comes first, on every machine.
    return words.astype("<u8", copy=False).view("<u4").astype(np.uint32, copy=False).reshape(copies, blocks * WORDS)


def device_integers(key: int, draw: int, first: int, copies: int, values: int, device: str) -> Tensor:
    """The words of `integers`, made on a device: (copies, P) int64 in [0, 2^32).

    64-bit products by 32-bit limbs in int64, whose sums and products wrap as those of unsigned numbers do.
    Raises: ValueError for a copy whose counter takes more than 63 bits.
    """
    import torch

    blocks = -(-values // WORDS)
    if (first + copies) * blocks >= 1 << 63:
        raise ValueError(f"copies up to {first + copies} of {values} values need counters beyond 2^63")
    start = first * blocks
    c0 = torch.arange(start, start + copies * blocks, dtype=torch.int64, device=device)
    c1, c2, c3 = torch.zeros_like(c0), torch.full_like(c0, draw), torch.zeros_like(c0)
    k0, k1 = _limbs(key, 2)
    for _ in range(ROUNDS):
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ _signed(k0), low1, high0 ^ c3 ^ _signed(k1), low0
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    pairs = torch.stack((c0, c1, c2, c3), dim=1)
    low, high = pairs & 0xFFFFFFFF, (pairs >> 32) & 0xFFFFFFFF
    return torch.stack((low, high), dim=2).reshape(copies, blocks * WORDS)


def normals(key: int, draw: int, first: int, copies: int, shape: tuple[int, ...], device: str) -> Tensor:
    """Standard normals of `copies` copies, (copies, *shape) float32 on `device`.

    Units: none; the largest magnitude is 6.8, which a true normal passes once in 10^11 values.
    Error: the integers are equal on every machine, the normals to the last bits of its log, sin and cos.
    Source: Box & Muller 1958, from two 32-bit uniforms: radii from a copy's first half, angles from its second.
    """
    import torch

    out = torch.empty(copies, *shape, device=device)
    _fill(out, key, draw, first, None, 1.0)
    return out


def noisy(x: Tensor, sigma: float, key: int, first: int, copies: int, out: Tensor | None = None) -> Tensor:
    """x + sigma * eps for standard normals eps, (copies, *x.shape) float32 on the device of x, not clipped.

    `out`, where there is one, is contiguous, and becomes the result.
    Error: as `normals`; product and sum are rounded each, on every device.
    """
    import torch

    if out is None:
        out = torch.empty(copies, *x.shape, device=x.device)
    _fill(out, key, 0, first, x, sigma)
    return out


def _fill(out: Tensor, key: int, draw: int, first: int, x: Tensor | None, sigma: float) -> None:
    """Normals, or x + sigma * normals, into out (copies, *shape)."""
    copies, values = out.shape[0], math.prod(out.shape[1:])
    rows = out.view(copies, values)
    if out.device.type == "cpu":
        _on_host(rows, key, draw, first, x, sigma)
    elif out.device.type == "cuda" and values % (2 * WORDS) == 0 and _kernel(str(out.device)):
        from bench.smoothing.philox_triton import fill

        fill(rows, key, draw, first, x, sigma)
    else:
        _on_device(rows, key, draw, first, x, sigma)


def _on_host(out: Tensor, key: int, draw: int, first: int, x: Tensor | None, sigma: float) -> None:
    """Chunks of copies, each in the cache of a thread from its integers to its last rounding."""
    import numpy as np
    import torch

    from bench.smoothing import philox_c

    copies, values = out.shape
    rows, threads = out.numpy(), torch.get_num_threads()
    pixels = None if x is None else np.ascontiguousarray(x.reshape(-1).numpy())
    floats = all(t is None or t.dtype == torch.float32 for t in (out, x))
    by_c = floats and _by_c(values, draw, first, copies)
    if by_c:  # handing work to threads costs half a millisecond, as long as one takes for some 200,000 values
        threads = max(1, min(threads, copies * values // CHUNK))
    step = max(1, min(-(-copies // threads), CHUNK // max(1, values)))

    def fill(start: int) -> None:
        # Tensors of the thread's own: those of a caller in inference mode must not be written by another thread.
        count = min(step, copies - start)
        eps = torch.from_numpy(rows[start : start + count])
        if by_c:
            philox_c.fill(eps, key, draw, first + start, None if pixels is None else torch.from_numpy(pixels), sigma)
            return
        words = torch.from_numpy(integers(key, draw, first + start, count, values))
        if words.shape[1] == values:
            _box_muller(words, eps)
        else:
            padded = torch.empty(words.shape)
            _box_muller(words, padded)
            eps.copy_(padded[:, :values])
        if pixels is not None:
            eps.mul_(sigma).add_(torch.from_numpy(pixels))

    starts = range(0, copies, step)
    if len(starts) == 1:
        fill(0)
    elif threads == 1:
        for start in starts:
            fill(start)
    else:
        list(_pool(torch.get_num_threads()).map(fill, starts))


def _on_device(out: Tensor, key: int, draw: int, first: int, x: Tensor | None, sigma: float) -> None:
    """By torch's own operations, some copies at a time."""
    import torch

    copies, values = out.shape
    padded = -(-values // WORDS) * WORDS
    step = max(1, DEVICE_CHUNK // padded)
    for start in range(0, copies, step):
        count = min(step, copies - start)
        if out.is_meta:  # counted: what arrives are the words
            words = torch.empty(count, padded, dtype=torch.uint32, device=out.device)
        else:
            words = device_integers(key, draw, first + start, count, values, str(out.device))
        made = torch.empty(count, padded, device=out.device)
        _box_muller(words, made)
        eps = made[:, :values]
        if x is not None:
            eps.mul_(sigma).add_(x.reshape(-1))
        out[start : start + count] = eps


def _box_muller(words: Tensor, out: Tensor) -> None:
    """Normals (c, P) float32 of 32-bit words (c, P)."""
    import torch

    half = words.shape[1] // 2
    uniform = words.to(torch.float32)
    # Off zero by half a step, so that the logarithm is finite.
    radius = uniform[:, :half].mul(2.0**-32).add_(2.0**-33).log_().mul_(-2.0).sqrt_()
    angle = uniform[:, half:].mul(2.0 * math.pi * 2.0**-32)
    torch.mul(radius, torch.cos(angle), out=out[:, :half])
    torch.mul(radius, angle.sin_(), out=out[:, half:])


def _product(a: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of the unsigned 128-bit product of an int64 tensor's bits and a number."""
    a0, a1 = a & 0xFFFFFFFF, (a >> 32) & 0xFFFFFFFF
    m0, m1 = m & 0xFFFFFFFF, m >> 32
    p00, p01, p10 = a0 * m0, a0 * m1, a1 * m0
    middle = ((p00 >> 32) & 0xFFFFFFFF) + (p01 & 0xFFFFFFFF) + (p10 & 0xFFFFFFFF)
    high = a1 * m1 + ((p01 >> 32) & 0xFFFFFFFF) + ((p10 >> 32) & 0xFFFFFFFF) + (middle >> 32)
    return high, a * _signed(m)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads of Python, each of which works alone.

    Not of OpenMP: those wait for each other by spinning, which beside another program is up to 60 times slower.
    """
    from threading import Barrier

    import torch

    pool, begun = ThreadPoolExecutor(threads, thread_name_prefix="noise"), Barrier(threads)

    def on_one_thread() -> None:
        torch.get_num_threads()  # a thread takes the process's number when first asked, over what it was set to
        torch.set_num_threads(1)  # of this thread, and of all that come after: said again below
        begun.wait()

    for started in [pool.submit(on_one_thread) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)
    return pool


def _by_c(values: int, draw: int, first: int, copies: int) -> bool:
    """Whether this noise is made by the C library: it is worth building, there, and right."""
    from bench.smoothing.philox_c import fits

    global _made  # a process's own
    _made += values * copies
    return _made > BUILD_AFTER and fits(values, draw, first, copies) and _same_by_c()


@cache
def _same_by_c() -> bool:
    """Whether the C library is there and makes the very bits that are made without it."""
    import torch

    from bench.smoothing import philox_c

    if philox_c.library() is None:
        return False
    key, draw, first = PROBE_KEY
    for copies, values in (PROBE, (2, 16), (5, 64), (1, 2 * philox_c.CHUNK)):
        x = torch.linspace(0, 1, values)
        for pixels, sigma in ((None, 1.0), (x, 0.37)):
            plain, found = torch.empty(copies, values), torch.empty(copies, values)
            _on_device(plain, key, draw, first, pixels, sigma)
            philox_c.fill(found, key, draw, first, pixels, sigma)
            if not torch.equal(plain, found):
                return False
    return True


@cache
def _kernel(device: str) -> bool:
    """Whether the fused kernel runs on that device and makes the same noise there."""
    from importlib.util import find_spec

    import torch

    if find_spec("triton") is None:
        return False
    from bench.smoothing.philox_triton import works

    plain = torch.empty(PROBE, device=device)
    _on_device(plain, *PROBE_KEY, None, 1.0)
    return works(plain, *PROBE_KEY)


def _signed(word: int) -> int:
    """A 64-bit word as the int64 of the same bits."""
    return word - (1 << 64) if word >> 63 else word


def _limbs(value: int, count: int) -> list[int]:
    return [(value >> (64 * i)) & _MASK for i in range(count)]
