"""Gaussian and Consistency training: noisy images, and a penalty on copies whose predictions differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bench.types import TrainRequest
from bench.types.errors import UsageError
from methods.training import losses
from methods.training.loader import Batch
from methods.training.run_stage import sigma_of
from methods.training.settings import Classical
from methods.training.train_classifier import Loss, NoisyClassifier, train_classifier


def gaussian(request: TrainRequest) -> Mapping[str, Any]:
    """Train on Gaussian noise.

    Source: Cohen et al. 2019, Section 3.3. Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    return train_classifier(request, Classical, noisy_objective, sigma=sigma_of(request))


def consistency(request: TrainRequest) -> Mapping[str, Any]:
    """Train on Gaussian noise, with a penalty on copies whose predictions differ.

    Source: Jeong & Shin 2020, Section 3. Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    return train_classifier(request, Classical, consistent_objective, sigma=sigma_of(request), check=check_copies)


def noisy_objective(classifier: NoisyClassifier, settings: Classical) -> Loss:
    """Cross-entropy of noisy copies."""

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x = batch.views[0]
        copies = classifier.copies(x, classifier.noises(x, settings.copies, step))
        return {"loss": losses.gaussian(copies.flatten(0, 1), batch.labels.repeat(settings.copies))}

    return loss


def consistent_objective(classifier: NoisyClassifier, settings: Classical) -> Loss:
    """Cross-entropy and consistency of noisy copies."""

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x = batch.views[0]
        copies = classifier.copies(x, classifier.noises(x, settings.copies, step))
        parts = losses.consistency(
            copies.unbind(), batch.labels, lbd=settings.lbd, eta=settings.eta, form=settings.form
        )
        return {"loss": parts.total, "ce": parts.ce, "kl": parts.kl, "entropy": parts.entropy}

    return loss


def check_copies(settings: Classical, shape: tuple[int, ...]) -> None:
    """Refuse fewer than two copies.

    Raises: UsageError.
    """
    del shape
    if settings.copies < 2:
        raise UsageError(
            f"consistency compares at least 2 noisy copies, got copies={settings.copies}; give --set copies=2"
        )
