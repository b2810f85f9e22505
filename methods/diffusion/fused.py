"""The UNets of diffusion models in half precision, channels-last: norms with SiLU in two passes, no layout copies.

Imported only where triton is. The blocks around these parts, which join and split, stay diffusers' own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from methods.nets.inference.fused.groups import doubled, group_norm, halved
from methods.nets.inference.fused.maps import finish
from methods.nets.inference.fused.tokens import patches

FILLED = 16  # channels of the first convolution's input, zeros behind the image's: what tensor cores take


class FusedResidual(nn.Module):
    """A residual block: norm, SiLU and resampling at once; biases and the noise level go into the norms' numbers."""

    bias1: Tensor
    bias2: Tensor

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.conv1, self.conv2, self.conv_shortcut = block.conv1, block.conv2, block.conv_shortcut
        self.time_emb_proj = block.time_emb_proj
        self.filmed = block.time_embedding_norm == "scale_shift"
        self.resample = "double" if block.up else "halve" if block.down else ""
        extra = 0 if self.conv_shortcut is None else self.conv_shortcut.bias.float()
        self.register_buffer("bias1", self.conv1.bias.float())
        self.register_buffer("bias2", self.conv2.bias.float() + extra)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """Shapes: x (B, C, H, W) channels-last in half; temb (1 or B, E), SiLU applied; result as x's layout."""
        level = self.time_emb_proj(temb)
        y = group_norm(x, self.norm1, silu=True, resample=self.resample)
        if self.resample:
            x = doubled(x) if self.resample == "double" else halved(x)
        y = F.conv2d(y, self.conv1.weight, None, 1, 1)
        if self.filmed:
            y = group_norm(y, self.norm2, silu=True, before=self.bias1, film=level)
        else:
            y = group_norm(y, self.norm2, silu=True, before=self.bias1 + level)
        y = F.conv2d(y, self.conv2.weight, None, 1, 1)
        if self.conv_shortcut is not None:
            x = pointwise(x, self.conv_shortcut)
        return finish(y, self.bias2, x, relu=False)


class FusedAttention(nn.Module):
    """Self-attention over the pixels of a map, as rows of tokens where they lie."""

    weight: Tensor
    bias: Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.group_norm, self.out = attention.heads, attention.group_norm, attention.to_out[0]
        parts = (attention.to_q, attention.to_k, attention.to_v)
        self.register_buffer("weight", torch.cat([part.weight for part in parts]))
        self.register_buffer("bias", torch.cat([part.bias for part in parts]))

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """Shapes: (B, C, H, W) channels-last -> the same."""
        del temb
        B, C, H, W = x.shape
        y = group_norm(x, self.group_norm, silu=False).permute(0, 2, 3, 1).reshape(B, H * W, C)
        q, k, v = F.linear(y, self.weight, self.bias).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B * H * W, -1)
        made = torch.mm(mixed, self.out.weight.t()).view(B, H, W, C).permute(0, 3, 1, 2)
        return finish(made, self.out.bias, x, relu=False)


class FusedDown(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, down: Downsample2D) -> None:
        super().__init__()
        self.conv = down.conv

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return convolved(x, self.conv)


class FusedUp(nn.Module):
    """Doubled pixels and a convolution."""

    def __init__(self, up: Upsample2D) -> None:
        super().__init__()
        self.conv = up.conv

    def forward(self, x: Tensor, size: None = None) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, 2H, 2W)."""
        del size
        return convolved(doubled(x), self.conv)


class FusedUNet2D(nn.Module):
    """diffusers' UNet with fused parts, for one noise level at a time or one a copy.

    The embedding of a level that all copies share is computed once.
    """

    fused = True  # nothing is left to torch.compile
    stem: Tensor
    zero: Tensor
    one: Tensor

    def __init__(self, network: UNet2DModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        conv = network.conv_in
        filled = F.pad(conv.weight, (0, 0, 0, 0, 0, FILLED - conv.in_channels))
        self.register_buffer("stem", filled.to(dtype).contiguous(memory_format=torch.channels_last))
        self.register_buffer("zero", torch.zeros(1, device=filled.device))
        self.register_buffer("one", torch.ones(1, device=filled.device))

    def forward(self, x: Tensor, levels: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Shapes: x (B, C, H, W), levels (1,) or (B,); result (B, out, H, W) in half."""
        del return_dict
        network = self.network
        emb = network.time_embedding(network.time_proj(levels).to(self.dtype))
        emb = F.silu(emb)  # each block begins with it
        cut = patches(x, self.zero, self.one, self.dtype, side=1, width=FILLED).permute(0, 3, 1, 2)
        y = finish(F.conv2d(cut, self.stem, None, 1, 1), network.conv_in.bias, relu=False)
        kept = [y]
        for block in network.down_blocks:
            y, states = block(hidden_states=y, temb=emb)
            kept += states
        y = network.mid_block(y, emb)
        for block in network.up_blocks:
            count = len(block.resnets)
            y = block(y, tuple(kept[-count:]), emb)
            del kept[-count:]
        y = group_norm(y, network.conv_norm_out, silu=True)
        return (convolved(y, network.conv_out),)


def convolved(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A convolution, its bias added where its result lies."""
    return finish(F.conv2d(x, conv.weight, None, conv.stride, conv.padding), conv.bias, relu=False)


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution without its bias, as a product over pixels: (B, C, H, W) channels-last -> (B, O, H, W)."""
    B, C, H, W = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, C)
    return torch.mm(rows, conv.weight.flatten(1).t()).view(B, H, W, -1).permute(0, 3, 1, 2)


def fuse_unet(network: UNet2DModel, dtype: torch.dtype) -> FusedUNet2D | None:
    """The network with its parts fused, in place, around it one that runs them; None where a part is unknown here."""
    found = [(name, module, _form(module)) for name, module in network.named_modules()]
    # The modules inside those that are replaced are theirs.
    parts = [(name, module, form) for name, module, form in found if form is not None]
    if not _known(network) or any(not _usual(module) for _, module, _ in parts):
        return None
    for name, module, form in parts:
        network.set_submodule(name, form(module))
    network.to(memory_format=torch.channels_last)
    return FusedUNet2D(network, dtype).eval().requires_grad_(False)


_FORMS = {ResnetBlock2D: FusedResidual, Attention: FusedAttention}


def _form(module: nn.Module) -> type[nn.Module] | None:
    if isinstance(module, Downsample2D | Upsample2D):
        # Without a convolution they stand inside a residual block, which resamples by itself.
        form = FusedDown if isinstance(module, Downsample2D) else FusedUp
        return form if module.use_conv else None
    return _FORMS.get(type(module))


def _usual(module: Any) -> bool:
    if isinstance(module, ResnetBlock2D):
        return (
            type(module.nonlinearity) is nn.SiLU
            and module.output_scale_factor == 1
            and not module.skip_time_act
            and module.time_emb_proj is not None
            and module.time_embedding_norm in ("default", "scale_shift")
            and not module.training
        )
    if isinstance(module, Attention):
        return (
            module.residual_connection
            and module.rescale_output_factor == 1
            and module.group_norm is not None
            and module.spatial_norm is None
            and module.norm_q is None
            and module.to_q.bias is not None
        )
    usual: bool = module.norm is None and getattr(module, "padding", 1) == 1
    return usual


def _known(network: UNet2DModel) -> bool:
    config = network.config
    return (
        network.class_embedding is None
        and network.mid_block is not None
        and config.time_embedding_type == "positional"
        and config.act_fn == "silu"
        and not config.center_input_sample
        and network.conv_in.in_channels <= FILLED
    )
