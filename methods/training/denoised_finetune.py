"""FT-CADIS: an off-the-shelf classifier fine-tuned on images that a diffusion model denoised, for DDS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.types import TrainRequest, WeightsFile
from bench.types.errors import UsageError
from bench.weights.resolve import resolve
from methods.diffusion.conversion import as_unet_state
from methods.diffusion.schedules import level
from methods.diffusion.unets import UNet, build_unet, check_trained, prediction_of, unet_arch
from methods.nets.architectures import build_network
from methods.nets.backbones import backbone
from methods.nets.load_weights import load_weights, network_tensors
from methods.nets.normalisers import Normaliser
from methods.nets.recognition import classifier_arch
from methods.nets.resized import Resized
from methods.purification import BY_CLASSIFIER, as_timm, denoised
from methods.training import schedules
from methods.training.attacks import frozen, unit, within
from methods.training.finetuning import cosine_rate, layer_groups, set_attention_dropout
from methods.training.loader import Batch
from methods.training.lora import add_adapters, merged_state
from methods.training.losses import at_least_float32
from methods.training.optimisers import adamw
from methods.training.presets import resolve_settings
from methods.training.rng import seeded_globals, seeded_layers
from methods.training.run_stage import TrainingContext, noise_like, prepare, run_stage, sigma_of, task_of
from methods.training.settings import DdsFinetune
from methods.training.sharding import current_share

Logits = Callable[[Tensor], Tensor]  # pixels -> (B, K)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectiveParts:
    """A confidence-aware loss and what it is made of; all scalars, means over the images."""

    total: Tensor
    ce: Tensor  # of the selected copies, over all copies
    adversarial: Tensor  # of the images whose copies are all right; 0 for the others
    right: Tensor  # share of copies that are right


def finetune(request: TrainRequest) -> Mapping[str, Any]:
    """Fine-tune a classifier, whole or by low-rank adapters, on denoised images that it recognises.

    The network comes from `request.init`, or from the catalogue; the denoiser stays as it is. Exported is an ordinary
    classifier, for DDS's role of that name.
    Source: Jang et al. 2024 (FT-CADIS, TMLR), Section 3. Differs: the noise is sigma's, which the certifier draws, and
    not that of the schedule's next level; keyed seeds; bf16 for fp16.
    Raises: UsageError, MethodError, DataError, WeightsError, TrainingError.
    """
    preset, settings = resolve_settings(DdsFinetune, request)
    sigma = sigma_of(request)
    _check(settings)
    context = prepare(request, preset, settings)
    files = _files(request, settings)
    unet = _denoiser(context, files["denoiser"], settings.denoiser)
    t = level(unet.schedule, sigma, "first")
    whole = _classifier(context, files["classifier"], settings).to(request.device).train()
    network = whole.network
    lora = settings.adapter == "lora"

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        _decay(optimiser, decaying, settings, step / steps)
        x, labels, M = batch.views[0], batch.labels, settings.copies
        many = x.repeat(M, 1, 1, 1)
        with torch.no_grad():
            noisy = many + sigma * noise_like(many, "noise", request.seed, step, copies=M)
            copies = denoised(unet, noisy, t).view(M, *x.shape)
        with seeded_layers(
            settings.attention_dropout, request.device, "dropout", request.seed, step, current_share().index
        ):
            clean = whole(copies.flatten(0, 1)).view(M, len(x), -1)
            with frozen(network):
                target = at_least_float32(clean.detach()).softmax(dim=2).mean(dim=0)
                hard = search(whole, x, copies, target, radius=settings.radius, steps=settings.attack_steps)
            attacked = whole(hard.flatten(0, 1)).view(M, len(x), -1)
        parts = selective(clean, attacked, labels, lbd=settings.lbd, warm_start=settings.warm_start)
        return {"loss": parts.total, "ce": parts.ce, "adversarial": parts.adversarial, "right": parts.right}

    steps, per_epoch = schedules.length(settings.epochs, context.loader.steps_per_epoch, settings.steps)
    groups = layer_groups(network, layer_decay=settings.layer_decay, weight_decay=settings.weight_decay)
    decaying = [i for i, group in enumerate(groups) if group["weight_decay"] > 0]
    optimiser = adamw(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    hashes = {"classifier_sha256": files["classifier"].sha256, "denoiser_sha256": files["denoiser"].sha256}
    task = task_of(
        context,
        modules={"network": network},
        optimiser=optimiser,
        loss=loss,
        rate=cosine_rate(settings, per_epoch),
        steps=steps,
        hashes=hashes,
    )
    kind = _normaliser(settings)
    meta = {"classifier": settings.classifier, "normaliser": kind, "adapter": settings.adapter, **hashes}
    tensors = (lambda: merged_state(network)) if lora else network.state_dict
    return run_stage(context, task, tensors, logits=lambda x: whole(denoised(unet, x, t)), meta=meta)


def selective(clean: Tensor, attacked: Tensor, labels: Tensor, *, lbd: float, warm_start: bool) -> SelectiveParts:
    """Cross-entropy of the denoised copies that are right + lbd * worst divergence where all of them are.

    With p_i the prediction of copy i and p their average, through which the gradient flows: (1/M) sum_i [argmax p_i =
    y] CE(p_i, y) + lbd * [all are right] max_i KL(p || q_i), q_i of the attacked copies. With `warm_start`, an image
    without a right copy learns from the one of smallest cross-entropy.
    Shapes: clean, attacked (M, B, K), logits; labels (B,).
    Source: Jang et al. 2024, Eq. 7-9; the sum divided by M, not by the copies selected, as in their code.
    """
    clean, attacked = at_least_float32(clean), at_least_float32(attacked)
    M, B = clean.shape[:2]
    ce = functional.cross_entropy(clean.flatten(0, 1), labels.repeat(M), reduction="none").view(M, B)
    right = clean.argmax(dim=2) == labels
    selected = right
    if warm_start:
        least = functional.one_hot(ce.detach().argmin(dim=0), M).T.bool()
        selected = right | (least & ~right.any(dim=0))
    log_p = torch.logsumexp(clean.log_softmax(dim=2), dim=0) - math.log(M)
    divergence = (log_p.exp() * (log_p - attacked.log_softmax(dim=2))).sum(dim=2)
    worst = torch.where(right.all(dim=0), divergence.max(dim=0).values, 0.0).mean()
    chosen = torch.where(selected, ce, 0.0).mean()
    return SelectiveParts(total=chosen + lbd * worst, ce=chosen, adversarial=worst, right=right.float().mean())


def search(logits: Logits, x: Tensor, copies: Tensor, target: Tensor, *, radius: float, steps: int) -> Tensor:
    """Images beside the denoised copies whose predictions are far from the target.

    Ascent of KL(target || f) from each copy, `steps` steps of 2 * radius / steps along the normalised gradient; after
    each, the way from the copy is cut to the ball, and the way from the clean image is given the mean and the root mean
    square that the copy's has. Neither starts at random, nor is anything clamped.
    Shapes: x (B, C, H, W), copies (M, B, C, H, W), target (B, K); the result is like copies.
    Units: radius in [0, 1] pixels, where the authors count in [-1, 1].
    Source: Jang et al. 2024, Section 3.3; the rescaling as in their code.
    """
    M = len(copies)
    clean = x.repeat(M, 1, 1, 1)
    start = copies.flatten(0, 1) - clean
    mean, size = _moments(start)
    moved, wanted = start, target.repeat(M, 1)
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        with torch.enable_grad():
            log_q = at_least_float32(logits(clean + moved)).log_softmax(dim=1)
            (gradient,) = torch.autograd.grad(-(wanted * log_q).sum() / M, moved)
        moved = within(moved.detach() + (2 * radius / steps) * unit(gradient, None), start, radius)
        now, spread = _moments(moved)
        moved = mean + (moved - now) / spread.clamp_min(torch.finfo(moved.dtype).tiny) * size
    return (clean + moved.detach()).view(copies.shape)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and root mean square of each image."""
    return x.mean(dim=(1, 2, 3), keepdim=True), x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def _decay(optimiser: torch.optim.Optimizer, decaying: list[int], settings: DdsFinetune, share: float) -> None:
    """Half a cosine from the first weight decay to the last, as a function of the step alone."""
    first, last = settings.weight_decay, settings.weight_decay_end
    for i in decaying:
        optimiser.param_groups[i]["weight_decay"] = last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _check(settings: DdsFinetune) -> None:
    if settings.radius <= 0:
        raise UsageError(
            f"radius must be positive, an l2 length in [0, 1] pixels, got {settings.radius!r}; the authors' 64 is "
            "0.125 (--set radius=...)"
        )
    if settings.adapter == "lora" and settings.lora_alpha <= 0:
        raise UsageError(f"lora_alpha must be positive, got {settings.lora_alpha!r}; give --set lora_alpha=4")


