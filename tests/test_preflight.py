"""A wrong normaliser is noticed before the run, and the right one named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.plan import RunRequest, plan
from bench.preflight import look
from bench.run import make_worker
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
    params=(Param(name="scale", default="right", help="", choices=("right", "wrong", "poor"), untold=True),),
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
