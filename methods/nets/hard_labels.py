"""A network as the harness's base classifier: frozen, in eval mode, answering with hard labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.errors import MethodError
from bench.types import Noise


class HardLabels:
    """The class of the largest logit of a network that takes noisy [0, 1] pixels."""

    def __init__(self, network: nn.Module, *, num_classes: int, device: str) -> None:
        self.num_classes = num_classes
        self.network = network.to(device).eval().requires_grad_(False)

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies; deterministic, so `noise` is not drawn from.

        Shapes: x (B, C, H, W) float32; result (B,) int64.
        Raises: MethodError for logits that are not numbers: argmax would call them a class, unanimously.
        """
        del noise
        with torch.inference_mode():
            logits: Tensor = self.network(x)
            refuse_nonfinite(logits)
            return logits.argmax(dim=1)


def refuse_nonfinite(logits: Tensor) -> None:
    """Nothing, where all logits are numbers.

    Raises: MethodError.
    """
    if not bool(torch.isfinite(logits).all()):
        bad = int((~torch.isfinite(logits)).any(dim=1).sum())
        raise MethodError(
            f"logits must be finite numbers, got nan or inf for {bad} of {len(logits)} copies; "
            "use precision fp32 or bf16, or check the weights"
        )
