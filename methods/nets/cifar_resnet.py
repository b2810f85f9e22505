"""Residual networks of the 6n+2 family for small images, in the two layouts whose weights are in circulation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


@fx.wrap
def pooled(x: Tensor) -> Tensor:
    """The mean over a map, (B, C, H, W) -> (B, C), in float32 at least: rounded to half, it would move logits."""
    return x.mean(dim=(2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut.

    The shortcut is a 1x1 convolution with batch norm ("projection", option B) or strided and zero-padded ("padding",
    option A, no parameters) where the shape changes, else the identity.
    Source: He et al. 2016, Section 3.3 and Section 4.2.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = channels - channels_in
        self.downsample: nn.Module | None = None
        if shortcut == "projection" and (stride != 1 or channels != channels_in):
            conv = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        # In place where nothing else reads: a sixth of the time behind folded batch norms goes into fresh memory.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y.add_(self.shortcut(x)), inplace=True)

    def shortcut(self, x: Tensor) -> Tensor:
        """Shapes: as `forward`; x itself where no shape changes."""
        if self.downsample is not None:
            made: Tensor = self.downsample(x)
            return made
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.padding:
            before = self.padding // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.padding - before))
        return x


class CifarResNet(nn.Module):
    """A stem, three stages of n blocks at widths w, 2w, 4w, mean pooling and a linear head; depth 6n+2.

    Source: He et al. 2016, Section 4.2.
    Differs: pools over the whole map, which is the 8x8 window of the paper for 32x32 images, so other sizes work too.
    Raises: ValueError unless depth is 6n+2.
    """

    def __init__(
        self,
        depth: int,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        shortcut: str,
        head: str,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n+2 with n >= 1 (8, 14, 20, ..., 110), got {depth!r}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, 1, blocks, shortcut)
        self.layer2 = _stage(width, 2 * width, 2, blocks, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, 2, blocks, shortcut)
        self.head = head  # the two layouts name the last layer differently, and a checkpoint's keys must fit
        self.add_module(head, nn.Linear(4 * width, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> logits (B, K)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.get_submodule(self.head)(pooled(x))
        return logits


def cifar_resnet(
    depth: int, num_classes: int, in_channels: int = 3, width: int = 16, stem_stride: int = 1
) -> CifarResNet:
    """The network of the randomized-smoothing papers: projection shortcuts, head `fc`.

    Source: Cohen et al. 2019, Section 4 (ResNet-110 on CIFAR-10: 1,730,714 parameters).
    """
    return CifarResNet(
        depth,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        shortcut="projection",
        head="fc",
        stem_stride=stem_stride,
    )


def akamaster_resnet(depth: int, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """The network of Idelbayev's "Proper ResNet Implementation for CIFAR10": padded shortcuts, head `linear`.

    Source: He et al. 2016, Table 6 (ResNet-20 0.27M, ResNet-56 0.85M parameters).
    """
    return CifarResNet(
        depth, num_classes=num_classes, in_channels=in_channels, width=16, shortcut="padding", head="linear"
    )


def _stage(channels_in: int, channels: int, stride: int, blocks: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))
