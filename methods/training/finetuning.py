"""Parts that fine-tunings share: layer-wise learning rates, layers that drop more with depth, images in pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from bench.types.errors import UsageError
from methods.training import schedules
from methods.training.settings import DdsFinetune, DmaeFinetune
from methods.training.sharding import Share


def layer_groups(network: nn.Module, *, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by layer, the lower the smaller their share of the learning rate; matrices alone decay.

    Source: Bao et al. 2022 (BEiT) and He et al. 2022, by timm's grouping.
    Raises: UsageError for a layer decay of a network that has no layers in timm's sense.
    """
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    no_weight_decay: Any = getattr(network, "no_weight_decay", tuple)  # of timm's networks, a method
    spared = no_weight_decay()
    groups: list[dict[str, Any]]
    if layer_decay == 1:
        groups = param_groups_weight_decay(network, weight_decay, spared)
    elif not 0 < layer_decay < 1 or not hasattr(network, "group_matcher"):
        raise UsageError(
            f"layer_decay is above 0 and at most 1, and below 1 for transformers alone, got {layer_decay!r}; "
            "give --set layer_decay=1"
        )
    else:
        groups = param_groups_layer_decay(
            network, weight_decay=weight_decay, no_weight_decay_list=spared, layer_decay=layer_decay
        )
    return groups


def set_drop_path(network: nn.Module, rate: float) -> None:
    """Drop residual branches of images at random, from never in the first block to `rate` in the last (Huang 2016)."""
    from timm.layers import DropPath

    for block, share in _rising(network, rate, "drop_path"):
        block.drop_path1, block.drop_path2 = DropPath(share), DropPath(share)


def set_attention_dropout(network: nn.Module, rate: float) -> None:
    """Drop attention weights at random, from never in the first block to `rate` in the last."""
    for block, share in _rising(network, rate, "attention_dropout"):
        block.attn.attn_drop.p = share


def _rising(network: nn.Module, rate: float, name: str) -> list[tuple[Any, float]]:
    blocks = list(getattr(network, "blocks", ()))
    if rate >= 1 or (rate > 0 and not blocks):
        raise UsageError(
            f"{name} is a probability below 1, and 0 for networks other than transformers, got {rate!r}; "
            f"change it by --set {name}=0"
        )
    # Where there is none, the layers stay as they were built.
    return [(block, rate * i / max(len(blocks) - 1, 1)) for i, block in enumerate(blocks)] if rate > 0 else []


def cosine_rate(settings: DmaeFinetune | DdsFinetune, per_epoch: float) -> Callable[[int], float]:
    """Share of the learning rate by the step: a linear warm-up, then half a cosine down to lr_min.

    Source: He et al. 2022 (MAE), fine-tuning.
    """
    warmup, total = settings.warmup_epochs, settings.epochs
    floor = min(1.0, settings.lr_min / settings.lr) if settings.lr > 0 else 0.0
    return lambda step: schedules.warmup_cosine(step / per_epoch, warmup=warmup, total=total, floor=floor)


def check_pairing(share: Share, batch: int) -> None:
    """Refuse shares of a batch in which mixup and cutmix would leave an image without its partner.

    Raises: UsageError.
    """
    if share.of > 1 and len(share.slots(batch)) % 2:
        raise UsageError(
            f"mixup and cutmix pair the images of a share, which must be of even length, got batch={batch} in "
            f"{share.of} shares; change --set batch=... or --set accumulate=..."
        )
