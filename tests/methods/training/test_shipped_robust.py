"""The digits weights of SmoothAdv, MACER, SmoothMix, Stability, Boosting and Denoised, as a run would find them."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from bench.data.digits import DIGITS
from bench.runs import registry
from bench.types import BaseClassifier, Scalar, Setting
from bench.weights.resolve import resolve
from methods.training.rng import seeded_globals

SIGMAS = (0.25, 0.5, 1.0)
METHODS = ("smoothadv", "macer", "smoothmix", "stability", "boosting", "denoised")
DRAWS = 4  # copies of each of the 500 test images
# The lowest of their accuracies, mean of 1,000 draws (0.902, 0.670, 0.283), less three binomial standard errors of 500.
LEAST = {0.25: 0.86, 0.5: 0.60, 1.0: 0.22}


class NoNoise:
    """A source of randomness for methods that must not draw from it."""

    def randn(self, *shape: int) -> Tensor:
        raise AssertionError("a deterministic method drew noise")


@cache
def digits() -> tuple[Tensor, Tensor]:
    images = [DIGITS.open(None, None, "test")[i] for i in range(500)]
    return torch.stack([torch.from_numpy(image.pixels) for image in images]), torch.tensor([i.label for i in images])


def shipped(name: str, sigma: float, **changes: Scalar) -> BaseClassifier:
    method = registry.method(name)
    files = resolve(method, "digits", sigma, {}, download=False)
    params = {param.name: param.default_for("digits") for param in method.params}
    for file in files.values():
        assert file.path.stat().st_size < 2_000_000
        params |= dict(file.params)
    return method.build(
        Setting(
            dataset="digits",
            num_classes=10,
            shape=(1, 8, 8),
            sigma=sigma,
            params={**params, **changes},
            weights=files,
            random_weights=False,
            seed=0,
            device="cpu",
        )
    )


def accuracy(classifier: BaseClassifier, sigma: float) -> float:
    x, labels = digits()
    source = torch.Generator().manual_seed(11)
    right = 0
    for _ in range(DRAWS):
        noisy = x + sigma * torch.randn(x.shape, generator=source)
        right += int((classifier.predict(noisy, NoNoise()) == labels).sum())
    return right / (DRAWS * len(x))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("name", METHODS)
def test_shipped_weights_are_found_and_see_through_their_noise(name: str, sigma: float) -> None:
    assert accuracy(shipped(name, sigma), sigma) > LEAST[sigma]


@pytest.mark.parametrize("sigma", SIGMAS)
@seeded_globals(1)
def test_five_members_are_no_worse_than_their_mean(sigma: float) -> None:
    from methods.boosting import member_tensors
    from methods.nets.architectures import build_network
    from methods.nets.hard_labels import HardLabels
    from methods.nets.normalisers import Normaliser

    file = resolve(registry.method("boosting"), "digits", sigma, {}, download=False)["members"]
    alone = []
    for state in member_tensors(file):
        network = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8))
        network.load_state_dict(state, strict=False)
        layers = torch.nn.Sequential(Normaliser("mean_std", "digits", channels=1), network)
        alone.append(accuracy(HardLabels(layers, num_classes=10, device="cpu"), sigma))
    assert len(alone) == 5
    assert len(set(alone)) > 1
    assert accuracy(shipped("boosting", sigma), sigma) >= sum(alone) / 5


def test_the_consensus_of_two_changes_few_labels() -> None:
    x, _ = digits()
    noisy = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    every = shipped("boosting", 0.5).predict(noisy, NoNoise())
    few = shipped("boosting", 0.5, consensus=2).predict(noisy, NoNoise())
    assert 0.9 < float((every == few).double().mean()) < 1
