"""The only place that makes smoothing noise: draws noisy copies of images and counts the votes on them.

Noise is counter-based: copy `i` of a stage is a pure function of (seed, fingerprint, sigma, stage, i). Batch size,
order, workers and resumption cannot reach it, and the other images of a run neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bench.smoothing.noise import MethodNoise, NoiseKey, PackedNoise
from bench.smoothing.philox import noisy
from bench.types import NOT_FINITE, BaseClassifier, Counts
from bench.types.errors import DeviceError, MethodError, first_line

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Segment:
    """Some copies of one image, to share a forward pass with others'."""

    x: Tensor  # (C, H, W) float32 in [0, 1] on the classifier's device
    key: NoiseKey
    first: int  # of the copies
    copies: int


@dataclass(slots=True, eq=False)
class Votes:
    """Votes of a pass that the device may still be working on."""

    _classifier: BaseClassifier
    _host: Tensor  # (parts, K + 2) int64
    _ready: Any = None  # of CUDA: when the host has them

    @classmethod
    def of(cls, classifier: BaseClassifier, votes: Tensor) -> Votes:
        """The votes on their way to the host, behind what the device has been given so far and before what comes."""
        import torch

        if not votes.is_cuda:
            return cls(classifier, votes)
        host = torch.empty(votes.shape, dtype=votes.dtype, pin_memory=True)
        host.copy_(votes, non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(votes.device))
        return cls(classifier, host, ready)

    def counts(self) -> list[Counts]:
        """Those of each part, once the device has them.

        Raises: MethodError if the classifier broke its protocol.
        """
        return _counts(self._classifier, self.tallies())

    def tallies(self) -> list[list[int]]:
        """Votes per class of each part, unchecked, once the device has them; then what is no class, and no number."""
        if self._ready is not None:
            self._ready.synchronize()
        tallies: list[list[int]] = self._host.tolist()
        return tallies


def draw(
    classifier: BaseClassifier, x: Tensor, *, key: NoiseKey, n: int, batch: int, precision: str = "fp32", first: int = 0
) -> Counts:
    """Votes of the base classifier on `n` noisy copies of one image, from copy `first` on.

    Shapes: x (C, H, W) float32 in [0, 1] on the classifier's device. The copies x + sigma * eps are not clipped, and no
    normalisation comes before the noise (Cohen et al. 2019, Section 3.2.2).
    Raises: MethodError if the classifier breaks its protocol.
    """
    begun = [
        draw_packed(classifier, [Segment(x, key, done, min(batch, first + n - done))], precision=precision)
        for done in range(first, first + n, batch)
    ]
    if not begun:
        return Counts((), 0)
    tallies = [votes.tallies()[0] for votes in begun]  # the device is waited for once all is begun
    return _counts(classifier, [[sum(votes) for votes in zip(*tallies, strict=True)]])[0]


def draw_packed(classifier: BaseClassifier, segments: Sequence[Segment], *, precision: str = "fp32") -> Votes:
    """Votes of each segment, from one forward pass of all: the votes that each would have by itself.

    A CUDA device is not waited for: it may still be at this pass, or at one before, when its votes are asked for.
    Raises: MethodError for labels of another shape; torch.OutOfMemoryError where the pass does not fit.
    """
    import torch

    device, copies = segments[0].x.device, [s.copies for s in segments]
    with torch.inference_mode(), autocast(device.type, precision):
        x = torch.empty(sum(copies), *segments[0].x.shape, device=device)
        for s, part in zip(segments, torch.split(x, copies), strict=True):
            noisy(s.x, s.key.sigma, s.key.philox("smoothing"), s.first, s.copies, part)
        noise = PackedNoise(
            tuple(MethodNoise(s.key.philox("method"), s.first, s.copies, str(device)) for s in segments)
        )
        labels = classifier.predict(x, noise)
        _check_labels(labels, len(x), classifier)
        owners = None
        if len(segments) > 1:
            owners = placed(torch.arange(len(segments)).repeat_interleave(torch.tensor(copies)), device)
        return Votes.of(classifier, _tally(labels, classifier, owners, len(segments)))


def placed(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on a device, which is not waited for: what it has been given before may take long."""
    import torch

    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fitted(work: Callable[[], T], copies: int, x: Tensor) -> tuple[T | None, int]:
    """The result of a pass of so many copies like x, and their number; none and half of it where it did not fit.

    Raises: DeviceError where a single copy did not.
    """
    import torch

    try:
        return work(), copies
    except torch.OutOfMemoryError as error:
        reason = first_line(error)
    # Not in the handler: its traceback keeps the tensors of the failed pass alive.
    if copies == 1:
        raise DeviceError(
            f"one copy of shape {tuple(x.shape)} does not fit the memory of {x.device}; "
            f"expected a smaller network or a larger device ({reason})"
        )
    if x.device.type == "cuda":
        torch.cuda.empty_cache()
    return None, copies // 2


def autocast(device_type: str, precision: str) -> AbstractContextManager[Any]:
    """The arithmetic of a run: bf16 and fp16 by autocast, fp32 and tf32 by the backend's flags."""
    from contextlib import nullcontext

    import torch

    if precision in ("bf16", "fp16") and device_type != "meta":  # where nothing is computed
        return torch.autocast(device_type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)
    return nullcontext()


def _check_labels(labels: Tensor, copies: int, classifier: BaseClassifier) -> None:
    import torch

    if labels.dtype != torch.int64 or labels.shape != (copies,):
        raise MethodError(
            f"{type(classifier).__name__}.predict must return int64 labels of shape ({copies},), "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )


def _tally(labels: Tensor, classifier: BaseClassifier, owners: Tensor | None, count: int) -> Tensor:
    """Votes per class of each owner, (count, K + 2) int64 on the labels' device.

    The last slots count what is no class, and what came from logits that are not numbers.
    Shapes: labels (B,); owners (B,), the owner of each copy; None: all are of one.
    """
    import torch

    k = classifier.num_classes
    slots = torch.where((labels >= 0) & (labels < k), labels, k + (labels == NOT_FINITE))
    if owners is not None:
        slots = slots + owners * (k + 2)
    # scatter_add, not bincount: on CUDA bincount waits for the device to learn its size.
    votes = torch.zeros(count * (k + 2), dtype=torch.int64, device=labels.device)
    return votes.scatter_add_(0, slots, torch.ones_like(slots)).view(count, k + 2)


def _counts(classifier: BaseClassifier, stages: list[list[int]]) -> list[Counts]:
    """Votes per class of each stage, checked."""
    outside, undefined = (sum(counted[place] for counted in stages) for place in (-2, -1))
    if undefined:
        raise MethodError(
            f"logits must be finite numbers, got nan or inf for {undefined} of {sum(map(sum, stages))} copies; "
            "use precision fp32 or bf16, or check the weights"
        )
    if outside:
        raise MethodError(
            f"{type(classifier).__name__}.predict must return labels in [0, {classifier.num_classes}), "
            f"got {outside} of {sum(map(sum, stages))} outside; run `rrcm-bench check` on the method"
        )
    return [Counts.of(list(enumerate(counted))) for counted in stages]
