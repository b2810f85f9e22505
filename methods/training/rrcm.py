"""rRCM's two stages: pre-training along noise trajectories, fine-tuning at one noise level.

A batch's negatives are the batch, gathered from all processes as the authors did on 8 to 32 GPUs. A paper-scale batch
(4096 images of 224) fits them by --set micro_batch=..., which bounds the images in the encoder at once and changes no
gradient but by rounding; a smaller batch would be another method.
Pixels are normalised to [-1, 1] before the noise, which is the certifier's noise at twice its sigma.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.types import TrainRequest
from bench.types.errors import UsageError
from methods.nets.normalisers import Normaliser
from methods.nets.sizes import SIZES
from methods.nets.vit import TimeTokenClassifier, TimeTokenViT, nearest_time
from methods.training import levels, losses, schedules
from methods.training.augment import mix
from methods.training.distributed import World, gathered
from methods.training.distributed_setup import compiled
from methods.training.encoder import load_encoder
from methods.training.finetuning import check_pairing
from methods.training.gradient_cache import in_chunks
from methods.training.loader import Batch
from methods.training.memory import contrastive_bytes, fitting, needed, room_of
from methods.training.moco import moco_loss
from methods.training.optimisers import adamw, parameters_of
from methods.training.presets import resolve_settings
from methods.training.rng import generator, seeded_globals
from methods.training.run_stage import noise_like, prepare, run_stage, sigma_of, task_of
from methods.training.settings import Finetune, Pretrain

SCALE = 2.0  # from [0, 1] pixels to [-1, 1]
FINEST = 81  # grid points at the end of pre-training, where its file does not say; fine-tuning picks its time on them


def pretrain(request: TrainRequest) -> Mapping[str, Any]:
    """Align points of a noise trajectory, and views of an image, in feature space; no labels.

    Source: rRCM paper, Section 3.3, Eq. 9 and Algorithm 1.
    Raises: UsageError, DataError, TrainingError.
    """
    preset, settings = resolve_settings(Pretrain, request)
    if request.sigma is not None:
        raise UsageError(f"rrcm pretrain covers all noise levels, got sigma {request.sigma!r}; leave --sigma out")
    if request.init is not None:
        raise UsageError(
            f"rrcm pretrain starts from random weights, got init {str(request.init)!r}; "
            "leave --init out, or use --resume"
        )
    levels.check(settings)
    context = prepare(request, preset, settings, views=3)
    with seeded_globals("initialise", request.seed):
        online = _encoder(settings.size, context.dataset.shape, settings.projector, settings.initialisation == "moco")
    online = online.to(request.device).train()
    if settings.patch_embed == "frozen":
        online.patch_embed.requires_grad_(False)
    # Stays in training mode: its batch norms use the batch, and only parameters are averaged.
    target = copy.deepcopy(online).requires_grad_(False)
    modules: dict[str, nn.Module] = {"online": online, "target": target}
    goal = online
    if settings.consistency_ema > 0:
        goal = modules["consistency_target"] = copy.deepcopy(target)
    half = Normaliser("half", request.dataset).to(request.device)
    optimiser = adamw(parameters_of(online), lr=settings.lr, weight_decay=settings.weight_decay)
    asked = 0 if settings.objective == "moco" else settings.micro_batch

    def kept(images: int, micro_batch: int) -> tuple[int, int]:
        return contrastive_bytes(
            online,
            images,
            settings.batch,
            views=3 if settings.contrastive == "symmetric" else 2,
            micro_batch=micro_batch,
            half=settings.precision == "bf16",
            checkpoint=settings.checkpoint,
        )

    def micro_batch_of(images: int) -> int:
        if asked != "auto":
            return asked

        def total(micro: int) -> int:
            of = partial(kept, micro_batch=micro)
            return needed(modules.values(), optimiser, context, settings.batch // images, of).total

        return fitting(total, images, room_of(request.device))

    share = settings.batch // context.world.size
    micro_batch = micro_batch_of(share)
    settings = replace(settings, micro_batch=micro_batch)
    context = replace(context, settings=settings)
    nets = _Nets(
        online=online,
        target=target,
        features=compiled(online.features, settings),
        target_features=compiled(target.features, settings),
        goal_features=compiled(goal.features, settings),
        world=context.world,
        micro_batch=micro_batch,
    )

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        views = [half(view) for view in batch.views]
        if settings.objective == "moco":
            return _moco_loss(nets, views, settings, request.seed, step)
        return _pretrain_loss(nets, views, settings, request.seed, step)

    def update_target(step: int) -> None:
        rate = schedules.ema_rate(
            step, settings.steps, m=settings.ema_m, start=settings.ema_start, end=settings.ema_end
        )
        with torch.no_grad():
            slow, fast = [[p.detach() for p in network.parameters()] for network in (target, online)]
            torch._foreach_lerp_(slow, fast, 1 - rate)
            if goal is not online:
                torch._foreach_lerp_([p.detach() for p in goal.parameters()], fast, 1 - settings.consistency_ema)

    task = task_of(
        context,
        modules=modules,
        optimiser=optimiser,
        loss=loss,
        rate=lambda step: schedules.warmup_cosine(step, warmup=settings.warmup_steps, total=settings.steps),
        after=update_target,
        steps=settings.steps,
        clip_from=settings.warmup_steps,
        memory=lambda images: kept(images, micro_batch_of(images)),
        # A pass forward costs half of one back, and the target has as many as the online network, whose are repeated
        # for all chunks but the last.
        again=(1 - 1 / -(-share // micro_batch)) / 4 if 0 < micro_batch < share else 0.0,
    )
    meta = {"size": settings.size, "normaliser": "half", "levels": str(settings.scales_last + 1)}
    if settings.objective != "rrcm":
        meta["objective"] = settings.objective
    return run_stage(context, task, online.state_dict, logits=None, meta=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nets:
    """The networks of the pre-training loss, and the processes that compute it together."""

    online: TimeTokenViT
    target: TimeTokenViT
    features: Callable[..., Tensor]  # of the online network
    target_features: Callable[..., Tensor]
    goal_features: Callable[..., Tensor]  # of the consistency target
    world: World
    micro_batch: int  # images in an encoder at once; 0: all


def _pretrain_loss(nets: _Nets, views: list[Tensor], settings: Pretrain, seed: int, step: int) -> dict[str, Tensor]:
    x, a1, a2 = views
    eps = noise_like(x, "noise", seed, step)  # one draw for all passes of a step
    noisy, cleaner, clean = levels.compared(settings, seed, step)
    directions = 2 if settings.contrastive == "symmetric" else 1
    # One pass over all that needs a gradient: the encoder has no batch norm, so the others in a batch change nothing.
    # The encoder in chunks, the projector on all: its batch norm sees the batch.
    views = [x, a1, a2][: 1 + directions]
    features = _features(nets, nets.features, [noisy, *[clean] * directions], eps, views)
    projections = [_project(nets.online, view) for view in features[1:]]
    with torch.no_grad():
        (goal,) = _features(nets, nets.goal_features, [cleaner], eps, [x])
        others = [a2, a1][:directions]  # the other view of each
        targets = _features(nets, nets.target_features, [clean] * directions, eps, others)
        goals = [_project(nets.target, each) for each in targets]
        # Negatives of all processes. They are targets, which get no gradient, so that none has to travel back.
        goal, *goals = [gathered(rows, nets.world) for rows in (goal, *goals)]
    first = nets.world.rank * len(x)
    contrastive = losses.contrastive(projections, goals, settings.tau, first=first)
    consistency = losses.trajectory_consistency(features[0], goal, settings.tau, first=first)
    return {"loss": contrastive + consistency, "contrastive": contrastive, "consistency": consistency}


def _features(
    nets: _Nets, encode: Callable[..., Tensor], levels: Sequence[float], eps: Tensor, views: Sequence[Tensor]
) -> list[Tensor]:
    """Features of each view at its noise level, (B, D), in one pass over all views of a micro-batch.

    Noise is added to a micro-batch at a time: noisy views of a whole batch would take its bytes once more.
    """

    def at_levels(eps: Tensor, *views: Tensor) -> Tensor:
        noisy = torch.empty((len(views) * len(eps), *eps.shape[1:]), dtype=eps.dtype, device=eps.device)
        for view, level, out in zip(views, levels, noisy.chunk(len(views)), strict=True):
            if eps.is_cuda:
                torch.add(view, eps, alpha=level, out=out)
            else:  # rounded twice, as always: on a CPU one seed leaves the same weights as ever
                torch.mul(eps, level, out=out).add_(view)
        times = torch.tensor(levels, dtype=torch.float64).repeat_interleave(len(eps))
        # A blocking copy waits for the device.
        encoded = encode(noisy, times.to(eps.device, non_blocking=True), final_norm=True)
        return torch.stack(encoded.chunk(len(views)), dim=1)

    return [view.contiguous() for view in in_chunks(at_levels, (eps, *views), nets.micro_batch).unbind(1)]


def _moco_loss(nets: _Nets, views: list[Tensor], settings: Pretrain, seed: int, step: int) -> dict[str, Tensor]:
    def online(x: Tensor, t: float) -> Tensor:
        return _project(nets.online, nets.features(x, t, final_norm=True))

    def target(x: Tensor, t: float) -> Tensor:
        return gathered(_project(nets.target, nets.target_features(x, t, final_norm=True)), nets.world)

    first = nets.world.rank * len(views[0])
    return moco_loss(online, target, (views[1], views[2]), settings, seed=seed, step=step, first=first)


def finetune(request: TrainRequest) -> Mapping[str, Any]:
    """Fine-tune a pre-trained encoder and its head at one noise level, with consistency of two noisy copies.

    Conditions on the grid time nearest to 2 sigma, as certification does, and adds noise of exactly sigma.
    Source: rRCM paper, Section 3.4, Eq. 12. Differs: keeps the last weights, where the authors kept those of the epoch
    that was best on test images; keyed seeds; mixup and cutmix draw one share a batch.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    preset, settings = resolve_settings(Finetune, request)
    sigma = sigma_of(request)
    if request.init is None:
        raise UsageError(
            "rrcm finetune starts from a pre-trained network, got none; give --init FILE, made by rrcm pretrain"
        )
    context = prepare(request, preset, settings)
    mixing = settings.mixup > 0 or settings.cutmix > 0
    if mixing:
        check_pairing(context.loader.shares[0], settings.batch)
    num_classes = context.dataset.num_classes
    with seeded_globals("initialise", request.seed):
        encoder = _encoder(settings.size, context.dataset.shape, 0, False, projector=False)
        model = TimeTokenClassifier(encoder, num_classes=num_classes, final_norm=settings.final_norm)
        nn.init.trunc_normal_(model.linear_head.weight, std=settings.head_std)
    digest, levels = load_encoder(encoder, request.init, settings.size)
    model = model.to(request.device).train()
    model.linear_head.requires_grad_(settings.head == "trainable")
    half = Normaliser("half", request.dataset).to(request.device)
    levels = levels or FINEST
    time = nearest_time(SCALE * sigma, levels)

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x, labels = batch.views[0], batch.labels
        if mixing:
            source = generator("cpu", "mix", request.seed, step)
            x, labels = mix(x, labels, source, num_classes=num_classes, mixup=settings.mixup, cutmix=settings.cutmix)
        twice = x.repeat(2, 1, 1, 1)
        logits = model(half(twice + sigma * noise_like(twice, "noise", request.seed, step, copies=2)), time)
        parts = losses.consistency(
            logits.chunk(2), labels, lbd=settings.lbd, eta=settings.eta, smoothing=settings.smoothing
        )
        return {"loss": parts.total, "ce": parts.ce, "kl": parts.kl, "entropy": parts.entropy}

    steps, per_epoch = schedules.length(settings.epochs, context.loader.steps_per_epoch, settings.steps)

    def rate(step: int) -> float:
        epoch = step // per_epoch if settings.lr_by == "epoch" else step / per_epoch
        return schedules.warmup_cosine(epoch, warmup=settings.warmup_epochs, total=settings.cosine_epochs)

    groups = layer_groups(model, settings.layer_decay, settings.weight_decay)
    task = task_of(
        context,
        modules={"model": model},
        optimiser=adamw(groups, lr=settings.lr, weight_decay=settings.weight_decay),
        loss=loss,
        rate=rate,
        steps=steps,
        hashes={"init": digest},
    )
    meta = {"size": settings.size, "normaliser": "half", "final_norm": str(settings.final_norm).lower(), "init": digest}
    meta |= {"grid": str(levels)}
    return run_stage(context, task, model.state_dict, logits=lambda x: model(half(x), time), meta=meta)


