"""Image denoisers that stand in front of a classifier: noisy pixels in, estimated clean pixels out, in [0, 1] units.

None clips its input or its output: the certifier's noise leaves [0, 1], and the classifier behind it takes what comes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DnCNN(nn.Module):
    """A plain stack of convolutions with batch norm that predicts the noise.

    Source: Zhang et al. 2017 (DnCNN), Section III; depth 17 and width 64 or 128 ("wide") as Salman et al. 2020,
    Section 4.
    """

    def __init__(self, *, in_channels: int, width: int, depth: int = 17) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            # Not PyTorch's defaults: the published weights were trained so, and eps shows in every output.
            norm = nn.BatchNorm2d(width, eps=1e-4, momentum=0.95)
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), norm, nn.ReLU()]
        layers.append(nn.Conv2d(width, in_channels, 3, padding=1, bias=False))
        self.dncnn = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = x - self.dncnn(x)
        return y


class PreActivation(nn.Module):
    """Batch norm, ReLU, convolution: the unit of MemNet."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels_in)
        self.conv = nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C_in, H, W) -> (B, C, H, W)."""
        y: Tensor = self.conv(F.relu(self.bn(x)))
        return y


class ResidualUnit(nn.Module):
    """Two pre-activated convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.relu_conv1 = PreActivation(channels, channels)
        self.relu_conv2 = PreActivation(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = x + self.relu_conv2(self.relu_conv1(x))
        return y


class MemoryBlock(nn.Module):
    """Residual units, and a 1x1 gate over their outputs (short-term) and those of all blocks before (long-term)."""

    def __init__(self, channels: int, units: int, memories: int) -> None:
        super().__init__()
        self.recursive_unit = nn.ModuleList(ResidualUnit(channels) for _ in range(units))
        self.gate_unit = PreActivation((units + memories) * channels, channels, kernel=1)

    def forward(self, x: Tensor, memories: list[Tensor]) -> Tensor:
        """Shapes: (B, C, H, W) and a list of such -> (B, C, H, W)."""
        short = []
        for unit in self.recursive_unit:
            x = unit(x)
            short.append(x)
        y: Tensor = self.gate_unit(torch.cat(short + memories, dim=1))
        return y


class MemNet(nn.Module):
    """Memory blocks, densely connected, that predict what is to be added to the noisy image.

    Source: Tai et al. 2017 (MemNet), Section 3; 3 blocks of 6 units at 64 channels as Salman et al. 2020, Appendix.
    """

    def __init__(self, *, in_channels: int, width: int = 64, blocks: int = 3, units: int = 6) -> None:
        super().__init__()
        self.feature_extractor = PreActivation(in_channels, width)
        self.dense_memory = nn.ModuleList(MemoryBlock(width, units, i + 1) for i in range(blocks))
        self.reconstructor = PreActivation(width, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        y = self.feature_extractor(x)
        memories = [y]
        for block in self.dense_memory:
            y = block(y, memories)
            memories.append(y)
        clean: Tensor = x + self.reconstructor(y)
        return clean


class BlindDnCNN(nn.Module):
    """A DnCNN whose batch norm was merged into its convolutions, trained on all noise levels up to 55/255.

    Source: Zhang et al. 2017 (DnCNN), Section IV; the layout of the KAIR model zoo (MIT): 20 layers, 64 channels.
    """

    def __init__(self, *, in_channels: int, width: int = 64, depth: int = 20) -> None:
        super().__init__()
        self.model = _convolutions(in_channels, width, in_channels, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = x - self.model(x)
        return y


class FFDNet(nn.Module):
    """A denoiser that takes the noise level, works at half resolution, and predicts the clean image itself.

    Units: sigma in [0, 1] pixels; trained on levels up to 75/255 = 0.294, beyond which it extrapolates.
    Source: Zhang et al. 2018 (FFDNet), Section III; colour network of the KAIR model zoo (MIT): 12 layers, 96 channels.
    """

    def __init__(self, *, in_channels: int, sigma: float, width: int = 96, depth: int = 12) -> None:
        super().__init__()
        self.sigma = sigma
        self.model = _convolutions(4 * in_channels + 1, width, 4 * in_channels, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        x = F.pixel_unshuffle(x, 2)
        level = x.new_full((x.shape[0], 1, *x.shape[-2:]), self.sigma)
        x = F.pixel_shuffle(self.model(torch.cat((x, level), dim=1)), 2)
        return x[..., :height, :width]


DENOISERS = ("ffdnet", "dncnn", "dncnn_wide", "memnet", "dncnn_blind", "ffdnet_digits")


def build_denoiser(name: str, *, in_channels: int, sigma: float) -> nn.Module:
    """The denoiser of that name for images of so many channels.

    Units: sigma in [0, 1] pixels; only "ffdnet" and "ffdnet_digits" take it, the others are for one level or blind.
    Raises: ValueError for another name.
    """
    if name == "ffdnet":
        return FFDNet(in_channels=in_channels, sigma=sigma)
    if name == "dncnn":
        return DnCNN(in_channels=in_channels, width=64)
    if name == "dncnn_wide":
        return DnCNN(in_channels=in_channels, width=128)
    if name == "memnet":
        return MemNet(in_channels=in_channels)
    if name == "dncnn_blind":
        return BlindDnCNN(in_channels=in_channels)
    if name == "ffdnet_digits":
        # Ours, for 8x8 digits on a CPU: half resolution makes it four times as fast as a DnCNN of its size.
        return FFDNet(in_channels=in_channels, sigma=sigma, width=32, depth=5)
    raise ValueError(f"name must be one of {DENOISERS!r}, got {name!r}")


def _convolutions(channels_in: int, width: int, channels_out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels_in, width, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    layers.append(nn.Conv2d(width, channels_out, 3, padding=1))
    return nn.Sequential(*layers)
