"""`arch=timm:NAME`: timm's own network, its checkpoint as released or wrapped, and the normaliser of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.runs.certify import build, open_dataset
from bench.runs.request import RunRequest, plan
from bench.types.errors import BenchError, MethodError
from methods.nets.timm_models import check_name, normaliser, timm_network
from methods.training.rng import seeded_globals

NAME = "resnet18.a1_in1k"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = torch.Generator().manual_seed(1)
    for label in ("cat", "dog", "emu"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for k in range(2):
            pixels = (torch.rand(64, 64, 3, generator=source) * 255).byte().numpy()
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{k}.png")
    return tmp_path


def request(folder: Path, weights: Path, *words: str, size: int | None = 64) -> RunRequest:
    return RunRequest(
        methods=("gaussian",), dataset="folder", sigmas=(0.5,), n=100, data_root=folder / "images", size=size,
        weights=(f"network={weights}",), params=words, class_order="text",
    )  # fmt: skip


@pytest.mark.parametrize("wrapped", ["released", "DataParallel"])
@pytest.mark.parametrize("name", [NAME, "mobilenetv3_small_050.lamb_in1k"])
@seeded_globals(1)
def test_a_checkpoint_gives_timms_own_labels(folder: Path, name: str, wrapped: str) -> None:
    network = timm.create_model(name, num_classes=3)
    for module in network.modules():  # fresh statistics would make all labels alike
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    network.eval()
    file = folder / ("net.safetensors" if wrapped == "released" else "net.pth.tar")
    if wrapped == "released":
        save_file(network.state_dict(), file)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, file)
    (job,) = plan(request(folder, file, f"arch=timm:{name}"))
    mean, std = ([f"{v:g}" for v in network.pretrained_cfg[key]] for key in ("mean", "std"))
    assert job.spec.params == {"arch": f"timm:{name}", "normaliser": f"{','.join(mean)}/{','.join(std)}"}
    dataset = open_dataset(job)
    classifier = build(job, "cpu", dataset)
    x = torch.rand(8, 3, 64, 64)
    column = (torch.tensor(network.pretrained_cfg[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = network((x - next(column)) / next(column)).argmax(1)
        assert torch.equal(classifier.predict(x, None), expected)  # type: ignore[arg-type]  # draws no noise


@seeded_globals(1)
def test_a_normaliser_of_ones_own_goes_before_timms(folder: Path) -> None:
    file = folder / "net.safetensors"
    save_file(timm_network(NAME, num_classes=3, shape=(3, 64, 64)).state_dict(), file)
    (job,) = plan(request(folder, file, f"arch=timm:{NAME}", "normaliser=half"))
    assert job.spec.params["normaliser"] == "half"


def test_the_normaliser_is_that_of_the_weights_named() -> None:
    assert normaliser("vit_tiny_patch16_224.augreg_in21k") == "0.5,0.5,0.5/0.5,0.5,0.5"
    assert normaliser("resnet18.tv_in1k") == "0.485,0.456,0.406/0.229,0.224,0.225"


@seeded_globals(1)
def test_a_network_for_one_size_is_built_for_the_images() -> None:
    network = timm_network("vit_tiny_patch16_224", num_classes=3, shape=(3, 32, 32)).eval()
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet1888", "has no model"),
        ("resnet18.nobody", "has no weights 'nobody'"),
        ("hf-hub:someone/model", "has no model"),
        ("", "has no model"),
    ],
)
def test_what_timm_does_not_have_is_refused(name: str, said: str) -> None:
    with pytest.raises(MethodError, match=said) as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


@seeded_globals(1)
def test_a_checkpoint_of_another_network_is_refused(folder: Path) -> None:
    file = folder / "net.safetensors"
    save_file(timm_network("resnet18", num_classes=3, shape=(3, 64, 64)).state_dict(), file)
    (job,) = plan(request(folder, file, "arch=timm:resnet10t"))
    with pytest.raises(BenchError, match="expected the tensors of 'timm:resnet10t'"):
        build(job, "cpu", open_dataset(job))
    with pytest.raises(BenchError, match="resnet1888"):
        plan(request(folder, file, "arch=timm:resnet1888"))
    with pytest.raises(MethodError, match="cannot be built"):
        timm_network("xcit_nano_12_p16_224", num_classes=3, shape=(3, 7, 7))
