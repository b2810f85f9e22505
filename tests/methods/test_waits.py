"""What a CUDA pass must not do, shown without one: wait for the device, copy from the host, refuse by looking.

On "meta" there are no numbers: a pass that would wait for one fails there, and what comes from the host can be seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusion_settings import SHAPES, copies_of_digits, own_noise, setting, with_weights
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.runs.execution.cuda_graphs import CudaRecorder, Replayed, Untouched
from bench.smoothing.noise import ESTIMATE, NoiseKey
from bench.smoothing.voting import draw
from bench.types import NOT_FINITE, BaseClassifier, Method, Scalar
from bench.types.errors import MethodError
from methods.boosting import BOOSTING
from methods.dds import DDS
from methods.denoised import DENOISED
from methods.densepure import DENSEPURE
from methods.diffsmooth import DIFFSMOOTH
from methods.diffusion.unets import build_unet
from methods.nets import hard_labels
from methods.nets.voting import AGGREGATES, Ensemble
from methods.noise_trained import DMAE, GAUSSIAN
from methods.rrcm import RRCM
from methods.training.rng import seeded_globals

ONE_STEP = {"steps": 1, "votes": 1}
REPLAYABLE: tuple[tuple[Method, str, dict[str, Scalar]], ...] = (
    (GAUSSIAN, "digits", {}),
    (RRCM, "digits", {}),
    (DMAE, "cifar10", {}),
    *((DENOISED, "digits", {"denoiser": name}) for name in ("ffdnet_digits", "dncnn", "memnet")),
    *((BOOSTING, "digits", {"aggregate": name}) for name in AGGREGATES),
    (BOOSTING, "digits", {"consensus": 5}),  # all five: no copy is ever left over
    (DDS, "digits", {}),
    (DDS, "cifar10", {}),
    (DDS, "imagenet", {"geometry": "pad256"}),
    (DENSEPURE, "digits", ONE_STEP),
    *((DIFFSMOOTH, "digits", {"vote": name}) for name in ("soft", "hard")),
)
RANDOM: tuple[tuple[Method, dict[str, Scalar]], ...] = (
    (DDS, {"noise": "grid"}),
    (DENSEPURE, {}),
    (DIFFSMOOTH, {"local": "fresh"}),
)


class Watching(TorchDispatchMode):
    """Refuses every tensor of the host: read, made there from numbers, or copied from there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {}, result)) if isinstance(leaf, Tensor)]
        if func is torch.ops.aten.lift_fresh.default or any(tensor.device.type == "cpu" for tensor in tensors):
            raise AssertionError(f"{func} has to do with the host")
        return result


@contextmanager
def waits_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not find all of them yet
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_meta(method: Method, dataset: str = "digits", **params: Scalar) -> BaseClassifier:
    return method.build(replace(setting(method, dataset, **params), device="meta"))


