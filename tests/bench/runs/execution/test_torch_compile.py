"""Compiled passes answer as ordinary ones, and are taken only where they are faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from one_job import certify
from torch import Tensor, nn

from bench.runs.certify import make_worker
from bench.runs.execution import torch_compile as compiling
from bench.runs.execution.cuda_graphs import Replayed, replayed
from bench.runs.execution.torch_compile import Compiled, by_block, compiled, expected_seconds, repeated_blocks
from bench.runs.request import RunRequest, plan
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.voting import draw
from bench.types import ALWAYS, AUTO, LOCAL, NEVER, BaseClassifier, Execution, Noise
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


def fast(_work: compiling.Work, _blocks: Sequence[nn.Module], flip: int = 0) -> compiling.Work:
    return partial(labels, flip=flip)


def broken(_work: compiling.Work, _blocks: Sequence[nn.Module]) -> compiling.Work:
    raise RuntimeError("no C++ compiler\nand more")


def batches(size: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(size, 1, 2, 2, generator=generator) for _ in range(count)]


def wrapped(
    compiler: compiling.Compile,
    classifier: BaseClassifier | None = None,
    *,
    asked: str = ALWAYS,
    planned: float = 1e9,
    precision: str = "fp32",
) -> tuple[BaseClassifier, str]:
    return compiled(
        classifier or Slow(),
        lambda: batches(FULL, 1)[0],
        asked=asked,
        planned=planned,
        device="cpu",
        precision=precision,
        compiler=compiler,
    )


def test_full_passes_are_compiled_and_the_others_never() -> None:
    made, said = wrapped(fast)
    assert "times as fast" in said
    before = made.inner.passes  # type: ignore[attr-defined]
    for x in [*batches(7, 10), *batches(FULL, 20), *batches(8, 10)]:
        assert torch.equal(made.predict(x, NOISE), labels(x))
    assert made.inner.passes == before + 20  # type: ignore[attr-defined]


def test_votes_are_those_of_ordinary_passes_in_the_certifiers_own_mode() -> None:
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 2, 2)
    made, _ = wrapped(fast)
    assert draw(made, x, key=key, n=1000, batch=FULL) == draw(Slow(), x, key=key, n=1000, batch=FULL)


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        (broken, "not used, it failed: no C++ compiler and more"),
        (partial(fast, flip=3), "not used, 9.4% of its labels differ"),
        (lambda work, _blocks: work, "not used, passes of 32 copies are"),
    ],
    ids=["fails", "answers otherwise", "no faster"],
)
def test_what_does_not_pay_is_not_used_and_says_so(
    compiler: compiling.Compile, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "PAYS", 1.5)
    plain = Slow()
    made, why = wrapped(compiler, plain)
    assert made is plain
    assert why.startswith(said)
    assert [record.message for record in caplog.records][1:] == [f"torch.compile: {why}"]


def test_a_method_that_draws_noise_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    random = Slow(replayable=False)
    assert wrapped(fast, random)[0] is random
    assert "draws noise of its own" in caplog.text


def test_never_means_never(caplog: pytest.LogCaptureFixture) -> None:
    plain = Slow()
    assert wrapped(broken, plain, asked=NEVER)[0] is plain
    assert (plain.passes, caplog.records) == (0, [])


def test_by_itself_it_is_tried_once_the_work_is_twenty_times_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pass of 32 copies takes 2 ms or more, by the sleep in it; compiling is expected to take 15 s.
    passes = compiling.WORTH * compiling.BASE_SECONDS * compiling.CPU_SECONDS / 0.002
    assert isinstance(wrapped(fast, asked=AUTO, planned=FULL * passes * 1.01, precision="bf16")[0], Compiled)
    monkeypatch.setattr(compiling, "BASE_SECONDS", 5e5)
    made, said = wrapped(broken, asked=AUTO, planned=FULL * passes, precision="bf16")
    assert isinstance(made, Slow)
    assert "s of work are less than 20 times the 1500000 s" in said


class Fused(nn.Module):
    fused = True

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]


def test_by_itself_it_leaves_alone_what_is_fused_and_the_arithmetic_that_others_are_compared_with(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fused = HardLabels(nn.Sequential(Fused()), num_classes=3, device="cpu")
    assert "fused kernels" in wrapped(broken, fused, asked=AUTO, precision="bf16")[1]
    assert "float32 on a CPU" in wrapped(broken, asked=AUTO)[1]
    assert caplog.records == []
    assert "it failed" in wrapped(broken, fused)[1]  # tried where it is asked for


def test_compiled_passes_can_be_replayed_on_a_gpu() -> None:
    assert isinstance(replayed(wrapped(fast)[0], "cuda:0"), Replayed)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Stack(nn.Module):
    """Blocks in a row, of which the network's weights are most or few."""

    def __init__(self, blocks: int, head: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(4) for _ in range(blocks))
        self.head = nn.Linear(4, head)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def hard(network: nn.Module) -> HardLabels:
    return HardLabels(network, num_classes=3, device="cpu")


