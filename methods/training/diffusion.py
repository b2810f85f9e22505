"""Training a diffusion network, of which DDS, DensePure and DiffSmooth make a denoiser.

The network sees images in [-1, 1]. Noise, levels and dropout are keyed by the step; of these only what dropout draws
depends on how a batch is cut into shares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.types import RepresentRequest, TrainRequest
from bench.types.errors import UsageError
from methods.diffusion.denoising import one_shot
from methods.diffusion.schedules import level, level_sigma
from methods.diffusion.unets import UNet, build_unet
from methods.training import schedules
from methods.training.loader import Batch, load
from methods.training.losses import at_least_float32
from methods.training.optimisers import adamw, parameters_of
from methods.training.presets import resolve_settings
from methods.training.rng import generator, seeded_globals, seeded_layers
from methods.training.run_stage import TrainingContext, noise_like, prepare, run_stage, task_of
from methods.training.settings import Diffusion
from methods.training.sharding import current_share
from methods.training.variational_bound import Tables, at, bound, noised, tables

if TYPE_CHECKING:
    from methods.diffusion.conditioned import ConditionedUNet
    from methods.representation import EncoderFeatures

MEASURED = (0.25, 0.5, 1.0)  # sigmas at which a trained network's restoration error is measured
IMAGES = 500  # at most, for that


def diffusion(request: TrainRequest) -> Mapping[str, Any]:
    """Train a diffusion network on images without their labels, for all noise levels at once.

    Source: Ho et al. 2020, Algorithm 1; Nichol & Dhariwal 2021, Section 3.1 (learned variances); Salimans & Ho 2022,
    Section 4 (prediction "v"). Differs: with `largest_sigma`, only levels up to that one are trained, so that a small
    network spends its capacity on those that certification uses.
    Raises: UsageError, MethodError, DataError, TrainingError.
    """
    preset, settings = resolve_settings(Diffusion, request)
    _check(request, settings)
    context = prepare(request, preset, settings)
    encoder = _encoder(context, settings)
    network: nn.Module
    with seeded_globals("initialise", request.seed):
        if encoder is None:
            network = unet = build_unet(settings.arch, shape=context.dataset.shape)
        else:
            network = _conditioned(context, settings, encoder)
            unet = network.unet
    zero_init(unet)
    for module in unet.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    network = network.to(request.device).train()
    levels = levels_of(unet, settings.largest_sigma)
    table = tables(unet.schedule, request.device)

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        z = 2 * batch.views[0] - 1
        t = _levels_like(z, levels, request.seed, step)
        eps = noise_like(z, "noise", request.seed, step)
        x_t = noised(table, z, eps, t)
        with seeded_layers(settings.dropout, request.device, "dropout", request.seed, step, current_share().index):
            output = network(x_t, t, *told(batch))
        return hybrid(
            table, output, z, eps, x_t, t, prediction=settings.prediction, weight=settings.lbd * levels / 1000
        )

    def told(batch: Batch) -> tuple[Tensor, ...]:
        """What the network is told of a batch besides its levels."""
        if encoder is None:
            return ()
        with torch.no_grad():
            return (encoder.features(batch.views[0], 0.0),)

    def rate(step: int) -> float:
        if settings.decay == "cosine":
            return schedules.warmup_cosine(step, warmup=settings.warmup_steps, total=settings.steps)
        return min(1.0, (step + 1) / max(settings.warmup_steps, 1))

    parent = {} if encoder is None else {"condition": settings.condition, "condition_sha256": encoder.sha256}
    task = task_of(
        context,
        modules={"unet": network},
        optimiser=adamw(parameters_of(network), lr=settings.lr, weight_decay=settings.weight_decay),
        loss=loss,
        rate=rate,
        steps=settings.steps,
        hashes=parent,
    )
    meta = {"arch": settings.arch, "schedule": unet.schedule.name, "prediction": settings.prediction}
    meta |= {"levels": str(levels), "largest_sigma": str(settings.largest_sigma), "ema": str(settings.ema)}
    meta |= parent
    report = run_stage(context, task, network.state_dict, logits=None, meta=meta)
    if request.dry_run or encoder is not None:
        return report
    unet.prediction = settings.prediction  # the loss took the output as it is, a denoiser converts it to noise
    return {**report, "rms_error": restoration(context, unet.eval(), levels)}


def _encoder(context: TrainingContext, settings: Diffusion) -> EncoderFeatures | None:
    """The frozen network whose features condition this one; None where nothing does."""
    if settings.condition == "none":
        return None
    from methods.representation import represent

    asked = RepresentRequest(
        weights=Path(settings.condition_weights), shape=context.dataset.shape, device=context.request.device
    )
    return represent(asked, projected=True)


def _conditioned(context: TrainingContext, settings: Diffusion, encoder: EncoderFeatures) -> ConditionedUNet:
    """A network for the encoder's features, which it normalises by those of the training images as they are stored."""
    from methods.diffusion.conditioned import ConditionedUNet

    device, batch = context.request.device, context.loader.batch
    network = None
    with torch.no_grad():
        starts = range(0, context.loader.count, batch)
        parts = [
            encoder.features(load(context.dataset, min(batch, context.loader.count - k), k)[0].to(device), 0.0).cpu()
            for k in starts
        ]
        network = ConditionedUNet(settings.arch, shape=context.dataset.shape, features=parts[0].shape[1])
        network.normalise_by(parts)
    return network


