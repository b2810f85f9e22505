"""Replayed passes answer as the passes themselves do, or are not replayed; the recorder here is Python's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from bench.execution.graphs import MOST, RECORD_AFTER, Recording, Replayed, Untouched, record_on_cuda, replayed
from bench.smoothing import ESTIMATE, MethodNoise, NoiseKey, draw
from bench.types import BaseClassifier, Noise

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
    made: list[Recording] = field(default_factory=list)
    replays: int = 0

    def __call__(self, classifier: BaseClassifier, x: Tensor) -> Recording:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory\nand more")
        buffer = torch.full_like(x, torch.nan)
        labels = torch.empty(len(x), dtype=torch.int64)

        def replay() -> None:
            self.replays += 1
            labels.copy_((buffer.flatten(1).sum(1) > 0).long() ^ self.wrong)

        self.made.append(Recording(buffer, labels, replay))
        return self.made[-1]


def wrapped(recorder: Recorder) -> Replayed:
    return Replayed(Counting(), recorder, 2, {"classifier": 1})


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


def test_a_last_smaller_batch_is_not_recorded() -> None:
    recorder = Recorder()
    classifier = wrapped(recorder)
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 2, 2)
    assert draw(classifier, x, key=key, n=105, batch=10) == draw(Counting(), x, key=key, n=105, batch=10)
    assert [len(made.x) for made in recorder.made] == [10]


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
    [(Recorder(wrong=True), "the replayed labels differ"), (Recorder(full=True), "CUDA out of memory")],
)
def test_what_cannot_be_replayed_goes_the_ordinary_way(recorder: Recorder, reason: str) -> None:
    classifier, plain = wrapped(recorder), Counting()
    for x in [*batches(8, 10), *batches(4, 10)]:
        assert torch.equal(classifier.predict(x, NOISE), plain.predict(x, NOISE))
    assert classifier.refused.startswith(reason)
    assert len(recorder.made) <= 1  # tried once
    assert classifier.inner.passes == 20  # type: ignore[attr-defined]


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
    classifier = Replayed(Counting(), record_on_cuda, 2, {})
    for x in batches(64, 20):
        assert torch.equal(classifier.predict(x.cuda(), NOISE).cpu(), Counting().predict(x, NOISE))
    assert not classifier.refused
