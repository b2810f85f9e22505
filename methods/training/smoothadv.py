"""SmoothAdv: cross-entropy at adversarial examples of the smoothed classifier, under the noises of the attack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from bench.types import TrainRequest
from bench.types.errors import UsageError
from methods.training import attacks
from methods.training.loader import Batch
from methods.training.losses import at_least_float32
from methods.training.rng import generator
from methods.training.run_stage import sigma_of
from methods.training.settings import SmoothAdv
from methods.training.train_classifier import Loss, NoisyClassifier, train_classifier

ATTACKS = {"pgd": attacks.pgd, "ddn": attacks.ddn}


def train(request: TrainRequest) -> Mapping[str, Any]:
    """Train on adversarial examples of the smoothed classifier.

    Source: Salman et al. 2019, Section 3. Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    return train_classifier(request, SmoothAdv, objective, sigma=sigma_of(request), check=check)


def objective(classifier: NoisyClassifier, settings: SmoothAdv) -> Loss:
    """Attack the network as it is, then learn on the same noises."""
    attack = ATTACKS[settings.attack]

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x, labels = batch.views[0], batch.labels
        noises = classifier.noises(x, settings.copies, step)
        source = generator(str(x.device), "direction", classifier.seed, step)
        radius = settings.radius * classifier.warmup_share(step, settings.radius_warmup)
        with attacks.frozen(classifier.network):
            moved = attack(
                classifier.logits, x, labels, noises, radius=radius, steps=settings.attack_steps, source=source
            ).detach()
        used = noises if settings.multi_noise else noises[:1]
        distance = (moved - x).flatten(1).norm(dim=1).mean()
        return {"loss": smoothadv(classifier.copies(moved, used), labels, multi_noise=True), "distance": distance}

    return loss


def check(settings: SmoothAdv, shape: tuple[int, ...]) -> None:
    """Refuse a ball of no size, or one that holds all images.

    Raises: UsageError.
    """
    diagonal = math.sqrt(math.prod(shape))
    if not 0 < settings.radius < diagonal:
        raise UsageError(
            f"radius is an l2 length in [0, 1] pixels, above 0 and below {diagonal:.3g} for these images, got "
            f"{settings.radius!r}; the authors' 64, 127, 255, 512 are 0.25, 0.496, 0.996, 2.0 (--set radius=...)"
        )


def smoothadv(copies: Tensor, labels: Tensor, *, multi_noise: bool) -> Tensor:
    """Cross-entropy of adversarial images under all m noises of the attack, or under the first alone.

    Shapes: copies (m, B, K), the logits of x_adv + delta_i; labels (B,); a scalar, mean over images and noises.
    Source: Salman et al. 2019, Pseudocode 1.
    """
    used = at_least_float32(copies if multi_noise else copies[:1])
    return functional.cross_entropy(used.flatten(0, 1), labels.repeat(len(used)))
