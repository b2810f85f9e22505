"""A diffusion network that is told features of the image that it is to make, and images sampled by it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bench.types import GenerateRequest, RepresentRequest
from bench.types.errors import UsageError, WeightsError
from bench.weights.checkpoints import load_tensors
from methods.diffusion.unets import UNETS, UNet, build_unet
from methods.nets.load_weights import load_state, seeded
from methods.representation import EncoderFeatures, represent
from methods.training.rng import generator

_LEAST = 1e-6  # of a feature's deviation: one that never varies says nothing


class ConditionedUNet(nn.Module):
    """A UNet whose time embedding has a linear image of normalised features added to it.

    Source: rRCM paper, Appendix C (features of the projector, normalised by their mean and deviation), after Li et al.
    2023 (RCG). Differs: the paper's network is a U-ViT, and how features get into it is said nowhere.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, arch: str, *, shape: tuple[int, int, int], features: int) -> None:
        super().__init__()
        self.unet: UNet = build_unet(arch, shape=shape, conditioned=True)
        width = 4 * UNETS[arch].config["block_out_channels"][0]  # of diffusers' time embedding
        self.condition = nn.Linear(features, width)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def normalise_by(self, batches: Iterable[Tensor]) -> None:
        """Take mean and deviation of features over a set of images."""
        rows = torch.cat([batch.double() for batch in batches])
        self.mean.copy_(rows.mean(dim=0))
        self.std.copy_(rows.std(dim=0).clamp(min=_LEAST))

    def forward(self, x: Tensor, t: Tensor | float, features: Tensor) -> Tensor:
        """Shapes: x (B, C, H, W), t one level or (B,), features (B, D); result (B, C or 2C, H, W)."""
        noise: Tensor = self.unet(x, t, self.condition((features - self.mean) / self.std))
        return noise


class FeatureGenerator:
    """Images sampled by DPM-Solver++ from features of others, or of noise alone.

    Source: rRCM paper, Appendix C: 50 steps of DPM-Solver, the condition of a test made from pure noise at t = 80.
    Differs: images that the network predicts on the way are clipped to [-1, 1].
    """

    def __init__(self, network: ConditionedUNet, encoder: EncoderFeatures, request: GenerateRequest) -> None:
        self.network, self.encoder, self.request = network, encoder, request

    def sample(self, condition: Tensor | None, sigma: float, first: int, count: int) -> Tensor:
        """Images number `first` and following: see bench.types.Generator."""
        device = self.request.device
        eps = self._normals("condition", first, count)
        if condition is None:
            sigma, condition = self.encoder.noisiest, torch.full_like(eps, 0.5)  # 0 of the network's own pixels
        with torch.inference_mode():
            features = self.encoder.features(condition.to(device) + sigma * eps, sigma)
            z = self._normals("sample", first, count)
            solver = _solver(self.network.unet, self.request.steps)
            for t in solver.timesteps:
                noise = self.network(z, float(t), features)[:, : z.shape[1]]
                z = solver.step(noise, t, z, return_dict=False)[0]
        return ((z + 1) / 2).clamp(0, 1).cpu()

    def _normals(self, purpose: str, first: int, count: int) -> Tensor:
        """Keyed by the image's number: how many are sampled at once moves none."""
        rows = [
            torch.randn(self.request.shape, generator=generator("cpu", purpose, self.request.seed, first + k))
            for k in range(count)
        ]
        return torch.stack(rows).to(self.request.device)


def generate(request: GenerateRequest) -> FeatureGenerator:
    """The sampler of a network that `train dds diffusion --set condition=rrcm` left, with the encoder of its training.

    Raises: WeightsError for other weights, or another encoder than that of the training; UsageError for no steps.
    """
    name = str(request.weights)
    tensors, meta = load_tensors(request.weights)
    if meta.get("condition") != "rrcm" or meta.get("arch") not in UNETS or "mean" not in tensors:
        raise WeightsError(
            f"weights {name!r}: expected a network made by `train dds diffusion --set condition=rrcm`, got another one"
        )
    encoder = represent(
        RepresentRequest(weights=request.encoder, shape=request.shape, device=request.device), projected=True
    )
    if meta.get("condition_sha256") != encoder.sha256:
        raise WeightsError(
            f"weights {name!r}: trained with features of the encoder {str(meta.get('condition_sha256'))[:10]}, got "
            f"{str(request.encoder)!r}, which is {encoder.sha256[:10]}; give that one"
        )
    with seeded(0, "generator"):  # first weights, which the file's replace
        network = ConditionedUNet(str(meta["arch"]), shape=request.shape, features=len(tensors["mean"]))
    load_state(
        network,
        tensors,
        name,
        lambda what, want, came: f"expected {what!r} of shape {want}, got {came}; give weights of {meta['arch']!r}",
    )
    network.unet.prediction = "v" if meta.get("prediction") == "v" else "eps"
    levels = len(network.unet.schedule.betas)
    if not 1 <= request.steps <= levels:
        raise UsageError(f"--steps {request.steps}: expected 1 to {levels}; the paper takes 50")
    return FeatureGenerator(network.to(request.device).eval().requires_grad_(False), encoder, request)


def _solver(unet: UNet, steps: int) -> Any:
    """diffusers' multistep solver of second order, on the network's own levels."""
    from diffusers import DPMSolverMultistepScheduler

    betas = unet.schedule.betas
    # The last levels of a cosine schedule hold next to no signal, where a small error of the noise is a large one of
    # the image: they are left out as diffusers advises (lambda -5.1), and predicted images are clipped to [-1, 1].
    solver = DPMSolverMultistepScheduler(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        lambda_min_clipped=-5.1,
        thresholding=True,
        sample_max_value=1.0,
    )
    with warnings.catch_warnings():
        # diffusers makes an array of a tensor in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        solver.set_timesteps(steps)
    return solver
