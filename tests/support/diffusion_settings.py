"""Diffusion methods on digits, small and with answers that vary: what their tests build and feed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from places import PROJECT
from safetensors.torch import save_file
from torch import Tensor

from bench.data.digits import DIGITS
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.philox import normals
from bench.types import Method, Scalar, Setting, WeightsFile
from methods.diffusion.unets import build_unet

PRETRAINED = PROJECT / "methods" / "pretrained" / "digits"
SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "imagenet": (3, 224, 224)}
SIGMA = 0.5
KEY = NoiseKey(0, "an image", SIGMA, ESTIMATE)


class NoNoise:
    """A source of randomness for methods that must not draw from it."""

    def randn(self, *shape: int) -> Tensor:
        raise AssertionError("a deterministic method drew noise")


@dataclass
class Watched:
    """The harness's keyed noise, with what was drawn from it."""

    source: MethodNoise
    drawn: list[Tensor] = field(default_factory=list)

    def randn(self, *shape: int) -> Tensor:
        self.drawn.append(self.source.randn(*shape))
        return self.drawn[-1]


def own_noise(first: int, copies: int) -> MethodNoise:
    return MethodNoise(KEY.philox("method"), first, copies)


def smoothing_noise(first: int, copies: int) -> Tensor:
    return normals(KEY.philox("smoothing"), 0, first, copies, SHAPES["digits"], "cpu")


def copies_of_digits(first: int, copies: int, sigma: float = SIGMA) -> Tensor:
    """Noisy copies of as many digits, so that labels differ; copy i is the same in whichever batch."""
    images = DIGITS.open(None, None, "test")
    pixels = torch.stack([torch.from_numpy(images[i].pixels) for i in range(first, first + copies)])
    return pixels + sigma * smoothing_noise(first, copies)


def setting(method: Method, dataset: str = "digits", **params: Scalar) -> Setting:
    """Random networks."""
    values = {param.name: param.default_for(dataset) for param in method.params} | params
    return Setting(
        dataset=dataset, num_classes=1000 if dataset == "imagenet" else 10, shape=SHAPES[dataset], sigma=SIGMA,
        params=values, weights={}, random_weights=True, seed=0, device="cpu",
    )  # fmt: skip


def with_weights(made: Setting, folder: Path, classifier: str = "denoised-classifier") -> Setting:
    """The shipped classifier behind a denoiser that knows little: one that was never trained, its output damped."""
    from dataclasses import replace

    with torch.random.fork_rng():
        torch.manual_seed(1)
        state: dict[str, Any] = build_unet("digits_unet", shape=(1, 8, 8)).state_dict()
    state["conv_out.weight"] = 0.3 * state["conv_out.weight"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "unet.safetensors")
    paths = {"denoiser": folder / "unet.safetensors", "classifier": PRETRAINED / f"{classifier}.safetensors"}
    files = {role: WeightsFile(role=role, path=path, sha256="", name=path.name) for role, path in paths.items()}
    return replace(made, weights=files, random_weights=False)
