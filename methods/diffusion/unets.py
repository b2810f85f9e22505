"""Noise-prediction UNets, built by name; their layers are those of diffusers.

A network sees z = 2x - 1 and a level of its schedule, and predicts the noise eps; where it learned variances, their
interpolation v besides (Nichol & Dhariwal 2021, equation 15).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.types.errors import MethodError, WeightsError
from bench.types.suggest import closest
from methods.diffusion.architectures import UNETS, UNetRecord, unet_arch
from methods.diffusion.schedules import Schedule, schedule

__all__ = ["UNETS", "UNet", "UNetRecord", "build_unet", "check_trained", "prediction_of", "unet_arch"]


class UNet(nn.Module):
    """A noise-prediction network and the schedule that it was trained with.

    Its tensors have diffusers' names, without a prefix.
    """

    def __init__(self, config: Mapping[str, Any], *, schedule: Schedule, learned_sigma: bool, patch: int = 1) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel

        network = UNet2DModel(**config)
        # Held in a tuple, torch does not see the network; its parts are this module's, so no name gets a prefix.
        self._network = (network,)
        for name, part in network.named_children():
            self.add_module(name, part)
        if any(True for _ in network.parameters(recurse=False)):
            raise AssertionError("diffusers' UNet2DModel has tensors outside of its parts")
        self.schedule = schedule
        self.learned_sigma = learned_sigma
        self.patch = patch
        self.prediction: Literal["eps", "v"] = "eps"  # what the weights give; whoever calls the network gets eps

    def forward(self, x: Tensor, t: Tensor | float, embedding: Tensor | None = None) -> Tensor:
        """Predicted noise, and behind it v where variances were learned.

        `embedding` is added to that of the time, in a network that was built for one.
        Shapes: x (B, C, H, W), a state of the diffusion, scaled as there; t one level for all, or (B,), fractions
        allowed; embedding (B, width); result (B, C or 2C, H, W).
        """
        state = x
        if isinstance(t, Tensor):
            levels = t.to(device=x.device, dtype=torch.float32).expand(x.shape[0])
        else:
            # Filled where x is: a number copied to a GPU would wait for it, and no CUDA graph can hold such a copy.
            levels = x.new_full((1,), t, dtype=torch.float32)
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch)
        more = {} if embedding is None else {"class_labels": embedding}  # as diffusers calls what it adds there
        y: Tensor = self._network[0](x, levels * self.schedule.time_scale, return_dict=False, **more)[0]
        y = F.pixel_shuffle(y, self.patch) if self.patch > 1 else y
        return y if self.prediction == "eps" else self._as_noise(y, state, t)

    def fuse(self, dtype: torch.dtype) -> bool:
        """Let the network run by fused kernels from now on, in that half precision; whether all its parts can."""
        from methods.diffusion.fused import fuse_unet

        fused = fuse_unet(self._network[0], dtype)
        if fused is not None:
            self._network = (fused,)
        return fused is not None

    def _as_noise(self, y: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """eps = sqrt(abar) v + sqrt(1 - abar) x_t, at the nearest level. Source: Salimans & Ho 2022, Appendix D."""
        abar = self.schedule.alphas_bar
        if isinstance(t, Tensor):  # as in training and its tests: the whole schedule is copied to the device
            nearest = t.to(x.device).float().round().long()
            signal, noise = (torch.from_numpy(np.sqrt(part)).to(x)[nearest] for part in (abar, 1 - abar))
        else:  # tensors all the same: a number would take on the velocity's arithmetic, half under autocast
            here = float(abar[round(t)])
            signal, noise = (x.new_full((1,), math.sqrt(part)) for part in (here, 1 - here))
        velocity, rest = torch.split(y, [x.shape[1], y.shape[1] - x.shape[1]], dim=1)
        return torch.cat([signal.view(-1, 1, 1, 1) * velocity + noise.view(-1, 1, 1, 1) * x, rest], dim=1)


def build_unet(arch: str, *, shape: tuple[int, int, int], conditioned: bool = False) -> UNet:
    """The UNet of that name, with fresh weights, for images of that shape; `conditioned` on an embedding besides t.

    Raises: MethodError for an unknown name, or images that the network cannot take.
    """
    if arch not in UNETS:
        raise MethodError(f"no diffusion network named {arch!r}.{closest(arch, UNETS)} Known: {', '.join(UNETS)}")
    record = UNETS[arch]
    channels, height, width = shape
    if channels != record.channels:
        raise MethodError(
            f"diffusion network {arch!r} takes images of {record.channels} channels, got {channels}; choose another one"
        )
    divisor = record.patch * 2 ** (len(record.config["block_out_channels"]) - 1)
    if height % divisor or width % divisor or min(height, width) < divisor:
        raise MethodError(
            f"diffusion network {arch!r} takes images of sides divisible by {divisor}, got {height}x{width}; crop "
            "them, or choose another one"
        )
    config = {**record.config, "class_embed_type": "identity"} if conditioned else record.config
    unet = UNet(config, schedule=schedule(record.schedule), learned_sigma=record.learned_sigma, patch=record.patch)
    return unet.to(memory_format=torch.channels_last) if record.channels_last else unet


def prediction_of(path: Path) -> Literal["eps", "v"]:
    """The quantity that a file's weights predict: its metadata's `prediction`, else eps, as published files have.

    Raises: WeightsError where it is neither.
    """
    recorded = _metadata(path).get("prediction", "eps")
    if recorded not in ("eps", "v"):
        raise WeightsError(f"weights {str(path)!r}: expected prediction eps or v, got {recorded!r}; give another file")
    return cast('Literal["eps", "v"]', recorded)


def check_trained(path: Path, sigma: float) -> None:
    """Refuse a noise level that the weights in a file never saw: beyond it a network gives anything.

    Raises: WeightsError where the file's metadata has a smaller `largest_sigma`; 0, or none, means the schedule's.
    """
    recorded = _metadata(path).get("largest_sigma", "0")
    try:
        largest = float(recorded)
    except ValueError:
        raise WeightsError(f"weights {str(path)!r}: largest_sigma must be a number, got {recorded!r}") from None
    if 0 < largest < sigma:
        raise WeightsError(
            f"weights {str(path)!r}: trained for noise up to sigma {largest:g}, got {sigma:g}; give a smaller sigma, "
            "or weights that were trained further (--set largest_sigma=...)"
        )


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; torch's own format has none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            return dict(opened.metadata() or {})
    except SafetensorError:
        return {}
