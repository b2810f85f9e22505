"""Replayed passes answer as the passes themselves do, or are not replayed; the recorder here is Python's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from bench.runs.execution.cuda_graphs import MOST, RECORD_AFTER, CudaRecorder, Recording, Replayed, Untouched, replayed
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.voting import draw
from bench.types import BaseClassifier, Noise
from methods.training.rng import seeded_globals

NOISE = MethodNoise(0, 0, 1)


@dataclass
class Counting:
    """The sign of a copy's sum; counts its passes."""

    num_classes: int = 2
    replayable: bool = True
    passes: int = 0

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        self.passes += 1
        return (x.flatten(1).sum(1) > 0).long()


@dataclass
class Recorder:
    """Records as CUDA does: a replay reads the buffer anew and writes over the same labels."""

    wrong: bool = False
    full: bool = False
    idle: bool = False  # a replay that does nothing, as of a recording made on another device's stream
    made: list[Recording] = field(default_factory=list)
    replays: int = 0
    cached: bool | None = None  # whether autocast kept what it cast, while recording

    def __call__(self, classifier: BaseClassifier, x: Tensor) -> Recording:
        self.cached = torch.is_autocast_cache_enabled()
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory\nand more")
        buffer = torch.full_like(x, torch.nan)
        labels = (x.flatten(1).sum(1) > 0).long() if self.idle else torch.empty(len(x), dtype=torch.int64)

        def replay() -> None:
            self.replays += 1
            if self.idle:
                return
            labels.copy_((buffer.flatten(1).sum(1) > 0).long() ^ self.wrong)

        self.made.append(Recording(buffer, labels, replay))
        return self.made[-1]


def wrapped(recorder: Recorder) -> Replayed:
    return Replayed(Counting(), recorder)


def batches(size: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, 1, 2, 2, generator=generator) for _ in range(count)]


def test_replayed_labels_are_those_of_the_pass() -> None:
    recorder = Recorder()
    classifier, plain = wrapped(recorder), Counting()
    kept = [(classifier.predict(x, NOISE), plain.predict(x, NOISE)) for x in batches(8, 10)]
    # Compared at the end: labels handed out must not change when the next batch is replayed.
    assert all(torch.equal(ours, expected) for ours, expected in kept)
    assert recorder.replays == 1 + 10 - RECORD_AFTER
    assert classifier.inner.passes == RECORD_AFTER  # type: ignore[attr-defined]


def test_nothing_that_autocast_cached_before_is_recorded() -> None:
    recorder = Recorder()
    classifier = wrapped(recorder)
    with torch.autocast("cpu", torch.bfloat16):
        for x in batches(8, RECORD_AFTER):
            classifier.predict(x, NOISE)
        assert recorder.cached is False
        assert torch.is_autocast_cache_enabled()


def test_a_last_smaller_batch_is_not_recorded() -> None:
    recorder = Recorder()
    classifier = wrapped(recorder)
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 2, 2)
    assert draw(classifier, x, key=key, n=105, batch=10) == draw(Counting(), x, key=key, n=105, batch=10)
    assert [len(made.x) for made in recorder.made] == [10]


@seeded_globals(1)
def test_shapes_layouts_and_arithmetic_are_recorded_apart() -> None:
    recorder = Recorder()
    classifier = wrapped(recorder)
    x = torch.randn(4, 2, 2, 2)
    for copies in (x, x.to(memory_format=torch.channels_last)):
        for _ in range(RECORD_AFTER):
            classifier.predict(copies, NOISE)
            with torch.autocast("cpu", torch.bfloat16):
                classifier.predict(copies, NOISE)
    assert len(recorder.made) == 4


def test_no_more_is_recorded_than_memory_is_meant_for() -> None:
    recorder = Recorder()
    classifier = wrapped(recorder)
    for size in range(1, MOST + 4):
        for x in batches(size, RECORD_AFTER):
            classifier.predict(x, NOISE)
    assert len(recorder.made) == MOST


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Recorder(wrong=True), "the replayed labels differ"),
        (Recorder(idle=True), "the replayed labels differ"),
        (Recorder(full=True), "CUDA out of memory"),
    ],
)
def test_what_cannot_be_replayed_goes_the_ordinary_way(recorder: Recorder, reason: str) -> None:
    classifier, plain = wrapped(recorder), Counting()
    for x in [*batches(8, 10), *batches(4, 10)]:
        assert torch.equal(classifier.predict(x, NOISE), plain.predict(x, NOISE))
    assert classifier.refused.startswith(reason)
    assert len(recorder.made) <= 1  # tried once
    assert classifier.inner.passes == 20  # type: ignore[attr-defined]


def test_a_pass_that_does_not_fit_beside_the_recordings_is_made_without_them() -> None:
    recorder = Recorder()
    classifier = wrapped(recorder)

    class Tight(Counting):
        """No room for a pass of 4 copies as long as there is a recording."""

        def predict(self, x: Tensor, noise: Noise) -> Tensor:
            if len(x) == 4 and classifier.recorded:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nand more")
            return super().predict(x, noise)

    classifier.inner = Tight()
    for x in [*batches(8, 5), *batches(4, 5), *batches(8, 5)]:
        assert torch.equal(classifier.predict(x, NOISE), Counting().predict(x, NOISE))
    assert classifier.refused == "CUDA out of memory. Tried to allocate"
    assert not classifier.recorded
    assert len(recorder.made) == 1
    assert classifier.inner.passes == RECORD_AFTER + 5 + 5


def test_a_pass_that_does_not_fit_by_itself_is_its_callers_matter() -> None:
    class Small(Counting):
        def predict(self, x: Tensor, noise: Noise) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    classifier = Replayed(Small(), Recorder())
    with pytest.raises(torch.OutOfMemoryError):
        classifier.predict(torch.zeros(2, 1, 2, 2), NOISE)
    assert not classifier.refused  # a smaller batch may be recorded


def test_a_classifier_that_draws_noise_is_found_out() -> None:
    with pytest.raises(RuntimeError, match=r"drew noise of shape \(3, 2\)"):
        Untouched().randn(3, 2)


def test_only_what_says_so_is_replayed_and_only_on_cuda() -> None:
    assert isinstance(replayed(Counting(), "cuda:0"), Replayed)
    silent, random = Counting(), Counting(replayable=False)
    assert replayed(silent, "cpu") is silent
    assert replayed(random, "cuda:0") is random


@pytest.mark.gpu
def test_a_cuda_graph_answers_as_the_pass_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    # The last device, which is not the current one where there are several; both shapes share a pool.
    device = f"cuda:{torch.cuda.device_count() - 1}"
    classifier = Replayed(Counting(), CudaRecorder())
    for small, large in zip(batches(64, 20), batches(96, 20), strict=True):
        for x in (small, large):
            assert torch.equal(classifier.predict(x.to(device), NOISE).cpu(), Counting().predict(x, NOISE))
    assert classifier.recorded
    assert not classifier.refused
