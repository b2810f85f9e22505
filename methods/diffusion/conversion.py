"""OpenAI's diffusion checkpoints under the names that the networks here have.

Tensors in, tensors out; files are read and written elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from bench.types.errors import WeightsError
from bench.weights.wrappers import shapes_of
from methods.diffusion.architectures import UNETS, Shapes, recognise_source
from methods.diffusion.sources import check_source
from methods.diffusion.vit_conversion import convert_hf_vit
from methods.nets.recognition import first_difference

__all__ = [
    "as_unet_state",
    "convert_guided",
    "convert_hf_vit",
    "guided_diffusion",
    "improved_diffusion",
    "recognise_source",
    "rename_openai",
]

_RESIDUAL = {  # a residual block's parts
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TOP = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")


def as_unet_state(state: Mapping[str, Tensor], arch: str) -> dict[str, Tensor]:
    """The tensors under the names of `UNet`, whether they come so or in OpenAI's layout.

    Raises: WeightsError for OpenAI's tensors of another network than `arch`.
    """
    if recognise_source(shapes_of(state)) in ("guided-diffusion", "improved-diffusion"):
        return convert_guided(state, arch)
    return dict(state)


def convert_guided(state: Mapping[str, Tensor], arch: str) -> dict[str, Tensor]:
    """An OpenAI checkpoint, guided-diffusion's or improved-diffusion's, as the tensors of `UNETS[arch]`.

    Raises: WeightsError where they are those of another network: one line, naming what differs.
    """
    config = UNETS[arch].config
    _check_openai(shapes_of(state), arch)
    tensors = rename_openai(state, layers=config["layers_per_block"], head_channels=config.get("attention_head_dim", 8))
    if found := first_difference(_expected_shapes(arch), shapes_of(tensors)):
        name, expected, came = found
        raise WeightsError(
            f"expected the tensors of {arch!r}; {name!r} should be {expected}, got {came}; give the checkpoint of that "
            "network"
        )
    return tensors


def rename_openai(state: Mapping[str, Tensor], *, layers: int, head_channels: int) -> dict[str, Tensor]:
    """Tensors in OpenAI's layout as diffusers names and orders them.

    `layers` residual blocks a level, and attention heads of `head_channels` channels; neither shows in the tensors.
    Raises: WeightsError for a name that is not of that layout.
    """
    tensors: dict[str, Tensor] = {}
    attended = {name.removesuffix(".qkv.weight") for name in state if name.endswith(".qkv.weight")}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if module.endswith(".qkv") and module.removesuffix(".qkv") in attended:
            place = _place(module.removesuffix(".qkv"), layers, attended)
            parts = _by_head(tensor, head_channels)
            tensors |= {f"{place}.to_{letter}.{kind}": part for letter, part in zip("qkv", parts, strict=True)}
            continue
        if module in _TOP:
            tensors[f"{_TOP[module]}.{kind}"] = tensor
            continue
        match = re.fullmatch(r"((?:input_blocks|output_blocks)\.\d+\.\d|middle_block\.\d)\.(.+)", module)
        if match is None:
            raise WeightsError(f"expected a diffusion network in OpenAI's layout, got a tensor {name!r}; give its file")
        place, part = _place(match[1], layers, attended), match[2]
        if match[1] in attended:
            part = {"norm": "group_norm", "proj_out": "to_out.0"}.get(part, part)
            tensor = tensor.squeeze(-1) if part == "to_out.0" and kind == "weight" else tensor  # a convolution over 1
        else:
            part = {**_RESIDUAL, "op": "conv"}.get(part, part)
        tensors[f"{place}.{part}.{kind}"] = tensor
    if len(tensors) != len(state) + 2 * sum(".qkv." in name for name in state):
        raise WeightsError("expected one tensor for each place of the network, got two for some; give its own file")
    return tensors


def guided_diffusion(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Converter of 256x256_diffusion_uncond.pt, for `rrcm-bench weights convert`."""
    check_source(state, "guided-diffusion")
    return convert_guided(state, "adm_256"), {"arch": "adm_256"}


def improved_diffusion(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Converter of cifar10_uncond_50M_500K.pt, for `rrcm-bench weights convert`."""
    check_source(state, "improved-diffusion")
    return convert_guided(state, "improved_cifar10"), {"arch": "improved_cifar10"}


def _by_head(qkv: Tensor, head_channels: int) -> tuple[Tensor, ...]:
    """Query, key and value out of OpenAI's fused projection.

    Its rows go head by head, each with its own q, k and v; cut in three as they stand they make a network that runs and
    denoises nothing.
    """
    rows = qkv.squeeze(-1) if qkv.ndim == 3 else qkv
    heads = rows.shape[0] // (3 * head_channels)
    if heads * 3 * head_channels != rows.shape[0]:
        raise WeightsError(
            f"expected attention heads of {head_channels} channels, got {rows.shape[0] // 3} channels in all; give the "
            "checkpoint of another network"
        )
    parts = rows.reshape(heads, 3, head_channels, *rows.shape[1:]).transpose(0, 1).reshape(3, -1, *rows.shape[1:])
    return tuple(part.clone() for part in parts)  # views of one storage would not be saved as three


def _place(module: str, layers: int, attended: set[str]) -> str:
    """The place in diffusers of a part of OpenAI's network: "output_blocks.5.1" -> "up_blocks.1.upsamplers.0"."""
    words = module.split(".")
    if words[0] == "middle_block":
        return _MIDDLE[min(int(words[1]), 2)]
    k, part = int(words[1]), int(words[2])
    attention = module in attended
    if words[0] == "input_blocks":
        level, j = divmod(k - 1, layers + 1)
        if j == layers:
            return f"down_blocks.{level}.downsamplers.0"
        return f"down_blocks.{level}.{'attentions' if attention else 'resnets'}.{j}"
    level, j = divmod(k, layers + 1)
    if part and not attention:
        return f"up_blocks.{level}.upsamplers.0"
    return f"up_blocks.{level}.{'attentions' if attention else 'resnets'}.{j}"


def _check_openai(shapes: Shapes, arch: str) -> None:
    """Refuse the sister networks of a published one in the words of those who published them."""
    config = UNETS[arch].config
    first, last = shapes["input_blocks.0.0.weight"][:2], shapes.get("out.2.weight", ())[:1]
    stem, levels = (config["block_out_channels"][0], config["in_channels"]), len(config["block_out_channels"])
    blocks = len({match[1] for name in shapes if (match := re.match(r"input_blocks\.(\d+)\.", name))})
    wanted = levels * (config["layers_per_block"] + 1)
    if "label_emb.weight" in shapes:
        what = "an unconditional network, got one conditioned on classes (label_emb)"
    elif last != (config["out_channels"],):
        came = f"{last[0]}: learned sigma is off" if last else "none"
        what = f"{config['out_channels']} output channels (noise and variance), got {came}"
    elif first != stem:
        what = f"a first convolution of shape {stem} (channels out, in), got {first}"
    elif blocks != wanted:
        what = f"{wanted} input blocks ({config['sample_size']} px), got {blocks}: a network for another image size"
    else:
        return
    raise WeightsError(f"{arch!r} has {what}; give the checkpoint of that very network")


@cache
def _expected_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    from methods.diffusion.unets import build_unet

    record = UNETS[arch]
    side = record.config["sample_size"] * record.patch
    with torch.device("meta"):  # shapes alone: 552,814,086 parameters would be 2.2 GB
        return shapes_of(build_unet(arch, shape=(record.channels, side, side)).state_dict())
