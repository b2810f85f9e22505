"""A classifier's optional powers are asked for in one place, and a classifier around another one passes them on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bench.runs.execution.cuda_graphs import Replayed
from bench.runs.execution.torch_compile import Compiled
from bench.timing.stages import marked
from bench.types import Adjustable, BaseClassifier, Counted, Denoising, Replayable
from bench.types.classifier import adjusted, calls_of, is_replayable


class Plain:
    num_classes = 3

    def predict(self, x: Any, noise: Any) -> Any:
        return x


class Able(Plain):
    def __init__(self, *, replayable: bool) -> None:
        self.calls, self.replayable = {"unet": 15, "classifier": 3}, replayable

    def adjusted(self, name: str, value: Any) -> BaseClassifier | None:
        return Plain() if (name, value) == ("normaliser", "half") else None


def by_marks(inner: BaseClassifier) -> BaseClassifier:
    with marked(inner, (), lambda stage: None) as made:
        return made


WRAPPERS: list[Callable[[BaseClassifier], BaseClassifier]] = [
    lambda inner: Replayed(inner, lambda classifier, x: SimpleNamespace()),  # type: ignore[arg-type, return-value]
    lambda inner: Compiled(inner, lambda work: work, 8),
    by_marks,
]


@pytest.mark.parametrize("around", WRAPPERS)
def test_what_stands_around_a_classifier_passes_its_powers_on(around: Callable[[BaseClassifier], Any]) -> None:
    able, plain = around(Able(replayable=True)), around(Plain())
    assert (able.num_classes, calls_of(able)) == (3, {"unet": 15, "classifier": 3})
    assert isinstance(adjusted(able, "normaliser", "half"), Plain)
    assert adjusted(able, "normaliser", "none") is None
    assert (plain.num_classes, calls_of(plain), adjusted(plain, "normaliser", "half")) == (3, {}, None)


def test_a_classifier_that_leaves_marks_is_not_replayable() -> None:
    assert not is_replayable(by_marks(Able(replayable=True)))


def test_a_classifier_without_a_power_is_asked_for_none() -> None:
    assert (calls_of(Plain()), is_replayable(Plain()), adjusted(Plain(), "normaliser", "half")) == ({}, False, None)
    assert not isinstance(Plain(), Counted | Replayable | Adjustable | Denoising)
    assert [is_replayable(Able(replayable=said)) for said in (True, False)] == [True, False]


def test_a_counter_of_its_own_by_the_name_of_calls_is_no_statement_of_cost() -> None:
    counting: Any = Plain()
    counting.calls = 7
    assert calls_of(counting) == {}
