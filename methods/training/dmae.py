"""DMAE's fine-tuning: a ViT from a masked autoencoder of noisy images, with consistency of its noisy copies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bench.types import TrainRequest
from bench.types.errors import UsageError, WeightsError
from bench.weights.checkpoints import load_tensors, sha256_of_network
from bench.weights.wrappers import strip_prefixes
from methods.nets.architectures import build_network
from methods.nets.backbones import backbone
from methods.nets.load_weights import load_state
from methods.nets.normalisers import Normaliser
from methods.nets.resized import Resized
from methods.training import losses, schedules
from methods.training.augment import mix
from methods.training.finetuning import check_pairing, cosine_rate, layer_groups, set_drop_path
from methods.training.loader import Batch
from methods.training.optimisers import adamw
from methods.training.presets import resolve_settings
from methods.training.rng import generator, seeded_globals, seeded_layers
from methods.training.run_stage import noise_like, prepare, run_stage, sigma_of, task_of
from methods.training.settings import DmaeFinetune
from methods.training.sharding import current_share

ARCHS = ("mae_vit_base_patch16", "mae_vit_large_patch16", "cifar_small_mae_vit")
FRESH = ("head.", "fc_norm.")  # layers that a masked autoencoder does not have
LEFT_OUT = ("decoder_", "mask_token", "norm.")  # and those of its own that no classifier has


def finetune(request: TrainRequest) -> Mapping[str, Any]:
    """Fine-tune the encoder of a denoising masked autoencoder, and a new head, at one noise level.

    Copies are made noisy, enlarged to the network's side, and only then mixed, as the authors' code does it: the noise
    of a mixed copy is weaker than sigma. Random erasing stands on their command line, and their code never applies it.
    Source: Wu et al. 2023, Section 4 and Appendix; loss of Jeong & Shin 2020. Differs: keyed seeds; mixup and cutmix
    draw one share a batch; bf16 for fp16.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    preset, settings = resolve_settings(DmaeFinetune, request)
    sigma = sigma_of(request)
    _check(request, settings)
    context = prepare(request, preset, settings)
    mixing = settings.mixup > 0 or settings.cutmix > 0
    if mixing:
        check_pairing(context.loader.shares[0], settings.batch)
    shape, num_classes = context.dataset.shape, context.dataset.num_classes
    side = backbone(settings.arch).side
    seen = shape if side is None else (shape[0], side, side)
    with seeded_globals("initialise", request.seed):
        network = build_network(settings.arch, num_classes=num_classes, shape=seen)
        nn.init.trunc_normal_(network.get_parameter("head.weight"), std=settings.head_std)
    init = {} if request.init is None else {"init": load_autoencoder(network, request.init, settings.arch)}
    set_drop_path(network, settings.drop_path)
    normalise = Normaliser(settings.normaliser, request.dataset, channels=shape[0])
    whole = Resized(network, normalise, side=side, resize="bicubic").to(request.device).train()

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        x, labels = batch.views[0], batch.labels
        many = x.repeat(settings.copies, 1, 1, 1)
        many = whole.enlarged(many + sigma * noise_like(many, "noise", request.seed, step, copies=settings.copies))
        if mixing:
            source = generator("cpu", "mix", request.seed, step)
            many, mixed = mix(
                many,
                labels.repeat(settings.copies),
                source,
                num_classes=num_classes,
                mixup=settings.mixup,
                cutmix=settings.cutmix,
            )
            labels = mixed[: len(x)]  # those of each copy: the batch in reverse pairs the same images
        with seeded_layers(settings.drop_path, request.device, "drop_path", request.seed, step, current_share().index):
            logits = network(whole.normaliser(many))
        if settings.copies == 1:
            return {"loss": losses.gaussian(logits, labels, smoothing=settings.smoothing)}
        parts = losses.consistency(
            logits.chunk(settings.copies), labels, lbd=settings.lbd, eta=settings.eta, smoothing=settings.smoothing
        )
        return {"loss": parts.total, "ce": parts.ce, "kl": parts.kl, "entropy": parts.entropy}

    steps, per_epoch = schedules.length(settings.epochs, context.loader.steps_per_epoch, settings.steps)
    groups = layer_groups(network, layer_decay=settings.layer_decay, weight_decay=settings.weight_decay)
    task = task_of(
        context,
        modules={"network": network},
        optimiser=adamw(groups, lr=settings.lr, weight_decay=settings.weight_decay),
        loss=loss,
        rate=cosine_rate(settings, per_epoch),
        steps=steps,
        hashes=init,
    )
    meta = {"arch": settings.arch, "normaliser": settings.normaliser, **init}
    return run_stage(context, task, network.state_dict, logits=whole, meta=meta)


def load_autoencoder(network: nn.Module, path: Path, arch: str) -> str:
    """Fill the encoder of a classifier from a masked autoencoder's checkpoint; the file's sha256.

    Raises: WeightsError for a classifier, or an encoder of another size.
    """
    tensors = strip_prefixes(load_tensors(path)[0])
    if any(name.startswith(FRESH) for name in tensors):
        raise WeightsError(
            f"weights {str(path)!r}: expected a masked autoencoder, got a network with a head: fine-tuned; give the "
            "checkpoint of its pre-training"
        )
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(LEFT_OUT)}
    state |= {name: tensor for name, tensor in network.state_dict().items() if name.startswith(FRESH)}
    load_state(
        network,
        state,
        str(path),
        lambda name, expected, came: (
            f"expected the encoder of {arch!r} with {name!r} of shape {expected}, got {came}; "
            "give --init FILE of that one, or --set arch=..."
        ),
    )
    return sha256_of_network(path)


def _check(request: TrainRequest, settings: DmaeFinetune) -> None:
    if settings.arch not in ARCHS:
        raise UsageError(
            f"dmae fine-tunes a ViT of a masked autoencoder, {', '.join(ARCHS)}, got {settings.arch!r}; "
            "change it by --set arch=..."
        )
    if settings.start == "pretrained" and request.init is None:
        raise UsageError(
            "dmae finetune starts from a masked autoencoder, got none; give --init FILE, as its authors publish them, "
            "or --set start=random, which is not the paper's"
        )
    if settings.copies == 1 and (settings.lbd > 0 or settings.eta > 0):
        raise UsageError(
            f"consistency compares at least 2 noisy copies, got copies=1 with lbd={settings.lbd:g} and "
            f"eta={settings.eta:g}; give --set copies=2, or both as 0"
        )
