"""Any callable from pixels to logits or labels as a base classifier, and the device that it is on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.runs.built_weights import networks
from bench.types import NOT_FINITE, BaseClassifier, Noise
from bench.types.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

LABELS = 4096  # classes that a model is first taken to have where it gives labels alone


@dataclass(slots=True, eq=False)
class Called:
    """A model by its answers: logits (B, K), of which the largest is the label, or labels (B,)."""

    model: Callable[..., Any]
    num_classes: int = 1  # as many as were seen: a model that answers with labels says no other

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels; see `bench.types.BaseClassifier`.

        Raises: MethodError for answers that are neither logits nor labels.
        """
        import torch

        del noise
        answer = self.model(x)
        answer = getattr(answer, "logits", answer)  # as of Hugging Face's models
        if not isinstance(answer, torch.Tensor) or len(answer) != len(x) or answer.dim() not in (1, 2):
            came = f"shape {tuple(answer.shape)}" if isinstance(answer, torch.Tensor) else type(answer).__name__
            raise MethodError(
                f"the model must give logits (B, K) or labels (B,) for x of shape {tuple(x.shape)}, got {came}"
            )
        if answer.dim() == 2 and answer.shape[1] < 2:  # the one class would be unanimous, whatever the model sees
            raise MethodError("the model gives one logit, which names no class; give two, as (0, logit), or labels")
        if answer.dim() == 2:
            self.num_classes = max(self.num_classes, answer.shape[1])
            return answer.argmax(1).masked_fill(~torch.isfinite(answer).all(1), NOT_FINITE)
        if answer.is_floating_point() or answer.dtype == torch.bool:
            raise MethodError(f"the model must give labels as whole numbers, or logits (B, K); got {answer.dtype} (B,)")
        self.num_classes = max(self.num_classes, LABELS, int(answer.max()) + 1)
        return answer.long()


def as_classifier(model: Any) -> BaseClassifier:
    """The model as the certifier takes it; one that has `predict(x, noise)` and `num_classes` as it is.

    Raises: MethodError for what cannot be called, or a network in training mode.
    """
    made: BaseClassifier
    if isinstance(getattr(model, "num_classes", None), int) and callable(getattr(model, "predict", None)):
        made = model
    elif callable(model):
        made = Called(model)
    else:
        raise MethodError(f"expected a callable from (B, C, H, W) pixels to logits, got {type(model).__name__}")
    if any(part.training for network in networks(made) for part in network.modules()):
        raise MethodError("the model is in training mode, in which a label may depend on the batch; call model.eval()")
    return made


def device_of(classifier: BaseClassifier, asked: Any) -> str:
    """The device asked for, else that of the model's parameters, else the CPU.

    Raises: MethodError for a model that is on another device than asked for.
    """
    import torch

    tensors = (t for network in networks(classifier) for t in (*network.parameters(), *network.buffers()))
    own = next((tensor.device for tensor in tensors), None)
    if asked is None:
        return str(own or "cpu")
    wanted = torch.device(asked)
    if own is not None and (wanted.type != own.type or wanted.index not in (None, own.index)):
        raise MethodError(f"the model is on {own}, device={str(asked)!r} was asked for; call model.to({str(asked)!r})")
    return str(own or wanted)