def hybrid(
    table: Tables, output: Tensor, z: Tensor, eps: Tensor, x_t: Tensor, t: Tensor, *, prediction: str, weight: float
) -> dict[str, Tensor]:
    """L_simple, and the variational bound where the network predicts variances as well.

    `weight` is lambda times the levels that t is drawn from over 1000: the authors' lambda is 0.001 of the bound's sum
    over levels, of which one level in the batch is an unbiased estimate.
    Shapes: output (B, C or 2 C, H, W); z, eps, x_t (B, C, H, W); t (B,) int64.
    Source: Nichol & Dhariwal 2021, Eq. 16; v as in Salimans & Ho 2022, Appendix D. Differs: "bound" is reported per
    level, in bits per value.
    """
    output, channels = at_least_float32(output), z.shape[1]
    guess = output[:, :channels]
    signal, noise = at(table.signal, t, z), at(table.noise, t, z)
    target = eps if prediction == "eps" else signal * eps - noise * z
    simple = (guess - target).square().mean()
    if output.shape[1] == channels:
        return {"loss": simple, "simple": simple}
    guessed = guess if prediction == "eps" else signal * guess + noise * x_t
    vlb = bound(table, z, x_t, t, eps=guessed, spread=output[:, channels:]).mean()
    return {"loss": simple + weight * vlb, "simple": simple, "bound": vlb}


def levels_of(unet: UNet, largest_sigma: float) -> int:
    """Number of levels that are trained, from the cleanest: all that a denoiser uses up to that smoothing sigma.

    Raises: MethodError where sigma is beyond the schedule.
    """
    every = len(unet.schedule.betas)
    return every if largest_sigma == 0 else min(every, level(unet.schedule, largest_sigma, "first") + 1)


def zero_init(network: nn.Module) -> None:
    """Start each residual block, attention and the output from zero, as the originals do.

    Source: Ho et al. 2020 and Dhariwal & Nichol 2021, in their code.
    """
    for name, p in network.named_parameters():
        if re.search(r"(conv_out|conv2|to_out\.0)\.(weight|bias)$", name):
            nn.init.zeros_(p)


def restoration(context: TrainingContext, unet: UNet, levels: int) -> dict[str, float]:
    """Root mean square error of pixels in [0, 1] after one-shot denoising, by sigma: one draw of noise an image.

    Held-out images where there are any, else training images; reported, and used for no choice.
    """
    request, total = context.request, len(context.dataset)
    held_out = context.loader.count < total
    first = context.loader.count if held_out else 0
    count = min(IMAGES, (total if held_out else context.loader.count) - first)
    z = 2 * load(context.dataset, count, first)[0] - 1
    errors = {}
    for sigma in MEASURED:
        t = level(unet.schedule, sigma, "first") if sigma <= level_sigma(unet.schedule, levels - 1) else levels
        if t >= levels:
            continue
        squares = 0.0
        for block, part in enumerate(torch.split(z, context.loader.batch)):
            x = part.to(request.device)
            eps = noise_like(x, f"restore {sigma}", request.seed, block)
            abar = float(unet.schedule.alphas_bar[t])
            with torch.inference_mode():
                denoised = one_shot(unet, abar**0.5 * x + (1 - abar) ** 0.5 * eps, t)
            squares += float(((denoised - x) / 2).square().sum(dtype=torch.float64))
        errors[f"{sigma:g}"] = (squares / z.numel()) ** 0.5
    return errors


def _check(request: TrainRequest, settings: Diffusion) -> None:
    if request.sigma is not None:
        raise UsageError(
            f"{request.method} {request.stage} covers all noise levels, got sigma {request.sigma!r}; leave --sigma out "
            "(--set largest_sigma=... leaves out the noisiest)"
        )
    if request.init is not None:
        raise UsageError(
            f"{request.method} {request.stage} starts from random weights, got init {str(request.init)!r}; "
            "leave --init out, or use --resume"
        )
    if (settings.condition == "none") != (settings.condition_weights == ""):
        raise UsageError(
            f"condition={settings.condition} with condition_weights={settings.condition_weights!r}: expected both or "
            "neither; give --set condition=rrcm --set condition_weights=FILE, made by rrcm pretrain"
        )
    if settings.condition != "none" and settings.largest_sigma != 0:
        raise UsageError(
            f"a network that generates starts from noise alone, got largest_sigma={settings.largest_sigma:g}; give "
            "--set largest_sigma=0 with condition=rrcm"
        )
    if settings.dropout >= 1:
        raise UsageError(f"dropout must be less than 1, got {settings.dropout!r}; change it by --set dropout=...")


def _levels_like(z: Tensor, levels: int, seed: int, step: int) -> Tensor:
    share = current_share()
    drawn = torch.randint(levels, (share.whole(len(z)),), generator=generator("cpu", "level", seed, step))
    return share.take(drawn).to(z.device, non_blocking=True)
