"""The sizes of the time-token ViT, as plain numbers: read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FIELD = {32: 4, 224: 16}  # CIFAR-10 and ImageNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One row of the paper's Table 3."""

    embed_dim: int
    depth: int
    num_heads: int
    hidden_dim: int  # width of the projector, which inference does not use; the paper's "MLP Hidden Dim"
    output_dim: int  # of the projector
    patch_sizes: Mapping[int, int]  # side of the image -> side of a patch


# Table 3 prints widths of 4096 for B on ImageNet, but its own parameter counts (25M, 90M, 177M) hold at 2048 only.
SIZES: Mapping[str, Size] = {
    "S": Size(embed_dim=512, depth=6, num_heads=8, hidden_dim=2048, output_dim=256, patch_sizes=_FIELD),
    "B": Size(embed_dim=768, depth=12, num_heads=12, hidden_dim=2048, output_dim=256, patch_sizes=_FIELD),
    "B-Deep": Size(embed_dim=768, depth=24, num_heads=24, hidden_dim=2048, output_dim=256, patch_sizes=_FIELD),
    # Ours, no rows of the paper: for CIFAR-10 at the cost of a small ResNet, and for 8x8 digits on a CPU.
    "XS": Size(embed_dim=128, depth=4, num_heads=4, hidden_dim=256, output_dim=128, patch_sizes={32: 4, 8: 4}),
    "tiny": Size(embed_dim=64, depth=2, num_heads=4, hidden_dim=128, output_dim=64, patch_sizes={8: 4}),
    "nano": Size(embed_dim=32, depth=1, num_heads=2, hidden_dim=64, output_dim=32, patch_sizes={8: 4}),
}
