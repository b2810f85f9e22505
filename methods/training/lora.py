"""Low-rank adapters on the queries and values of a ViT (Hu et al. 2022), by peft; merged in the exported network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bench.types.errors import UsageError


class SeparateQKV(nn.Module):
    """timm's fused projection to queries, keys and values as three, so that each may have an adapter of its own."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        width = fused.out_features // 3
        for i, name in enumerate("qkv"):
            part = nn.Linear(fused.in_features, width, bias=fused.bias is not None)
            with torch.no_grad():
                part.weight.copy_(fused.weight[i * width : (i + 1) * width])
                if fused.bias is not None:
                    part.bias.copy_(fused.bias[i * width : (i + 1) * width])
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, T, D) -> (B, T, 3 D)."""
        return torch.cat([part(x) for part in self.children()], dim=-1)


def add_adapters(network: nn.Module, *, rank: int, alpha: float) -> None:
    """Adapters of a rank in every block, scaled by alpha / rank; they and the head learn, nothing else.

    A begins as Kaiming-uniform, B as zero, so that the network starts as it was. Draws from the global generators.
    Source: Hu et al. 2022, Section 4; on queries and values as Jang et al. 2024.
    Raises: UsageError where peft is not installed, or the network is no plain ViT.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as missing:
        raise UsageError(
            "adapter=lora needs the package peft, which is not installed; pip install 'rrcm-bench[lora]', or give "
            "--set adapter=full"
        ) from missing
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(network, VisionTransformer):
        raise UsageError(
            f"adapter=lora is for plain ViTs, got a {type(network).__name__}; give --set adapter=full, or another "
            "--set classifier=..."
        )
    for block in network.blocks:
        block.attn.qkv = SeparateQKV(block.attn.qkv)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["qkv.q", "qkv.v"], bias="none")
    inject_adapter_in_model(config, network)
    for parameter in network.head.parameters():
        parameter.requires_grad_(True)


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Tensors of the plain network, adapters added to the weights that they adapt, under timm's names."""
    from peft.tuners.lora import LoraLayer

    plain: Any = copy.deepcopy(network)
    for block in plain.blocks:
        parts = []
        for part in block.attn.qkv.children():
            if isinstance(part, LoraLayer):
                part.merge()
                part = part.get_base_layer()
            parts.append(part)
        rows, columns = 3 * parts[0].out_features, parts[0].in_features
        fused = nn.Linear(columns, rows, bias=parts[0].bias is not None, device="meta")
        fused.weight = nn.Parameter(torch.cat([part.weight for part in parts]))
        if parts[0].bias is not None:
            fused.bias = nn.Parameter(torch.cat([part.bias for part in parts]))
        block.attn.qkv = fused
    state: dict[str, Tensor] = plain.state_dict()
    return state
