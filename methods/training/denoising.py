"""Training of a denoiser before a frozen classifier: for restored images, or for the classifier's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.types import TrainRequest, WeightsFile
from bench.types.errors import UsageError, WeightsError
from bench.weights.checkpoints import load_tensors, sha256_of_network
from bench.weights.resolve import resolve
from bench.weights.wrappers import strip_prefixes
from methods.nets.architectures import build_network
from methods.nets.denoisers import DENOISERS, build_denoiser
from methods.nets.load_weights import load_weights
from methods.nets.normalisers import Normaliser
from methods.nets.recognition import classifier_arch, denoiser_arch
from methods.training import losses, schedules
from methods.training.loader import Batch
from methods.training.optimisers import adam, parameters_of
from methods.training.presets import resolve_settings
from methods.training.rng import seeded_globals
from methods.training.run_stage import TrainingContext, noise_like, prepare, run_stage, sigma_of, task_of
from methods.training.settings import Classical, Denoising
from methods.training.train_classifier import Loss, NoisyClassifier, rate, train_classifier

RESIDUAL = ("dncnn", "dncnn_wide", "dncnn_blind", "memnet")  # whose output is the input and what they predict


def train_clean_classifier(request: TrainRequest) -> Mapping[str, Any]:
    """Train the classifier behind the denoiser, on clean images.

    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    if request.sigma is not None:
        raise UsageError(
            f"denoised classifier learns from clean images, got sigma {request.sigma!r}; leave --sigma out"
        )
    return train_classifier(request, Classical, clean_objective, sigma=0.0)


def clean_objective(classifier: NoisyClassifier, settings: Classical) -> Loss:
    """Cross-entropy of clean images."""
    del settings

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        del step
        return {"loss": losses.gaussian(classifier.logits(batch.views[0]), batch.labels)}

    return loss


