"""Noise by the C library is that of numpy and torch to the last bit, or the library is not used."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.smoothing import philox, philox_c
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.philox import noisy, normals
from bench.smoothing.voting import draw
from bench.types import Noise

KEY = (0xFEDCBA9876543210 << 64) + 0x8123456789ABCDEF
NEVER = 1 << 62


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What a process decides once, decided anew."""
    caches = (philox_c.library, philox._same_by_c)
    for decided in caches:
        decided.cache_clear()
    yield
    for decided in caches:
        decided.cache_clear()


@pytest.fixture
def by_c(forgetful: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("this machine has no C compiler")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(philox, "BUILD_AFTER", -1)
    assert philox._same_by_c()


def plainly(monkeypatch: pytest.MonkeyPatch, copies: int, shape: tuple[int, ...], draw: int, first: int):
    with monkeypatch.context() as patched:
        patched.setattr(philox, "BUILD_AFTER", NEVER)
        return normals(KEY, draw, first, copies, shape, "cpu")


@pytest.mark.parametrize("chunk", [1, 5000, 1 << 17])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("copies", "shape", "number", "first"),
    [
        (3, (16,), 2**63, 2**55),
        (5, (1, 8, 8), 0, 0),
        (70, (3, 32, 32), 1, 17),
        (2, (3, 224, 224), 0, 10**9),
        (4, (3, 5, 5), 0, 3),  # of 75 values: no whole counter blocks, left to numpy
    ],
)
def test_the_normals_are_the_same_bits(
    copies: int,
    shape: tuple[int, ...],
    number: int,
    first: int,
    threads: int,
    chunk: int,
    by_c: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(philox_c, "CHUNK", chunk)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = plainly(monkeypatch, copies, shape, number, first)
        assert torch.equal(normals(KEY, number, first, copies, shape, "cpu"), expected)
    finally:
        torch.set_num_threads(before)


def test_noisy_copies_are_the_same_bits_whatever_the_layout_of_the_image(
    by_c: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)).permute(2, 0, 1)
    expected = plainly(monkeypatch, 50, (3, 32, 32), 0, 40).mul(0.37).add(x)
    with torch.inference_mode():
        assert torch.equal(noisy(x, 0.37, KEY, 40, 50), expected)
    assert torch.equal(noisy(x, 0.37, KEY, 40, 50), expected)


def test_compiled_for_any_processor_it_makes_the_same_bits(
    by_c: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(philox_c, "FLAGS", philox_c.PLAIN_FLAGS)
    philox_c.library.cache_clear()
    for copies, values, first in ((1, 16, 2**55), (3, 48, 5), (40, 3072, 10**9)):
        out = torch.empty(copies, values)
        philox_c.fill(out, KEY, 2**63, first, None, 1.0)
        assert torch.equal(out, plainly(monkeypatch, copies, (values,), 2**63, first))
    assert list(tmp_path.rglob("*.so"))


def test_what_the_counters_of_a_word_cannot_hold_is_left_to_numpy() -> None:
    assert philox_c.fits(3072, 2**64 - 1, 0, 10**9)
    assert not philox_c.fits(3072, 2**64, 0, 1)
    assert not philox_c.fits(3072, 0, 2**62, 1)
    assert not philox_c.fits(24, 0, 0, 1)


class Sign:
    num_classes = 2

    def predict(self, x: torch.Tensor, noise: Noise) -> torch.Tensor:
        own = noise.randn(16)[:, 0]
        return (x.flatten(1).sum(1) + own > 0).long()


def test_no_vote_moves_when_a_run_goes_over_to_it(by_c: None, monkeypatch: pytest.MonkeyPatch) -> None:
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 8, 8)
    votes = []
    for after in (NEVER, philox._made + 64 * 500, -1):
        monkeypatch.setattr(philox, "BUILD_AFTER", after)
        votes.append(draw(Sign(), x, key=key, n=1000, batch=100))
    assert votes[0] == votes[1] == votes[2]
    assert MethodNoise(1, 0, 2).randn(16).shape == (2, 16)


def test_a_library_that_is_a_bit_off_is_not_used(by_c: None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plainly(monkeypatch, 4, (64,), 0, 0)
    right = philox_c.fill

    def off(out, *others) -> None:
        right(out, *others)
        out[-1, -1] = torch.nextafter(out[-1, -1], torch.tensor(9.0))

    philox._same_by_c.cache_clear()
    monkeypatch.setattr(philox_c, "fill", off)
    assert torch.equal(normals(KEY, 0, 0, 4, (64,), "cpu"), expected)
    assert not philox._same_by_c()


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_that_works_the_noise_is_the_same(
    compiler: str, forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(philox, "BUILD_AFTER", -1)
    assert torch.equal(normals(KEY, 0, 0, 4, (64,), "cpu"), plainly(monkeypatch, 4, (64,), 0, 0))
    assert philox_c.library() is None
    assert not list(tmp_path.rglob("*.so"))


def test_a_second_process_takes_what_the_first_has_built(
    by_c: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path))
    philox_c.library.cache_clear()
    assert philox_c.library() is not None
    (built,) = tmp_path.rglob("*.so")

    def none(*_words: object, **_settings: object) -> SimpleNamespace:
        raise AssertionError(f"{built} was built again")

    monkeypatch.setattr(philox_c.subprocess, "run", none)
    philox_c.library.cache_clear()
    assert philox_c.library() is not None


def test_short_work_builds_nothing(forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(philox, "_made", 0)
    normals(KEY, 0, 0, 100, (3, 32, 32), "cpu")
    assert not list(tmp_path.iterdir())
