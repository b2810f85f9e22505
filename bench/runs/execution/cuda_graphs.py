"""CUDA graphs: a forward pass recorded once and replayed, since launching small kernels takes longer than they run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.types import BaseClassifier, Noise
from bench.types.classifier import Around, is_replayable
from bench.types.errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

RECORD_AFTER = 3  # passes of one shape: a last, smaller batch is not worth a recording
# Recordings held at a time. All share one pool of memory: together they hold the activations of the largest pass, which
# no ordinary pass can use. For a large UNet at its largest batch that may be most of a device, and the gain nothing,
# for its kernels outlast their launches; what does not fit beside them is then passed without them (`_pass`).
MOST = 4
UNWRITTEN = -3  # a label that no pass gives: a replay that writes none is found out by it


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A pass on buffers of its own: write `x`, call `replay`, read `labels`."""

    x: Tensor
    labels: Tensor
    replay: Callable[[], object]


Record = Callable[[BaseClassifier, "Tensor"], Recording]


@dataclass(slots=True)
class Replayed(Around):
    """A classifier whose passes of often seen shapes are replayed; its labels are the inner one's.

    Each recording is compared with the pass that it stands for. Where one differs or cannot be made, or a pass does not
    fit the memory beside them, all passes go the ordinary way from then on: a recording must not cost a batch.
    """

    record: Record
    refused: str = ""  # why nothing is recorded any more
    _seen: dict[tuple[object, ...], int] = field(default_factory=dict)
    _made: dict[tuple[object, ...], Recording] = field(default_factory=dict)

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """The inner classifier's labels, (B,) int64."""
        import torch

        kind = kind_of(x)
        made = self._made.get(kind)
        if made is not None:
            with torch.inference_mode():
                made.x.copy_(x)
                made.replay()
                return made.labels.clone()
        labels = self._pass(x, noise)
        seen = self._seen[kind] = self._seen.get(kind, 0) + 1
        if not self.refused and seen >= RECORD_AFTER and len(self._made) < MOST:
            self._try(kind, x, labels)
        return labels

    @property
    def recorded(self) -> bool:
        """Whether passes are replayed now."""
        return bool(self._made)

    def _pass(self, x: Tensor, noise: Noise) -> Tensor:
        """An ordinary pass; made again without the recordings where it does not fit the memory beside them."""
        import torch

        try:
            return self.inner.predict(x, noise)
        except torch.OutOfMemoryError as error:
            if not self._made:
                raise
            reason = first_line(error)
        # Not in the handler: its traceback keeps the tensors of the failed pass alive.
        self._refuse(reason)
        return self.inner.predict(x, noise)

    def _try(self, kind: tuple[object, ...], x: Tensor, labels: Tensor) -> None:
        import torch

        try:
            # In inference mode, as predict: what is made in it can be written to nowhere else.
            with torch.inference_mode(), _uncached():
                made = self.record(self.inner, x)
                made.x.copy_(x)
                made.labels.fill_(UNWRITTEN)
                made.replay()
                same = torch.equal(made.labels, labels)
        except RuntimeError as error:  # of CUDA: memory, or an operation that no graph can hold
            reason = first_line(error)
        else:
            if same:
                self._made[kind] = made
                return
            reason = "the replayed labels differ from those of the pass itself"
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        self._made.clear()
        logging.getLogger(__name__).info("no CUDA graph: %s", reason)


class Untouched:
    """The noise of a pass that promised to draw none."""

    def randn(self, *shape: int) -> Tensor:
        """Nothing.

        Raises: RuntimeError.
        """
        raise RuntimeError(f"a replayable classifier drew noise of shape {shape}, which a recording would repeat")


def replayed(classifier: BaseClassifier, device: str) -> BaseClassifier:
    """The classifier, with its passes replayed on a CUDA device if it says that they can be (`replayable`)."""
    if not device.startswith("cuda") or not is_replayable(classifier):
        return classifier
    return Replayed(classifier, CudaRecorder())


@dataclass(slots=True)
class CudaRecorder:
    """Records passes of one device as CUDA graphs.

    They share a pool of memory: only one is replayed at a time, and its labels are copied before the next. A pool is
    shared within a stream, so that all are recorded on the same one.
    """

    _stream: Any = None
    _pool: Any = None

    def __call__(self, classifier: BaseClassifier, x: Tensor) -> Recording:
        """A pass recorded after warm-up passes on a stream of its own, as torch asks.

        Raises: RuntimeError of CUDA where it cannot be.
        """
        import torch

        # The device's own: on another one's stream nothing would be recorded, and the labels stay those of this pass.
        with torch.cuda.device(x.device):
            if self._stream is None:
                self._stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
                self._pool = torch.cuda.graph_pool_handle()
            buffer = x.clone()
            self._stream.wait_stream(torch.cuda.current_stream(x.device))
            with torch.cuda.stream(self._stream):
                for _ in range(RECORD_AFTER):
                    classifier.predict(buffer, Untouched())
            torch.cuda.current_stream(x.device).wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                labels = classifier.predict(buffer, Untouched())
        return Recording(buffer, labels, graph.replay)


@contextmanager
def _uncached() -> Iterator[None]:
    """Autocast without its cache: what it cast before is freed some day, and a recording would go on reading it."""
    import torch

    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def kind_of(x: Tensor) -> tuple[object, ...]:
    """What a recording holds for: shape, layout, and the arithmetic around the call."""
    import torch

    device = x.device.type
    half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return (tuple(x.shape), x.stride(), half)
