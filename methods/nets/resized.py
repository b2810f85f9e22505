"""A classifier that takes pixels of another size than it was trained on: resize, normalise, classify."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from methods.nets.normalisers import Normaliser

RESIZES = ("bicubic_antialias", "bicubic", "bilinear", "bilinear_uint8")


class Resized(nn.Module):
    """[0, 1] pixels of any size -> logits of a classifier of a given side.

    Nothing is clipped: bicubic overshoots by up to 0.14, and the published pipelines pass that on. Antialiasing matters
    even when enlarging, since torch then takes another cubic kernel (a = -0.5 instead of -0.75). "bilinear_uint8" first
    rounds down to 256 grey levels, as a detour over picture files does.
    Raises: ValueError for another resize.
    """

    def __init__(self, network: nn.Module, normaliser: Normaliser, *, side: int | None, resize: str) -> None:
        super().__init__()
        if resize not in RESIZES:
            raise ValueError(f"resize must be one of {RESIZES!r}, got {resize!r}")
        self.side, self.resize = side, resize
        self.normaliser, self.network = normaliser, network

    def forward(self, pixels: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, K)."""
        logits: Tensor = self.network(self.normaliser(self.enlarged(pixels)))
        return logits

    def enlarged(self, pixels: Tensor) -> Tensor:
        """The pixels at the classifier's size; as they are where that is theirs.

        Shapes: (B, C, H, W) -> (B, C, side, side).
        """
        if self.side is None or tuple(pixels.shape[2:]) == (self.side, self.side):
            return pixels
        if self.resize == "bilinear_uint8":
            pixels = pixels.clamp(0, 1).mul(255).floor().div(255)
        mode = "bilinear" if self.resize.startswith("bilinear") else "bicubic"
        # float32 whatever the precision: half has no antialiased kernel on every device.
        return F.interpolate(
            pixels.float(), size=(self.side, self.side), mode=mode, align_corners=False,
            antialias=self.resize == "bicubic_antialias",
        )  # fmt: skip

    def renormalised(self, normaliser: Normaliser) -> Resized:
        """The same network, not a copy, behind another normaliser."""
        device = next(self.network.parameters()).device
        return Resized(self.network, normaliser.to(device), side=self.side, resize=self.resize).train(self.training)