def _files(request: TrainRequest, settings: DdsFinetune) -> dict[str, WeightsFile]:
    from methods.dds import DDS

    given = {"denoiser": settings.denoiser_weights} if settings.denoiser_weights else {}
    if request.init is not None:
        given["classifier"] = str(request.init)
    return resolve(replace(DDS, train={}), request.dataset, sigma_of(request), given, download=False)


def _denoiser(context: TrainingContext, file: WeightsFile, arch: str) -> UNet:
    check_trained(file.path, sigma_of(context.request))
    with seeded_globals("initialise", context.request.seed):  # weights that the file's take the place of
        unet = build_unet(arch, shape=context.dataset.shape)
    load_weights(unet, as_unet_state(network_tensors(file, unet_arch), arch), file, arch=arch, recognise=unet_arch)
    unet.prediction = prediction_of(file.path)
    return unet.to(context.request.device).eval().requires_grad_(False)


def _classifier(context: TrainingContext, file: WeightsFile, settings: DdsFinetune) -> Resized:
    arch, shape = settings.classifier, context.dataset.shape
    side = backbone(arch).side
    seen = shape if side is None else (shape[0], side, side)
    with seeded_globals("initialise", context.request.seed):
        network: nn.Module = build_network(arch, num_classes=context.dataset.num_classes, shape=seen)
        state = as_timm(network_tensors(file, classifier_arch), file)
        load_weights(network, state, file, arch=arch, recognise=classifier_arch)
        set_attention_dropout(network, settings.attention_dropout)
        if settings.adapter == "lora":
            add_adapters(network, rank=settings.lora_rank, alpha=settings.lora_alpha)
    normalise = Normaliser(_normaliser(settings), context.request.dataset, channels=shape[0])
    return Resized(network, normalise, side=side, resize="bicubic_antialias")


def _normaliser(settings: DdsFinetune) -> str:
    by_family = settings.normaliser == BY_CLASSIFIER
    return backbone(settings.classifier).normaliser if by_family else settings.normaliser
