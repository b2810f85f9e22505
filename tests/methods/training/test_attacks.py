"""The attacks inside a training step, against closed forms, slow loops, and what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.training.attacks import _log_average, _log_copies, ddn, frozen, mixing_ends, pgd, within
from methods.training.rng import seeded_globals

D, K, B, M = 12, 3, 5, 4
SHAPE = (1, 3, 4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


W = drawn(D, K, seed=1)
X = torch.rand(B, *SHAPE, generator=generator(2), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 0, 1])
NOISES = 0.25 * drawn(M, B, *SHAPE, seed=3)


def linear(x: Tensor) -> Tensor:
    return x.flatten(1) @ W


def bent(x: Tensor) -> Tensor:
    return torch.tanh(2 * x.flatten(1) @ W) * 3


def flat(x: Tensor) -> Tensor:
    return 0 * linear(x)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).norm(dim=1)


def slow_smoothed(x: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """One image, by a loop over its noises, in plain probabilities."""
    total = np.zeros(K)
    for noise in noises:
        z = np.tanh(2 * (x + noise).reshape(-1) @ W.numpy()) * 3
        total += np.exp(z) / np.exp(z).sum()
    return np.log(total / len(noises))


def slow_gradient(x: np.ndarray, noises: np.ndarray, label: int) -> np.ndarray:
    """Of -log p, by central differences."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[i] = 1e-6
        up, down = slow_smoothed(x + step, noises)[label], slow_smoothed(x - step, noises)[label]
        gradient[i] = -(up - down) / 2e-6
    return gradient


def log_smoothed(logits: Callable[[Tensor], Tensor], x: Tensor, noises: Tensor) -> Tensor:
    return _log_average(_log_copies(logits, x, noises))


def test_the_smoothed_probability_is_the_average_over_the_noises() -> None:
    fast = log_smoothed(bent, X, NOISES)
    slow = np.stack([slow_smoothed(X[j].numpy(), NOISES[:, j].numpy()) for j in range(B)])
    assert fast.numpy() == pytest.approx(slow, rel=1e-12)


def test_with_one_noise_the_attacked_loss_is_the_cross_entropy() -> None:
    log_p = log_smoothed(linear, X, NOISES[:1])
    expected = nn.functional.cross_entropy(linear(X + NOISES[0]), Y, reduction="none")
    assert torch.allclose(-log_p[range(B), Y], expected, rtol=1e-12)


def test_a_hopeless_label_keeps_a_gradient() -> None:
    sure = torch.tensor([-2000.0, 0.0, 0.0], dtype=torch.float64)
    x = X.clone().requires_grad_()
    log_smoothed(lambda v: linear(v) + sure, x, NOISES)[:, 0].sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0


def test_the_smoothed_log_probability_has_the_gradient_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda x: log_smoothed(bent, x, NOISES), (X.clone().requires_grad_(),))


def slow_pgd(x: np.ndarray, label: int, noises: np.ndarray, radius: float, steps: int) -> np.ndarray:
    delta = np.zeros_like(x)
    for _ in range(steps):
        g = slow_gradient(x + delta, noises, label)
        delta = delta + 2 * radius / steps * g / np.linalg.norm(g)
        delta = np.clip(x + delta, 0, 1) - x
        delta = delta * min(1.0, radius / np.linalg.norm(delta))
    return x + delta


@pytest.mark.parametrize("steps", [1, 3])
def test_pgd_equals_a_loop_with_numerical_gradients(steps: int) -> None:
    fast = pgd(bent, X, Y, NOISES, radius=0.5, steps=steps, source=generator())
    for j in range(B):
        slow = slow_pgd(X[j].numpy(), int(Y[j]), NOISES[:, j].numpy(), 0.5, steps)
        assert fast[j].numpy() == pytest.approx(slow, abs=1e-6)


def slow_label(x: np.ndarray, noises: np.ndarray) -> int:
    """The class that most copies get; of several, the lowest."""
    return int(np.bincount([int(np.argmax(slow_smoothed(x, noise[None]))) for noise in noises]).argmax())


def slow_ddn(x: np.ndarray, label: int, noises: np.ndarray, radius: float, steps: int) -> np.ndarray:
    delta, best = np.zeros_like(x), None
    farthest = np.linalg.norm(np.maximum(x, 1 - x))
    smallest, norm = farthest, radius
    for i in range(steps):
        rate = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * i / steps))
        fooled = slow_label(x + delta, noises) != label
        size = np.linalg.norm(delta)
        if fooled and size < smallest:
            smallest, best = size, delta
        g = slow_gradient(x + delta, noises, label)
        delta = delta + rate * g / np.linalg.norm(g)
        norm = min(norm * (0.95 if fooled else 1.05), farthest)
        delta = delta * norm / np.linalg.norm(delta)
        delta = np.clip(np.round((x + delta) * 255) / 255, 0, 1) - x
    if best is None:
        return x
    cut = best * min(1.0, radius / max(np.linalg.norm(best), 1e-12))
    return x + np.round(cut * 255) / 255


