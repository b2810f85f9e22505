"""Attention by xformers, an optional extra, where it is faster than torch's own on this device."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.nets.blocks import Attention
from methods.nets.inference.probe import fastest

GAIN = 1.1  # it must be faster by this: of equals torch's own is taken
SHAPE = (16, 197, 12, 64)  # copies, tokens, heads and width of the probe: a ViT-B at 224 pixels
CLOSE = 0.02  # of half precision, where values are of order 1

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (B, T, heads, width) each, and as such back


class MemoryEfficientAttention(nn.Module):
    """An attention with another kernel inside; the same parameters, and the same function to rounding.

    Source: Rabe & Staats 2021, Self-attention Does Not Need O(n^2) Memory.
    """

    def __init__(self, attention: Any, attend: Attend) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.qkv, self.proj = attention.qkv, attention.proj
        self.attend = attend

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Shapes: (B, T, D) -> (B, T, D).

        Raises: NotImplementedError for a mask, which no network here has.
        """
        if attn_mask is not None or is_causal:
            raise NotImplementedError("attention with a mask; expected none")
        qkv: Tensor = self.qkv(x)
        q, k, v = qkv.view(*qkv.shape[:2], 3, self.num_heads, -1).unbind(2)
        mixed: Tensor = self.proj(self.attend(q, k, v).flatten(2))
        return mixed


def choose_attention(network: nn.Module, device: str, dtype: torch.dtype) -> int:
    """Let attention use xformers where that pays, in place; how many did."""
    plain = [(name, module) for name, module in network.named_modules() if _plain(module)]
    if not plain:
        return 0
    attend, said = faster_attention(device, dtype)
    if said:
        network.kernels = said  # type: ignore[assignment]  # a text, for records
    if attend is None:
        return 0
    for name, module in plain:
        network.set_submodule(name, MemoryEfficientAttention(module, attend).train(module.training))
    return len(plain)


@cache
def faster_attention(device: str, dtype: torch.dtype) -> tuple[Attend | None, str]:
    """xformers' attention if it is installed, runs on the device, is right, and faster than torch's own; else None.

    And what was found; empty where it is not installed. Tried once in a process.
    """
    for name in ("xformers", "xformers.ops"):
        logging.getLogger(name).setLevel(
            logging.ERROR
        )  # its import prints six lines where its kernels do not fit torch
    try:
        attend: Attend = importlib.import_module("xformers.ops").memory_efficient_attention
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None, ""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(SHAPE, generator=generator).to(device, dtype) for _ in range(3))
    with torch.inference_mode():
        expected = _own(q, k, v)
        try:
            found = attend(q, k, v)
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            return None, f"xformers: not used, its attention fails on {device}: {type(error).__name__}"
        if not bool((found - expected).abs().max() <= CLOSE):
            return None, f"xformers: not used, its attention differs from torch's own on {device}"
        gain = fastest(partial(_own, q, k, v), device) / fastest(partial(attend, q, k, v), device)
    pays = gain > GAIN
    # As torch.compile's: who installed it wants to know whether it is of use.
    said = f"xformers: attention is {gain:.2f} times as fast as torch's own on {device}{'' if pays else ', not used'}"
    logging.getLogger(__name__).warning("%s", said)
    return (attend if pays else None), said


def _own(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


def _plain(module: Any) -> bool:
    """Whether it is our attention, or timm's with nothing between its products."""
    # Where timm was never imported, no part of a network is its own.
    timm = getattr(sys.modules.get("timm.models.vision_transformer"), "Attention", Attention)
    return (
        type(module) in (Attention, timm)
        and not module.training
        # Some of these came with later versions of timm: what is not there does nothing.
        and all(isinstance(getattr(module, part, nn.Identity()), nn.Identity) for part in ("q_norm", "k_norm", "norm"))
        and getattr(module, "gate", None) is None
    )
