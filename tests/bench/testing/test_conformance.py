"""The kit passes what keeps the protocol and names each way to break it; its fakes keep their closed forms."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from both_stages import both_stages
from scipy.stats import binom, norm
from torch import Tensor, nn

from bench.certification.bounds import certify
from bench.testing import Constant, HalfSpace, RandomClassifier, ToyImages, check_method
from bench.types import ABSTAIN, Noise

SHAPE = (3, 6, 6)


def half_space(seed: int = 0) -> HalfSpace:
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    return HalfSpace(w, -float(w.sum()) / 2)  # through the middle of the cube, so that both classes occur


class Network(nn.Module):
    """A small network that keeps the protocol."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Linear(16, 4))
        self.eval()

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        return self.layers(x).argmax(1)


class Noisy(Network):
    """Takes randomness of its own, as it may."""

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        return super().predict(x + 0.1 * noise.randn(*SHAPE) - 0.1 * noise.randn(*SHAPE), noise)


@pytest.mark.parametrize("make", [half_space, partial(RandomClassifier, 7), Network, Noisy])
def test_a_method_that_keeps_the_protocol_passes(make: Callable[[], Any]) -> None:
    findings = check_method(make(), SHAPE, build=make)
    assert [finding for finding in findings if not finding.ok or finding.detail] == []
    assert len({finding.claim for finding in findings}) == 10


def test_a_replayable_method_that_draws_noise_is_found_out() -> None:
    def replayable(made: Network) -> Network:
        made.replayable = True
        return made

    kept, broken = (check_method(replayable(made), SHAPE) for made in (Network(), Noisy()))
    assert all(finding.ok for finding in kept)
    (found,) = [finding for finding in broken if not finding.ok]
    assert "can be replayed" in found.claim
    assert "drew noise of shape (3, 6, 6)" in found.detail


def test_labels_that_are_all_equal_are_said_to_try_little() -> None:
    findings = check_method(Constant(2, 3), SHAPE)
    assert all(finding.ok for finding in findings)
    assert [finding.claim for finding in findings if "all 8 labels are equal" in finding.detail] == [
        "equal x and equal noise give equal labels",
        "a label does not depend on the batch that its copy is in",
    ]


class Broken:
    """A network whose `predict` breaks the protocol in one way."""

    num_classes = 4

    def __init__(self, break_it: Callable[[Broken, Tensor, Noise], Any]) -> None:
        self.network, self.break_it, self.calls = Network(), break_it, 0

    def predict(self, x: Tensor, noise: Noise) -> Any:
        self.calls += 1
        return self.break_it(self, x, noise)

    def true(self, x: Tensor) -> Tensor:
        return self.network.layers(x).argmax(1)


