"""The work that is timed: the certifier's own calls on one image that lies on the device already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from bench.certification.bounds import certify
from bench.runs.batcher import Batcher
from bench.runs.clock import Clock, fastest
from bench.runs.execution.cuda_graphs import RECORD_AFTER, Replayed, replayed
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.philox import integers
from bench.smoothing.voting import autocast, draw
from bench.timing import peak_memory
from bench.timing.records import STAGES
from bench.timing.stages import denoisers, marked
from bench.types import BaseClassifier, Counts, Image, RunSpec

if TYPE_CHECKING:
    from torch import Tensor

FINGERPRINT = "synthetic"  # no image has it; the time does not depend on the pixels


class Workload(Protocol):
    """What the probe times; a fake needs no network."""

    def passes(self, copies: int, batch: int) -> None:
        """Draw and count that many copies of one stage."""

    def certificate(self, batch: int) -> None:
        """One whole certificate: both stages and the bound."""

    def settle(self) -> None:
        """The batch is found: from here on passes are made as a run makes them; no memory of the search is counted."""

    def rehearse(self, batch: int) -> None:
        """The smaller batch at the end of an image, as often as a run takes to record them: no repeat does."""

    def launch(self) -> tuple[bool, str]:
        """Launch each pass kernel by kernel again; whether they were replayed so far, or why it did not come to it."""

    def split(self, clock: Clock, batch: int, repeats: int) -> tuple[dict[str, float], float]:
        """Seconds a copy by stage, and of the noise the host's part."""


@dataclass(slots=True)
class Certification:
    """One image of random pixels, certified by a network."""

    classifier: BaseClassifier
    spec: RunSpec
    x: Tensor  # (C, H, W), on the classifier's device
    replayer: Callable[[BaseClassifier, str], BaseClassifier] = replayed  # what a run wraps its classifier with
    _timed: BaseClassifier = field(init=False)
    _image: Image = field(init=False)

    def __post_init__(self) -> None:
        self._timed = self.classifier
        self._image = Image(0, self.x.cpu().numpy(), 0, FINGERPRINT)

    def settle(self) -> None:
        """Forget the search's memory, and replay passes where the device and the method allow it.

        Not before: what was recorded for a batch that is not taken would keep its memory.
        """
        device = str(self.x.device)
        peak_memory.forget(device)
        self._timed = self.replayer(self.classifier, device)

    def rehearse(self, batch: int) -> None:
        """Record the smaller batch, where anything is recorded."""
        if self._timed is self.classifier:
            return
        for copies in {(self.spec.n0 + self.spec.n) % batch} - {0}:
            for _ in range(RECORD_AFTER):
                self.passes(copies, copies)

    def launch(self) -> tuple[bool, str]:
        """Let go of what was recorded: nothing hooked is called in a replay, and its memory is wanted for the split."""
        timed, self._timed = self._timed, self.classifier
        return (timed.recorded, timed.refused) if isinstance(timed, Replayed) else (False, "")

    def passes(self, copies: int, batch: int) -> None:
        """Draw and count copies, from the first on: the same noise each time, as a repeat must be the same work."""
        self.draw(self._timed, copies, batch)

    def draw(self, classifier: BaseClassifier, copies: int, batch: int, first: int = 0) -> Counts:
        """Votes of the estimation stage."""
        key = NoiseKey(self.spec.seed, FINGERPRINT, self.spec.sigma, ESTIMATE)
        return draw(classifier, self.x, key=key, n=copies, batch=batch, precision=self.spec.precision, first=first)

    def certificate(self, batch: int) -> None:
        """Both stages, and the bound and radius."""
        spec = self.spec
        batcher = Batcher(spec=spec, classifier=self._timed, device=str(self.x.device), batch=batch, shrunk=_refuse)
        (row,) = batcher.rows([self._image])
        selection, estimation = row.selection, row.estimation
        certify(selection, estimation, sigma=spec.sigma, alpha=spec.alpha)

    def split(self, clock: Clock, batch: int, repeats: int) -> tuple[dict[str, float], float]:
        """A pass of its own, one batch a draw, with marks between the stages; the timed repeats have none.

        Noise is the certifier's and the method's own; denoise, the networks that make images of images; classify, the
        rest of the method; count, votes and their way to the host. Each pass is launched kernel by kernel.
        """
        seconds, _ = self.split_votes(clock, batch, repeats)
        return seconds, self._host_noise(clock, batch)

    def split_votes(self, clock: Clock, batch: int, repeats: int) -> tuple[dict[str, float], Counts]:
        """Seconds a copy by stage, and the votes: those of the certifier without marks."""
        found = denoisers(self._one_pass, self.spec.shape)
        marks: list[tuple[str, Any]] = []
        votes = Counts((), 0)
        with marked(self.classifier, found, lambda stage: marks.append((stage, clock.mark()))) as wrapped:
            for k in range(repeats):
                marks.append(("noise", clock.mark()))
                votes += self.draw(wrapped, batch, batch, first=k * batch)
                marks.append(("", clock.mark()))
        seconds = dict.fromkeys(STAGES, 0.0)
        for (stage, begin), (_, end) in pairwise(marks):
            if stage:
                seconds[stage] += clock.between(begin, end) / (batch * repeats)
        return seconds, votes

    def _one_pass(self) -> None:
        import torch

        with torch.inference_mode(), autocast(self.x.device.type, self.spec.precision):
            self.classifier.predict(self.x[None], MethodNoise(0, 0, 1, str(self.x.device)))

    def _host_noise(self, clock: Clock, batch: int) -> float:
        """Seconds a copy for the random integers where numpy makes them on the host; other devices make their own."""
        if self.x.device.type != "cpu":
            return 0.0
        key = NoiseKey(self.spec.seed, FINGERPRINT, self.spec.sigma, ESTIMATE).philox("smoothing")
        copies = min(batch, 64)
        return fastest(clock, lambda: integers(key, 0, 0, copies, self.x.numel()), 3) / copies


def _refuse(batch: int) -> None:
    import torch

    raise torch.OutOfMemoryError(f"out of memory: a pass was halved to {batch} copies while it was timed")
