"""A wrong normaliser is noticed before the run, and the right one named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.runs import preflight
from bench.runs.certify import make_worker
from bench.runs.preflight import look, spread
from bench.runs.request import RunRequest, plan
from bench.types import Method, Param

HERE = Path(__file__)


class ByScale:
    """Right about every digit, if it sees the scale that it was made for."""

    num_classes = 10

    def __init__(self, scale: str) -> None:
        from bench.data.digits import DIGITS

        self.images = DIGITS.open(None, None, "test")
        self.scale = {"right": 1.0, "wrong": 0.0, "poor": 0.45}[scale]

    def predict(self, x, noise):
        import torch

        pixels = torch.stack([torch.from_numpy(self.images[i].pixels) for i in range(40)]).flatten(1)
        labels = torch.tensor([self.images[i].label for i in range(40)])
        found = torch.cdist(x.flatten(1), pixels).argmin(1)
        right = torch.arange(len(x)).add(found).remainder(20) < 20 * self.scale
        return torch.where(right, labels[found], (labels[found] + 1) % 10)


SCALED = Method(
    name="scaled",
    title="",
    cite="",
    build=lambda setting: ByScale(str(setting.params["scale"])),
    params=(Param(name="scale", default="right", help="", choices=("right", "wrong", "poor"), inferred=True),),
)


def looked(**change) -> tuple[float, tuple[str, ...]]:
    request = RunRequest(methods=(f"{HERE}:SCALED",), dataset="digits", sigmas=(0.1,), n=100, subset="first:40")
    job = plan(replace(request, **change))[0]
    found = look(job, make_worker(job, "cpu", 2))
    return found.accuracy, found.warnings


def test_the_right_choice_passes_without_a_word() -> None:
    accuracy, warnings = looked()
    assert accuracy > 0.9
    assert warnings == ()


def test_a_choice_near_chance_is_named_with_the_one_that_fits() -> None:
    accuracy, warnings = looked(params=("scale=wrong",))
    assert accuracy < 0.2
    assert len(warnings) == 1
    assert "near chance (10.0 %)" in warnings[0]
    assert "--set scale=right" in warnings[0]


def test_a_choice_that_is_only_worse_is_named_too() -> None:
    accuracy, warnings = looked(params=("scale=poor",))
    assert 0.3 < accuracy < 0.7
    assert len(warnings) == 1
    assert "--set scale=right" in warnings[0]
    assert "chance" not in warnings[0]


def test_the_images_looked_at_are_of_all_classes_and_of_all_of_the_subset() -> None:
    by_class = spread(range(10_000), lambda index: index // 1_000)  # class by class, as a folder is
    counts = [sum(index // 1_000 == label for index in by_class) for label in range(10)]
    assert (len(set(by_class)), min(counts), max(counts)) == (32, 3, 4)
    many = spread(range(5_000), lambda index: index // 5)
    assert len({index // 5 for index in many}) == 32
    assert max(many) > 3_000  # 32 of 1000 classes at random: false in (3/5) ** 32 of seeds, and the seed stands
    rare = spread(range(100), lambda index: int(index == 99))
    assert 99 in rare
    assert sorted(spread([5, 3], lambda index: 0)) == [3, 5]


@pytest.mark.parametrize("means", ["one", "two"])
def test_two_names_of_one_scale_are_tried_once(monkeypatch: pytest.MonkeyPatch, means: str) -> None:
    request = RunRequest(methods=(f"{HERE}:SCALED",), dataset="digits", sigmas=(0.1,), n=100, subset="first:40")
    asked = plan(request)[0]
    built: list[str] = []

    def note(job, device, dataset):
        built.append(job.spec.params["scale"])
        return ByScale(job.spec.params["scale"])

    meaning = {"one": lambda params, dataset: "same", "two": lambda params, dataset: str(params["scale"])}[means]
    param = replace(SCALED.params[0], meaning=meaning)
    monkeypatch.setattr(preflight.registry, "method", lambda name: replace(SCALED, params=(param,)))
    worker = make_worker(asked, "cpu", 2)
    monkeypatch.setattr(preflight, "build", note)
    look(asked, worker)
    assert built == {"one": [], "two": ["wrong", "poor"]}[means]


class Shared(ByScale):
    """One that tries another scale with the images that it has."""

    built = 0

    def __init__(self, scale: str) -> None:
        super().__init__(scale)
        Shared.built += 1

    def adjusted(self, name: str, value: str) -> ByScale:
        assert name == "scale"
        return ByScale(value)


SHARED = replace(SCALED, name="shared", build=lambda setting: Shared(str(setting.params["scale"])))


def test_a_network_that_can_be_adjusted_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    request = RunRequest(methods=(f"{HERE}:SHARED",), dataset="digits", sigmas=(0.1,), n=100, subset="first:40")
    job = plan(replace(request, params=("scale=wrong",)))[0]
    worker = make_worker(job, "cpu", 2)
    shared = type(worker.classifier)  # of the file as the registry reads it, another module than this one
    assert shared.built == 1
    assert "--set scale=right" in look(job, worker).warnings[0]
    assert shared.built == 1


def test_a_slow_network_is_looked_at_once_and_no_alternative_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "SECONDS", 0.0)
    request = RunRequest(methods=(f"{HERE}:SCALED",), dataset="digits", sigmas=(0.1,), n=100, subset="first:40")
    job = plan(replace(request, params=("scale=wrong",)))[0]
    found = look(job, make_worker(job, "cpu", 2))
    assert found.copies == preflight.COPIES
    assert "--set" not in " ".join(found.warnings)
