"""Networks for small images whose weights circulate beside those of the 6n+2 family: wide ones, and an 18-layer one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, fx, nn

from methods.nets.cifar_resnet import pooled

fx.wrap("pooled")  # of this module too


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions, and a 1x1 convolution where the shape changes.

    Source: He et al. 2016b, Figure 4 (e); Zagoruyko & Komodakis 2016, Figure 1 (b, d), in the layout of bearpaw and
    xternalz, which RobustBench and others took over.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        changes = channels_in != channels
        self.convShortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        y = F.relu(self.bn1(x))
        # Where the shape changes the shortcut reads the activated input, else the input as it came.
        shortcut = x if self.convShortcut is None else self.convShortcut(y)
        y = F.relu(self.bn2(self.conv1(y)))
        out: Tensor = self.conv2(y) + shortcut
        return out


class _Stage(nn.Module):
    """Blocks under the name `layer`, as the checkpoints have them."""

    def __init__(self, channels_in: int, channels: int, stride: int, blocks: int) -> None:
        super().__init__()
        first = PreActivationBlock(channels_in, channels, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """A stem of 16 channels, three stages of n blocks at 16k, 32k, 64k channels, a last norm, a linear head.

    Source: Zagoruyko & Komodakis 2016, Table 1 (WRN-28-10: 36.5M parameters). Without dropout, which inference drops.
    Differs: pools over the whole map, which is 8x8 for 32x32 images, so other sizes work too.
    Raises: ValueError unless depth is 6n+4.
    """

    def __init__(self, depth: int, width: int, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise ValueError(f"depth must be 6n+4 (10, 16, 28, 34, 40, 70), width at least 1; got {depth!r}, {width!r}")
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.block1 = _Stage(16, 16 * width, 1, blocks)
        self.block2 = _Stage(16 * width, 32 * width, 2, blocks)
        self.block3 = _Stage(32 * width, 64 * width, 2, blocks)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> logits (B, K)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(pooled(F.relu(self.bn1(x))))
        return logits


class _BasicBlock(nn.Module):
    """As He et al. 2016, its projection under the name `shortcut`, and empty where there is none."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes = stride != 1 or channels_in != channels
        projection = [nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)]
        self.shortcut = nn.Sequential(*(projection if changes else []))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class KuangliuResNet(nn.Module):
    """ImageNet's ResNet of basic blocks behind a 3x3 stem without pooling: four stages of 64 to 512 channels.

    Source: He et al. 2016, Table 1; the stem, the names and the head are those of kuangliu's pytorch-cifar.
    Differs: pools over the whole map, which is 4x4 for 32x32 images.
    """

    def __init__(self, blocks: tuple[int, int, int, int], *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for i, count in enumerate(blocks):
            channels, stride = 64 * 2**i, 1 if i == 0 else 2
            first = _BasicBlock(before, channels, stride)
            rest = (_BasicBlock(channels, channels, 1) for _ in range(count - 1))
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
            before = channels
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> logits (B, K)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        logits: Tensor = self.linear(pooled(x))
        return logits
