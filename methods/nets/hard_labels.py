"""A network as the harness's base classifier: frozen, in eval mode, answering with hard labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bench.types import NOT_FINITE, BaseClassifier, Noise, Scalar
from bench.types.errors import MethodError
from methods.nets.inference.optimise import optimise_for_inference

AT_ONCE = ("cpu", "meta")  # devices that have no work in hand which a look at a number would wait for


class HardLabels:
    """The class of the largest logit of a network that takes noisy [0, 1] pixels.

    The network is optimised for the precision `optimise_for`, in place; None leaves it as its authors wrote it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        device: str,
        calls: Mapping[str, int] | None = None,
        adjust: Callable[[str, Scalar], nn.Module] | None = None,
        optimise_for: str | None = "fp32",
    ) -> None:
        self.num_classes = num_classes
        self.network = network.to(device).eval().requires_grad_(False)
        if optimise_for is not None:
            optimise_for_inference(self.network, device, optimise_for)
        self.calls = calls or {"classifier": 1}
        self.replayable = True  # predict draws nothing from its noise and never waits for the device
        self._adjust, self._device, self._optimise_for = adjust, device, optimise_for

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
            optimise_for=self._optimise_for,
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

    Raises: as `checked_labels`.
    """
    return checked_labels(logits.argmax(dim=1), logits)


def checked_labels(labels: Tensor, *answers: Tensor) -> Tensor:
    """Labels of copies whose logits are all numbers; every predict of a network's answers ends here.

    Logits that are not numbers are refused, for argmax would call them a class, unanimously: at once on a CPU; another
    device would have to be waited for, so that the label of such a copy is NOT_FINITE there, which the certifier
    refuses. Labels are marked last, when all votes are counted: a mark is no class, and no index.
    Shapes: labels (B,); each answer (B, K), or (M, B, K) where one network was asked M times; result (B,).
    Raises: MethodError.
    """
    if refuse_at_once(*answers):
        return labels
    for logits in answers:
        labels = mark_nonfinite(logits, labels)
    return labels


def mark_nonfinite(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels with NOT_FINITE in place of those whose logits are not all numbers; waits for nothing."""
    return labels.masked_fill(_unusable(logits), NOT_FINITE)


def _unusable(logits: Tensor) -> Tensor:
    """Whether any logit of a copy is no number: (B, K) or (M, B, K) -> (B,)."""
    bad = ~torch.isfinite(logits).all(dim=-1)
    return bad if bad.dim() == 1 else bad.any(dim=0)


class BehindDenoiser(HardLabels):
    """Hard labels of a classifier whose first part denoises: its pixels can be looked at."""

    def denoised(self, x: Tensor, noise: Noise) -> Tensor:
        """The pixels that the classifier is given, before its normaliser.

        Shapes: x and result (B, C, H, W) float32.
        """
        del noise
        with torch.no_grad():
            pixels: Tensor = self.network[0](x)  # type: ignore[index]  # a Sequential, the denoiser first
            return pixels


def refuse_at_once(*answers: Tensor) -> bool:
    """Refuse logits that are not numbers, where that waits for nothing; whether it was looked at.

    To be asked of each answer: a CPU takes minutes for some, and the next ones would be made in vain.
    Shapes, Raises: as `checked_labels`.
    """
    if any(logits.device.type not in AT_ONCE for logits in answers):
        return False
    refuse_nonfinite(*answers)
    return True


def refuse_nonfinite(*answers: Tensor) -> None:
    """Nothing, where all logits are numbers; waits for the device.

    Shapes: as `checked_labels`.
    Raises: MethodError.
    """
    if any(logits.is_meta for logits in answers):  # counted, not computed
        return
    if all(bool(torch.isfinite(logits).all()) for logits in answers):
        return
    bad = torch.stack([_unusable(logits) for logits in answers]).any(dim=0)
    raise MethodError(
        f"logits must be finite numbers, got nan or inf for {int(bad.sum())} of {len(bad)} copies; "
        "use precision fp32 or bf16, or check the weights"
    )
