"""The ViT of rRCM, which sees the noise level as a token, and its classifier.

The pixels it takes are normalised to [-1, 1], so its noise level t is twice the certifier's sigma.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.nets.blocks import Block, ExactLinear, Patches
from methods.nets.karras_grid import karras_grid, nearest_time
from methods.nets.normalisers import Normaliser
from methods.nets.sizes import SIZES, Size

__all__ = [
    "SIZES",
    "AtNoiseLevel",
    "Size",
    "TimeTokenClassifier",
    "TimeTokenViT",
    "karras_grid",
    "nearest_time",
    "time_embedding",
    "time_token_vit",
]

SIGMA_DATA = 0.5  # of pixels in [-1, 1]


class TimeTokenViT(nn.Module):
    """A pre-norm ViT over the tokens [class, time, patches...], with the projector of its pre-training.

    The net scales its input by c_in(t) = 1 / sqrt(t^2 + 0.25) and embeds 250 ln t as a raw sinusoid, cosine first;
    a learned position is added to every token. Residual stream and layer norms stay float32 under autocast.
    Source: rRCM paper, Section 3.2 and Table 3; Dosovitskiy et al. 2021; Karras et al. 2022, Table 1 (c_in).
    Differs: the last block computes the class token only, since nothing reads the others; equal outputs, fewer FLOPs
    (7 % for B), as tests/methods/nets/test_vit.py holds.
    Raises: ValueError unless the patches tile the image and the heads divide the width.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        in_channels: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        hidden_dim: int,
        output_dim: int,
        mlp_ratio: float = 4,
        projector: bool = True,
        moco_init: bool = False,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"patches of side {patch_size} must tile the image, got side {image_size}")
        if embed_dim % num_heads or embed_dim % 2:
            raise ValueError(f"embed_dim must be even and a multiple of {num_heads} heads, got {embed_dim}")
        self.embed_dim = embed_dim
        self.whole = False  # True: the last block computes every token, as its authors' code does
        self.patch_embed = Patches(image_size, patch_size, in_channels, embed_dim)
        self.tokens, self.class_token = Tokens(), ClassToken()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 + self.patch_embed.num_patches, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if moco_init:
            self._moco_init(in_channels * patch_size**2)
        # After the initialisation above: the projector keeps PyTorch's own.
        self.projection_head = _projector(embed_dim, hidden_dim, output_dim) if projector else None

    def forward(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """The projection and the normalised class token it was made from.

        Shapes: x (B, C, H, W) in normalised pixels, t a number or (B,); result (B, output_dim), (B, D).
        Raises: ValueError where it was built without a projector.
        """
        if self.projection_head is None:
            raise ValueError("this network was built with projector=False; call features()")
        cls = self.features(x, t, final_norm=True)
        return self.projection_head(cls), cls

    def features(self, x: Tensor, t: float | Tensor, *, final_norm: bool) -> Tensor:
        """The class token, with or without the last layer norm.

        Shapes: x (B, C, H, W) in normalised pixels, t a number or (B,); result (B, D) float32.
        """
        # float64 for the one scalar: 250 ln t reaches -1554, where a float32 is off by 1e-4 radian.
        levels = (t if isinstance(t, Tensor) else x.new_full((1,), t, dtype=torch.float64)).double().reshape(-1)
        c_in = torch.rsqrt(levels**2 + SIGMA_DATA**2).to(x.dtype)
        time = time_embedding(250 * torch.log(levels), self.embed_dim)
        tokens = self.tokens(self.patch_embed, x, c_in, time, self.cls_token, self.pos_embed)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        last = cast("Block", self.blocks[-1])
        cls = (last(tokens)[:, 0] if self.whole else self.class_token(last, tokens)).float()
        normalised: Tensor = self.norm(cls) if final_norm else cls
        return normalised

    def _moco_init(self, patch_values: int) -> None:
        """The initialisation of Chen et al. 2021 (MoCo v3): uniform by fan, q, k and v as three matrices."""
        dim = self.embed_dim
        for name, module in self.blocks.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            if name.endswith("qkv"):
                nn.init.uniform_(module.weight, -math.sqrt(3 / dim), math.sqrt(3 / dim))
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        limit = math.sqrt(6 / (patch_values + dim))
        nn.init.uniform_(self.patch_embed.proj.weight, -limit, limit)
        if (bias := self.patch_embed.proj.bias) is not None:
            nn.init.zeros_(bias)


class Tokens(nn.Module):
    """The tokens [class, time, patches...] with their positions.

    A module, so that it can be compiled, without weights.
    """

    def forward(
        self, embed: Patches, x: Tensor, c_in: Tensor, time: Tensor, cls_token: Tensor, pos_embed: Tensor
    ) -> Tensor:
        """Shapes: x (B, C, H, W), c_in (B,) or (1,), time (B or 1, D) -> (B, T, D) float32."""
        patches = embed(x * c_in[:, None, None, None]).float()
        B = len(x)
        tokens = torch.cat((cls_token.expand(B, -1, -1), time[:, None].expand(B, -1, -1), patches), dim=1)
        return tokens + pos_embed


class ClassToken(nn.Module):
    """A transformer block's output at the first token alone: its keys and values from all, its query from one.

    A module, so that it can be compiled, without weights.
    """

    def forward(self, block: Block, tokens: Tensor) -> Tensor:
        """Shapes: (B, T, D) -> (B, D)."""
        B, T, D = tokens.shape
        attn = block.attn
        heads = attn.num_heads
        y = block.norm1(tokens)
        q = F.linear(y[:, :1], attn.qkv.weight[:D]).reshape(B, 1, heads, D // heads).transpose(1, 2)
        k, v = F.linear(y, attn.qkv.weight[D:]).reshape(B, T, 2, heads, D // heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, 1, D)
        cls = tokens[:, :1] + attn.proj(mixed)
        cls = cls + block.mlp(block.norm2(cls))
        token: Tensor = cls[:, 0]
        return token


class TimeTokenClassifier(nn.Module):
    """Logits from the class token: a time-token ViT and one linear layer, as fine-tuning leaves it.

    The head starts near zero (truncated normal, std 2e-5), where the published runs froze it.
    Source: rRCM paper, Section 3.4.
    """

    def __init__(self, base_model: TimeTokenViT, *, num_classes: int, final_norm: bool) -> None:
        super().__init__()
        self.base_model = base_model
        self.final_norm = final_norm
        self.linear_head = ExactLinear(base_model.embed_dim, num_classes)
        nn.init.trunc_normal_(self.linear_head.weight, std=2e-5)
        nn.init.zeros_(self.linear_head.bias)

    def forward(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Shapes: x (B, C, H, W) in normalised pixels, t a number or (B,); result (B, K) float32."""
        logits: Tensor = self.linear_head(self.base_model.features(x, t, final_norm=self.final_norm))
        return logits

    @staticmethod
    def group_matcher(coarse: bool = False) -> dict[str, str]:
        """Layers from the pixels up, as timm asks for them: patches and positions, each block, all that is left."""
        del coarse
        return {
            "stem": r"^base_model\.(?:cls_token$|pos_embed$|patch_embed\.)",
            "blocks": r"^base_model\.blocks\.(\d+)\.",
        }


class AtNoiseLevel(nn.Module):
    """A time-token classifier as a function of noisy [0, 1] pixels alone: normalised, its noise level fixed."""

    def __init__(self, classifier: nn.Module, t: float) -> None:
        super().__init__()
        self.normaliser = Normaliser("half", "any")
        self.classifier = classifier
        self.t = t

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> logits (B, K)."""
        logits: Tensor = self.classifier(self.normaliser(x), self.t)
        return logits


def time_token_vit(
    size: str, *, image_size: int, in_channels: int, projector: bool = True, hidden_dim: int | None = None
) -> TimeTokenViT:
    """The network of a named size, with the patches that size has at that side.

    Raises: ValueError for an unknown size, or a side that it has no patches for.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {tuple(SIZES)!r}, got {size!r}")
    row = SIZES[size]
    if image_size not in row.patch_sizes:
        raise ValueError(f"size {size!r} is for images of side {tuple(row.patch_sizes)!r}, got {image_size!r}")
    return TimeTokenViT(
        image_size=image_size,
        patch_size=row.patch_sizes[image_size],
        in_channels=in_channels,
        embed_dim=row.embed_dim,
        depth=row.depth,
        num_heads=row.num_heads,
        hidden_dim=row.hidden_dim if hidden_dim is None else hidden_dim,
        output_dim=row.output_dim,
        projector=projector,
    )


def time_embedding(scalar: Tensor, dim: int) -> Tensor:
    """The sinusoid of a time scalar, cosines first.

    Shapes: (B,) -> (B, dim) float32.
    Source: Vaswani et al. 2017, Section 3.5; with the cosines first, as Nichol & Dhariwal 2021 have it.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=scalar.device) / half
    angles = scalar.double()[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat((torch.cos(angles), torch.sin(angles)), dim=1).float()


def _projector(embed_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(embed_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, output_dim, bias=False),
    )