@seeded_globals(1)
def test_a_row_of_blocks_is_compiled_as_one_and_only_while_a_compiled_pass_runs() -> None:
    network = Stack(5)
    assert repeated_blocks(hard(network)) == list(network.blocks)
    assert repeated_blocks(hard(Stack(3))) == []
    assert repeated_blocks(hard(Stack(5, head=100))) == []
    one = [*network.blocks][:1]
    assert expected_seconds(hard(network), [*network.blocks]) == expected_seconds(hard(network), one)

    calls = []

    def make(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            calls.append(forward)
            return forward(x)

        return run

    (x,) = batches(FULL, 1)
    expected = network(x)
    run = by_block(network, list(network.blocks), make)
    assert torch.equal(run(x), expected)
    assert calls == [block.forward for block in network.blocks]
    network(x)
    assert len(calls) == len(network.blocks)


@seeded_globals(1)
def test_a_pass_that_fails_leaves_the_blocks_as_they_were() -> None:
    network = Stack(5)

    def make(_forward: object) -> Callable[[Tensor], Tensor]:
        raise_now = RuntimeError("no kernel")

        def run(_x: Tensor) -> Tensor:
            raise raise_now

        return run

    run = by_block(network, list(network.blocks), make)
    with pytest.raises(RuntimeError):
        run(batches(FULL, 1)[0])
    assert not any("forward" in vars(block) for block in network.blocks)


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
    copies = torch.randn(64, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    made, said = compiled(plain, lambda: copies, asked=ALWAYS, planned=1000, device="cpu", precision="fp32")
    key, x = NoiseKey(0, "x", 0.5, ESTIMATE), torch.zeros(1, 2, 2)
    ours, expected = (draw(classifier, x, key=key, n=1000, batch=64) for classifier in (made, plain))
    assert ours == expected
    assert len(expected.votes) == 3
    assert isinstance(made, Compiled)
    assert "times as fast" in said


def test_a_run_says_what_it_chose_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = plan(RunRequest(methods=("gaussian",), dataset="digits", sigmas=(0.5,), n=400, limit=2))
    monkeypatch.setattr(compiling, "by_torch", broken)
    said, digests = [], set()
    for asked in (AUTO, ALWAYS, NEVER):
        execution = Execution(("cpu",), 64, LOCAL, compile=asked)
        run = certify(job, execution, tmp_path / asked, lambda *_: None, lambda _: None)
        said.append(run.environment["compile"])
        digests.add((run.spec.digest(), tuple((row.index, row.estimation) for row in run.rows)))
        assert run.execution["compile"] == asked
    assert len(digests) == 1
    assert said[0].startswith("auto: not used, float32 on a CPU")
    assert said[1:] == ["always: not used, it failed: no C++ compiler and more", "never"]
    assert isinstance(make_worker(job, "cpu", 64).classifier, HardLabels)
