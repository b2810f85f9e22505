"""The samplers, on data whose best denoiser is known in closed form: a point, and a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.types.errors import MethodError
from methods.diffusion.denoising import one_shot, reverse
from methods.diffusion.schedules import Schedule, Subsequence, level, schedule, subsequence

Predictor = Callable[[Tensor, int], tuple[Tensor, Tensor]]


class Known:
    """A network that is a formula: (x, t) -> (eps, v)."""

    def __init__(self, made: Schedule, predict: Predictor, *, learned_sigma: bool = True) -> None:
        self.schedule, self.predict, self.learned_sigma = made, predict, learned_sigma
        self.seen: list[tuple[Tensor, int]] = []

    def __call__(self, x: Tensor, t: int) -> Tensor:
        self.seen.append((x, t))
        eps, v = self.predict(x, t)
        return torch.cat([eps, v], dim=1) if self.learned_sigma else eps


def noise_of_a_point(point: Tensor, abar: Callable[[int], float]) -> Predictor:
    def predict(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        a = abar(t)
        return (x - math.sqrt(a) * point) / math.sqrt(1 - a), torch.full_like(x, 0.3)

    return predict


def draws(shape: tuple[int, ...], seed: int = 0) -> tuple[Callable[[], Tensor], list[Tensor]]:
    generator, drawn = torch.Generator().manual_seed(seed), []

    def randn() -> Tensor:
        drawn.append(torch.randn(shape, generator=generator, dtype=torch.float64))
        return drawn[-1]

    return randn, drawn


def abar_in(sub: Subsequence) -> Callable[[int], float]:
    return dict(zip(sub.times, sub.alphas_bar, strict=True)).__getitem__


POINT = torch.linspace(-0.9, 0.9, 2 * 3 * 4 * 4, dtype=torch.float64).reshape(2, 3, 4, 4)


@pytest.mark.parametrize("name", ["linear-1000", "cosine-4000", "cosine-1000"])
@pytest.mark.parametrize("learned", [True, False])
def test_one_shot_recovers_the_image_from_its_noise(name: str, learned: bool) -> None:
    made = schedule(name)
    randn, _ = draws(tuple(POINT.shape))
    for sigma in (0.25, 1.0):
        t = level(made, sigma, "first")
        a = float(made.alphas_bar[t])
        x_t = math.sqrt(a) * POINT + math.sqrt(1 - a) * randn()
        net: Any = Known(made, noise_of_a_point(POINT, lambda t: float(made.alphas_bar[t])), learned_sigma=learned)
        assert one_shot(net, x_t, t) == pytest.approx(POINT, abs=1e-12)
        assert net.seen[0][1] == t


def test_one_shot_ends_at_black_and_white() -> None:
    made = schedule("linear-1000")
    net: Any = Known(made, lambda x, t: (torch.zeros_like(x), torch.zeros_like(x)))
    x = torch.tensor([[[[-5.0, 0.25, 5.0]]]])
    expected = torch.tensor([[[[-1.0, 0.25 / math.sqrt(made.alphas_bar[100]), 1.0]]]])
    assert one_shot(net, x, 100) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["linear-1000", "cosine-4000"])
@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_sampling_recovers_a_single_image_whatever_is_drawn(name: str, steps: int) -> None:
    made = schedule(name)
    sub = subsequence(made, 0.5, steps)
    net: Any = Known(made, noise_of_a_point(POINT, abar_in(sub)))
    randn, drawn = draws(tuple(POINT.shape))
    assert reverse(net, sub, 3 * randn(), randn) == pytest.approx(POINT, abs=1e-12)
    assert len(drawn) == 1 + steps - 1  # the start is ours; the last step draws none
    assert [t for _, t in net.seen] == list(sub.times)


def test_the_last_step_is_the_predicted_image_to_the_last_bit() -> None:
    made = schedule("linear-1000")
    sub = subsequence(made, 0.5, 5)
    net: Any = Known(made, lambda x, t: (torch.sin(3 * x + t), torch.cos(x)))
    randn, _ = draws((2, 3, 4, 4))
    end = reverse(net, sub, randn(), randn)
    x, t = net.seen[-1]
    a = sub.alphas_bar[-1]
    assert torch.equal(end, ((x - math.sqrt(1 - a) * torch.sin(3 * x + t)) / math.sqrt(a)).clamp(-1, 1))


def test_sampling_of_a_gaussian_ends_in_its_known_distribution() -> None:
    """Reverse steps of Gaussian data are Gaussian, so that the exact mean and variance can be given at each.

    Mean and variance of 200 000 numbers are each within 6 standard errors: a false alarm in 10**8 seeds.
    """
    m, s, n = 0.1, 0.12, 200_000  # 7.5 standard deviations from white: no clamp
    made = schedule("linear-1000")
    sub = subsequence(made, 0.5, 5)
    at = {t: j for j, t in enumerate(sub.times)}

    def predict(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        j = at[t]
        a, beta, before, tilde = sub.alphas_bar[j], sub.betas[j], sub.previous[j], sub.posterior_variances[j]
        total = a * s**2 + 1 - a
        best = m + math.sqrt(a) * s**2 / total * (x - math.sqrt(a) * m)
        eps = (x - math.sqrt(a) * best) / math.sqrt(1 - a)
        if not tilde:
            return eps, torch.zeros_like(x)
        left = s**2 * (1 - a) / total  # variance of the image, given the state
        variance = tilde + (beta * math.sqrt(before) / (1 - a)) ** 2 * left
        share = math.log(variance / tilde) / math.log(beta / tilde)
        return eps, torch.full_like(x, 2 * share - 1)

    net: Any = Known(made, predict)
    randn, _ = draws((n, 1, 1, 1), seed=5)
    a = sub.alphas_bar[0]
    start = math.sqrt(a) * m + math.sqrt(a * s**2 + 1 - a) * randn()
    end = reverse(net, sub, start, randn)
    last = sub.alphas_bar[-1]
    variance = last * s**4 / (last * s**2 + 1 - last)  # of the conditional mean, which the last step gives
    assert end.mean().item() == pytest.approx(m, abs=6 * math.sqrt(variance / n))
    assert end.var().item() == pytest.approx(variance, rel=6 * math.sqrt(2 / n))
    j = 2  # and in between: the state has the forward process's own distribution
    state, a = net.seen[j][0], sub.alphas_bar[j]
    total = a * s**2 + 1 - a
    assert state.mean().item() == pytest.approx(math.sqrt(a) * m, abs=6 * math.sqrt(total / n))
    assert state.var().item() == pytest.approx(total, rel=6 * math.sqrt(2 / n))


def slow_reverse(net: Any, sub: Subsequence, x: Tensor, noise: Iterator[Tensor]) -> Tensor:
    """The published sampler step by step, indexed from the clean end, with its log-variance clipped there."""
    betas, abar, times = sub.betas[::-1], sub.alphas_bar[::-1], sub.times[::-1]
    for j in reversed(range(len(times))):
        out = net.predict(x, times[j])
        eps, v = out
        before = abar[j - 1] if j else 1.0
        tilde = [betas[i] * (1 - abar[i - 1]) / (1 - abar[i]) if i else 0.0 for i in range(len(times))]
        tilde[0] = tilde[1]
        share = (v + 1) / 2
        log_variance = share * math.log(betas[j]) + (1 - share) * math.log(tilde[j])
        clean = (math.sqrt(1 / abar[j]) * x - math.sqrt(1 / abar[j] - 1) * eps).clamp(-1, 1)
        mean = betas[j] * math.sqrt(before) / (1 - abar[j]) * clean
        mean = mean + (1 - before) * math.sqrt(1 - betas[j]) / (1 - abar[j]) * x
        x = mean + (torch.exp(0.5 * log_variance) * next(noise) if j else 0.0)
    return x


@pytest.mark.parametrize("name", ["linear-1000", "cosine-4000"])
def test_sampling_follows_the_published_recursion(name: str) -> None:
    made = schedule(name)
    sub = subsequence(made, 0.25, 5)
    net: Any = Known(made, lambda x, t: (torch.sin(3 * x + t), torch.cos(x)))
    randn, drawn = draws((2, 3, 4, 4))
    x = randn()
    end = reverse(net, sub, x, randn)
    assert end == pytest.approx(slow_reverse(net, sub, x, iter(drawn[1:])), abs=1e-12)


def test_steps_need_learned_variances() -> None:
    made = schedule("linear-1000")
    net: Any = Known(made, lambda x, t: (x, x), learned_sigma=False)
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(MethodError, match="learned variances"):
        reverse(net, subsequence(made, 0.5, 2), x, lambda: x)
    assert reverse(net, subsequence(made, 0.5, 1), x, lambda: x).shape == x.shape