# ---- waits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "dataset", "params"), REPLAYABLE)
def test_a_replayable_pass_neither_waits_nor_copies_from_the_host(
    method: Method, dataset: str, params: dict[str, Scalar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_labels, "AT_ONCE", ())  # as on a device that has to be waited for
    classifier = on_meta(method, dataset, **params)
    assert classifier.replayable  # type: ignore[attr-defined]
    x = torch.zeros(3, *SHAPES[dataset], device="meta")
    with Watching():
        assert classifier.predict(x, Untouched()).shape == (3,)


@pytest.mark.parametrize(("method", "params"), RANDOM)
def test_a_pass_that_draws_noise_does_not_wait_either(
    method: Method, params: dict[str, Scalar], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fresh:
        def randn(self, *shape: int) -> Tensor:
            return torch.zeros(3, *shape, device="meta")

    monkeypatch.setattr(hard_labels, "AT_ONCE", ())
    classifier, x = on_meta(method, **params), torch.zeros(3, 1, 8, 8, device="meta")
    with Watching():
        assert classifier.predict(x, Fresh()).shape == (3,)


def test_a_network_that_was_trained_for_velocity_does_not_wait_for_its_levels() -> None:
    with torch.device("meta"):
        unet = build_unet("digits_unet", shape=(1, 8, 8)).eval()
    unet.prediction = "v"
    x = torch.zeros(3, 1, 8, 8, device="meta")
    with Watching(), torch.no_grad():
        assert unet(x, 300).shape == (3, 2, 8, 8)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@seeded_globals(1)
def test_a_level_as_a_number_is_that_level_for_each_copy(precision: torch.dtype) -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8)).eval()
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for prediction in ("eps", "v"):
        unet.prediction = prediction  # type: ignore[assignment]
        for t in (0, 300, 417.5, 999):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
                assert torch.equal(unet(x, t), unet(x, torch.full((3,), float(t)))), (prediction, t)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: torch.tensor(3.0).to(x.device),
        lambda x: torch.arange(3.0).to(x),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
    ],
)
def test_what_waits_or_copies_is_found_out(work: Callable[[Tensor], object]) -> None:
    with Watching(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        work(torch.zeros(3, device="meta"))


# ---- what can be recorded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "params"), RANDOM)
def test_what_draws_noise_is_not_replayable(method: Method, params: dict[str, Scalar]) -> None:
    classifier = method.build(setting(method, **params))
    assert not classifier.replayable  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="a replayable classifier drew noise"):
        classifier.predict(copies_of_digits(0, 2), Untouched())


def test_a_consensus_waits_and_is_not_replayable() -> None:
    classifier = on_meta(BOOSTING, consensus=2)
    assert not classifier.replayable  # type: ignore[attr-defined]
    with pytest.raises(NotImplementedError, match="nonzero"):
        classifier.predict(torch.zeros(3, 1, 8, 8, device="meta"), Untouched())


@pytest.mark.parametrize("method", [DDS, DIFFSMOOTH])
def test_another_normaliser_leaves_it_replayable(method: Method) -> None:
    assert method.build(setting(method)).adjusted("normaliser", "half").replayable  # type: ignore[attr-defined]


@pytest.mark.gpu
def test_on_a_gpu_no_pass_waits_and_replays_answer_as_passes_do() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    for method, dataset, params in REPLAYABLE:
        if dataset != "digits":
            continue
        plain = method.build(replace(setting(method, dataset, **params), device="cuda:0"))
        replayed = Replayed(plain, CudaRecorder())
        for first in range(0, 80, 16):
            x = copies_of_digits(first, 16).cuda()
            expected = plain.predict(x, Untouched())  # the first pass may wait: it chooses algorithms
            assert torch.equal(replayed.predict(x, Untouched()), expected), (method.name, params)
        assert replayed.recorded, (method.name, params, replayed.refused)
        with waits_are_errors():
            plain.predict(x, Untouched())
            replayed.predict(x, Untouched())


# ---- logits that are not numbers -------------------------------------------------------------------------------------


class Torn(nn.Module):
    """A network of which one answer, counted over all passes, has a logit that is no number."""

    def __init__(self, inner: nn.Module, row: int, value: float) -> None:
        super().__init__()
        self.inner, self.row, self.value, self.seen = inner, row, value, 0

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x).clone()
        place, self.seen = self.row - self.seen, self.seen + len(x)
        if 0 <= place < len(x):
            logits[place, -1] = self.value
        return logits


def torn(classifier: Any, row: int, value: float = torch.nan) -> Any:
    return replace(classifier, head=Torn(classifier.head, row, value))


VOTING = [
    (DENSEPURE, {"steps": 3, "votes": 5}),
    (DIFFSMOOTH, {"vote": "soft", "local_noises": 5}),
    (DIFFSMOOTH, {"vote": "hard", "local_noises": 5}),
    (DDS, {}),
]


