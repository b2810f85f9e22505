"""The noise is Philox and Box-Muller, whatever the batch; the certificates built on it hold for half-spaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from both_stages import both_stages
from scipy.stats import binom, kstest, norm

from bench.certification.bounds import certify
from bench.smoothing.noise import ESTIMATE, SELECT, MethodNoise, NoiseKey
from bench.smoothing.philox import integers, normals
from bench.smoothing.voting import draw
from bench.types.errors import MethodError

KEY = NoiseKey(0, "an image", 0.5, ESTIMATE)


def philox_slowly(key: int, counter: int) -> list[int]:
    """Philox 4x64-10 (Salmon et al. 2011) in plain integers: the four words of one counter."""
    mask = 2**64 - 1
    c = [(counter >> (64 * i)) & mask for i in range(4)]
    k = [key & mask, key >> 64]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k[0], b & mask, (a >> 64) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


@pytest.mark.parametrize(
    ("draw_number", "first", "copies", "values"), [(0, 0, 3, 8), (0, 5, 2, 20), (3, 7, 1, 16), (0, 2**40, 2, 8)]
)
def test_the_integers_are_philox_of_key_and_counter(draw_number: int, first: int, copies: int, values: int) -> None:
    key = KEY.philox("smoothing")
    blocks = -(-values // 8)
    expected = []
    for i in range(first * blocks, (first + copies) * blocks):
        for word in philox_slowly(key, (draw_number << 128) + i):
            expected += [word & 0xFFFFFFFF, word >> 32]
    assert integers(key, draw_number, first, copies, values).reshape(-1).tolist() == expected


def test_the_normals_are_box_muller_of_the_integers() -> None:
    key = KEY.philox("smoothing")
    words = integers(key, 0, 4, 2, 24).astype(np.float64)
    radius = np.sqrt(-2 * np.log(words[:, :12] / 2**32 + 2**-33))
    angle = 2 * math.pi * words[:, 12:] / 2**32
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :22]
    found = normals(key, 0, 4, 2, (2, 11), "cpu").reshape(2, 22)
    assert found.numpy() == pytest.approx(expected, abs=3e-6)


def test_the_noise_is_standard_normal() -> None:
    # Kolmogorov-Smirnov on 2 million values; one false alarm in 10**6 versions of the noise (it is fixed).
    values = normals(KEY.philox("smoothing"), 0, 0, 2000, (1000,), "cpu")
    assert kstest(values.reshape(-1).double().numpy(), "norm").pvalue > 1e-6
    assert values.std(dim=0).mean().item() == pytest.approx(1.0, abs=0.005)
    assert torch.isfinite(values).all()


def test_the_noise_of_different_keys_is_uncorrelated() -> None:
    base = normals(KEY.philox("smoothing"), 0, 0, 100, (1000,), "cpu").reshape(-1)
    for other in (
        NoiseKey(1, "an image", 0.5, ESTIMATE).philox("smoothing"),
        NoiseKey(0, "another", 0.5, ESTIMATE).philox("smoothing"),
        NoiseKey(0, "an image", 0.25, ESTIMATE).philox("smoothing"),
        NoiseKey(0, "an image", 0.5, SELECT).philox("smoothing"),
        KEY.philox("method"),
    ):
        correlation = (base * normals(other, 0, 0, 100, (1000,), "cpu").reshape(-1)).mean().item()
        assert abs(correlation) < 6 / math.sqrt(len(base))  # six standard deviations


class Linear:
    """sign(w.x + b): the certified radius of its smoothed version is known exactly."""

    num_classes = 2

    def __init__(self, w: torch.Tensor, b: float) -> None:
        self.w, self.b = w, b

    def predict(self, x: torch.Tensor, noise: MethodNoise) -> torch.Tensor:
        return (x.flatten(1) @ self.w + self.b > 0).long()


class Own:
    """Votes by its own noise alone."""

    num_classes = 3

    def predict(self, x: torch.Tensor, noise: MethodNoise) -> torch.Tensor:
        return (noise.randn(4).sum(1) + noise.randn(2, 2).sum((1, 2))).abs().long().clamp(max=2)


SHAPE = (1, 4, 4)
X = torch.full(SHAPE, 0.5)


@pytest.mark.parametrize("classifier", [Linear(torch.ones(16), -8.2), Own()], ids=["smoothing noise", "own noise"])
def test_the_batch_does_not_move_a_vote(classifier: Linear | Own) -> None:
    votes = {draw(classifier, X, key=KEY, n=257, batch=batch) for batch in (1, 7, 64, 256, 257, 1000)}
    assert len(votes) == 1


def test_a_draw_can_be_split_between_workers() -> None:
    whole = draw(Own(), X, key=KEY, n=300, batch=50)
    assert draw(Own(), X, key=KEY, n=100, batch=33) + draw(Own(), X, key=KEY, n=200, batch=64, first=100) == whole


def test_the_noise_is_not_clipped_and_not_scaled_by_anything_but_sigma() -> None:
    seen = []

    class Spy(Linear):
        def predict(self, x: torch.Tensor, noise: MethodNoise) -> torch.Tensor:
            seen.append(x.clone())
            return super().predict(x, noise)

    draw(Spy(torch.ones(16), 0.0), X, key=KEY, n=1000, batch=1000)
    copies = seen[0]
    assert copies.min() < 0 < 1 < copies.max()
    expected = X + 0.5 * normals(KEY.philox("smoothing"), 0, 0, 1000, SHAPE, "cpu")
    assert torch.equal(copies, expected)


def test_the_certified_radius_of_a_half_space_never_passes_the_truth_more_often_than_alpha() -> None:
    # Exact radius |w.x + b| / |w| (Cohen et al. 2019, Proposition 4). One false alarm in 10**9 test runs.
    alpha, failed, informative = 0.05, 0, 0
    rng = np.random.default_rng(0)
    for i in range(500):
        w = torch.tensor(rng.standard_normal(16), dtype=torch.float32)
        b = float(rng.standard_normal())
        truth = abs(float(X.flatten() @ w) + b) / float(w.norm())
        counts = both_stages(Linear(w, b), X, seed=1, fingerprint=str(i), sigma=0.5, n0=20, n=200, batch=200)
        found = certify(*counts, sigma=0.5, alpha=alpha)
        failed += found.radius > truth
        informative += truth < 0.5 * norm.ppf(0.95)
    assert informative > 200  # enough half-spaces whose radius the bound could exceed
    assert failed <= binom.ppf(1 - 1e-9, 500, alpha)


def test_with_many_samples_the_radius_of_a_half_space_is_nearly_exact() -> None:
    w = torch.zeros(16)
    w[0] = 2.0
    counts = both_stages(Linear(w, -0.5), X, seed=0, fingerprint="x", sigma=0.5, n0=100, n=200_000, batch=20_000)
    found = certify(*counts, sigma=0.5, alpha=0.001)
    assert found.label == 1
    assert 0.24 < found.radius <= 0.25


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (lambda x: torch.zeros(len(x), 10), r"int64 labels of shape \(8,\), got torch.float32 of shape \(8, 10\)"),
        (lambda x: torch.zeros(len(x) - 1, dtype=torch.int64), r"got torch.int64 of shape \(7,\)"),
        (lambda x: torch.full((len(x),), 3), r"labels in \[0, 3\), got 8 of 8 outside"),
        (lambda x: torch.full((len(x),), -1), r"labels in \[0, 3\), got 8 of 8 outside"),
    ],
)
def test_a_classifier_that_breaks_the_protocol_is_refused(labels, words: str) -> None:
    class Broken:
        num_classes = 3

        def predict(self, x: torch.Tensor, noise: MethodNoise) -> torch.Tensor:
            return labels(x)

    with pytest.raises(MethodError, match=words):
        draw(Broken(), X, key=KEY, n=8, batch=8)


@pytest.mark.gpu
def test_cuda_draws_the_same_noise() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    key = KEY.philox("smoothing")
    cpu, cuda = normals(key, 0, 3, 10, (100,), "cpu"), normals(key, 0, 3, 10, (100,), "cuda:0").cpu()
    assert torch.allclose(cpu, cuda, rtol=0, atol=2e-6)
