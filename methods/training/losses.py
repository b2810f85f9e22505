"""Losses that several methods share, as pure functions of logits and features; no networks, no noise.

Contrastive and consistency losses of rRCM, cross-entropy under noise, consistency regularisation. A loss of one method
is in that method's module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FORMS = ("default", "xent", "kl", "mse")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyParts:
    """A consistency-regularised loss and what it is made of; all scalars, all means over the images."""

    total: Tensor
    ce: Tensor  # cross-entropy, mean over copies too
    kl: Tensor  # mean over copies of KL(average || copy)
    entropy: Tensor  # of the average


def info_nce(f: Tensor, g: Tensor, tau: float, *, first: int = 0) -> Tensor:
    """Contrastive loss of each row of f, whose positive is the same row of g and whose negatives are the other rows.

    Where f is part of a batch and g all of it, row i of f belongs to row `first` + i of g.
    Shapes: f (B, D), g (B or more, D), of any length: they are normalised here; result (B,). No gradient is stopped
    here.
    Source: van den Oord et al. 2018, Eq. 4; rRCM paper, Eq. 7-8. Without the 2 * tau factor of MoCo-v3.
    """
    f = functional.normalize(at_least_float32(f), dim=1)
    g = functional.normalize(at_least_float32(g), dim=1)
    with torch.autocast(f.device.type, enabled=False):  # bf16 would round similarities over tau to two digits
        logits = f @ g.T / tau
    return torch.logsumexp(logits, dim=1) - logits.diagonal(first)[: len(f)]


def contrastive(online: Sequence[Tensor], target: Sequence[Tensor], tau: float, *, first: int = 0) -> Tensor:
    """rRCM's contrastive loss, summed over the directions given, mean over the images.

    online[i] is the projection of one view, target[i] the EMA network's projection of the *other* view. One pair is the
    one-sided form (rRCM paper, Algorithm 1), two pairs the symmetric one (authors' later code: summed, not halved).
    A target may hold the whole batch of which the online rows are those from `first` on.
    Source: rRCM paper, Eq. 9 (second term) and Algorithm 1.
    """
    if len(online) != len(target) or not online:
        raise ValueError(f"one target for each online projection, got {len(online)} and {len(target)}")
    pairs = [info_nce(p, q.detach(), tau, first=first).mean() for p, q in zip(online, target, strict=True)]
    return torch.stack(pairs).sum()


def trajectory_consistency(noisier: Tensor, cleaner: Tensor, tau: float, *, first: int = 0) -> Tensor:
    """rRCM's consistency loss: neighbours on a noise trajectory attract, other images repel; mean over the images.

    Shapes: features (B, D) at t_i and at t_{i+1} < t_i; the second is the target and gets no gradient (EMA rate 0), and
    may hold the whole batch, of which the first are the rows from `first` on.
    Source: rRCM paper, Eq. 9 (first term) and Eq. 11.
    """
    return info_nce(noisier, cleaner.detach(), tau, first=first).mean()


def gaussian(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of noisy images.

    Shapes: logits (B, K); labels (B,) classes or (B, K) probabilities.
    Source: Cohen et al. 2019, Section 3.3.
    """
    return functional.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing)


def consistency(
    copies: Sequence[Tensor], labels: Tensor, *, lbd: float, eta: float, form: str = "default", smoothing: float = 0.0
) -> ConsistencyParts:
    """Cross-entropy of m noisy copies, plus a penalty on predictions that differ between them.

    With p_i the softmax of copy i and p the average: mean_i CE(y, p_i) + lbd * mean_i KL(p || p_i) + eta * H(p).
    "kl": eta = 0. "xent": mean_i CE(p, p_i), which is eta = lbd. "mse": mean over pairs of |p_i - p_j|^2, no entropy.
    The gradient flows through the average. The regulariser and entropy signs are those of Jeong & Shin 2020, and rRCM
    fine-tunes by this form with m = 2, where its Eq. 12 writes the cross-entropy between copies and one copy's entropy.
    Shapes: each copy (B, K); labels (B,) classes or (B, K) probabilities.
    Source: Jeong & Shin 2020, Eq. 8; rRCM paper, Eq. 12.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS!r}, got {form!r}")
    if len(copies) < 2:
        raise ValueError(f"consistency needs at least 2 copies, got {len(copies)}")
    stacked = torch.stack([at_least_float32(logits) for logits in copies])
    ce = torch.stack([gaussian(logits, labels, smoothing=smoothing) for logits in stacked]).mean()
    log_p = torch.log_softmax(stacked, dim=2)
    # Averaged in the log domain: a plain mean underflows to log(0) where all copies are confident.
    log_average = torch.logsumexp(log_p, dim=0) - math.log(len(copies))
    average = log_average.exp()
    kl = (average * (log_average - log_p)).sum(dim=2).mean()
    entropy = -(average * log_average).sum(dim=1).mean()
    if form == "default":
        regulariser = lbd * kl + eta * entropy
    elif form == "xent":
        regulariser = lbd * (kl + entropy)
    elif form == "kl":
        regulariser = lbd * kl
    else:
        regulariser = lbd * _mean_pair_distance(log_p.exp())
    return ConsistencyParts(total=ce + regulariser, ce=ce, kl=kl, entropy=entropy)


def _mean_pair_distance(p: Tensor) -> Tensor:
    m = p.shape[0]
    pairs = [(p[i] - p[j]).square().sum(dim=1).mean() for i in range(m) for j in range(i)]
    return torch.stack(pairs).mean()


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened, the rest as it is."""
    # bf16 logits lose the small differences that the softmax of 1000 classes lives on.
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
