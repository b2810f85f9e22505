"""Base classifiers: what each must offer, what it may offer besides, and the one place where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


Scalar = str | int | float | bool


class Noise(Protocol):
    """A method's own randomness, keyed per copy and independent of the smoothing noise."""

    def randn(self, *shape: int) -> Tensor:
        """Fresh standard normals, (B, *shape) float32 on the device of the copies; each call gives new ones."""


class BaseClassifier(Protocol):
    """What randomized smoothing smooths: a function from noisy pixels to a hard label."""

    num_classes: int

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies.

        Shapes: x (B, C, H, W) float32, already noisy, so not confined to [0, 1]; result (B,) int64 in [0, num_classes).
        A copy whose logits are not numbers has the label NOT_FINITE, and its image is refused.
        Must not add smoothing noise: that is the certifier's. Own randomness comes from `noise` alone.
        """


@runtime_checkable
class Counted(Protocol):
    """A base classifier that says what a copy costs it; optional."""

    calls: Mapping[str, int]  # network -> forward passes that one copy takes: {"unet": 15, "classifier": 3}


@runtime_checkable
class Replayable(Protocol):
    """A base classifier that says whether its passes may be recorded and replayed, or compiled; optional.

    True promises that `predict` draws nothing from its noise, keeps nothing from one pass to the next, and neither
    waits for a CUDA device nor copies from the host.
    """

    replayable: bool


@runtime_checkable
class Adjustable(Protocol):
    """A base classifier that can try another value of a setting without loading its networks twice; optional."""

    def adjusted(self, name: str, value: Scalar) -> BaseClassifier | None:
        """The same networks under that value of the setting; None where it takes a new build.

        Raises: BenchError for a value that these networks cannot have.
        """


@runtime_checkable
class Denoising(Protocol):
    """A base classifier that shows what its classifier is given; optional."""

    def denoised(self, x: Tensor, noise: Noise) -> Tensor:
        """The pixels that are classified in place of the noisy ones.

        Shapes: x and result (B, C, H, W) float32; the result in [0, 1] up to overshoot.
        """


def calls_of(classifier: BaseClassifier) -> dict[str, int]:
    """Forward passes that a copy takes, by network; empty where the classifier does not say."""
    said = classifier.calls if isinstance(classifier, Counted) else {}
    return dict(said) if isinstance(said, Mapping) else {}  # a counter of its own, by the same name, is no statement


def is_replayable(classifier: BaseClassifier) -> bool:
    """Whether the classifier says that its passes may be replayed."""
    return isinstance(classifier, Replayable) and bool(classifier.replayable)


def adjusted(classifier: BaseClassifier, name: str, value: Scalar) -> BaseClassifier | None:
    """The same networks under another value of a setting; None where they cannot have it without a new build.

    Raises: as the classifier's own `adjusted`.
    """
    return classifier.adjusted(name, value) if isinstance(classifier, Adjustable) else None


@dataclass(slots=True)
class Around:
    """A classifier around another one, `predict` left to what derives from it: classes, cost, settings are the inner's.

    Whether it may be replayed it says itself: what it does beside the inner pass decides that.
    """

    inner: BaseClassifier
    num_classes: int = field(init=False)
    calls: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.num_classes, self.calls = self.inner.num_classes, calls_of(self.inner)

    def adjusted(self, name: str, value: Scalar) -> BaseClassifier | None:
        """The inner classifier's, by itself: it is asked too seldom to be wrapped again."""
        return adjusted(self.inner, name, value)
