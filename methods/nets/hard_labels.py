"""A network as the harness's base classifier: frozen, in eval mode, answering with hard labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bench.errors import MethodError
from bench.types import NOT_FINITE, BaseClassifier, Noise, Scalar
from methods.nets.tuning import tune


class HardLabels:
    """The class of the largest logit of a network that takes noisy [0, 1] pixels.

    The network is tuned for an arithmetic, in place, unless that is None.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        device: str,
        calls: Mapping[str, int] | None = None,
        adjust: Callable[[str, Scalar], nn.Module] | None = None,
        tuned_for: str | None = "fp32",
    ) -> None:
        self.num_classes = num_classes
        self.network = network.to(device).eval().requires_grad_(False)
        if tuned_for is not None:
            tune(self.network, device, tuned_for)
        self.calls = calls or {"classifier": 1}
        self.replayable = True  # predict draws nothing from its noise and never waits for the device
        self._adjust, self._device, self._tuned_for = adjust, device, tuned_for

    def adjusted(self, name: str, value: Scalar) -> BaseClassifier | None:
        """The same networks under another value of a setting; None where that takes a new build."""
        if self._adjust is None or name != "normaliser":
            return None
        return type(self)(
            self._adjust(name, value),
            num_classes=self.num_classes,
            device=self._device,
            calls=self.calls,
            adjust=self._adjust,
            tuned_for=self._tuned_for,
        )

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies; deterministic, so `noise` is not drawn from.

        Shapes: x (B, C, H, W) float32; result (B,) int64.
        Raises: as `labels_of`.
        """
        del noise
        with torch.no_grad():  # not inference mode, which torch.compile does not take
            return labels_of(self.network(x))


def labels_of(logits: Tensor) -> Tensor:
    """The class of each largest logit, (B,) int64.

    Logits that are not numbers are refused, for argmax would call them a class, unanimously: at once on a CPU; another
    device would have to be waited for, so that their label there is NOT_FINITE, which the certifier refuses.
    Raises: MethodError.
    """
    labels = logits.argmax(dim=1)
    if logits.device.type in ("cpu", "meta"):
        refuse_nonfinite(logits)
        return labels
    return marked(logits, labels)


def marked(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels with NOT_FINITE in place of those whose logits are not all numbers; waits for nothing."""
    return labels.masked_fill(~torch.isfinite(logits).all(dim=1), NOT_FINITE)


class BehindDenoiser(HardLabels):
    """Hard labels of a classifier whose first part denoises: its pixels can be looked at."""

    def denoised(self, x: Tensor, noise: Noise) -> Tensor:
        """The pixels that the classifier is given, before its normaliser.

        Shapes: x and result (B, C, H, W) float32.
        """
        del noise
        with torch.inference_mode():
            pixels: Tensor = self.network[0](x)  # type: ignore[index]  # a Sequential, the denoiser first
            return pixels


def refuse_nonfinite(logits: Tensor) -> None:
    """Nothing, where all logits are numbers.

    Raises: MethodError.
    """
    if logits.is_meta:  # counted, not computed
        return
    if not bool(torch.isfinite(logits).all()):
        bad = int((~torch.isfinite(logits)).any(dim=1).sum())
        raise MethodError(
            f"logits must be finite numbers, got nan or inf for {bad} of {len(logits)} copies; "
            "use precision fp32 or bf16, or check the weights"
        )
