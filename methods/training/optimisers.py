"""Optimisers whose groups of parameters hold their full learning rate as base_lr, which the loop multiplies."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def sgd(parameters: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum 0.9, the classical methods' choice."""
    made = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=_fused(parameters))
    return _with_base_lr(made, lr)


def adamw(parameters: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with the betas and epsilon of Loshchilov & Hutter 2019."""
    made = torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, fused=_fused(parameters)
    )
    return _with_base_lr(made, lr)


def adam(parameters: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam with weight decay in the gradient (l2), the denoisers' choice (Kingma & Ba 2015)."""
    made = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=_fused(parameters))
    return _with_base_lr(made, lr)


def _fused(parameters: list[dict[str, Any]]) -> bool | None:
    """True on CUDA: one kernel for all weights; None elsewhere, torch's own choice."""
    return all(p.is_cuda for group in parameters for p in group["params"]) or None


def _with_base_lr(optimiser: torch.optim.Optimizer, lr: float) -> torch.optim.Optimizer:
    # The loop sets lr = base_lr * rate(step); "lr_scale" is a group's share, by timm's name (layer-wise decay).
    for group in optimiser.param_groups:
        group["base_lr"] = lr * group.get("lr_scale", 1.0)
    return optimiser


def parameters_of(module: nn.Module) -> list[dict[str, Any]]:
    """All trainable parameters, as one group."""
    return [{"params": [p for p in module.parameters() if p.requires_grad]}]
