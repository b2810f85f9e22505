"""Boosting: several networks trained independently, sorted by noisy accuracy and packed into one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.types import TrainRequest
from bench.types.errors import UsageError
from bench.weights.checkpoints import load_tensors
from methods.nets.architectures import build_network
from methods.nets.normalisers import Normaliser
from methods.training import provenance
from methods.training.classical import check_copies, consistent_objective, noisy_objective
from methods.training.export import export
from methods.training.presets import resolve_settings
from methods.training.run_stage import TrainingContext, accuracies, origin, prepare, sigma_of, weights_path
from methods.training.settings import Boosting
from methods.training.train_classifier import train_classifier

OBJECTIVES = {"gaussian": noisy_objective, "consistency": consistent_objective}


def train(request: TrainRequest) -> Mapping[str, Any]:
    """Train the members one after the other, with consecutive seeds, and pack them, the best first.

    Best by noisy accuracy on images that are not certified: the held-out training images, or, without any, the
    training images themselves. Each member is resumed by itself.
    Source: Horvath et al. 2022, Section 6.
    Raises: UsageError, DataError, TrainingError.
    """
    preset, settings = resolve_settings(Boosting, request)
    sigma = sigma_of(request)
    if request.init is not None:
        raise UsageError(
            f"boosting trains members that must not begin alike, got init {str(request.init)!r}; leave --init out"
        )
    if settings.loss == "consistency":
        check_copies(settings, ())
    reports = []
    for i in range(settings.members):
        member = replace(request, seed=request.seed + i, out=request.out / f"member-{i}")
        reports.append(train_classifier(member, Boosting, OBJECTIVES[settings.loss], sigma=sigma))
        if request.dry_run:
            return {**reports[0], "seconds": reports[0]["seconds"] * settings.members}
    context = prepare(request, preset, settings)
    if not context.world.leads:
        return reports[0]  # the first process packs and reports
    by = "hold_out_accuracy" if settings.hold_out else "train_accuracy"
    order = sorted(range(settings.members), key=lambda i: (-reports[i][by], i))
    members = [load_tensors(Path(reports[i]["weights"]))[0] for i in order]
    path = weights_path(request)
    seeds = ",".join(str(request.seed + i) for i in order)
    meta = {**origin(context), "arch": settings.arch, "normaliser": settings.normaliser, "seeds": seeds}
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
        "ordered_by": by,
        "members": [{key: reports[i].get(key) for key in (by, "test_accuracy")} for i in order],
        **_together(context, settings, members),
    }


def _together(
    context: TrainingContext, settings: Boosting, members: list[dict[str, Tensor]]
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
