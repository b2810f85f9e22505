"""SmoothAdv, MACER, SmoothMix, Stability and the denoisers' losses, against slow loops and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.training import losses
from methods.training.denoising import recognition, restoration, stabilisation
from methods.training.macer import macer
from methods.training.smoothadv import smoothadv
from methods.training.smoothmix import mix_images, smoothmix
from methods.training.stability import stability

M, B, K = 3, 6, 4
Y = torch.tensor([0, 1, 2, 3, 1, 0])


def logits(seed: int, *, right: bool = False, scale: float = 1.5) -> Tensor:
    """(M, B, K); `right` makes the label win on the average."""
    z = scale * torch.randn(M, B, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if right:
        z[:, range(B), Y] += 2.0
    return z


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


# ---- SmoothAdv -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi_noise", [True, False])
def test_smoothadv_is_the_cross_entropy_over_all_noises_or_the_first(multi_noise: bool) -> None:
    z = logits(0)
    used = range(M) if multi_noise else range(1)
    slow = np.mean([-np.log(softmax(z[i, j].numpy())[Y[j]]) for i in used for j in range(B)])
    assert float(smoothadv(z, Y, multi_noise=multi_noise)) == pytest.approx(slow, rel=1e-12)


# ---- MACER -----------------------------------------------------------------------------------------------------------


def slow_macer(z: np.ndarray, y: np.ndarray, sigma: float, lbd: float, beta: float, gamma: float) -> float:
    quantile, total = NormalDist().inv_cdf, 0.0
    for j in range(len(y)):
        p = np.mean([softmax(copy[j]) for copy in z], axis=0)
        q = np.mean([softmax(beta * copy[j]) for copy in z], axis=0)
        total -= np.log(p[y[j]] + 1e-10)
        second, first = np.sort(q)[-2:]
        if q.argmax() == y[j] and second > 0 and first < 1:
            xi = quantile(second) - quantile(first)
            if abs(xi) <= gamma:
                total += lbd * sigma / 2 * (xi + gamma)
    return total / len(y)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("beta", [1.0, 16.0])
def test_macer_equals_a_loop_over_images(gamma: float, beta: float) -> None:
    z = logits(1, right=True)
    fast = macer(z, Y, sigma=0.5, lbd=3.0, beta=beta, gamma=gamma)
    slow = slow_macer(z.numpy(), Y.numpy(), 0.5, 3.0, beta, gamma)
    assert float(fast.total) == pytest.approx(slow, rel=1e-9)


def test_macer_counts_some_images_and_leaves_out_others() -> None:
    z, wrong = logits(1, right=True), Y.clone()
    wrong[0] = 3
    shares = [float(macer(z, wrong, sigma=0.5, lbd=1.0, beta=4.0, gamma=gamma).counted) for gamma in (1.5, 8.0)]
    assert shares == pytest.approx([2 / 6, 5 / 6])  # a wrong image never counts, and gamma decides on the rest


def test_the_hinge_is_the_shortfall_of_the_soft_radius() -> None:
    z = logits(1, right=True)[:, :1]
    q = z.softmax(dim=2).mean(dim=0)[0].sort(descending=True).values
    radius = 0.5 / 2 * (NormalDist().inv_cdf(float(q[0])) - NormalDist().inv_cdf(float(q[1])))
    parts = macer(z, Y[:1], sigma=0.5, lbd=1.0, beta=1.0, gamma=8.0)
    assert float(parts.hinge) == pytest.approx(0.5 / 2 * 8.0 - radius, rel=1e-9)
    assert float(parts.total) == pytest.approx(float(parts.ce + parts.hinge), rel=1e-12)


def test_without_its_weight_macer_is_the_cross_entropy_of_the_average() -> None:
    z = logits(1)
    expected = -z.softmax(dim=2).mean(dim=0)[range(B), Y].log().mean()
    assert float(macer(z, Y, sigma=0.5, lbd=0.0, beta=16.0, gamma=8.0).total) == pytest.approx(
        float(expected), rel=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saturated_image_drops_out_and_leaves_the_gradient_finite(dtype: torch.dtype) -> None:
    z = torch.zeros(2, 2, 3, dtype=dtype)
    z[:, 0, 0] = 1000.0  # xi = -inf
    z[:, 1, 1] = 1.0
    z.requires_grad_()
    parts = macer(z, torch.tensor([0, 1]), sigma=1.0, lbd=12.0, beta=1.0, gamma=8.0)
    parts.total.backward()
    assert float(parts.counted) == 0.5
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert not z.grad[:, 0].any()
    assert z.grad[:, 1].any()


# ---- SmoothMix -------------------------------------------------------------------------------------------------------


SHARE = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)


def slow_smoothmix(clean: np.ndarray, mixed: np.ndarray, y: np.ndarray, share: np.ndarray, eta: float) -> float:
    total = 0.0
    for j in range(len(y)):
        p = [softmax(copy[j]) for copy in clean]
        average = sum(p) / len(p)
        total += np.mean([-np.log(q[y[j]]) for q in p])
        if average.argmax() == y[j]:
            faded = (1 - share[j]) * average + share[j] * np.full(K, 1 / K)
            total += eta * np.mean([(faded * np.log(faded / softmax(copy[j]))).sum() for copy in mixed])
    return total / len(y)


@pytest.mark.parametrize("right", [True, False])
def test_smoothmix_equals_a_loop_over_images(right: bool) -> None:
    clean, mixed = logits(2, right=right), logits(3)
    fast = smoothmix(clean, mixed, Y, SHARE, eta=5.0)
    slow = slow_smoothmix(clean.numpy(), mixed.numpy(), Y.numpy(), SHARE.numpy(), 5.0)
    assert float(fast.total) == pytest.approx(slow, rel=1e-12)
    assert float(fast.total) == pytest.approx(float(fast.ce + 5.0 * fast.kl), rel=1e-12)


def test_a_mixed_image_that_says_the_faded_label_costs_nothing() -> None:
    clean = logits(2, right=True)[:1]
    faded = (1 - SHARE)[:, None] * clean[0].softmax(dim=1) + SHARE[:, None] / K
    assert float(smoothmix(clean, faded.log()[None], Y, SHARE, eta=5.0).kl) == pytest.approx(0.0, abs=1e-12)


def test_the_faded_label_is_not_held_fixed() -> None:
    clean, mixed = logits(2, right=True).requires_grad_(), logits(3)
    smoothmix(clean, mixed, Y, SHARE, eta=1.0).kl.backward()
    assert clean.grad is not None
    assert clean.grad.abs().max() > 1e-3


def test_a_sure_prediction_keeps_the_mixed_loss_finite() -> None:
    sure = torch.zeros(1, 1, K)
    sure[..., 0] = 1000.0
    sure.requires_grad_()
    parts = smoothmix(sure, sure, torch.tensor([0]), torch.zeros(1), eta=5.0)
    parts.total.backward()
    assert float(parts.total.detach()) == pytest.approx(0.0, abs=1e-6)
    assert sure.grad is not None
    assert torch.isfinite(sure.grad).all()


def test_a_mixed_image_is_on_the_line_to_its_adversary() -> None:
    a, b = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    mixed = mix_images(a, b, torch.tensor([0.0, 0.25]))
    assert mixed[0].unique().tolist() == [0.0]
    assert mixed[1].unique().tolist() == [0.25]


# ---- Stability -------------------------------------------------------------------------------------------------------


def test_stability_equals_a_loop_over_images() -> None:
    clean, noisy = logits(4)[0], logits(5)[0]
    total = 0.0
    for j in range(B):
        p, q = softmax(clean[j].numpy()), softmax(noisy[j].numpy())
        total += -np.log(p[Y[j]]) - 2.0 * (p * np.log(q)).sum()
    assert float(stability(clean, noisy, Y, lbd=2.0).total) == pytest.approx(total / B, rel=1e-12)


def test_equal_predictions_leave_their_entropy_as_instability() -> None:
    clean = logits(4)[0]
    p = clean.softmax(dim=1)
    parts = stability(clean, clean, Y, lbd=1.0)
    assert float(parts.stability) == pytest.approx(float(-(p * p.log()).sum(dim=1).mean()), rel=1e-12)


# ---- denoisers -------------------------------------------------------------------------------------------------------


def test_the_denoisers_losses_equal_loops_over_images() -> None:
    x, denoised = torch.rand(2, B, 1, 2, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    slow = np.mean([(denoised[j].numpy() - x[j].numpy()) ** 2 for j in range(B)])
    assert float(restoration(denoised, x)) == pytest.approx(slow, rel=1e-12)
    behind, clean = logits(7)[0], logits(8)[0]
    by_label = np.mean([-np.log(softmax(behind[j].numpy())[Y[j]]) for j in range(B)])
    by_clean = np.mean([-np.log(softmax(behind[j].numpy())[clean[j].numpy().argmax()]) for j in range(B)])
    assert float(recognition(behind, Y)) == pytest.approx(by_label, rel=1e-12)
    assert float(stabilisation(behind, clean)) == pytest.approx(by_clean, rel=1e-12)


def test_no_gradient_goes_through_the_pseudo_label() -> None:
    behind, clean = logits(7)[0].requires_grad_(), logits(8)[0].requires_grad_()
    stabilisation(behind, clean).backward()
    assert behind.grad is not None
    assert clean.grad is None


# ---- all -------------------------------------------------------------------------------------------------------------


RIGHT = logits(1, right=True)
GRADIENTS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "smoothadv": (lambda z: smoothadv(z, Y, multi_noise=True), (logits(0),)),
    "macer": (lambda z: macer(z, Y, sigma=0.5, lbd=3.0, beta=4.0, gamma=8.0).total, (RIGHT,)),
    "macer, tight": (lambda z: macer(z, Y, sigma=0.5, lbd=3.0, beta=4.0, gamma=1.5).total, (RIGHT,)),
    "smoothmix": (lambda a, b: smoothmix(a, b, Y, SHARE, eta=5.0).total, (RIGHT, logits(3))),
    "stability": (lambda a, b: stability(a, b, Y, lbd=2.0).total, (logits(4)[0], logits(5)[0])),
    "restoration": (restoration, tuple(logits(seed)[0].view(B, 1, 2, 2) for seed in (6, 9))),
    "recognition": (lambda z: recognition(z, Y), (logits(7)[0],)),
    "stabilisation": (lambda z: stabilisation(z, logits(8)[0]), (logits(7)[0],)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    loss, inputs = GRADIENTS[name]
    assert torch.autograd.gradcheck(loss, tuple(z.clone().requires_grad_() for z in inputs))


def test_half_precision_is_widened_before_a_logarithm() -> None:
    z = torch.zeros(1, 1, K, dtype=torch.bfloat16)
    assert losses.at_least_float32(z).dtype == torch.float32
    assert smoothadv(z, torch.tensor([0]), multi_noise=True).dtype == torch.float32
    assert macer(z, torch.tensor([1]), sigma=1.0, lbd=1.0, beta=1.0, gamma=8.0).total.dtype == torch.float32