@pytest.mark.parametrize(("copies", "value"), [(3, torch.nan), (3, torch.inf), (80, torch.nan)])  # 80: one vote a pass
@pytest.mark.parametrize(("method", "params"), VOTING)
def test_one_vote_that_is_no_number_marks_its_copy_and_no_other(
    method: Method,
    params: dict[str, Scalar],
    copies: int,
    value: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = method.build(with_weights(setting(method, **params), tmp_path))
    x, vote = copies_of_digits(0, copies), 0 if method is DDS else 3
    expected = whole.predict(x, own_noise(0, copies)).clone()
    assert copies == 3 or len(expected.unique()) > 2
    row = vote * copies + 2  # all copies of a vote, then those of the next
    with pytest.raises(MethodError, match=f"got nan or inf for 1 of {copies} copies"):
        torn(whole, row, value).predict(x, own_noise(0, copies))
    monkeypatch.setattr(hard_labels, "AT_ONCE", ())
    assert torch.equal(whole.predict(x, own_noise(0, copies)), expected)
    expected[2] = NOT_FINITE
    assert torch.equal(torn(whole, row, value).predict(x, own_noise(0, copies)), expected)


def planes(seeds: Sequence[int]) -> list[nn.Module]:
    return [nn.Sequential(nn.Flatten(), plane(seed)) for seed in seeds]


def plane(seed: int) -> nn.Linear:
    linear = nn.Linear(12, 5, bias=False)
    with torch.no_grad():
        linear.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return linear


@pytest.mark.parametrize("member", [0, 2])
@pytest.mark.parametrize("aggregate", AGGREGATES)
@seeded_globals(1)
def test_one_members_answer_that_is_no_number_marks_its_copy_and_no_other(
    aggregate: str, member: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def labels(members: Sequence[nn.Module]) -> Tensor:
        made = Ensemble(members, num_classes=5, device="cpu", aggregate=aggregate, consensus=0)
        return made.predict(x, Untouched())

    x = torch.randn(400, 1, 3, 4, generator=torch.Generator().manual_seed(9))
    expected = labels(planes(range(3))).clone()
    broken = planes(range(3))
    broken[member] = Torn(broken[member], 7, torch.nan)
    with pytest.raises(MethodError, match="got nan or inf for 1 of 400 copies"):
        labels(broken)
    monkeypatch.setattr(hard_labels, "AT_ONCE", ())
    broken[member].seen = 0  # type: ignore[assignment]
    expected[7] = NOT_FINITE
    assert torch.equal(labels(broken), expected)


@pytest.mark.parametrize(("method", "params"), VOTING[:2])
def test_on_a_cpu_no_further_vote_is_taken_once_a_logit_is_no_number(
    method: Method, params: dict[str, Scalar], tmp_path: Path
) -> None:
    classifier = torn(method.build(with_weights(setting(method, **params), tmp_path)), 0)
    with pytest.raises(MethodError, match="finite numbers"):
        classifier.predict(copies_of_digits(0, 80), own_noise(0, 80))
    assert classifier.head.seen == 80  # one vote of five


@seeded_globals(1)
def test_on_a_cpu_no_further_member_is_asked_once_a_logit_is_no_number() -> None:
    first, second = (Torn(member, row, torch.nan) for member, row in zip(planes(range(2)), (0, 999), strict=True))
    with pytest.raises(MethodError, match="finite numbers"):
        Ensemble([first, second], num_classes=5, device="cpu", aggregate="logits", consensus=0).predict(
            torch.ones(4, 1, 3, 4), Untouched()
        )
    assert (first.seen, second.seen) == (4, 0)


def test_the_certifier_refuses_the_marks_of_a_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_labels, "AT_ONCE", ())
    classifier = torn(DENSEPURE.build(with_weights(setting(DENSEPURE, steps=3, votes=5), tmp_path)), 25)
    with pytest.raises(MethodError, match="finite numbers, got nan or inf for 1 of 20 copies"):
        draw(classifier, torch.zeros(1, 8, 8), key=NoiseKey(0, "x", 0.5, ESTIMATE), n=20, batch=10)
