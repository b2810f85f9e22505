"""rRCM's networks, presets and views as rows of the paper's Tables 3 to 5: computed from the code, not quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.types import Scalar
from methods.nets.sizes import SIZES
from methods.nets.vit import time_token_vit
from methods.training.presets import Preset, presets
from methods.training.views import AREA, BLUR_AND_SOLARISE, FLIPPED, GREY, JITTER, JITTERED, RADII

_SIDE = 224  # of the images that the paper's sizes are counted for


def sizes() -> Sequence[Mapping[str, Scalar]]:
    """Parameters of each size on ImageNet, counted on networks without numbers; those without ImageNet are left out."""
    rows: list[Mapping[str, Scalar]] = []
    for name, size in SIZES.items():
        if _SIDE not in size.patch_sizes:
            continue
        # A preset may have another projector than the paper's table; both are counted.
        own = [int(p.values["projector"]) for p in presets("rrcm", "pretrain") if _trains(p.values, p.dataset, name)]
        rows += [
            {
                "model": f"rRCM-{name}",
                "parameters": f"{_count(name, hidden):,}".replace(",", " "),
                "encoder": _count(name, None),
                "depth": size.depth,
                "dim": size.embed_dim,
                "mlp_hidden_dim": hidden,
                "output_dim": size.output_dim,
                "heads": size.num_heads,
            }
            for hidden in dict.fromkeys((size.hidden_dim, *(width for width in own if width)))
        ]
    return rows


def pretraining() -> Sequence[Mapping[str, Scalar]]:
    """The pre-training presets of the paper's data sets and sizes: the first of each, the others are ablations."""
    first: dict[tuple[str, str], Preset] = {}
    for preset in presets("rrcm", "pretrain"):
        if preset.dataset in ("imagenet", "cifar10") and _SIDE in SIZES[preset.values["size"]].patch_sizes:
            first.setdefault((preset.dataset, preset.values["size"]), preset)
    return [
        {
            "dataset": preset.dataset,
            "model": f"rRCM-{v['size']}",
            "lr": f"{v['lr']:g}",
            "steps": int(v["steps"]),
            "batch": int(v["batch"]),
            "ema1": f"{v['ema_start']:g}",
            "ema2": "0",  # the consistency target is the network itself, without gradient
            "tau": f"{v['tau']:g}",
            "optimiser": "AdamW",
            "time_steps": f"{v['scales_first']} to {v['scales_last']}",
        }
        for preset in first.values()
        if (v := preset.values)
    ]


def augmentation() -> Sequence[Mapping[str, Scalar]]:
    """The transforms of the two views that pre-training contrasts, as they are drawn here."""
    widths = ", ".join(f"{(high - low) / 2:g}" for low, high in JITTER)
    low, high = RADII
    return [
        {"augmentation": name, "view": str(number), "probability": f"{probability:g}"}
        for number, (blur, solarise) in enumerate(BLUR_AND_SOLARISE, start=1)
        for name, probability in (
            (f"RandomResizedCrop(scale=({AREA}, 1.0))", 1.0),
            (f"ColorJitter({widths})", JITTERED),
            ("RandomGrayscale", GREY),
            (f"GaussianBlur({low} to {high})", blur),
            ("Solarize", solarise),
            ("RandomHorizontalFlip", FLIPPED),
        )
    ]


def _trains(values: Mapping[str, Any], dataset: str, size: str) -> bool:
    return dataset == "imagenet" and values["size"] == size


def _count(size: str, hidden: int | None) -> int:
    with torch.device("meta"):
        network = time_token_vit(size, image_size=_SIDE, in_channels=3, projector=hidden is not None, hidden_dim=hidden)
    return sum(tensor.numel() for tensor in network.parameters())
