"""The UNets of diffusion models by name: the parts of each, and recognition of given tensors; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Shapes = Mapping[str, tuple[int, ...]]
Source = Literal["guided-diffusion", "improved-diffusion", "hf-vit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetRecord:
    """The network behind a UNet's name."""

    config: Mapping[str, Any]  # of diffusers' UNet2DModel
    schedule: str
    learned_sigma: bool  # 2C channels come out: eps and v
    parameters: int
    channels: int  # C of an image
    patch: int = 1  # squares of that side become channels in front of the network, and pixels again behind it
    channels_last: bool = False  # the weights' layout; quicker on CPUs, for the small ones


def _levels(kinds: str) -> dict[str, tuple[str, ...]]:
    """Types of the blocks from fine to coarse: "-" plain, "A" with attention, "r" plain with residual resampling."""
    down = {"-": "DownBlock2D", "A": "AttnDownBlock2D", "r": "ResnetDownsampleBlock2D"}
    up = {"-": "UpBlock2D", "A": "AttnUpBlock2D", "r": "ResnetUpsampleBlock2D"}
    return {
        "down_block_types": tuple(down[kind] for kind in kinds),
        "up_block_types": tuple(up[kind] for kind in reversed(kinds)),
    }


# Dhariwal & Nichol 2021; Nichol & Dhariwal 2021: heads of 64 channels, and each block's scale and shift come from t.
_PUBLISHED = {
    "in_channels": 3,
    "out_channels": 6,
    "attention_head_dim": 64,  # channels of a head, not heads
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 32,  # with scale_shift diffusers would leave out the norm of the middle attention
    "norm_eps": 1e-5,
}

UNETS: Mapping[str, UNetRecord] = MappingProxyType(
    {
        # Dhariwal & Nichol 2021, 256 px, unconditional
        "adm_256": UNetRecord(
            config={
                **_PUBLISHED,
                **_levels("rrrAAA"),
                "sample_size": 256,
                "layers_per_block": 2,
                "block_out_channels": (256, 256, 512, 512, 1024, 1024),
                "downsample_type": "resnet",
                "upsample_type": "resnet",
            },
            schedule="linear-1000",
            learned_sigma=True,
            parameters=552_814_086,
            channels=3,
        ),
        # Nichol & Dhariwal 2021, CIFAR-10, unconditional
        "improved_cifar10": UNetRecord(
            config={
                **_PUBLISHED,
                **_levels("-AA-"),
                "sample_size": 32,
                "layers_per_block": 3,
                "block_out_channels": (128, 256, 256, 256),
                "dropout": 0.3,
            },
            schedule="cosine-4000",
            learned_sigma=True,
            parameters=52_546_438,
            channels=3,
        ),
        # Ours, for 8x8 digits: on squares of 2x2 pixels it is 2.5 times as quick as on pixels, and twice as wide.
        "digits_unet": UNetRecord(
            config={
                **_levels("--"),
                "sample_size": 4,
                "in_channels": 4,
                "out_channels": 8,
                "layers_per_block": 1,
                "block_out_channels": (24, 48),
                "norm_num_groups": 8,
                "add_attention": False,
                "resnet_time_scale_shift": "scale_shift",
            },
            schedule="cosine-1000",
            learned_sigma=True,
            parameters=390_056,
            channels=1,
            patch=2,
            channels_last=True,
        ),
        # Ours, for CIFAR-10 on CPUs
        "cifar10_small_unet": UNetRecord(
            config={
                **_levels("-A-"),
                "sample_size": 16,
                "in_channels": 12,
                "out_channels": 24,
                "layers_per_block": 1,
                "block_out_channels": (64, 96, 96),
                "attention_head_dim": 32,
                "norm_num_groups": 16,
            },
            schedule="cosine-1000",
            learned_sigma=True,
            parameters=2_805_400,
            channels=3,
            patch=2,
            channels_last=True,
        ),
    }
)


def unet_arch(shapes: Shapes) -> str | None:
    """The name in `UNETS` of tensors of these names and shapes, in diffusers' layout or OpenAI's, or None."""
    if recognise_source(shapes) in ("guided-diffusion", "improved-diffusion"):
        found = _openai(shapes)
    else:
        found = _diffusers(shapes)
    return next((arch for arch, record in UNETS.items() if _expected(record) == found), None)


def recognise_source(shapes: Shapes) -> Source | None:
    """The project whose names these tensors have, other than this one; None for this one's own."""
    if "input_blocks.0.0.weight" in shapes and "time_embed.0.weight" in shapes:
        # Dhariwal & Nichol 2021 resample in residual blocks, Nichol & Dhariwal 2021 by convolutions of their own.
        strided = any(re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", name) for name in shapes)
        return "improved-diffusion" if strided else "guided-diffusion"
    return "hf-vit" if "vit.embeddings.cls_token" in shapes else None


def _expected(record: UNetRecord) -> tuple[object, ...]:
    """Features that distinguish the UNets: channels in and out, width of each residual block on the way down."""
    config = record.config
    widths = [(width,) for width in config["block_out_channels"] for _ in range(config["layers_per_block"])]
    return (config["in_channels"],), (config["out_channels"],), tuple(widths)


def _diffusers(shapes: Shapes) -> tuple[object, ...]:
    first, last = shapes.get("conv_in.weight", ()), shapes.get("conv_out.weight", ())
    widths = {
        (int(match[1]), int(match[2])): shape[:1]
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight", name))
    }
    return first[1:2], last[:1], tuple(widths[place] for place in sorted(widths))


def _openai(shapes: Shapes) -> tuple[object, ...]:
    first, last = shapes["input_blocks.0.0.weight"], shapes.get("out.2.weight", ())
    widths = {
        int(match[1]): shape[:1]
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"input_blocks\.(\d+)\.0\.in_layers\.2\.weight", name))
    }
    if recognise_source(shapes) == "guided-diffusion":
        # Every third block halves the image, and its tensors look like the others'.
        layers = UNETS["adm_256"].config["layers_per_block"]
        widths = {k: width for k, width in widths.items() if k % (layers + 1)}
    return first[1:2], last[:1], tuple(widths[k] for k in sorted(widths))
