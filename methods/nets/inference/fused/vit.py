"""Vision transformers in half precision with a float32 residual stream, whose sums and layer norms are one kernel."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.nets.blocks import Attention, Block
from methods.nets.inference.fused.tokens import add_norm, assemble_norm, gelu_, patches
from methods.nets.normalisers import Normaliser
from methods.nets.vit import SIGMA_DATA, AtNoiseLevel, TimeTokenClassifier, TimeTokenViT, time_embedding

__all__ = ["FusedTimeTokenViT", "fuse_vit"]


class FusedTimeTokenViT(nn.Module):
    """A time-token ViT that takes pixels as they come: normalises, cuts patches and computes its class token.

    Patches are a reshape and a product, where cuDNN's convolution of 16x16 pixels takes 8 % of a pass.
    Differs: sums and norms in float32 as there, each result rounded once.
    """

    fused = True  # nothing is left to torch.compile

    def __init__(self, vit: TimeTokenViT, normaliser: Normaliser, dtype: torch.dtype) -> None:
        super().__init__()
        self.embed_dim, self.dtype = vit.embed_dim, dtype
        self.vit, self.normaliser = vit, normaliser
        self.exact_gelu = True  # False: the product's own epilogue, by tanh

    def features(self, x: Tensor, t: float, *, final_norm: bool) -> Tensor:
        """The class token of pixels in [0, 1], with or without the last layer norm.

        Shapes: x (B, C, H, W); result (B, D) float32.
        """
        vit, dtype = self.vit, self.dtype
        levels = x.new_full((1,), t, dtype=torch.float64)
        time = time_embedding(250 * torch.log(levels), self.embed_dim)
        proj = vit.patch_embed.proj
        side = proj.kernel_size[0]
        c_in = 1 / math.sqrt(t**2 + SIGMA_DATA**2)
        cut = patches(x, self.normaliser.shift, self.normaliser.scale, dtype, side=side, gain=c_in).flatten(1, 2)
        patched = F.linear(cut, proj.weight.flatten(1), proj.bias)
        table = vit.pos_embed[0] + F.pad(torch.cat((vit.cls_token[0], time)), (0, 0, 0, patched.shape[1]))
        return run_blocks(self, table, patched, final_norm=final_norm)


def run_blocks(fused: FusedTimeTokenViT, table: Tensor, patched: Tensor, *, final_norm: bool) -> Tensor:
    """The class token behind all blocks, each half of which ends in the sum and the norm of the next.

    Shapes: table (T, D), patched (B, P, D); result (B, D) float32.
    """
    vit, dtype = fused.vit, fused.dtype
    blocks: list[Any] = list(vit.blocks)
    last = blocks[-1]
    stream, y = assemble_norm(table, patched, blocks[0].norm1, dtype)
    for block, following in pairwise(blocks):
        y = add_norm(stream, attend(block.attn, y), block.norm2, dtype)
        y = add_norm(stream, mlp(block, y, exact=fused.exact_gelu), following.norm1, dtype)
    cls = stream[:, 0].contiguous()
    y = add_norm(cls, attend_first(last.attn, y), last.norm2, dtype)
    cls = cls + mlp(last, y, exact=fused.exact_gelu)
    token: Tensor = F.layer_norm(cls, vit.norm.normalized_shape, vit.norm.weight, vit.norm.bias, vit.norm.eps)
    return token if final_norm else cls


def attend(attention: Attention, y: Tensor) -> Tensor:
    """Shapes: (B, T, D) -> (B, T, D)."""
    qkv = F.linear(y, attention.qkv.weight, attention.qkv.bias)
    q, k, v = qkv.view(*qkv.shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return F.linear(mixed, attention.proj.weight, attention.proj.bias)


def attend_first(attention: Attention, y: Tensor) -> Tensor:
    """The first token's alone: (B, T, D) -> (B, D)."""
    (B, T, D), heads = y.shape, attention.num_heads
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q_bias, kv_bias = (None, None) if bias is None else (bias[:D], bias[D:])
    q = F.linear(y[:, 0], weight[:D], q_bias).view(B, heads, 1, D // heads)
    k, v = F.linear(y, weight[D:], kv_bias).view(B, T, 2, heads, D // heads).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v).reshape(B, D)
    return F.linear(mixed, attention.proj.weight, attention.proj.bias)


def mlp(block: Block, y: Tensor, *, exact: bool = True) -> Tensor:
    """Shapes: (..., D) -> (..., D)."""
    if exact:
        hidden = gelu_(F.linear(y, block.mlp.fc1.weight, block.mlp.fc1.bias))
    else:
        rows = y.flatten(0, -2)
        made = torch.ops.aten._addmm_activation(
            block.mlp.fc1.bias, rows, block.mlp.fc1.weight.t(), beta=1, alpha=1, use_gelu=True
        )
        hidden = made.view(*y.shape[:-1], -1)
    return F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)


def fuse_vit(network: nn.Module, dtype: torch.dtype) -> bool:
    """Let the time-token ViT of a network at a noise level run fused, in place; whether there was one."""
    if not isinstance(network, AtNoiseLevel) or not isinstance(network.classifier, TimeTokenClassifier):
        return False
    vit = network.classifier.base_model
    if not isinstance(vit, TimeTokenViT) or vit.whole or not all(map(plain, vit.blocks)):
        return False
    network.classifier.set_submodule("base_model", FusedTimeTokenViT(vit, network.normaliser, dtype))
    network.normaliser = Normaliser("none", "any").to(network.normaliser.shift.device)
    return True


def plain(block: nn.Module) -> bool:
    """Whether nothing stands in a block but what is computed here."""
    if type(block) is not Block or type(block.attn) is not Attention or block.training:
        return False
    return type(block.mlp.act) is nn.GELU and block.mlp.act.approximate == "none"
