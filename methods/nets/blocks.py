"""The parts of a vision transformer, by timm's names and to its last bit, without what importing timm costs.

`import timm` loads torchvision, torch._dynamo and sympy: 2.4 s of processor time at every start, more than torch's own.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Patches(nn.Module):
    """An image cut into square patches, each embedded by one linear map."""

    def __init__(self, image_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.num_patches = (image_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, patches, D).

        Raises: ValueError for images of another side.
        """
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(f"images must have the side {self.image_size}, got {tuple(x.shape[2:])}")
        if x.is_cuda and torch.is_autocast_enabled("cuda"):
            return self.as_product(x)
        y: Tensor = self.proj(x)
        return y.flatten(2).transpose(1, 2)

    def as_product(self, x: Tensor) -> Tensor:
        """The same as a product of cut patches: cuDNN's convolution of 16x16 pixels takes 8 % of a step."""
        (B, C, H, W), side = x.shape, self.proj.kernel_size[0]
        squares = x.view(B, C, H // side, side, W // side, side).permute(0, 2, 4, 1, 3, 5)
        cut = squares.reshape(B, self.num_patches, C * side * side)
        return F.linear(cut, self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Self-attention of several heads; query, key and value are one matrix without bias."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, T, D) -> (B, T, D)."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, D))
        return mixed


class Mlp(nn.Module):
    """Two linear layers, GELU between."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., D) -> (..., D)."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class Block(nn.Module):
    """A pre-norm transformer block; torch's layer norm, whose eps is 1e-5 where timm's own is 1e-6."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, T, D) -> (B, T, D)."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class ExactLinear(nn.Linear):
    """A linear layer that stays in float32 whatever the arithmetic around it: the one that makes logits.

    Rounded to 8 bits, logits that lie close together tie, and the first of them wins: up to half of the labels that
    bf16 changed.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., in) -> (..., out) float32."""
        # On "meta" there is nothing to round, and no autocast to switch off.
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())