def layer_groups(model: TimeTokenClassifier, decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by layer, the lower the smaller their share of the learning rate; one group for decay 1.

    Source: Bao et al. 2022 (BEiT), Appendix, by timm; as used by rRCM's fine-tuning.
    """
    if decay == 1:
        return parameters_of(model)
    from timm.optim import param_groups_layer_decay

    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model, weight_decay, weight_decay_exclude_1d=False, layer_decay=decay
    )
    return groups


def _encoder(
    size: str, shape: tuple[int, int, int], hidden: int, moco_init: bool, *, projector: bool = True
) -> TimeTokenViT:
    if size not in SIZES:
        raise UsageError(f"size must be one of {', '.join(SIZES)}, got {size!r}; give --set size=...")
    row, side = SIZES[size], shape[1]
    if side not in row.patch_sizes or shape[1] != shape[2]:
        raise UsageError(
            f"size {size!r} is for square images of side {', '.join(map(str, row.patch_sizes))}, "
            f"got {shape}; give another --set size=..."
        )
    return TimeTokenViT(
        image_size=side,
        patch_size=row.patch_sizes[side],
        in_channels=shape[0],
        embed_dim=row.embed_dim,
        depth=row.depth,
        num_heads=row.num_heads,
        hidden_dim=hidden or row.hidden_dim,
        output_dim=row.output_dim,
        projector=projector,
        moco_init=moco_init,
    )


def _project(network: TimeTokenViT, features: Tensor) -> Tensor:
    assert network.projection_head is not None  # noqa: S101 - pre-training builds it
    projected: Tensor = network.projection_head(features)
    return projected
