"""The noise of `philox` on a CPU with its integers and sums by a small C library: the same bits in less time.

Built by the C compiler of this machine ($CC, or cc) once enough noise was asked for, kept in the cache, and used only
if it makes the very bits that `philox` makes without it. Nothing of it is needed for a vote.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.types.cache_folder import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = Path(__file__).with_suffix("").with_name("philox.c")
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=off", "-fPIC", "-shared")
PLAIN_FLAGS = tuple(flag for flag in FLAGS if not flag.startswith("-m"))  # for compilers that know no other
BUILD_SECONDS = 60.0
CHUNK = 128 * 1024  # values of one piece: what is made in between stays in a core's own cache
LIMIT = 1 << 63  # of counters

_own = threading.local()  # what a thread makes in between


@cache
def library() -> Any:
    """The library, built where it is not in the cache; None where it cannot be."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or platform.system() == "Windows":
        return None
    source = SOURCE.read_bytes()
    # It is made for one processor: a home folder may be that of many.
    name = hashlib.sha256(b"\n".join((source, " ".join(FLAGS).encode(), compiler.encode(), _processor()))).hexdigest()
    try:
        path = cache_folder() / "noise" / f"{name[:16]}.so"
        if not path.exists():
            _build(compiler, path)
        found = ctypes.CDLL(str(path))
        _declare(found)
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    return found


def _build(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for flags in (FLAGS, PLAIN_FLAGS):
            words = [compiler, *flags, "-o", str(made), str(SOURCE)]
            # The compiler of this machine, on a file of this package.
            done = subprocess.run(words, capture_output=True, timeout=BUILD_SECONDS, check=False)  # noqa: S603
            if done.returncode == 0:
                break
        done.check_returncode()
        made.replace(path)


def _processor() -> bytes:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_bytes().splitlines():
            if line.startswith((b"flags", b"Features")):
                return line
    return f"{platform.machine()} {platform.processor()} {platform.release()}".encode()


def _declare(found: Any) -> None:
    pointer, word, size, real = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_float
    found.uniforms.argtypes = [pointer, pointer, word, size, size, word, word, word, real, real, real]
    found.normals.argtypes = [pointer, pointer, pointer, pointer, pointer, real, size, size]
    found.uniforms.restype = found.normals.restype = None


def fits(values: int, draw: int, first: int, copies: int) -> bool:
    """Whether both halves of a copy are whole counter blocks, and no counter leaves its 64-bit word."""
    return values > 0 and values % 16 == 0 and (first + copies) * (values // 8) < LIMIT and 0 <= draw < 1 << 64


def fill(out: Tensor, key: int, draw: int, first: int, x: Tensor | None, sigma: float) -> None:
    """Normals of copies `first` on into out (copies, values) float32; x + sigma * normals where there is an x.

    By one thread, and on tensors of that thread's own. Only where `fits`, and there is a `library`.
    """
    import numpy as np
    import torch

    copies, values = out.shape
    half, step = values // 2, max(1, CHUNK // values)
    count = min(step, copies) * half
    if getattr(_own, "size", 0) < count:
        _own.radius, _own.angle, _own.cosine = (np.empty(count, dtype=np.float32) for _ in range(3))
        _own.size = count
    at = [array.ctypes.data for array in (_own.radius, _own.angle, _own.cosine)]
    row, pixels = out.data_ptr(), None if x is None else x.data_ptr()
    k0, k1, turn = key & (2**64 - 1), key >> 64, 2.0 * math.pi * 2.0**-32
    c = library()
    for start in range(0, copies, step):
        now = min(step, copies - start)
        begin = (first + start) * (values // 8)
        c.uniforms(at[0], at[1], begin, now, half // 8, draw, k0, k1, 2.0**-32, 2.0**-33, turn)
        radius, angle, cosine = (torch.from_numpy(a[: now * half]) for a in (_own.radius, _own.angle, _own.cosine))
        radius.log_().mul_(-2.0).sqrt_()
        torch.cos(angle, out=cosine)
        angle.sin_()
        c.normals(row + 4 * start * values, at[0], at[2], at[1], pixels, sigma, now, half)
