"""The layouts in which SmoothAdv, MACER, SmoothMix and the ViT were or would be released, and their normalisers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.types import Method, Setting
from bench.weights.resolve import resolve
from methods.nets.architectures import build_network
from methods.noise_trained import GAUSSIAN, MACER, SMOOTHADV, SMOOTHMIX, STABILITY, VIT_GAUSSIAN

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
STD = torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1)
SCALES = {"mean_std": lambda x: (x - MEAN) / STD, "mean": lambda x: x - MEAN, "none": lambda x: x}

RELEASED = [
    (GAUSSIAN, "authors", "mean_std"),
    (STABILITY, "authors", "mean_std"),
    (SMOOTHADV, "authors", "mean"),
    (SMOOTHMIX, "authors", "mean_std"),
    (MACER, "macer", "none"),
]


class NoNoise:
    """A source of randomness for methods that must not draw from it."""

    def randn(self, *shape: int) -> Tensor:
        raise AssertionError("a deterministic method drew noise")


def content(state: dict[str, Tensor], layout: str) -> dict[str, Any]:
    if layout == "macer":
        return {"net": state, "epoch": 440}
    prefix = {"authors": "1.", "imagenet": "1.module."}[layout]
    named = {prefix + name: tensor for name, tensor in state.items()}
    return {"epoch": 150, "arch": "cifar_resnet110", "state_dict": named, "optimizer": {"state": {}}}


def setting(method: Method, dataset: str, path: Path) -> Setting:
    files = resolve(method, dataset, 0.25, {"network": str(path)}, download=False)
    params = {param.name: param.default_for(dataset) for param in method.params} | dict(files["network"].params)
    return Setting(
        dataset=dataset, num_classes=10, shape=(3, 32, 32), sigma=0.25, params=params, weights=files,
        random_weights=False, seed=0, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize(("method", "layout", "normaliser"), RELEASED, ids=lambda v: getattr(v, "name", v))
def test_a_released_layout_gives_the_labels_of_its_network_on_its_own_scale(
    method: Method, layout: str, normaliser: str, tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_network("cifar_resnet20", num_classes=10, shape=(3, 32, 32)).eval()
    x = 2 * torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fc = network.get_submodule("fc")
        fc.bias.sub_(network(x).mean(dim=0))  # fresh networks call everything the same
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(content(network.state_dict(), layout), path)
    made = setting(method, "cifar10", path)
    assert made.params["arch"] == "cifar_resnet20"  # what the tensors show, not what the file says
    assert made.params["normaliser"] == normaliser
    with torch.no_grad():
        labels = {name: network(scale(x)).argmax(dim=1) for name, scale in SCALES.items()}
    assert torch.equal(method.build(made).predict(x, NoNoise()), labels[normaliser])
    assert not torch.equal(labels["mean"], labels["none"])
    assert not torch.equal(labels["mean"], labels["mean_std"])


@pytest.mark.parametrize("layout", ["imagenet", "macer"])
def test_a_released_imagenet_network_is_recognised(layout: str) -> None:
    with torch.device("meta"):
        state = build_network("resnet50", num_classes=1000, shape=(3, 224, 224)).state_dict()
    made = content(state, layout)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.get("state_dict", made.get("net")).items()}
    assert SMOOTHADV.recognise is not None
    assert SMOOTHADV.recognise("network", shapes, {}) == {"arch": "resnet50"}


def test_the_normalisers_are_those_of_the_released_networks() -> None:
    def default(method: Method, dataset: str) -> object:
        return next(p for p in method.params if p.name == "normaliser").default_for(dataset)

    assert [default(SMOOTHADV, d) for d in ("cifar10", "imagenet", "digits")] == ["mean", "mean", "mean_std"]
    assert [default(MACER, d) for d in ("cifar10", "imagenet", "digits")] == ["none", "none", "mean_std"]
    assert [default(SMOOTHMIX, d) for d in ("cifar10", "imagenet")] == ["mean_std", "mean_std"]
    assert default(VIT_GAUSSIAN, "imagenet") == "half"
    assert next(p for p in SMOOTHADV.params if p.name == "normaliser").inferred


def test_the_vit_takes_photographs_and_small_colour_images() -> None:
    assert VIT_GAUSSIAN.declines("imagenet", (3, 224, 224), 1000) is None
    assert VIT_GAUSSIAN.declines("cifar10", (3, 32, 32), 10) is None
    assert VIT_GAUSSIAN.declines("digits", (1, 8, 8), 10) == (
        "its ViTs take colour images of 224x224 or 32x32, these are 8x8 with 1 channels; use gaussian"
    )
    assert next(p for p in VIT_GAUSSIAN.params if p.name == "arch").default_for("cifar10") == "cifar_small_vit"
    assert next(p for p in VIT_GAUSSIAN.params if p.name == "arch").default_for("imagenet") == "vit_base_patch16_224"
    assert SMOOTHADV.declines("digits", (1, 8, 8), 10) is None
