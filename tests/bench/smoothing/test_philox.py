"""One stream of noise, however it is made: by numpy in chunks and threads, by torch on a device, by a fused kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.smoothing import philox
from bench.smoothing.philox import _on_device, device_integers, integers, noisy, normals

KEY = (0xFEDCBA9876543210 << 64) + 0x8123456789ABCDEF
# Copies and values: one counter block, an odd number of them, a padded one, an image, one larger than a chunk.
SHAPES = [(3, (8,)), (5, (24,)), (4, (3, 5, 5)), (7, (3, 32, 32)), (2, (3, 160, 160))]


@pytest.fixture
def two_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def plain(key: int, draw: int, first: int, copies: int, shape: tuple[int, ...]) -> torch.Tensor:
    out = torch.empty(copies, int(np.prod(shape)))
    _on_device(out, key, draw, first, None, 1.0)
    return out.view(copies, *shape)


@pytest.mark.parametrize("key", [0, 1, 2**64, KEY, 2**128 - 1])
@pytest.mark.parametrize(("draw", "first"), [(0, 0), (3, 17), (0, 2**40), (2**63 - 1, 10**15)])
def test_the_integers_of_a_device_are_those_of_numpy(key: int, draw: int, first: int) -> None:
    found = device_integers(key, draw, first, 3, 44, "cpu")
    assert np.array_equal(found.numpy(), integers(key, draw, first, 3, 44).astype(np.int64))


def test_counters_beyond_what_a_device_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond 2\\^63"):
        device_integers(KEY, 0, 2**62, 1, 3072, "cpu")


@pytest.mark.parametrize(("copies", "shape"), SHAPES)
def test_chunks_and_threads_change_no_bit(
    copies: int, shape: tuple[int, ...], two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = normals(KEY, 1, 5, copies, shape, "cpu")
    for chunk in (1, 100, 5000):
        monkeypatch.setattr(philox, "CHUNK", chunk)
        assert torch.equal(normals(KEY, 1, 5, copies, shape, "cpu"), whole)
    torch.set_num_threads(1)
    assert torch.equal(normals(KEY, 1, 5, copies, shape, "cpu"), whole)
    one_by_one = [normals(KEY, 1, 5 + i, 1, shape, "cpu") for i in range(copies)]
    assert torch.equal(torch.cat(one_by_one), whole)


@pytest.mark.parametrize(("copies", "shape"), SHAPES)
def test_a_device_without_the_kernel_makes_the_same_normals(
    copies: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(philox, "DEVICE_CHUNK", 100)
    # On one machine log, sin and cos are the same functions, so that not even the last bit differs.
    assert torch.equal(plain(KEY, 2, 9, copies, shape), normals(KEY, 2, 9, copies, shape, "cpu"))


def test_the_noisy_copies_are_x_plus_sigma_times_the_normals(two_threads: None) -> None:
    x = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = noisy(x, 0.25, KEY, 40, 50)
    assert torch.equal(found, normals(KEY, 0, 40, 50, (3, 32, 32), "cpu").mul(0.25).add(x))


def test_threads_for_the_noise_leave_torchs_own_as_they_were(two_threads: None) -> None:
    normals(KEY, 0, 0, 200, (3, 32, 32), "cpu")
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *seen] == [2, 2]
    assert philox._pool(2).submit(torch.get_num_threads).result() == 1


def test_two_programs_threads_do_not_mix_their_streams() -> None:
    expected = {key: normals(key, 0, 0, 20, (3, 32, 32), "cpu") for key in range(4)}
    found: dict[int, bool] = {}

    def draw(key: int) -> None:
        found[key] = all(torch.equal(normals(key, 0, 0, 20, (3, 32, 32), "cpu"), expected[key]) for _ in range(10))

    threads = [threading.Thread(target=draw, args=(key,)) for key in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)


INTERPRETED = """
import torch
from bench.smoothing import philox, philox_triton
CASES = ((philox.PROBE_KEY[0], 3, 10**9, 3, 64), (2**128 - 1, 0, 2**33, 2, 48), (7, 1, 0, 1, 16))
for key, draw, first, copies, values in CASES:
    plain, fused = torch.empty(copies, values), torch.empty(copies, values)
    philox._on_device(plain, key, draw, first, None, 1.0)
    philox_triton.fill(fused, key, draw, first, None, 1.0)
    assert (plain - fused).abs().max() <= 1e-6, (plain - fused).abs().max()
    x = torch.linspace(0, 1, values)
    philox_triton.fill(fused, key, 0, first, x, 0.5)
    assert (philox.noisy(x, 0.5, key, first, copies) - fused).abs().max() <= 1e-6
assert philox_triton.works(plain, key, draw, first)
assert not philox_triton.works(plain + 1e-4, key, draw, first)
try:
    philox_triton.fill(torch.empty(1, 24), 0, 0, 0, None, 1.0)
except ValueError as error:
    assert "multiple of 16, got 24" in str(error)
else:
    raise AssertionError("a padded copy was taken")
"""


def test_the_fused_kernel_makes_the_same_noise() -> None:
    # By triton's interpreter, which runs a kernel's operations in numpy: the algorithm, not the GPU's arithmetic.
    pytest.importorskip("triton", reason="no triton here")
    words = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], check=True, timeout=120, env=words)


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bench.smoothing.philox_triton import LANES, WARPS, _fill
TYPES = {"out": "*fp32", "x": "*fp32", "groups": "i32", "sigma": "fp32", "shifted": "constexpr", "lanes": "constexpr"}
TYPES |= dict.fromkeys(("k0", "k1", "draw", "first"), "u64")
for shifted in (True, False):
    order = {name: TYPES[name] for name in _fill.arg_names}
    source = ASTSource(_fill, signature=order, constexprs={"shifted": shifted, "lanes": LANES})
    made = triton.compile(source, GPUTarget("cuda", 90, 32), {"num_warps": WARPS, "enable_fp_fusion": False})
    ptx = made.asm["ptx"]
    # Two blocks of ten rounds, each with two 128-bit products; but for the two that multiply a counter's zero.
    assert ptx.count("mul.hi.u64") == 38, ptx.count("mul.hi.u64")
    assert ptx.count("st.global") == 16, ptx.count("st.global")
    assert made.asm["cubin"]
"""


def test_the_fused_kernel_compiles_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="no triton here")
    words = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=120, env=words)


@pytest.mark.gpu
@pytest.mark.parametrize(("copies", "shape"), SHAPES)
def test_cuda_makes_the_same_integers_and_nearly_the_same_normals(copies: int, shape: tuple[int, ...]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    values = int(np.prod(shape))
    found = device_integers(KEY, 2, 9, copies, values, "cuda:0").cpu().numpy()
    assert np.array_equal(found, integers(KEY, 2, 9, copies, values).astype(np.int64))
    cpu, cuda = normals(KEY, 2, 9, copies, shape, "cpu"), normals(KEY, 2, 9, copies, shape, "cuda:0").cpu()
    # Each of log, sqrt, sin and cos to some last bits, at radii up to 6.8.
    assert (cpu - cuda).abs().max() <= 4e-6
