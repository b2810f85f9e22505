"""SmoothMix: images mixed with their adversaries, whose labels go over to the uniform one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.types import TrainRequest
from bench.types.errors import UsageError
from methods.training import attacks, losses
from methods.training.loader import Batch
from methods.training.rng import generator
from methods.training.run_stage import sigma_of
from methods.training.settings import SmoothMix
from methods.training.sharding import current_share
from methods.training.train_classifier import Loss, NoisyClassifier, train_classifier

LARGEST_SHARE = 0.5  # of the adversary in a mixed image


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothMixParts:
    """A mixup-regularised loss and what it is made of; all scalars, means over the images."""

    total: Tensor
    ce: Tensor  # of the clean end, mean over copies too
    kl: Tensor  # of the mixed images; 0 for an image that is classified wrongly


def train(request: TrainRequest) -> Mapping[str, Any]:
    """Train on images mixed with their unrestricted adversaries.

    Source: Jeong et al. 2021, Section 3. Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    return train_classifier(request, SmoothMix, objective, sigma=sigma_of(request), check=check)


def objective(classifier: NoisyClassifier, settings: SmoothMix) -> Loss:
    """Find both ends by the network as it is, mix, and learn, all on the same noises."""

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x, labels = batch.views[0], batch.labels
        noises = classifier.noises(x, settings.copies, step)
        warmup = classifier.warmup_share(step, settings.eta_warmup)
        with attacks.frozen(classifier.network):
            clean, adversary = attacks.mixing_ends(
                classifier.logits,
                x,
                labels,
                noises,
                length=settings.attack_length,
                steps=settings.attack_steps,
                clean_after=settings.clean_after,
                warmup=warmup,
                max_norm=settings.max_norm or None,
            )
        clean, adversary = clean.detach(), adversary.detach()
        images = current_share()
        drawn = images.take(
            torch.rand(images.whole(len(x)), generator=generator("cpu", "share", classifier.seed, step))
        )
        share = LARGEST_SHARE * drawn.to(x.device, non_blocking=True)
        # Two passes: batch norm sees clean and mixed images apart, as the authors' does.
        answers = classifier.copies(clean, noises)
        mixed = classifier.copies(mix_images(clean, adversary, share), noises)
        parts = smoothmix(answers, mixed, labels, share, eta=settings.eta * warmup)
        return {"loss": parts.total, "ce": parts.ce, "kl": parts.kl}

    return loss


def check(settings: SmoothMix, shape: tuple[int, ...]) -> None:
    """Refuse an ascent that goes nowhere, or a clean end beyond it.

    Raises: UsageError.
    """
    del shape
    if settings.attack_length <= 0:
        raise UsageError(
            f"attack_length must be positive, an l2 length in [0, 1] pixels, got {settings.attack_length!r}; "
            "change it by --set attack_length=..."
        )
    if settings.clean_after > settings.attack_steps:
        raise UsageError(
            f"clean_after must be within the attack's {settings.attack_steps} steps, got {settings.clean_after}; "
            "give --set clean_after=0 or 1"
        )


def mix_images(clean: Tensor, adversary: Tensor, share: Tensor) -> Tensor:
    """Points on the lines from clean images to their adversaries.

    Shapes: images (B, C, H, W); share (B,) of the adversary, each in [0, 1/2].
    Source: Jeong et al. 2021, Algorithm 1.
    """
    share = share.view(-1, 1, 1, 1)
    return (1 - share) * clean + share * adversary


def smoothmix(clean: Tensor, mixed: Tensor, labels: Tensor, share: Tensor, *, eta: float) -> SmoothMixParts:
    """Cross-entropy of noisy clean images + eta * KL(faded label || mixed image) where the clean one is right.

    The faded label is (1 - share) * average prediction + share * uniform. It is not held fixed: the gradient flows
    through the average too. Wrongly classified images count as 0 in the mean.
    Shapes: clean, mixed (m, B, K), logits under the same m noises; labels, share (B,).
    Source: Jeong et al. 2021, Algorithm 1; not held fixed as in the authors' code.
    """
    clean, mixed = losses.at_least_float32(clean), losses.at_least_float32(mixed)
    m, _, K = clean.shape
    ce = losses.gaussian(clean.flatten(0, 1), labels.repeat(m))
    log_p = clean.log_softmax(dim=2)
    average = (torch.logsumexp(log_p, dim=0) - math.log(m)).exp()
    faded = (1 - share)[:, None] * average + share[:, None] / K
    log_faded = faded.clamp_min(torch.finfo(faded.dtype).tiny).log()  # 0 log 0 is 0, and so is its gradient
    kl = (faded * (log_faded - mixed.log_softmax(dim=2))).sum(dim=2).mean(dim=0)
    right = average.argmax(dim=1) == labels
    kl = torch.where(right, kl, 0.0).mean()
    return SmoothMixParts(total=ce + eta * kl, ce=ce, kl=kl)
