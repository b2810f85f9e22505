"""Stability training: cross-entropy of clean images, and of noisy predictions against the clean ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.types import TrainRequest
from methods.training import losses
from methods.training.loader import Batch
from methods.training.run_stage import sigma_of
from methods.training.settings import Stability
from methods.training.train_classifier import Loss, NoisyClassifier, train_classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityParts:
    """A stability-regularised loss and what it is made of; all scalars, means over the images."""

    total: Tensor
    ce: Tensor  # of clean images
    stability: Tensor  # cross-entropy of noisy predictions against clean ones


def train(request: TrainRequest) -> Mapping[str, Any]:
    """Train on clean images, and on noisy ones whose predictions should equal those of the clean ones.

    Source: Li et al. 2019, Section 4. Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    return train_classifier(request, Stability, objective, sigma=sigma_of(request))


def objective(classifier: NoisyClassifier, settings: Stability) -> Loss:
    """One clean and one noisy pass."""

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x = batch.views[0]
        noisy = classifier.copies(x, classifier.noises(x, 1, step))[0]
        parts = stability(classifier.logits(x), noisy, batch.labels, lbd=settings.lbd)
        return {"loss": parts.total, "ce": parts.ce, "stability": parts.stability}

    return loss


def stability(clean: Tensor, noisy: Tensor, labels: Tensor, *, lbd: float) -> StabilityParts:
    """Cross-entropy of clean images + lbd * cross-entropy of the noisy prediction against the clean one.

    The gradient flows through both predictions.
    Shapes: clean, noisy (B, K), logits; labels (B,).
    Source: Zheng et al. 2016, with Gaussian noise as Li et al. 2019, for certification.
    """
    clean, noisy = losses.at_least_float32(clean), losses.at_least_float32(noisy)
    ce = losses.gaussian(clean, labels)
    apart = -(clean.softmax(dim=1) * noisy.log_softmax(dim=1)).sum(dim=1).mean()
    return StabilityParts(total=ce + lbd * apart, ce=ce, stability=apart)
