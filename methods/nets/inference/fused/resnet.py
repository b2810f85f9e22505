"""Residual networks in half precision, channels-last: bias, sum and ReLU in the pass that ends each convolution.

A folded batch norm leaves a bias behind, which torch adds by a kernel of its own, and ReLU and sum by two more: half of
a ResNet-50's time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import resnet as timm_resnet
from torch import Tensor, nn

from methods.nets.cifar_resnet import BasicBlock, CifarResNet, pooled
from methods.nets.inference.fused.maps import convolve, finish, finish_pool, whole
from methods.nets.inference.fused.tokens import patches
from methods.nets.normalisers import Normaliser

NARROW = (16, 32, 64)  # channels of the convolutions that one program can hold
LARGEST = 2**31  # values that a kernel here can count


class Convolution(nn.Module):
    """A convolution and its bias; with another map added, and ReLU, where asked for."""

    weight: Tensor
    bias: Tensor
    rounded: Tensor
    taps: Tensor | None

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, *, direct: bool, extra: Tensor | None = None) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        weight = conv.weight.detach().to(dtype)
        bias = torch.zeros(len(weight), device=weight.device)
        for part in (conv.bias, extra):
            bias += 0 if part is None else part
        self.register_buffer("bias", bias)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        narrow = direct and weight.shape[0] in NARROW and weight.shape[1] in NARROW
        direct = narrow and self.padding == self.kernel // 2
        taps = weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous() if direct else None
        self.register_buffer("taps", taps)  # (kernel * kernel, in, out), where the kernel here serves
        self.register_buffer("rounded", self.bias.to(dtype))
        self.whole = weight.is_cuda  # by one kernel of cuDNN's with all that follows: 22 % of a ResNet-50 on an H200

    def forward(self, x: Tensor, other: Tensor | None = None, *, relu: bool) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, O, H / stride, W / stride), channels-last."""
        if self.taps is not None and max(x.numel(), x.numel() // x.shape[1] * len(self.weight)) < LARGEST:
            return convolve(x, self.taps, self.bias, other, kernel=self.kernel, stride=self.stride, relu=relu)
        if self.whole and relu:
            try:
                return whole(x, self.weight, self.rounded, other, self.stride, self.padding)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # cuDNN has no such kernel for this shape or GPU
                self.whole = False
        y = F.conv2d(x, self.weight, None, self.stride, self.padding)
        return finish(y, self.bias, other, relu=relu)


class Residual(nn.Module):
    """Convolutions with ReLU between them, a shortcut, and ReLU behind the sum."""

    def __init__(self, convolutions: list[Convolution], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.inner, self.last = nn.ModuleList(convolutions[:-1]), convolutions[-1]
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, O, H', W'), channels-last."""
        other = x if self.shortcut is None else self.shortcut(x)
        for convolution in self.inner:
            x = convolution(x, relu=True)
        made: Tensor = self.last(x, other, relu=True)
        return made


class Projected(nn.Module):
    """A shortcut's convolution; its bias is added by the convolution that it meets."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, *, direct: bool) -> None:
        super().__init__()
        self.convolution = Convolution(conv, dtype, direct=direct)
        self.convolution.bias.zero_()  # a copy
        self.convolution.rounded.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, O, H / stride, W / stride)."""
        made = self.convolution
        if made.taps is not None:
            result: Tensor = made(x, relu=False)
            return result
        return F.conv2d(x, made.weight, None, made.stride, made.padding)


class Padded(nn.Module):
    """A shortcut that leaves out pixels and adds channels of zeros."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.stride, self.padding = block.stride, block.padding

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C + padding, H / stride, W / stride)."""
        before = self.padding // 2
        x = x[:, :, :: self.stride, :: self.stride]
        x = F.pad(x, (0, 0, 0, 0, before, self.padding - before))
        return x.contiguous(memory_format=torch.channels_last)


class SmallStem(nn.Module):
    """The first convolution, of normalised pixels whose channels are filled up, for tensor cores take 16 at a time.

    With zeros; of one channel, with what rounding leaves of the pixels and of the weights: then the sums are those of
    float32 but for 2^-16. Of three channels that is as easy, took 0.2 ms for 8,192 copies on an H200, and moved no
    fewer labels.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, *, direct: bool) -> None:
        super().__init__()
        self.dtype, self.width = dtype, 16
        self.split = conv.in_channels == 1
        kernel, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        filled = nn.Conv2d(self.width, conv.out_channels, kernel, stride, padding)
        filled.to(conv.weight.device).requires_grad_(False)
        filled.weight.zero_()
        rounded = conv.weight.to(dtype).float()
        parts = (rounded, rounded, conv.weight - rounded) if self.split else (rounded,)
        for place, part in enumerate(parts):
            filled.weight[:, place * conv.in_channels : (place + 1) * conv.in_channels] = part
        filled.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach(), requires_grad=False)
        self.convolution = Convolution(filled, dtype, direct=direct)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Shapes: pixels (B, C, H, W) float32 -> (B, O, H / stride, W / stride), channels-last."""
        cut = patches(x, shift, scale, self.dtype, side=1, width=self.width, split=self.split).permute(0, 3, 1, 2)
        made: Tensor = self.convolution(cut, relu=True)
        return made


class LargeStem(nn.Module):
    """A 7x7 convolution of stride 2 as one of 4x4 and stride 1 over squares of 2x2 pixels, and the pooling behind it.

    The same sums: a row and a column of zeros is put in front of the kernel, and the image shifted with it.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.width = dtype, 16
        outputs, inputs = conv.weight.shape[:2]
        grown = F.pad(conv.weight.detach().float(), (1, 0, 1, 0)).view(outputs, inputs, 4, 2, 4, 2)
        weight = grown.permute(0, 1, 3, 5, 2, 4).reshape(outputs, 4 * inputs, 4, 4)
        weight = F.pad(weight, (0, 0, 0, 0, 0, self.width - 4 * inputs)).to(dtype)
        bias = torch.zeros(outputs, device=weight.device) if conv.bias is None else conv.bias.detach().float()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Shapes: pixels (B, C, H, W) float32 -> (B, O, H / 4, W / 4), channels-last."""
        cut = patches(x, shift, scale, self.dtype, side=2, before=4, after=3, width=self.width)
        return finish_pool(F.conv2d(cut.permute(0, 3, 1, 2), self.weight), self.bias)


class FusedResNet(nn.Module):
    """A residual network of pixels as they come: normaliser, stem, blocks, mean, and its linear layer."""

    fused = True  # nothing is left to torch.compile
    shift: Tensor
    scale: Tensor

    def __init__(
        self, normaliser: Normaliser | None, stem: nn.Module, blocks: list[nn.Module], head: nn.Linear
    ) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.Sequential(*blocks), head
        self.register_buffer("shift", torch.zeros(1, device=head.weight.device))
        self.register_buffer("scale", torch.ones(1, device=head.weight.device))
        if normaliser is not None and not normaliser.identity:
            shift, scale = normaliser.shift, normaliser.scale
            self.shift = shift.expand_as(shift + scale).contiguous()
            self.scale = scale.expand_as(shift + scale).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> logits (B, K)."""
        x = self.blocks(self.stem(x, self.shift, self.scale))
        logits: Tensor = self.head(pooled(x))
        return logits


