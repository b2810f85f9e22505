"""Noise levels, EMA rate and learning rate as pure functions of the step, which torch's and timm's schedulers are not.

Those hold an optimiser and count calls; here a step's rate depends on nothing before it, so that a run resumes to the
last bit. The cosine is timm's to 3e-16 (tests/methods/training/test_schedules.py), and rounds in another order.
"""

from __future__ import annotations

import math

FORMS = ("as_coded", "ict")


def num_scales(step: int, total: int, *, first: int = 20, last: int = 80, form: str = "as_coded") -> int:
    """Points of the noise grid at a step: intervals, which double from `first` to `last`, plus one.

    "ict": first * 2^floor(k / K') with K' = floor(K / (log2(last / first) + 1)): equal shares of the run.
    "as_coded": ceil in place of floor and log2(last / first + 1): `first` intervals at step 0 alone, `last` from
    0.43 K on, which is what the authors of rRCM trained with.
    Source: Song & Dhariwal 2023, Section 3.4; rRCM paper, Section 4.1 ("20 to 80").
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS!r}, got {form!r}")
    if form == "as_coded":
        share = math.ceil(total / math.log2(math.ceil(last / first) + 1))
        doublings = math.ceil(step / share)
    else:
        share = max(1, math.floor(total / (math.log2(math.floor(last / first)) + 1)))
        doublings = math.floor(step / share)
    return int(min(first * 2**doublings, last)) + 1


def ema_rate(step: int, total: int, *, m: float = 10.0, start: float = 0.99, end: float = 0.9999) -> float:
    """Rate of the contrastive target network: l rises from start to end, and a logistic of slope m bends it.

    Eq. 14 as printed swaps two letters; this reads a = 2 / (1 + exp(-m (l - S) / (E - S))) - 1. For equal ends it is
    their rate.
    Source: rRCM paper, Eq. 13-15.
    """
    if start == end:
        return start
    share = min(step / total, 1.0)
    level = math.sqrt(share * (end**2 - start**2) + start**2)
    a = 2 / (1 + math.exp(-m * (level - start) / (end - start))) - 1
    return a * end + (1 - a) * start


def warmup_cosine(position: float, *, warmup: float, total: float, floor: float = 0.0) -> float:
    """Share of the full learning rate: linear from 0 to 1 over the warm-up, then half a cosine down to the floor.

    Units: position, warm-up and total in steps, or all in epochs. Source: Loshchilov & Hutter 2017, Eq. 5.
    """
    if position < warmup:
        return position / warmup
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, (position - warmup) / max(total - warmup, 1e-9))))
    return floor + (1 - floor) * share if floor else share


def length(epochs: int, per_epoch: int, budget: int) -> tuple[int, float]:
    """Steps of a run, and how many of them count as an epoch of its schedules.

    With a budget of steps a recipe is stretched or squeezed to it as a whole: drops of the learning rate, warm-ups and
    deferred losses keep their share of the run. Without one, an epoch is the training set.
    """
    return (budget, budget / epochs) if budget else (epochs * per_epoch, per_epoch)


def step_decay(epoch: float, *, every: int, gamma: float = 0.1) -> float:
    """Share of the full learning rate that falls by gamma at epochs every, 2 * every, ... (Cohen et al. 2019)."""
    return float(gamma ** (epoch // every))
