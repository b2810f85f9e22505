"""Hugging Face's ViT classifiers under timm's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from bench.types.errors import WeightsError
from bench.weights.wrappers import shapes_of
from methods.diffusion.sources import check_source
from methods.nets.recognition import first_difference

_HF_VIT = "vit_base_patch16_224_hf"  # timm's ViT-B/16 but for the eps of its norms

_VIT_TOP = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "vit.layernorm": "norm",
    "classifier": "head",
}
_VIT_BLOCK = {  # transformers 4, then the names that 5 changed
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.o_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_VIT_QKV = {
    "attention.attention.query": 0,
    "attention.attention.key": 1,
    "attention.attention.value": 2,
    "attention.q_proj": 0,
    "attention.k_proj": 1,
    "attention.v_proj": 2,
}


def convert_hf_vit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's ViT classifier under timm's names, by transformers 4 or 5.

    Differs: its layer norms have eps 1e-12, timm's 1e-6, by which logits move 3e-4; `vit_base_patch16_224_hf` does as
    they do.
    Raises: WeightsError for tensors that are not a ViT classifier's.
    """
    tensors: dict[str, Tensor] = {}
    fused: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        if name in _VIT_TOP:
            tensors[_VIT_TOP[name]] = tensor
            continue
        module, _, kind = name.rpartition(".")
        if module in _VIT_TOP:
            tensors[f"{_VIT_TOP[module]}.{kind}"] = tensor
            continue
        if module == "vit.pooler.dense":  # of the bare model; a classifier has no use for it
            continue
        match = re.fullmatch(r"vit\.(?:encoder\.layer|layers)\.(\d+)\.(.+)", module)
        if match and match[2] in _VIT_QKV:
            fused.setdefault(f"blocks.{match[1]}.attn.qkv.{kind}", {})[_VIT_QKV[match[2]]] = tensor
        elif match and match[2] in _VIT_BLOCK:
            tensors[f"blocks.{match[1]}.{_VIT_BLOCK[match[2]]}.{kind}"] = tensor
        else:
            raise WeightsError(f"expected a ViT classifier of Hugging Face's, got a tensor {name!r}; give its file")
    for name, parts in fused.items():
        if sorted(parts) != [0, 1, 2]:
            raise WeightsError(f"expected query, key and value for {name!r}, got {len(parts)} of them; fetch it again")
        tensors[name] = torch.cat([parts[i] for i in range(3)])
    return tensors


def hf_vit(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Converter of Hugging Face's ViT-B/16 classifiers at 224 pixels, for `rrcm-bench weights convert`."""
    check_source(state, "hf-vit")
    tensors = convert_hf_vit(state)
    came = shapes_of(tensors)
    if len(came.get("head.weight", ())) != 2:
        raise WeightsError("expected a classifier, got a ViT without its last layer; give a fine-tuned checkpoint")
    if found := first_difference(_expected_shapes(came["head.weight"][0]), came):
        name, want, got = found
        raise WeightsError(
            f"expected a ViT-B/16 classifier for 224 pixels; {name!r} should be {want}, got {got}; give the checkpoint "
            "of such a network"
        )
    return tensors, {"arch": _HF_VIT}


def _expected_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    from methods.nets.architectures import build_network

    with torch.device("meta"):
        return shapes_of(build_network(_HF_VIT, num_classes=classes, shape=(3, 224, 224)).state_dict())