def scores(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    return it.network.layers(x)


def class_too_many(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    return it.true(x) + 4


def changing(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    return (it.true(x) + it.calls) % 4


def batch_statistics(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    return (x.flatten(1).mean(1) > x.mean()).long()


def squeezed(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    return it.true(x).squeeze()


def only_pixels(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    if x.abs().max() > 10:
        raise ValueError("pixels must lie in [0, 1]\nreally")
    return it.true(x)


def clipping(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    return it.true(x.clamp_(0, 1))


def torch_noise(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    torch.rand(())
    return it.true(x)


def numpy_noise(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    np.random.rand()  # noqa: NPY002 - the sin that is to be found
    return it.true(x)


def python_noise(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    random.random()
    return it.true(x)


def keeping_gradients(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    with torch.inference_mode(mode=False), torch.enable_grad():
        it.network.layers(x.clone()).sum().backward()
    return it.true(x)


def training(it: Broken, x: Tensor, noise: Noise) -> Tensor:
    it.network.layers[2].train()
    return it.true(x)


@pytest.mark.parametrize(
    ("break_it", "claim", "detail"),
    [
        (scores, "labels are int64", "got torch.float32 of shape (8, 4) for 8 copies"),
        (class_too_many, "labels are int64", "got labels ["),
        (changing, "equal x and equal noise", "8 of 8 labels differ, the first at copy 0"),
        (batch_statistics, "does not depend on the batch", "8 copies against 3 + 5: "),
        (squeezed, "one copy alone", "got torch.int64 of shape () for 1 copies"),
        (only_pixels, "far outside [0, 1]", "raised ValueError: pixels must lie in [0, 1]"),
        (clipping, "input is left as it was", "8 of 8 copies were changed in place"),
        (torch_noise, "global random generators", "torch moved"),
        (numpy_noise, "global random generators", "numpy.random moved"),
        (python_noise, "global random generators", "random moved"),
        (keeping_gradients, "no gradient", "4 parameters hold a gradient"),
        (training, "eval mode", "1 modules are in training mode, the first a ReLU"),
    ],
)
def test_each_way_to_break_the_protocol_is_named(
    break_it: Callable[[Broken, Tensor, Noise], Any], claim: str, detail: str
) -> None:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - put back below
    with torch.random.fork_rng():
        findings = check_method(Broken(break_it), SHAPE)
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002
    found = [finding for finding in findings if claim in finding.claim]
    assert len(found) == 1
    assert not found[0].ok
    assert found[0].detail.startswith(detail)
    assert all("\n" not in finding.detail for finding in findings)


def test_a_network_in_training_mode_is_found_wherever_it_is_held() -> None:
    class Holder:
        num_classes = 4

        def __init__(self, held: object) -> None:
            self.held = held

        def predict(self, x: Tensor, noise: Noise) -> Tensor:
            return torch.zeros(len(x), dtype=torch.int64)

    dropout = nn.Dropout()
    for held in (
        [dropout],
        {"a": (dropout,)},
        partial(dropout),
        dropout.forward,
        lambda x: dropout(x),
        Holder(dropout),
    ):
        modes = [finding for finding in check_method(Holder(held), SHAPE) if "eval mode" in finding.claim]
        assert [finding.ok for finding in modes] == [False], held
    dropout.eval()
    assert all(finding.ok for finding in check_method(Holder([dropout]), SHAPE))


def test_a_build_that_differs_each_time_is_found() -> None:
    shift = iter(range(100))

    def build() -> Constant:
        return Constant(next(shift), 100)

    findings = check_method(build(), SHAPE, build=build)
    assert [finding.claim for finding in findings if not finding.ok] == ["building it again gives the same labels"]


def test_no_number_of_classes_is_a_finding_not_a_crash() -> None:
    class Nameless:
        def predict(self, x: Tensor, noise: Noise) -> Tensor:
            return torch.zeros(len(x), dtype=torch.int64)

    findings = check_method(Nameless(), SHAPE)  # type: ignore[arg-type]
    assert "num_classes" in findings[0].detail


def test_the_half_space_changes_its_label_exactly_at_its_radius() -> None:
    fake, x = half_space(), torch.from_numpy(ToyImages(4, SHAPE)[1].pixels)
    towards = fake.w / fake.w.norm() * (-1 if fake.label(x) == 1 else 1)
    for scale, same in ((1 - 1e-9, True), (1 + 1e-9, False)):
        moved = x.double() + scale * fake.radius(x) * towards
        assert (fake.label(moved) == fake.label(x)) is same


def test_votes_on_the_half_space_follow_its_probability_and_no_certificate_exceeds_its_radius() -> None:
    fake, sigma, n = half_space(), 0.5, 4000
    for index in range(3):
        image = ToyImages(3, SHAPE, seed=1)[index]
        x = torch.from_numpy(image.pixels)
        selection, estimation = both_stages(
            fake, x, seed=0, fingerprint=image.fingerprint, sigma=sigma, n0=100, n=n, batch=1000
        )
        p = fake.probability(x, sigma)
        assert p == pytest.approx(norm.cdf(fake.radius(x) / sigma), rel=1e-12)
        # 6 two-sided binomial tests in all: one false alarm in 10^9 draws of the noise, which is keyed and so fixed.
        low, high = binom.ppf([1e-10, 1 - 1e-10], n, p)
        assert low <= estimation[fake.label(x)] <= high
        assert certify(selection, estimation, sigma=sigma, alpha=1e-9).radius <= fake.radius(x)


def test_the_random_classifier_is_never_certified() -> None:
    image = ToyImages(1, SHAPE)[0]
    x = torch.from_numpy(image.pixels)
    selection, estimation = both_stages(
        RandomClassifier(10), x, seed=0, fingerprint=image.fingerprint, sigma=0.5, n0=100, n=1000, batch=300
    )
    assert len(estimation.votes) == 10
    assert certify(selection, estimation, sigma=0.5, alpha=0.001).label == ABSTAIN


def test_toy_images_are_a_dataset_of_both_labels() -> None:
    toys = ToyImages(60, SHAPE, seed=2)
    labels = [toys.label(index) for index in range(len(toys))]
    assert set(labels) == {0, 1}
    for index in (0, 59):
        image = toys[index]
        assert image.pixels.dtype == np.float32
        assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
        assert image.label == int(image.pixels.mean(dtype=np.float64) > 0.5)
        assert image.fingerprint == ToyImages(99, SHAPE, seed=2)[index].fingerprint
    assert len({toys.digest(index) for index in range(60)}) == 60