def fuse_resnet(network: nn.Module, dtype: torch.dtype, *, direct: bool = True) -> bool:
    """Let a residual network behind a normaliser run fused, its batch norms folded, in place; whether there was one."""
    if type(network) is not nn.Sequential or len(network) != 2 or not isinstance(network[0], Normaliser):
        return False
    fused = fused_resnet(network[1], network[0], dtype, direct=direct)
    if fused is None:
        return False
    network[0], network[1] = nn.Identity(), fused
    return True


def fused_resnet(
    network: Any, normaliser: Normaliser | None, dtype: torch.dtype, *, direct: bool = True
) -> FusedResNet | None:
    """The fused form of a network; None for what is no residual network, or one with parts unknown here."""
    if network.training or any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return None
    if isinstance(network, CifarResNet):
        stem: nn.Module = SmallStem(network.conv1, dtype, direct=direct)
        stages: tuple[Any, ...] = (network.layer1, network.layer2, network.layer3)
        head: Any = network.get_submodule(network.head)
    elif _plain(network):
        stem = LargeStem(network.conv1, dtype)
        stages, head = (network.layer1, network.layer2, network.layer3, network.layer4), network.fc
    else:
        return None
    blocks = [_block(block, dtype, direct=direct) for stage in stages for block in stage]
    return FusedResNet(normaliser, stem, blocks, head).eval().requires_grad_(False)


def _block(block: Any, dtype: torch.dtype, *, direct: bool) -> nn.Module:
    bottleneck = isinstance(block, timm_resnet.Bottleneck)
    convs = [block.conv1, block.conv2, block.conv3] if bottleneck else [block.conv1, block.conv2]
    shortcut: nn.Module | None = None
    extra = None
    if block.downsample is not None:
        conv = next(module for module in block.downsample if isinstance(module, nn.Conv2d))
        shortcut = Projected(conv, dtype, direct=direct)
        extra = None if conv.bias is None else conv.bias.detach().float()
    elif isinstance(block, BasicBlock) and (block.stride != 1 or block.padding):
        shortcut = Padded(block)
    made = [Convolution(conv, dtype, direct=direct) for conv in convs[:-1]]
    made.append(Convolution(convs[-1], dtype, direct=direct, extra=extra))
    return Residual(made, shortcut)


def _plain(network: Any) -> bool:
    """Whether it is timm's network of bottlenecks as the paper has it: no squeezing, no groups, no other stem."""
    if type(network) is not timm_resnet.ResNet or type(network.conv1) is not nn.Conv2d:
        return False
    conv, pool = network.conv1, network.maxpool
    if (conv.kernel_size, conv.stride, conv.padding) != ((7, 7), (2, 2), (3, 3)) or conv.out_channels > 256:
        return False
    if type(pool) is not nn.MaxPool2d or (pool.kernel_size, pool.stride, pool.padding) != (3, 2, 1):
        return False
    if type(network.act1) is not nn.ReLU or network.global_pool.pool_type != "avg" or 4 * conv.in_channels > 16:
        return False
    blocks = [block for name in ("layer1", "layer2", "layer3", "layer4") for block in getattr(network, name)]
    convs = [module for block in blocks for module in block.modules() if isinstance(module, nn.Conv2d)]
    return all(
        type(block) is timm_resnet.Bottleneck
        and block.se is None
        and block.drop_path is None
        and isinstance(block.aa, nn.Identity)
        and all(type(act) is nn.ReLU for act in (block.act1, block.act2, block.act3))
        and (block.downsample is None or {type(m) for m in block.downsample} <= {nn.Conv2d, nn.Identity})
        for block in blocks
    ) and all(conv.groups == 1 and conv.dilation == (1, 1) for conv in convs)
