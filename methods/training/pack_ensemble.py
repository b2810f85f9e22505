"""Packing of an ensemble trained elsewhere: members measured on images apart, sorted, written to one file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from bench.data.subset import parse_subset
from bench.types import TrainRequest
from bench.types.errors import UsageError
from bench.types.suggest import closest
from bench.weights.resolve import resolve
from methods.nets.architectures import build_network
from methods.nets.load_weights import load_weights
from methods.nets.normalisers import Normaliser
from methods.nets.recognition import classifier_arch
from methods.nets.scales import read
from methods.training.export import export
from methods.training.run_stage import Logits, noisy_accuracy, open_split, sigma_of, source_of, weights_path

KEYS = ("arch", "normaliser", "subset")


def pack(request: TrainRequest) -> Mapping[str, Any]:
    """Put members into one file, the best first, by noisy accuracy on test images that are not certified.

    `request.init` is a path with `{member}`, or a packed file. The images are those beside the data set's own subset,
    `skip:20+1` beside `skip:20`; `--set subset=...` names others.
    Source: Horvath et al. 2022, Section 6. Differs: they ordered by certified results on that subset.
    Raises: UsageError, DataError, WeightsError.
    """
    from methods.boosting import BOOSTING, member_tensors

    sigma = sigma_of(request)
    chosen = _chosen(request)
    if request.init is None:
        raise UsageError(
            "boosting pack orders members that are trained, got none; give --init 'FOLDER/checkpoint-{member}.pth.tar'"
        )
    file = resolve(BOOSTING, request.dataset, sigma, {"members": str(request.init)}, download=False)["members"]
    defaults = {param.name: param.default_for(request.dataset) for param in BOOSTING.params}
    arch = str(chosen.get("arch") or file.params.get("arch") or defaults["arch"])
    said = chosen.get("normaliser") or file.params.get("normaliser") or "mean_std"
    kind = read(str(said), request.dataset, (not chosen.get("normaliser") and file.trained_on) or request.dataset)
    dataset = open_split(request, "test")
    subset, indices = parse_subset(chosen.get("subset") or _beside(request), len(dataset))
    states = member_tensors(file)
    report: dict[str, Any] = {
        "method": request.method,
        "stage": request.stage,
        "dataset": request.dataset,
        "sigma": sigma,
        "settings": {"arch": arch, "normaliser": kind, "subset": subset},
        "members": len(states),
        "images": len(indices),
    }
    if request.dry_run:
        return {**report, "dry_run": True}
    normalise = Normaliser(kind, request.dataset, channels=dataset.shape[0])
    accuracies = []
    for i, state in enumerate(states):
        network = build_network(arch, num_classes=dataset.num_classes, shape=dataset.shape)
        load_weights(
            network, state, replace(file, name=f"{file.name}, member {i}"), arch=arch, recognise=classifier_arch
        )
        logits: Logits = nn.Sequential(normalise, network).to(request.device).eval()
        accuracies.append(
            noisy_accuracy(logits, dataset, indices, sigma=sigma, seed=request.seed, device=request.device)
        )
    order = sorted(range(len(states)), key=lambda i: (-accuracies[i], i))
    names = [file.parts[i].name if file.parts else str(i) for i in order]
    meta = {"method": request.method, "stage": request.stage, "dataset": request.dataset, "sigma": str(sigma)}
    meta |= {"arch": arch, "normaliser": kind, "order": " ".join(names), "ordered_on": subset}
    request.out.mkdir(parents=True, exist_ok=True)
    path = weights_path(request)
    tensors = {f"{place}.{name}": tensor for place, i in enumerate(order) for name, tensor in states[i].items()}
    return {
        **report,
        "order": names,
        "accuracies": [accuracies[i] for i in order],
        "sha256": export(path, tensors, meta),
        "weights": str(path),
    }


def _chosen(request: TrainRequest) -> dict[str, str]:
    for key in request.overrides:
        if key not in KEYS:
            raise UsageError(f"boosting pack has no setting {key!r}.{closest(key, KEYS)} Known: {', '.join(KEYS)}")
    return dict(request.overrides)


def _beside(request: TrainRequest) -> str:
    """The next images after those that are certified by default."""
    own = source_of(request).default_subset
    step = re.fullmatch(r"skip:(\d+)", own)
    if step is None or int(step[1]) < 2:
        raise UsageError(
            f"boosting pack needs images that are not certified, {request.dataset} certifies {own!r}; name some by "
            "--set subset=..."
        )
    return f"{own}+1"
