"""MACER: cross-entropy of the averaged prediction, plus a hinge on the radius of the soft smoothed classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.types import TrainRequest
from bench.types.errors import UsageError
from methods.training.loader import Batch
from methods.training.losses import at_least_float32
from methods.training.run_stage import sigma_of
from methods.training.settings import Macer
from methods.training.train_classifier import Loss, NoisyClassifier, train_classifier

FLOOR = 1e-10  # under the logarithm of a probability, as the authors have it


@dataclass(frozen=True, slots=True, kw_only=True)
class MacerParts:
    """A robust-radius loss and what it is made of; all scalars."""

    total: Tensor
    ce: Tensor  # of the averaged prediction, mean over the images
    hinge: Tensor  # sigma / 2 * (xi + gamma), summed over the images that count, over all images
    counted: Tensor  # share of images that count: right, and with a margin within gamma


def train(request: TrainRequest) -> Mapping[str, Any]:
    """Train for a large soft radius, without attacks.

    Source: Zhai et al. 2020, Section 4. Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    return train_classifier(request, Macer, objective, sigma=sigma_of(request), check=check)


def objective(classifier: NoisyClassifier, settings: Macer) -> Loss:
    """The loss on many copies; before the epoch `lbd_from` ("deferred") its first term alone."""

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x = batch.views[0]
        copies = classifier.copies(x, classifier.noises(x, settings.copies, step))
        lbd = settings.lbd if classifier.epoch(step) >= settings.lbd_from else 0.0
        parts = macer(copies, batch.labels, sigma=classifier.sigma, lbd=lbd, beta=settings.beta, gamma=settings.gamma)
        return {"loss": parts.total, "ce": parts.ce, "hinge": parts.hinge, "counted": parts.counted}

    return loss


def check(settings: Macer, shape: tuple[int, ...]) -> None:
    """Refuse what leaves the hinge nothing to count.

    Raises: UsageError.
    """
    del shape
    for name in ("beta", "gamma"):
        if getattr(settings, name) <= 0:
            raise UsageError(f"{name} must be positive, got {getattr(settings, name)!r}; change it by --set {name}=...")


def macer(copies: Tensor, labels: Tensor, *, sigma: float, lbd: float, beta: float, gamma: float) -> MacerParts:
    """Cross-entropy of the smoothed soft classifier + lbd * hinge of its certified radius.

    With p the average of F(x + delta_k) and q that of softmax(beta * f(x + delta_k)): the cross-entropy is -log p[y];
    where the top class of q is y, xi = Phi^-1(q_second) - Phi^-1(q_first) is minus twice the soft radius over sigma,
    and the image adds sigma / 2 * (xi + gamma) while |xi| <= gamma. The hinge is by exclusion: an image with a larger
    margin, or one whose xi is not finite, drops out and gets no gradient.
    Shapes: copies (k, B, K), labels (B,). Units: sigma in [0, 1] pixels; gamma counts in standard deviations.
    Source: Zhai et al. 2020, Algorithm 1; the beta of the first term is 1, as in the authors' code.
    """
    copies = at_least_float32(copies)
    B = copies.shape[1]
    p = copies.softmax(dim=2).mean(dim=0)
    ce = -(p.gather(1, labels[:, None]) + FLOOR).log().mean()
    q = (beta * copies).softmax(dim=2).mean(dim=0)
    top, classes = q.topk(2, dim=1)
    with torch.no_grad():
        # Chosen before the differentiable pass: the derivative of Phi^-1 at 0 and 1 is inf, and 0 * inf is nan.
        margin = torch.special.ndtri(top[:, 1]) - torch.special.ndtri(top[:, 0])
        counts = (classes[:, 0] == labels) & margin.isfinite() & (margin.abs() <= gamma)
    # All are computed, of a half where they do not count, which has a derivative: to choose rows waits for the device.
    safe = torch.where(counts[:, None], top, 0.5)
    xi = torch.special.ndtri(safe[:, 1]) - torch.special.ndtri(safe[:, 0])
    hinge = sigma / 2 * torch.where(counts, xi + gamma, 0.0).sum() / B
    return MacerParts(total=ce + lbd * hinge, ce=ce, hinge=hinge, counted=counts.float().mean())
