"""Boosting: several networks trained independently, sorted by noisy accuracy and packed into one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.types import TrainRequest
from bench.types.errors import UsageError
from bench.weights.checkpoints import load_tensors
from methods.nets.architectures import build_network
from methods.nets.normalisers import Normaliser
from methods.training import classical, macer, provenance, smoothadv, smoothmix, stability
from methods.training.export import export
from methods.training.presets import find_preset, resolve_settings
from methods.training.run_stage import TrainingContext, accuracies, origin, prepare, sigma_of, weights_path
from methods.training.settings import (
    Boosting,
    BoostingMacer,
    BoostingSmoothAdv,
    BoostingSmoothMix,
    BoostingStability,
    ClassifierSettings,
)
from methods.training.train_classifier import Loss, NoisyClassifier, train_classifier


@dataclass(frozen=True, slots=True)
class _Members:
    """Training of the members by one loss."""

    settings: type[Any]  # a class with `members` and `loss`; the objective and the check take no other
    objective: Callable[[NoisyClassifier, Any], Loss]
    check: Callable[[Any, tuple[int, ...]], None] = lambda _settings, _shape: None


MEMBERS: Mapping[str, _Members] = {
    "gaussian": _Members(Boosting, classical.noisy_objective),
    "consistency": _Members(Boosting, classical.consistent_objective, classical.check_copies),
    "stability": _Members(BoostingStability, stability.objective),
    "smoothadv": _Members(BoostingSmoothAdv, smoothadv.objective, smoothadv.check),
    "macer": _Members(BoostingMacer, macer.objective, macer.check),
    "smoothmix": _Members(BoostingSmoothMix, smoothmix.objective, smoothmix.check),
}


def members_of(request: TrainRequest) -> _Members:
    """The training of a request's members; that of Gaussian for an unknown loss, which its settings refuse."""
    loss = request.overrides.get("loss", find_preset(request).values["loss"])
    return MEMBERS.get(loss, MEMBERS["gaussian"])


def train(request: TrainRequest) -> Mapping[str, Any]:
    """Train the members one after the other, with consecutive seeds, and pack them, the best first.

    Best by noisy accuracy on images that are not certified: the held-out training images, or, without any, the
    training images themselves. Each member is resumed by itself. They are trained by the loss and the preset of a
    single network's method (--set loss=...).
    Source: Horvath et al. 2022, Section 6.
    Raises: UsageError, DataError, TrainingError.
    """
    by = members_of(request)
    preset, settings = resolve_settings(by.settings, request)
    sigma = sigma_of(request)
    if request.init is not None:
        raise UsageError(
            f"boosting trains members that must not begin alike, got init {str(request.init)!r}; leave --init out"
        )
    reports = []
    for i in range(settings.members):
        member = replace(request, seed=request.seed + i, out=request.out / f"member-{i}")
        reports.append(train_classifier(member, by.settings, by.objective, sigma=sigma, check=by.check))
        if request.dry_run:
            return {**reports[0], "seconds": reports[0]["seconds"] * settings.members}
    context = prepare(request, preset, settings)
    if not context.world.leads:
        return reports[0]  # the first process packs and reports
    measure = "hold_out_accuracy" if settings.hold_out else "train_accuracy"
    order = sorted(range(settings.members), key=lambda i: (-reports[i][measure], i))
    members = [load_tensors(Path(reports[i]["weights"]))[0] for i in order]
    path = weights_path(request)
    seeds = ",".join(str(request.seed + i) for i in order)
    meta = {**origin(context), "arch": settings.arch, "normaliser": settings.normaliser, "seeds": seeds}
    meta["loss"] = settings.loss
    steps = sum(report["steps"] for report in reports)
    meta[provenance.KEY] = provenance.record(context, steps, steps, meta)
    digest = export(path, {f"{i}.{name}": t for i, member in enumerate(members) for name, t in member.items()}, meta)
    shared = ("method", "stage", "dataset", "sigma", "preset", "reaches", "parameters")
    return {
        **{key: reports[0][key] for key in shared},
        "settings": asdict(settings),
        "steps": steps,
        "seconds": sum(report["seconds"] for report in reports),
        "sha256": digest,
        "weights": str(path),
        "order": seeds,
        "ordered_by": measure,
        "members": [{key: reports[i].get(key) for key in (measure, "test_accuracy")} for i in order],
        **_together(context, settings, members),
    }


def _together(
    context: TrainingContext, settings: ClassifierSettings, members: list[dict[str, Tensor]]
) -> dict[str, float | None]:
    """Noisy accuracies of the sum of logits."""
    shape, device = context.dataset.shape, context.request.device
    networks = []
    for state in members:
        network = build_network(settings.arch, num_classes=context.dataset.num_classes, shape=shape)
        network.load_state_dict(state)
        networks.append(network.to(device).eval())
    normalise = Normaliser(settings.normaliser, context.request.dataset, channels=shape[0]).to(device)

    def logits(x: Tensor) -> Tensor:
        x = normalise(x)
        return torch.stack([network(x) for network in networks]).sum(dim=0)

    return accuracies(context, logits)
