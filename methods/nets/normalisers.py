"""From the certifier's [0, 1] pixels to the scale that a network was trained on: layer 0, behind the noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.types.errors import MethodError
from methods.nets.scales import scale_of


class Normaliser(nn.Module):
    """(x - mean) / std of each channel, without tensors in the state dict, as the published checkpoints have none.

    By a name or a text of numbers, see methods.nets.scales.
    Raises: MethodError for one that is not known, or of another number of channels than the images.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, kind: str, dataset: str, *, channels: int = 3) -> None:
        super().__init__()
        mean, std = scale_of(kind, dataset)
        # Broadcasting would make three channels out of one, silently; "none" and "half" are for any number.
        if len(mean) != channels and kind not in ("none", "half"):
            raise MethodError(
                f"the numbers of normaliser {kind!r} are for {len(mean)} channels, got images of {channels}; give the "
                "one that the network was trained with"
            )
        self.identity = kind == "none"
        self.register_buffer("shift", _column(mean), persistent=False)
        self.register_buffer("scale", _column(std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        return x if self.identity else (x - self.shift) / self.scale


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
