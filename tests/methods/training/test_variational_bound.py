"""The variational bound against slow ways that share no formula with it: products of densities, sums over bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from methods.diffusion.schedules import Schedule, schedule
from methods.training.diffusion import hybrid
from methods.training.variational_bound import HALF_BIN, Tables, bound, divergence, log_likelihood, noised, tables

SCHEDULES = ("cosine-40", "linear-40")
LEVELS = (1, 2, 20, 39)


def setting(
    name: str, t: int, *, dtype: torch.dtype = torch.float64
) -> tuple[Schedule, Tables, dict[str, torch.Tensor]]:
    """A small batch at one level, with a wrong guess of the noise and a spread inside its range."""
    source = torch.Generator().manual_seed(t)
    z = torch.randint(0, 256, (3, 2, 2, 2), generator=source).to(dtype) / 127.5 - 1
    eps, wrong, spread = (torch.randn(z.shape, generator=source, dtype=torch.float64).to(dtype) for _ in range(3))
    levels = torch.full((3,), t)
    table = tables(schedule(name), "cpu")
    x_t = noised(table, z, eps, levels)
    drawn = {"z": z, "x_t": x_t, "t": levels, "eps": eps + 0.3 * wrong, "spread": spread.tanh()}
    return schedule(name), table, {**drawn, "true_eps": eps}


def posterior(s: Schedule, t: int, z: float, x: float) -> tuple[float, float]:
    """Mean and variance of x_{t-1} given z and x_t, as the product of two normal densities."""
    before, beta = float(s.alphas_bar[t - 1]), float(s.betas[t])
    # q(x_{t-1} | z) has precision 1 / (1 - abar_{t-1}); q(x_t | x_{t-1}) seen from x_{t-1} has (1 - beta) / beta
    first, second = 1 / (1 - before), (1 - beta) / beta
    mean = (math.sqrt(before) * z * first + x / math.sqrt(1 - beta) * second) / (first + second)
    return mean, 1 / (first + second)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", LEVELS)
def test_the_bound_is_the_divergence_of_the_two_reverse_steps_by_quadrature(name: str, t: int) -> None:
    s, table, drawn = setting(name, t)
    told = bound(table, drawn["z"], drawn["x_t"], drawn["t"], eps=drawn["eps"], spread=drawn["spread"])
    abar, beta = float(s.alphas_bar[t]), float(s.betas[t])
    flat = [drawn[key].reshape(3, -1).numpy() for key in ("z", "x_t", "eps", "spread")]
    for i in range(3):
        bits = []
        for z, x, eps, spread in zip(*(values[i] for values in flat), strict=True):
            mean, variance = posterior(s, t, z, x)
            guess = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
            guessed, _ = posterior(s, t, guess, x)
            share = (spread + 1) / 2
            scale = math.exp((share * math.log(beta) + (1 - share) * math.log(variance)) / 2)
            grid = mean + math.sqrt(variance) * np.linspace(-12, 12, 4001)
            p, q = norm(mean, math.sqrt(variance)), norm(guessed, scale)
            bits.append(np.trapezoid(p.pdf(grid) * (p.logpdf(grid) - q.logpdf(grid)), grid) / math.log(2))
        assert float(told[i]) == pytest.approx(np.mean(bits), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_level_zero_counts_the_improbability_of_the_image(name: str) -> None:
    s, table, drawn = setting(name, 0)
    told = bound(table, drawn["z"], drawn["x_t"], drawn["t"], eps=drawn["eps"], spread=drawn["spread"])
    abar, beta = float(s.alphas_bar[0]), float(s.betas[0])
    guess = (drawn["x_t"] - math.sqrt(1 - abar) * drawn["eps"]) / math.sqrt(abar)  # at level 0 that is the mean
    _, least = posterior(s, 1, 0.0, 0.0)
    share = (drawn["spread"] + 1) / 2
    scale = np.exp((share * math.log(beta) + (1 - share) * math.log(least)).numpy() / 2)
    z = drawn["z"].numpy()
    low, high = np.where(z < -0.999, -np.inf, z - 1 / 255), np.where(z > 0.999, np.inf, z + 1 / 255)
    p = norm.cdf(high, guess.numpy(), scale) - norm.cdf(low, guess.numpy(), scale)
    bits = -np.log2(np.maximum(p, 1e-12)).reshape(3, -1).mean(axis=1)
    assert told.numpy() == pytest.approx(bits, rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", LEVELS)
def test_the_exact_posterior_costs_nothing_and_any_other_spread_or_mean_something(name: str, t: int) -> None:
    _, table, drawn = setting(name, t)
    z, x_t, levels, eps = drawn["z"], drawn["x_t"], drawn["t"], drawn["true_eps"]
    exact = bound(table, z, x_t, levels, eps=eps, spread=-torch.ones_like(z))
    assert exact.abs().max() < 1e-12
    assert (bound(table, z, x_t, levels, eps=eps, spread=drawn["spread"]) > exact).all()
    assert (bound(table, z, x_t, levels, eps=drawn["eps"], spread=-torch.ones_like(z)) > exact).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 0.02, 0.3, 2.0])
def test_the_probabilities_of_all_256_values_sum_to_one(scale: float, dtype: torch.dtype) -> None:
    z = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).to(dtype)
    for mean in (-1.2, -1.0, -0.3, 0.0021, 0.999, 1.5):
        p = log_likelihood(z, torch.full_like(z, mean), torch.full_like(z, math.log(scale))).exp()
        assert float(p.sum()) == pytest.approx(1.0, abs=3e-4 if dtype == torch.float32 else 1e-9)
        assert float(p[1]) == pytest.approx(
            norm.cdf((z[1] + HALF_BIN - mean) / scale) - norm.cdf((z[1] - HALF_BIN - mean) / scale),
            rel=1e-3 if dtype == torch.float32 else 1e-9,
            abs=1e-11,
        )


def test_a_value_far_from_the_mean_keeps_its_digits() -> None:
    # Both ends of the bin round to Phi = 1 in float32; the probability between them is 2e-11.
    z, mean = torch.tensor([0.65]), torch.zeros(1)
    told = log_likelihood(z, mean, torch.tensor([math.log(0.1)]))
    expected = math.log(norm.sf((0.65 - HALF_BIN) * 10) - norm.sf((0.65 + HALF_BIN) * 10))
    assert expected > math.log(1e-12)
    assert float(told) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("t", [0, 1, 20])
def test_the_bound_s_gradient_reaches_the_spread_alone_and_is_right(t: int) -> None:
    _, table, drawn = setting("cosine-40", t)
    # At level 0 a spread this small leaves no bin below the floor, where there is no gradient.
    eps, spread = drawn["true_eps"].clone().requires_grad_(), drawn["spread"].clone().requires_grad_()

    def of(spread: torch.Tensor) -> torch.Tensor:
        return bound(table, drawn["z"], drawn["x_t"], drawn["t"], eps=eps, spread=spread)

    of(spread).sum().backward()  # type: ignore[no-untyped-call]
    assert eps.grad is None
    assert spread.grad is not None
    assert spread.grad.abs().min() > 0
    assert torch.autograd.gradcheck(of, (spread,), rtol=1e-5)


def test_divergence_is_zero_of_equals_and_positive_otherwise() -> None:
    source = torch.Generator().manual_seed(0)
    mean, log_variance, other, log_other = torch.randn(4, 100, generator=source, dtype=torch.float64)
    assert divergence(mean, log_variance, mean, log_variance).abs().max() == 0
    assert (divergence(mean, log_variance, other, log_other) > 0).all()


@pytest.mark.parametrize("t", [0, 7, 39])
def test_float32_agrees_with_float64(t: int) -> None:
    told = []
    for dtype in (torch.float32, torch.float64):
        _, table, drawn = setting("cosine-40", t, dtype=dtype)
        told.append(bound(table, drawn["z"], drawn["x_t"], drawn["t"], eps=drawn["eps"], spread=drawn["spread"]))
    assert told[0].dtype == torch.float32
    assert told[0].numpy() == pytest.approx(told[1].numpy(), rel=2e-3)


def test_the_hybrid_loss_moves_the_mean_by_the_simple_part_alone() -> None:
    _, table, drawn = setting("cosine-40", 5)
    z, x_t, t, eps = drawn["z"], drawn["x_t"], drawn["t"], drawn["true_eps"]
    output = torch.cat([drawn["eps"], drawn["spread"]], dim=1).requires_grad_()
    parts = hybrid(table, output, z, eps, x_t, t, prediction="eps", weight=0.7)
    parts["loss"].backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    by_hand = 2 * (drawn["eps"] - eps) / eps.numel()
    assert torch.allclose(output.grad[:, :2], by_hand, rtol=1e-12)
    vlb = bound(table, z, x_t, t, eps=drawn["eps"], spread=drawn["spread"]).mean()
    assert float(parts["loss"].detach()) == pytest.approx(float((drawn["eps"] - eps).square().mean() + 0.7 * vlb))
    assert output.grad[:, 2:].abs().min() > 0


@pytest.mark.parametrize("t", LEVELS)
def test_a_velocity_is_the_same_guess_as_the_noise_that_it_implies(t: int) -> None:
    s, table, drawn = setting("cosine-40", t)
    z, x_t, levels, eps = drawn["z"], drawn["x_t"], drawn["t"], drawn["true_eps"]
    signal, noise = math.sqrt(s.alphas_bar[t]), math.sqrt(1 - s.alphas_bar[t])
    velocity = (drawn["eps"] - noise * x_t) / signal  # from eps = signal v + noise x_t
    told = {}
    for prediction, guess in (("eps", drawn["eps"]), ("v", velocity)):
        output = torch.cat([guess, drawn["spread"]], dim=1)
        told[prediction] = hybrid(table, output, z, eps, x_t, levels, prediction=prediction, weight=1.0)
    assert float(told["v"]["bound"]) == pytest.approx(float(told["eps"]["bound"]), rel=1e-9)
    # The velocity's error is that of the noise over the signal: the loss weighs noisy levels more.
    assert float(told["v"]["simple"]) * signal**2 == pytest.approx(float(told["eps"]["simple"]), rel=1e-9)


def test_a_network_without_variances_learns_from_the_simple_part() -> None:
    _, table, drawn = setting("cosine-40", 5)
    parts = hybrid(
        table, drawn["eps"], drawn["z"], drawn["true_eps"], drawn["x_t"], drawn["t"], prediction="eps", weight=1.0
    )
    assert "bound" not in parts
    assert float(parts["loss"]) == pytest.approx(float((drawn["eps"] - drawn["true_eps"]).square().mean()))