EIGHT_BIT = (X * 255).round() / 255


@pytest.mark.parametrize("steps", [2, 6])
def test_ddn_equals_a_loop_with_numerical_gradients(steps: int) -> None:
    fast = ddn(bent, EIGHT_BIT, Y, NOISES, radius=1.0, steps=steps, source=generator())
    for j in range(B):
        slow = slow_ddn(EIGHT_BIT[j].numpy(), int(Y[j]), NOISES[:, j].numpy(), 1.0, steps)
        assert fast[j].numpy() == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("attack", [pgd, ddn])
@pytest.mark.parametrize("radius", [0.1, 1.0])
@pytest.mark.parametrize("logits", [linear, bent, flat])
def test_an_example_stays_in_the_ball_and_in_the_range_of_pixels(
    attack: Callable[..., Tensor], radius: float, logits: Callable[[Tensor], Tensor]
) -> None:
    found = attack(logits, EIGHT_BIT, Y, NOISES, radius=radius, steps=4, source=generator())
    rounding = math.sqrt(D) / 510 if attack is ddn else 0.0
    assert distance(found, EIGHT_BIT).max() <= radius * (1 + 1e-12) + rounding
    assert found.min() >= 0
    assert found.max() <= 1


def test_pgd_raises_the_loss_and_ddn_fools_what_can_be_fooled() -> None:
    def loss(x: Tensor) -> Tensor:
        return -log_smoothed(linear, x, NOISES)[range(B), Y]

    assert (loss(pgd(linear, X, Y, NOISES, radius=0.5, steps=4, source=generator())) > loss(X)).all()
    found = ddn(linear, EIGHT_BIT, Y, NOISES, radius=9.0, steps=40, source=generator())
    votes = linear((found + NOISES).flatten(0, 1)).argmax(dim=1).view(M, B)
    assert (votes.mode(dim=0).values != Y).all()
    assert torch.allclose(found * 255, (found * 255).round(), atol=1e-9)


def test_ddn_judges_by_the_copies_classes_not_by_their_average() -> None:
    # Two copies are of class 1 by a hair, the third of class 0 for sure: the average says 0, the copies say 1.
    tilt = torch.tensor([[0.1], [0.1], [-9.0]], dtype=torch.float64).view(3, 1, 1, 1, 1)
    x = torch.full((1, 1, 1, 1), 128 / 255, dtype=torch.float64)

    def logits(z: Tensor) -> Tensor:
        return torch.cat([-(z - 128 / 255).flatten(1), (z - 128 / 255).flatten(1)], dim=1)

    assert int(log_smoothed(logits, x, tilt).argmax()) == 0
    assert torch.equal(ddn(logits, x, torch.tensor([0]), tilt, radius=0.4, steps=1, source=generator()), x)
    moved = ddn(logits, x, torch.tensor([1]), tilt, radius=0.4, steps=3, source=generator())
    assert not torch.equal(moved, x), "class 1 has the most copies, so that no perturbation is not enough"


def test_ddn_leaves_alone_what_is_wrong_already_and_what_it_cannot_fool() -> None:
    votes = linear((X + NOISES).flatten(0, 1)).argmax(dim=1).view(M, B).mode(dim=0).values
    assert torch.equal(ddn(linear, X, (votes + 1) % K, NOISES, radius=1.0, steps=5, source=generator()), X)
    sure = torch.tensor([100.0, 0.0, 0.0], dtype=torch.float64)
    zeros = torch.zeros(B, dtype=torch.int64)
    found = ddn(lambda x: linear(x) + sure, X, zeros, NOISES, radius=1.0, steps=5, source=generator())
    assert torch.equal(found, X)


def test_where_the_gradient_is_zero_pgd_leaves_in_a_random_direction_of_the_same_length() -> None:
    middle = torch.full_like(X, 0.5)
    found = pgd(flat, middle, Y, NOISES, radius=0.2, steps=2, source=generator())
    again = pgd(flat, middle, Y, NOISES, radius=0.2, steps=2, source=generator())
    assert torch.equal(found, again)
    one = pgd(flat, middle, Y, NOISES, radius=0.2, steps=1, source=generator())
    assert distance(one, middle) == pytest.approx(0.2, rel=1e-9)  # a step of 0.4, cut to the ball
    assert len({tuple(row.tolist()) for row in (one - middle).flatten(1)}) == B


