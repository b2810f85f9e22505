"""A forward pass through torch.compile, where it is asked for, answers alike, and is faster on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.runs.clock import clock_for
from bench.runs.execution.cuda_graphs import RECORD_AFTER, Untouched, kind_of
from bench.types import BaseClassifier, Noise
from bench.types.classifier import Around, is_replayable
from bench.types.errors import FAULTS

if TYPE_CHECKING:
    from torch import Tensor

PAYS = 1.02  # faster by less is not worth other roundings
UNLIKE = 0.01  # share of a pass's labels that may differ: ties, for sums are formed in another order
ROUNDS = 4  # each way, in turns

Compile = Callable[[Callable[["Tensor"], "Tensor"]], Callable[["Tensor"], "Tensor"]]


@dataclass(slots=True)
class Compiled(Around):
    """A classifier whose full passes are compiled; all others go the ordinary way.

    Compiled passes round otherwise than ordinary ones, as another device does: of copies that tie, some change sides.
    """

    compiler: Compile
    batch: int  # copies of a full pass
    replayable: bool = True
    said: str = ""  # what came of it
    _passes: int = 0  # full ones
    _kind: tuple[object, ...] = ()
    _run: Callable[[Tensor], Tensor] | None = None

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """The inner classifier's labels, (B,) int64."""
        if self._run is not None and kind_of(x) == self._kind:
            return self._run(x)
        labels = self.inner.predict(x, noise)
        if len(x) == self.batch:
            self._passes += 1
            if self._passes == RECORD_AFTER:
                self._kind = kind_of(x)
                self._try(x, labels)
                logging.getLogger(__name__).warning("torch.compile: %s", self.said)
                if self._run is not None:  # what is recorded of this pass must give the labels of this pass
                    return self._run(x)
        return labels

    def _try(self, x: Tensor, labels: Tensor) -> None:
        plain, clock = partial(self.inner.predict, noise=Untouched()), clock_for(str(x.device))
        began = clock.now()
        try:
            run = _outside_inference_mode(self.compiler(plain), x)
            unlike = float((run(x) != labels).double().mean())
            spent = clock.now() - began
            # In turns, so that a slow moment of the machine hits both.
            turns = [tuple(clock.time(partial(way, x)).wall for way in (plain, run)) for _ in range(ROUNDS)]
        except (*FAULTS, NotImplementedError, OSError, ImportError) as error:
            lines = str(error).split("\n")[:2]  # of torch's own errors the first names the backend alone
            self.said = f"not used, it failed: {' '.join(lines).strip() or type(error).__name__}"
            return
        gain = min(before for before, _ in turns) / min(after for _, after in turns)
        what = f"passes of {len(x)} copies are {gain:.2f} times as fast, {spent:.0f} s to compile"
        if unlike > UNLIKE:
            self.said = f"not used, {unlike:.1%} of its labels differ"
        elif gain < PAYS:
            self.said = f"not used, {what}"
        else:
            self.said, self._run = what, run


def compiled(classifier: BaseClassifier, batch: int) -> BaseClassifier:
    """The classifier with its passes of `batch` copies compiled, if it says that they can be (`replayable`)."""
    if not is_replayable(classifier):
        logging.getLogger(__name__).warning("torch.compile: not used, this method draws noise of its own in a pass")
        return classifier
    return Compiled(classifier, by_torch, batch)


def by_torch(work: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The work, compiled at its first call for one shape; half precision is rounded where ordinary passes round it."""
    import torch

    # Each check of a result is told as a broken graph, and a machine without a GPU that it has none.
    for name in ("torch._dynamo", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    made: Callable[[Tensor], Tensor] = torch.compile(work, dynamic=False, options={"emulate_precision_casts": True})
    return made


def _outside_inference_mode(work: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """The work on a copy of what it is given: torch.compile takes no tensors that were made in inference mode."""
    import torch

    with torch.inference_mode(mode=False), torch.no_grad():
        buffer = torch.empty_like(x)

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode(mode=False), torch.no_grad():
            buffer.copy_(x)
            return work(buffer)

    return run
