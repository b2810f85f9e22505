"""The record of its making in a file of weights: settings, steps, images, code, parents; makes none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.types import Dataset, TrainRequest
from bench.types.checkout import git_commit
from methods.training.presets import Preset
from methods.training.settings import StageSettings

if TYPE_CHECKING:
    from methods.training.run_stage import TrainingContext

KEY = "training"  # of a safetensors header: apart from what methods read there
FORMAT = 1
HASHED = 1000  # images at most, spread evenly: a million files are not read twice
PARENTS = ("init", "classifier_sha256", "condition_sha256")  # names that stages give to the files they start from


def record(context: TrainingContext, steps: int, of_steps: int, meta: Mapping[str, str]) -> str:
    """The record as JSON, sorted: the same run gives the same file."""
    request, settings = context.request, context.settings
    known = {
        "format": FORMAT,
        "harness": _version(),
        "commit": git_commit(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(request.device) if request.device.startswith("cuda") else "cpu",
        "processes": context.world.size,
        "steps": steps,
        "of_steps": of_steps,
        "seed": request.seed,
        "settings": _by_name(asdict(settings)),
        "changed": changed(context.preset, settings, request),
        "data": {
            "images": context.loader.count,
            "preprocessing": getattr(context.dataset, "preprocessing", ""),
            "fingerprint": fingerprint(context.dataset, context.loader.count),
        },
        "parents": {name: meta[name] for name in PARENTS if name in meta},
    }
    return json.dumps(known, sort_keys=True)


def changed(preset: Preset, settings: StageSettings, request: TrainRequest) -> dict[str, list[Any]]:
    """Settings that are not the preset's: what it says, and what was used."""
    by_sigma = preset.sigma.get(f"{request.sigma:g}", {}) if request.sigma is not None else {}
    defaults = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
    stated = {**defaults, **preset.values, **by_sigma}
    return {
        key: [stated[key], used]
        for key, used in _by_name(asdict(settings)).items()
        if key in stated and stated[key] not in (used, "auto")
    }


def _by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Files without their folders, which say nothing elsewhere: `parents` has their sha256."""
    return {
        key: Path(value).name if key.endswith("_weights") and Path(value).is_file() else value
        for key, value in settings.items()
    }


def fingerprint(dataset: Dataset, count: int) -> str:
    """Hash of the labels and stored bytes of the images that are trained on, or of some spread evenly over them."""
    chosen = range(0, count, max(1, -(-count // HASHED)))
    digest = hashlib.sha256(f"{count} {chosen.step} {dataset.shape}".encode())
    for index in chosen:
        digest.update(f"{dataset.label(index)} {dataset.digest(index)}".encode())
    return f"sha256:{digest.hexdigest()}" + ("" if chosen.step == 1 else f" of {len(chosen)} of them")


def _version() -> str | None:
    try:
        return version("rrcm-bench")
    except PackageNotFoundError:
        return None
