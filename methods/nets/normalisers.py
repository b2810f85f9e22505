"""From the certifier's [0, 1] pixels to the scale that a network was trained on: layer 0, behind the noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.errors import MethodError

KINDS = ("mean_std", "mean", "none", "half", "mean_std_imagenet", "mean_std_pixels")

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Per dataset: mean and standard deviation of each channel.
# Sources: Cohen et al. 2019's released networks for CIFAR-10 and ImageNet (their CIFAR-10 std is the mean of the
# images' own, not the set's 0.247); the 8x8 digits over the pixels of their training split.
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": _IMAGENET,
    "folder": _IMAGENET,  # what off-the-shelf backbones expect of photographs
    "digits": ((0.3059,), (0.3755,)),
}


# CIFAR-10 with the deviation of all its pixels, which others than Cohen et al. divide by: DMAE, wide ResNets.
_PIXELS = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))


class Normaliser(nn.Module):
    """An affine map of each channel, without tensors in the state dict, as the published checkpoints have none.

    "mean_std": (x - mean) / std; "mean": x - mean; "half": (x - 0.5) / 0.5; "none": x; "mean_std_imagenet": as
    "mean_std", with ImageNet's numbers whatever the dataset, as some CIFAR-10 networks were trained; "mean_std_pixels":
    CIFAR-10's, with the deviation of all pixels.
    Raises: MethodError where the dataset's mean is not known, ValueError for another kind.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, kind: str, dataset: str, *, channels: int = 3) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS!r}, got {kind!r}")
        mean: tuple[float, ...] = (0.5,)
        std: tuple[float, ...] = (0.5,)
        if kind in ("mean_std", "mean"):
            mean, std = _statistics(dataset, channels)
        elif kind == "mean_std_imagenet":
            mean, std = _statistics("imagenet", channels)
        elif kind == "mean_std_pixels":
            mean, std = _pixel_statistics(dataset)
        self.identity = kind == "none"
        self.register_buffer("shift", _column(mean), persistent=False)
        self.register_buffer("scale", _column((1.0,) if kind == "mean" else std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, C, H, W) -> (B, C, H, W)."""
        return x if self.identity else (x - self.shift) / self.scale


def _statistics(dataset: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if dataset not in STATISTICS:
        raise MethodError(
            f"normaliser 'mean_std' and 'mean' need the channel means of the dataset, known for {tuple(STATISTICS)!r}, "
            f"got {dataset!r}; choose normaliser 'half' or 'none', as the network was trained"
        )
    mean, std = STATISTICS[dataset]
    if len(mean) != channels:  # broadcasting would make three channels out of one, silently
        raise MethodError(
            f"the channel means of {dataset!r} are for {len(mean)} channels, got images of {channels}; "
            "choose normaliser 'half' or 'none'"
        )
    return mean, std


def _pixel_statistics(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if dataset != "cifar10":
        raise MethodError(f"normaliser 'mean_std_pixels' is CIFAR-10's, got {dataset!r}; choose normaliser 'mean_std'")
    return _PIXELS


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
