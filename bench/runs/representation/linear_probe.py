"""A linear layer on frozen features: trained on clean images, asked about noisy ones."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

HEAD_STD = 2e-5  # of the weights at the start, as the authors' heads have it; the bias is zero


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How the layer is trained; what the paper leaves open has values of this project."""

    epochs: int = 100
    batch: int = 256
    lr: float = 1e-2  # AdamW's, without decay of weights; half a cosine down to 0
    entropy: float = 1.0  # weight of the mean entropy of the softmax, which the authors' code adds to the loss

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"optimiser": "adamw", "schedule": "cosine", "head_std": HEAD_STD, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Head:
    """A trained linear layer."""

    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)

    def predict(self, features: Tensor) -> Tensor:
        """Shapes: (B, D) -> (B,) int64."""
        return (features @ self.weight.T + self.bias).argmax(dim=1)


def fit_head(features: Tensor, labels: Tensor, num_classes: int, settings: ProbeSettings, seed: int) -> Head:
    """The layer after cross-entropy plus mean entropy of the softmax on clean images.

    Shapes: features (N, D) float32, labels (N,) int64.
    Source: rRCM paper, Appendix D, and the loss of the authors' code. Differs: optimiser, epochs and rate are ours.
    """
    import torch
    from torch.nn import functional as F

    draw = torch.Generator().manual_seed(seed % 2**63)
    start = HEAD_STD * torch.randn(num_classes, features.shape[1], generator=draw)
    weight = start.to(features.device).requires_grad_()
    bias = torch.zeros(num_classes, device=features.device, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=settings.lr, weight_decay=0.0)
    count = len(features)
    steps = settings.epochs * math.ceil(count / settings.batch)
    step = 0
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=draw).to(features.device)
        for chosen in torch.split(order, settings.batch):
            for group in optimiser.param_groups:
                group["lr"] = settings.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            logits = features[chosen] @ weight.T + bias
            log_p = F.log_softmax(logits, dim=1)
            entropy = -(log_p.exp() * log_p).sum(dim=1).mean()
            loss = F.nll_loss(log_p, labels[chosen]) + settings.entropy * entropy
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            step += 1
    return Head(weight.detach(), bias.detach())
