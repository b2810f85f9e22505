"""MoCo v3 under noise, which rRCM is compared with: two views of an image contrasted at one noise level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from methods.nets.karras_grid import T_MIN
from methods.training import losses
from methods.training.levels import moco_levels
from methods.training.run_stage import noise_like
from methods.training.settings import Pretrain

Projection = Callable[[Tensor, float], Tensor]  # images in [-1, 1] and the time they are told -> (B, D)


def moco_loss(
    online: Projection,
    target: Projection,
    views: tuple[Tensor, Tensor],
    settings: Pretrain,
    *,
    seed: int,
    step: int,
    first: int,
) -> dict[str, Tensor]:
    """Symmetric contrastive loss of two views with the same noise, of which the network is not told the level.

    `target` gives the EMA network's projections of the whole batch, whose rows from `first` on are those of the views.
    Source: rRCM paper, Appendix E; Chen et al. 2021 (MoCo v3). Differs from MoCo v3 as rRCM's baseline does: no
    predictor, no factor of 2 * tau, and the time token is always that of a clean image.
    """
    eps = noise_like(views[0], "noise", seed, step)
    level = moco_levels(eps, settings, seed, step)
    one, two = (view + level * eps for view in views)
    projections = [online(one, T_MIN), online(two, T_MIN)]  # apart: the projector's batch norm sees one view at a time
    with torch.no_grad():
        goals = [target(two, T_MIN), target(one, T_MIN)]
    loss = losses.contrastive(projections, goals, settings.tau, first=first)
    return {"loss": loss, "contrastive": loss}
