"""The losses, against golden numbers, an independent slow way in numpy, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.training import losses

A = 2 * torch.sin(torch.arange(12, dtype=torch.float64)).reshape(3, 4)
B = 2 * torch.cos(torch.arange(12, dtype=torch.float64)).reshape(3, 4)
Y = torch.tensor([0, 1, 3])


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def slow_consistency(copies: list[np.ndarray], y: np.ndarray, lbd: float, eta: float, form: str) -> float:
    """By loops over images and copies, in plain probabilities."""
    m, total = len(copies), 0.0
    probabilities = [softmax(z) for z in copies]
    for j in range(len(y)):
        p = [q[j] for q in probabilities]
        average = sum(p) / m
        ce = -sum(np.log(q[y[j]]) for q in p) / m
        kl = sum((average * np.log(average / q)).sum() for q in p) / m
        cross = -sum((average * np.log(q)).sum() for q in p) / m
        entropy = -(average * np.log(average)).sum()
        pairs = [((p[a] - p[b]) ** 2).sum() for a in range(m) for b in range(m) if a < b]
        regulariser = {
            "default": lbd * kl + eta * entropy,
            "xent": lbd * cross,
            "kl": lbd * kl,
            "mse": lbd * np.mean(pairs),
        }[form]
        total += ce + regulariser
    return total / len(y)


def slow_info_nce(f: np.ndarray, g: np.ndarray, tau: float) -> list[float]:
    result = []
    for i in range(len(f)):
        cosines = [f[i] @ g[k] / np.linalg.norm(f[i]) / np.linalg.norm(g[k]) for k in range(len(g))]
        scores = np.exp(np.array(cosines) / tau)
        result.append(-np.log(scores[i] / scores.sum()))
    return result


def test_info_nce_gives_the_reference_values() -> None:
    f = torch.sin(torch.arange(20.0)).reshape(4, 5)
    g = torch.cos(0.5 * torch.arange(20.0)).reshape(4, 5)
    per_image = losses.info_nce(f, g, 0.2)
    expected = [0.21998286247253418, 3.177003860473633, 2.977612018585205, 0.361621618270874]
    assert per_image.tolist() == pytest.approx(expected, rel=2e-5)
    assert float(per_image.mean()) == pytest.approx(1.6840550899505615, rel=1e-6)


def test_info_nce_equals_a_loop_over_pairs() -> None:
    source = np.random.default_rng(0)
    f, g = source.normal(size=(6, 3)), source.normal(size=(6, 3)) * 5
    fast = losses.info_nce(torch.from_numpy(f), torch.from_numpy(g), 0.7)
    assert fast.tolist() == pytest.approx(slow_info_nce(f, g, 0.7), rel=1e-12)


@pytest.mark.parametrize(("lbd", "total"), [(10.0, 5.676066215784882), (20.0, 8.533188340527163)])
def test_the_fine_tuning_loss_gives_the_reference_values(lbd: float, total: float) -> None:
    parts = losses.consistency([A, B], Y, lbd=lbd, eta=0.5)
    assert float(parts.total) == pytest.approx(total, rel=1e-12)
    assert float(parts.ce) == pytest.approx(2.256445028125317, rel=1e-12)
    assert float(parts.kl) == pytest.approx(0.285712212474228, rel=1e-12)
    assert float(parts.entropy) == pytest.approx(1.1249981258345694, rel=1e-12)


@pytest.mark.parametrize("form", losses.FORMS)
@pytest.mark.parametrize("m", [2, 3])
def test_each_consistency_form_equals_a_loop_over_images(form: str, m: int) -> None:
    copies = [A, B, A - B][:m]
    fast = losses.consistency(copies, Y, lbd=3.0, eta=0.4, form=form)
    slow = slow_consistency([c.numpy() for c in copies], Y.numpy(), 3.0, 0.4, form)
    assert float(fast.total) == pytest.approx(slow, rel=1e-12)


def test_the_cross_entropy_form_is_the_default_with_eta_equal_to_lambda() -> None:
    xent = losses.consistency([A, B], Y, lbd=3.0, eta=99.0, form="xent").total
    assert float(xent) == pytest.approx(float(losses.consistency([A, B], Y, lbd=3.0, eta=3.0).total), rel=1e-12)


def test_an_untrained_head_costs_ln_k_and_half_of_it() -> None:
    zero = torch.zeros(5, 10, dtype=torch.float64)
    parts = losses.consistency([zero, zero], torch.arange(5), lbd=20.0, eta=0.5)
    assert float(parts.ce) == pytest.approx(np.log(10), rel=1e-12)
    assert float(parts.total - parts.ce) == pytest.approx(0.5 * np.log(10), rel=1e-12)


def test_a_soft_label_of_one_class_is_that_class() -> None:
    hard = losses.gaussian(A, Y)
    assert float(losses.gaussian(A, torch.eye(4, dtype=torch.float64)[Y])) == pytest.approx(float(hard), rel=1e-12)
    assert float(hard) == pytest.approx(-np.log(softmax(A.numpy())[range(3), Y.numpy()]).mean(), rel=1e-12)


def test_confident_copies_keep_every_part_finite() -> None:
    sure = torch.tensor([[1000.0, 0.0, 0.0]])
    parts = losses.consistency([sure, sure], torch.tensor([0]), lbd=10.0, eta=0.5)
    assert float(parts.total) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("form", losses.FORMS)
def test_consistency_gradients_are_those_of_finite_differences(form: str) -> None:
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()

    def total(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return losses.consistency([x, y], Y, lbd=2.0, eta=0.5, form=form).total

    assert torch.autograd.gradcheck(total, (a, b))


def test_contrastive_gradients_are_those_of_finite_differences() -> None:
    f, g = A.clone().requires_grad_(), B.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: losses.info_nce(x, y, 0.2), (f, g))
    assert torch.autograd.gradcheck(lambda x: losses.contrastive([x, x.flip(1)], [B, A], 0.2), (f,))
    assert torch.autograd.gradcheck(lambda x: losses.trajectory_consistency(x, B, 0.2), (f,))


def test_targets_get_no_gradient() -> None:
    f, g = A.clone().requires_grad_(), B.clone().requires_grad_()
    (losses.contrastive([f], [g], 0.2) + losses.trajectory_consistency(f, g, 0.2)).backward()
    assert f.grad is not None
    assert g.grad is None


def test_the_symmetric_form_is_the_sum_of_both_directions() -> None:
    one = losses.contrastive([A], [B], 0.2)
    other = losses.contrastive([B], [A], 0.2)
    assert float(losses.contrastive([A, B], [B, A], 0.2)) == pytest.approx(float(one + other), rel=1e-12)


SENSELESS = {
    "form": lambda: losses.consistency([A, B], Y, lbd=1.0, eta=0.5, form="js"),
    "copies": lambda: losses.consistency([A], Y, lbd=1.0, eta=0.5),
    "targets": lambda: losses.contrastive([A, B], [B], 0.2),
}


@pytest.mark.parametrize("call", SENSELESS)
def test_senseless_calls_are_refused(call: str) -> None:
    with pytest.raises(ValueError, match="got"):
        SENSELESS[call]()
