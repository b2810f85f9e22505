"""Noise levels of rRCM's pre-training and its ablations, in pixels of [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.types.errors import UsageError
from methods.nets.karras_grid import T_MAX, T_MIN, karras_grid
from methods.training import schedules
from methods.training.rng import generator
from methods.training.settings import Pretrain
from methods.training.sharding import current_share

MOCO_LEVELS = (T_MIN, 0.5, 1.0, 2.0)  # the authors' baseline; their public review speaks of 1 alone


def compared(settings: Pretrain, seed: int, step: int) -> tuple[float, float, float]:
    """Levels of a step: of the noisier point, of the one that it is compared with, and of clean images.

    One pair for the whole batch (paper: "unique n for each batch"): neighbours on the grid, or a level with the
    cleanest.
    Source: rRCM paper, Section 3.3; Appendix F for the pairs with the cleanest, and for the levels drawn from.
    """
    n = schedules.num_scales(
        step, settings.steps, first=settings.scales_first, last=settings.scales_last, form=settings.schedule
    )
    grid = karras_grid(n, settings.t_max)
    source = generator("cpu", "level", seed, step)
    if chosen := parse_levels(settings.levels):
        return chosen[int(torch.randint(len(chosen), (), generator=source))], grid[-1], grid[-1]
    i = int(torch.randint(n - 1, (), generator=source))
    return grid[i], grid[i + 1] if settings.pairing == "adjacent" else grid[-1], grid[-1]


def moco_levels(like: Tensor, settings: Pretrain, seed: int, step: int) -> Tensor:
    """A level for each image of a share, uniform over the settings' list.

    Shapes: like (B, C, H, W); result (B, 1, 1, 1).
    Source: rRCM paper, Appendix E.
    """
    known = torch.tensor(parse_levels(settings.levels) or MOCO_LEVELS, dtype=like.dtype)
    share = current_share()
    drawn = torch.randint(len(known), (share.whole(len(like)),), generator=generator("cpu", "level", seed, step))
    return share.take(known[drawn]).to(like.device, non_blocking=True).view(-1, 1, 1, 1)


def parse_levels(text: str) -> tuple[float, ...]:
    """Levels of a text "0.5 1 2", where commas do as well.

    Raises: UsageError for what is no level.
    """
    try:
        found = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        found = (0.0,)
    if any(not T_MIN <= level <= T_MAX for level in found):
        raise UsageError(
            f"levels must be numbers from {T_MIN:g} to {T_MAX:g}, of pixels in [-1, 1], got {text!r}; give --set "
            'levels="0.5 1 2", or leave it out'
        )
    return found


def check(settings: Pretrain) -> None:
    """Refuse ablations that contradict each other.

    Raises: UsageError.
    """
    levels = parse_levels(settings.levels)
    if not T_MIN < settings.t_max <= T_MAX:
        raise UsageError(
            f"t_max must be above {T_MIN:g} and at most {T_MAX:g}, got {settings.t_max!r}; give --set t_max=80"
        )
    if settings.consistency_ema >= 1:
        raise UsageError(
            f"consistency_ema is a rate below 1, such as 0.99, or 0 for none, got {settings.consistency_ema!r}; "
            "change it by --set consistency_ema=..."
        )
    if settings.tau <= 0:
        raise UsageError(f"tau must be positive, got {settings.tau!r}; change it by --set tau=0.2")
    if settings.objective == "moco":
        changed = {"pairing": "adjacent", "t_max": T_MAX, "consistency_ema": 0.0, "contrastive": "symmetric"}
        for name, usual in changed.items():
            if getattr(settings, name) != usual:
                raise UsageError(
                    f"objective=moco has two views under one noise and no trajectory, got "
                    f"{name}={getattr(settings, name)!r}; leave {name} out"
                )
    elif levels and settings.pairing == "adjacent":
        raise UsageError(
            f"levels={settings.levels!r} are no grid, so that none has a neighbour; give --set pairing=initial too"
        )
    elif levels and max(levels) > settings.t_max:
        raise UsageError(
            f"levels must be at most t_max={settings.t_max:g}, got {max(levels):g}; change --set levels=... or t_max"
        )