def slow_mixing(x: np.ndarray, label: int, noises: np.ndarray, length: float, steps: int) -> list[np.ndarray]:
    path = [x]
    for _ in range(steps):
        g = slow_gradient(path[-1], noises, label)
        path.append(np.clip(path[-1] + length * g / np.linalg.norm(g), 0, 1))
    return path


@pytest.mark.parametrize("clean_after", [0, 1, 2])
def test_the_mixing_ends_equal_a_loop_with_numerical_gradients(clean_after: int) -> None:
    ends = mixing_ends(bent, X, Y, NOISES, length=0.5, steps=3, clean_after=clean_after, warmup=0.3)
    for j in range(B):
        x = X[j].numpy()
        path = slow_mixing(x, int(Y[j]), NOISES[:, j].numpy(), 0.5, 3)
        delta = path[clean_after] - x
        ball = 0.3 * 0.5 * clean_after
        clean = x + delta * min(1.0, ball / max(np.linalg.norm(delta), 1e-12))
        assert ends[0][j].numpy() == pytest.approx(clean, abs=1e-6)
        assert ends[1][j].numpy() == pytest.approx(path[3], abs=1e-6)


def test_the_adversary_of_smoothmix_goes_as_far_as_its_steps_unless_a_ball_is_asked_for() -> None:
    middle = torch.full_like(X, 0.5)
    keys = {"length": 0.1, "steps": 3, "clean_after": 0, "warmup": 1.0}
    _, free = mixing_ends(linear, middle, Y, NOISES, **keys)
    assert distance(free, middle).min() > 0.15
    _, held = mixing_ends(linear, middle, Y, NOISES, **keys, max_norm=0.15)
    assert distance(held, middle) == pytest.approx(0.15, rel=1e-9)
    # After each step: where the gradient turns, a ball in the end alone leads to another place.
    _, bound = mixing_ends(bent, X, Y, NOISES, length=0.8, steps=3, clean_after=0, warmup=1.0, max_norm=0.5)
    for j in range(B):
        x = moved = X[j].numpy()
        for _ in range(3):
            g = slow_gradient(moved, NOISES[:, j].numpy(), int(Y[j]))
            delta = moved + 0.8 * g / np.linalg.norm(g) - x
            moved = np.clip(x + delta * min(1.0, 0.5 / np.linalg.norm(delta)), 0, 1)
        assert bound[j].numpy() == pytest.approx(moved, abs=1e-6)
    with pytest.raises(ValueError, match="clean_after must be within the 3 steps, got 4"):
        mixing_ends(linear, middle, Y, NOISES, **{**keys, "clean_after": 4})


def test_a_flat_classifier_moves_no_end() -> None:
    clean, adversary = mixing_ends(flat, X, Y, NOISES, length=0.5, steps=2, clean_after=1, warmup=1.0)
    assert torch.equal(clean, X)
    assert torch.equal(adversary, X)


def test_what_is_within_the_ball_is_not_touched() -> None:
    near = X + 0.01
    assert torch.equal(within(near, X, 1.0), near)
    assert distance(within(X + 1.0, X, 0.5), X) == pytest.approx(0.5, rel=1e-12)


@seeded_globals(1)
def test_a_network_under_attack_is_in_eval_mode_and_collects_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * D, K))
    network[3].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, noises = X.float(), NOISES.float()
    with frozen(network):
        assert not network.training
        found = pgd(network, x, Y, noises, radius=0.5, steps=2, source=generator())
    assert not found.requires_grad
    assert distance(found, x).min() > 0.1
    assert network.training
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, True, True, False]
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_step_of_pgd_is_twice_the_radius_over_the_steps() -> None:
    middle = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    tilt = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    found = pgd(lambda x: x.flatten(1) @ tilt, middle, torch.tensor([0]), torch.zeros(1, 1, 1, 1, 2),
                radius=0.3, steps=8, source=generator())  # fmt: skip
    assert found.flatten().tolist() == pytest.approx([0.2, 0.5])
    part = pgd(lambda x: x.flatten(1) @ tilt, middle, torch.tensor([0]), torch.zeros(1, 1, 1, 1, 2),
               radius=0.3, steps=1, source=generator())  # fmt: skip
    assert float(part.flatten()[0]) == pytest.approx(0.2)
    assert math.isclose(float(part.flatten()[1]), 0.5)
