"""Compiled passes answer as ordinary ones, and are taken only where they are faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.runs.certify import make_worker
from bench.runs.execution import torch_compile as compiling
from bench.runs.execution.cuda_graphs import RECORD_AFTER, Replayed, replayed
from bench.runs.execution.torch_compile import Compiled, by_torch, compiled
from bench.runs.request import RunRequest, plan
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.voting import draw
from bench.types import Noise
from methods.nets.hard_labels import HardLabels
from methods.training.rng import seeded_globals

NOISE = MethodNoise(0, 0, 1)
FULL = 32


@dataclass
class Slow:
    """The sign of a copy's sum, 2 ms a pass."""

    num_classes: int = 2
    replayable: bool = True
    passes: int = 0

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        self.passes += 1
        time.sleep(0.002)
        return (x.flatten(1).sum(1) > 0).long()


def labels(x: Tensor, flip: int = 0) -> Tensor:
    found = (x.flatten(1).sum(1) > 0).long()
    found[:flip] ^= 1
    return found


def fast(_work: Callable[[Tensor], Tensor], flip: int = 0) -> Callable[[Tensor], Tensor]:
    return partial(labels, flip=flip)


def broken(_work: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    raise RuntimeError("no C++ compiler\nand more")


def batches(size: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, 1, 2, 2, generator=generator) for _ in range(count)]


def wrapped(compiler: compiling.Compile) -> Compiled:
    return Compiled(Slow(), compiler, FULL)


def test_full_passes_are_compiled_once_and_the_others_never() -> None:
    classifier, plain = wrapped(fast), Slow()
    for x in [*batches(7, 10), *batches(FULL, 20), *batches(8, 10)]:
        assert torch.equal(classifier.predict(x, NOISE), plain.predict(x, NOISE))
    assert "times as fast" in classifier.said
    assert classifier.inner.passes == 20 + RECORD_AFTER + compiling.ROUNDS  # type: ignore[attr-defined]


def test_the_pass_after_which_a_graph_is_recorded_answers_as_the_compiled_code_does() -> None:
    classifier = Compiled(Slow(), partial(fast, flip=1), 200)  # one copy in 200 ties
    *first, last = batches(200, RECORD_AFTER)
    for x in first:
        assert torch.equal(classifier.predict(x, NOISE), labels(x))
    assert torch.equal(classifier.predict(last, NOISE), labels(last, flip=1))


def test_votes_are_those_of_ordinary_passes_in_the_certifiers_own_mode() -> None:
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 2, 2)
    assert draw(wrapped(fast), x, key=key, n=1000, batch=FULL) == draw(Slow(), x, key=key, n=1000, batch=FULL)


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        (broken, "not used, it failed: no C++ compiler and more"),
        (partial(fast, flip=3), "not used, 9.4% of its labels differ"),
        (lambda work: work, "not used, passes of 32 copies are"),
    ],
    ids=["fails", "answers otherwise", "no faster"],
)
def test_what_does_not_pay_is_not_used_and_says_so(
    compiler: compiling.Compile, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "PAYS", 1.5)
    classifier, plain = wrapped(compiler), Slow()
    for x in batches(FULL, 10):
        assert torch.equal(classifier.predict(x, NOISE), plain.predict(x, NOISE))
    assert classifier.said.startswith(said)
    assert [record.message for record in caplog.records] == [f"torch.compile: {classifier.said}"]


def test_a_method_that_draws_noise_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    random = Slow(replayable=False)
    assert compiled(random, FULL) is random
    assert "draws noise of its own" in caplog.text


def test_compiled_passes_can_be_replayed_on_a_gpu() -> None:
    assert isinstance(replayed(compiled(Slow(), FULL), "cuda:0"), Replayed)


class Tokens(nn.Module):
    """As a transformer begins: a learned token, expanded, which cannot be compiled in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.full((1, 1, 4), 0.1))
        self.head = nn.Linear(4, 3)
        self.head.weight.data.copy_(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat((self.token.expand(len(x), -1, -1), x.flatten(2)), dim=1)
        return self.head(torch.tanh(tokens).sum(dim=1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's of its own parts
@seeded_globals(1)
def test_torch_compiles_a_network_and_no_vote_moves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "PAYS", 0.0)  # taken whether it pays or not
    plain = HardLabels(Tokens(), num_classes=3, device="cpu")
    made = compiled(plain, 64)
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 2, 2)
    ours, expected = (draw(classifier, x, key=key, n=1000, batch=64) for classifier in (made, plain))
    assert ours == expected
    assert len(expected.votes) == 3
    assert isinstance(made, Compiled)
    assert "times as fast" in made.said


def test_a_run_compiles_its_full_passes_where_it_is_asked_to() -> None:
    (job,) = plan(RunRequest(methods=("gaussian",), dataset="digits", sigmas=(0.5,), n=400, limit=2))
    asked = make_worker(job, "cpu", 64, compile_passes=True).classifier
    assert isinstance(asked, Compiled)
    assert (asked.batch, asked.compiler) == (64, by_torch)
    assert isinstance(make_worker(job, "cpu", 64).classifier, HardLabels)