def train_denoiser(request: TrainRequest) -> Mapping[str, Any]:
    """Train a denoiser for one noise level, before a classifier that stays as it is.

    "stab_mse" goes on from a denoiser trained by "mse" (`request.init`); the others may. With query access the loss
    asks surrogates in turn, one a batch, and the classifier itself only measures.
    Source: Salman et al. 2020, Section 3; rotation of surrogates as in their code. Differs: an epoch's last incomplete
    batch is left out; the last weights are kept, where theirs are those best on test images.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    preset, settings = resolve_settings(Denoising, request)
    sigma = sigma_of(request)
    if settings.objective == "stab_mse" and request.init is None:
        raise UsageError(
            "stab_mse goes on from a denoiser that mse has trained, got none; give --init FILE, made by "
            "rrcm-bench train denoised denoiser --set objective=mse"
        )
    if settings.denoiser not in DENOISERS:
        raise UsageError(
            f"denoiser must be one of {', '.join(DENOISERS)}, got {settings.denoiser!r}; give --set denoiser=..."
        )
    if settings.initialisation == "orthogonal" and settings.denoiser not in RESIDUAL:
        raise UsageError(
            f"initialisation=orthogonal starts {', '.join(RESIDUAL)} as the identity, got {settings.denoiser!r}, which "
            "would start at black; give --set initialisation=default"
        )
    if settings.surrogates and settings.objective == "mse":
        raise UsageError("mse looks at no classifier, got surrogates; leave them out, or give --set objective=stab")
    context = prepare(request, preset, settings)
    shape = context.dataset.shape
    file = _classifier_file(request, settings.classifier_weights)
    classifier = _frozen(context, file, settings.classifier, settings.normaliser)
    others = [_classifier_file(request, name) for name in settings.surrogates.split()]
    before = [_surrogate(context, other) for other in others] or [classifier]
    with seeded_globals("initialise", request.seed):
        denoiser = build_denoiser(settings.denoiser, in_channels=shape[0], sigma=sigma)
        if settings.initialisation == "orthogonal":
            start_as_identity(denoiser)
    init = {}
    if request.init is not None:
        start = WeightsFile(role="denoiser", path=request.init, sha256="", name=request.init.name)
        load_weights(denoiser, _state(start), start, arch=settings.denoiser, recognise=denoiser_arch)
        init = {"init": sha256_of_network(request.init)}
    if others:
        init["surrogates_sha256"] = " ".join(other.sha256 for other in others)
    denoiser = denoiser.to(request.device).train()

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x = batch.views[0]
        denoised = denoiser(x + sigma * noise_like(x, "noise", request.seed, step))
        if settings.objective == "mse":
            return {"loss": restoration(denoised, x)}
        asked = before[step % len(before)]
        if settings.objective == "clf":
            return {"loss": recognition(asked(denoised), batch.labels)}
        with torch.no_grad():
            clean = asked(x)
        return {"loss": stabilisation(asked(denoised), clean)}

    steps, per_epoch = schedules.length(settings.epochs, context.loader.steps_per_epoch, settings.steps)
    task = task_of(
        context,
        modules={"denoiser": denoiser},
        optimiser=adam(parameters_of(denoiser), lr=settings.lr, weight_decay=settings.weight_decay),
        loss=loss,
        rate=rate(settings, per_epoch),
        steps=steps,
        hashes={"classifier_sha256": file.sha256, **init},
    )
    meta = {"denoiser": settings.denoiser, "objective": settings.objective, "classifier_sha256": file.sha256}
    return run_stage(context, task, denoiser.state_dict, logits=lambda x: classifier(denoiser(x)), meta=meta)


def start_as_identity(denoiser: nn.Module) -> None:
    """Orthogonal convolutions, of which the last is zero: a denoiser that adds to its input returns it.

    Source: Salman et al. 2020, the DnCNN of their code.
    """
    convolutions = [module for module in denoiser.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    nn.init.zeros_(convolutions[-1].weight)


def _classifier_file(request: TrainRequest, name: str) -> WeightsFile:
    """A classifier's file by path or name; without a name, the catalogue's own for the data set."""
    from methods.denoised import DENOISED

    alone = replace(DENOISED, roles=tuple(role for role in DENOISED.roles if role.name == "classifier"), train={})
    given = {"classifier": name} if name else {}
    try:
        return resolve(alone, request.dataset, sigma_of(request), given, download=False)["classifier"]
    except WeightsError as error:
        if given:
            raise
        raise WeightsError(
            f"a denoiser is trained before a classifier, none is known for {request.dataset!r}; give "
            "--set classifier_weights=PATH, made by rrcm-bench train denoised classifier"
        ) from error


def _surrogate(context: TrainingContext, file: WeightsFile) -> nn.Module:
    """A classifier of whatever architecture and normaliser its file is.

    Raises: WeightsError where the file does not show the one, or say the other.
    """
    if "classifier" not in file.params or "normaliser" not in file.params:
        raise WeightsError(
            f"weights {file.name!r}: a surrogate's file must show its architecture and say its normaliser, got "
            f"{dict(file.params)!r}; give one made by rrcm-bench train denoised classifier, or a name of the catalogue"
        )
    return _frozen(context, file, str(file.params["classifier"]), str(file.params["normaliser"]))


def _frozen(context: TrainingContext, file: WeightsFile, arch: str, normaliser: str) -> nn.Module:
    """A classifier behind its normaliser, on the request's device, that learns nothing."""
    dataset, request = context.dataset, context.request
    with seeded_globals("initialise", request.seed):  # weights that the file's take the place of
        network = build_network(arch, num_classes=dataset.num_classes, shape=dataset.shape)
    load_weights(network, _state(file), file, arch=arch, recognise=classifier_arch)
    normalise = Normaliser(normaliser, request.dataset, channels=dataset.shape[0])
    return nn.Sequential(normalise, network).to(request.device).eval().requires_grad_(False)


def _state(file: WeightsFile) -> dict[str, Tensor]:
    state: dict[str, Tensor] = strip_prefixes(load_tensors(file.path, file.key)[0])
    return state


def restoration(denoised: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of denoised images, per pixel ("MSE").

    Shapes: both (B, C, H, W) in [0, 1] units.
    Source: Salman et al. 2020, the MSE objective; the mean over pixels as in their code.
    """
    return losses.at_least_float32(denoised - x).square().mean()


def recognition(denoised: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the classifier's logits on denoised images against the true classes ("CLF").

    Shapes: denoised (B, K), logits; labels (B,).
    Source: Salman et al. 2020, the classification objective of their experiments.
    """
    return losses.gaussian(denoised, labels)


def stabilisation(denoised: Tensor, clean: Tensor) -> Tensor:
    """Cross-entropy on denoised images against the class that the classifier gives to the clean image ("STAB").

    A hard pseudo-label: no true label is used, and none of the gradient goes through the clean image.
    Shapes: denoised, clean (B, K), logits.
    Source: Salman et al. 2020, the stability objective.
    """
    return losses.gaussian(denoised, clean.detach().argmax(dim=1))
