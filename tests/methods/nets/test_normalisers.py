"""A run's normaliser: whose word it is, never a silent guess, and the name of the images does not move it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.runs.certify import Job, build, open_dataset
from bench.runs.method_settings import params_of
from bench.runs.request import RunRequest, plan
from bench.types import Method, WeightsFile
from bench.types.errors import MethodError, UsageError, WeightsError
from methods.dds import DDS
from methods.nets.cifar_resnet import cifar_resnet
from methods.nets.load_weights import seeded
from methods.noise_trained import GAUSSIAN, MACER, VIT_GAUSSIAN

OWN = "0.4914,0.4822,0.4465/0.2023,0.1994,0.201"


def file(method: Method = GAUSSIAN, *, on: str = "", **params: str) -> dict[str, WeightsFile]:
    role = method.roles[-1].name
    return {role: WeightsFile(role=role, path=Path("x"), sha256="0", name="mine.pth", params=params, trained_on=on)}


def chosen(dataset: str, files: dict[str, WeightsFile], method: Method = GAUSSIAN, **said: str) -> tuple[str, str]:
    params, (remark,) = params_of(method, dataset, said, files)
    return str(params["normaliser"]), remark.partition(": ")[2]


# ---- the same images under two names ---------------------------------------------------------------------------------


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """Ten pictures as CIFAR-10's binary file, and as a folder of PNG; a network that says it was trained on them."""
    made = np.random.default_rng(5).integers(0, 256, (10, 3073), dtype=np.uint8)
    made[:, 0] = range(10)
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "test_batch.bin").write_bytes(made.tobytes())
    for i, record in enumerate(made):
        folder = tmp_path / "png" / f"class{i}"
        folder.mkdir(parents=True)
        Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(folder / "0.png")
    with seeded(3, "network"):
        network = cifar_resnet(20, num_classes=10, in_channels=3)
    save_file(network.state_dict(), tmp_path / "bare.safetensors")
    said = {"normaliser": "mean_std", "dataset": "cifar10"}
    save_file(network.state_dict(), tmp_path / "own.safetensors", metadata=said)
    return tmp_path


def job(at: Path, dataset: str, weights: str, *params: str) -> Job:
    request = RunRequest(
        methods=("gaussian",), dataset=dataset, sigmas=(0.25,), n0=4, n=60, alpha=0.3, subset="first:2", size=32,
        data_root=at / ("cifar" if dataset == "cifar10" else "png"), weights=(f"network={at / weights}.safetensors",),
        params=params,
    )  # fmt: skip
    return plan(request)[0]


def logits(asked: Job) -> torch.Tensor:
    images = open_dataset(asked)
    classifier = build(asked, "cpu", images)
    return classifier.network(torch.from_numpy(images[1].pixels)[None])  # type: ignore[attr-defined]


def test_the_name_of_the_images_moves_no_logit(twice: Path) -> None:
    asked = [
        job(twice, "cifar10", "own"),
        job(twice, "folder", "own"),  # which the file's own word is enough for
        job(twice, "folder", "bare", "normaliser=mean_std_cifar10"),
        job(twice, "folder", "bare", f"gaussian.normaliser={OWN}"),
    ]
    assert [each.spec.params["normaliser"] for each in asked] == ["mean_std", *["mean_std_cifar10"] * 2, OWN]
    one, *others = map(logits, asked)
    assert all(torch.equal(one, other) for other in others)
    assert not torch.equal(one, logits(job(twice, "folder", "bare", "normaliser=none")))


def test_images_of_no_known_dataset_have_no_default(twice: Path) -> None:
    with pytest.raises(MethodError, match="needs --set normaliser=") as refusal:
        job(twice, "folder", "bare")
    assert "mean_std_cifar10" in str(refusal.value)
    assert " mean_std," not in str(refusal.value)  # which they do not have
    assert chosen("cifar10", file())[0] == "mean_std"


# ---- whose word it is ------------------------------------------------------------------------------------------------


def test_the_users_word_goes_before_the_weights_and_theirs_before_the_default() -> None:
    told = file(normaliser="mean_std_imagenet")
    assert chosen("cifar10", file(MACER), MACER) == ("none", "normaliser none = 0/1, the default on cifar10")
    name, remark = chosen("cifar10", told)
    assert (name, remark.rpartition(", ")[2]) == ("mean_std_imagenet", "as the weights say")
    name, remark = chosen("cifar10", told, normaliser="half")
    assert name == "half"
    assert remark == "normaliser half = 0.5/0.5, as --set says; ! the weights 'mine.pth' say mean_std_imagenet"
    assert "!" not in chosen("cifar10", told, normaliser="0.485,0.456,0.406/0.229,0.224,0.225")[1]  # the same numbers


def test_numbers_in_a_file_are_taken_and_what_is_none_is_refused_unless_overruled() -> None:
    assert chosen("folder", file(normaliser=f" {OWN}0"))[0] == OWN
    for words in ("0.5,0.5", "mean_std"):  # of a dataset that the file does not name
        with pytest.raises(WeightsError, match=r"weights 'mine.pth' say normaliser="):
            chosen("folder", file(normaliser=words))
        assert chosen("folder", file(normaliser=words), normaliser="half")[0] == "half"
    with pytest.raises(UsageError, match="--set normaliser="):
        chosen("folder", file(), normaliser="mean_std")


def test_random_weights_need_no_normaliser() -> None:
    for method in (GAUSSIAN, DDS, VIT_GAUSSIAN):
        assert chosen("folder", {}, method)[0] == "half"


def test_a_family_tells_its_numbers_only_where_it_is_asked_to() -> None:
    files = file(DDS, classifier="deit_base_patch16_224")
    assert chosen("imagenet", files, DDS)[1].startswith(
        "normaliser by_classifier = 0.485,0.456,0.406/0.229,0.224,0.225,"
    )
    with pytest.raises(MethodError, match=r"expected one of by_classifier, none, "):
        chosen("folder", files, DDS)
    assert chosen("folder", files, DDS, normaliser="by_classifier")[0] == "by_classifier"
    with pytest.raises(MethodError, match="needs the channel means"):  # its family has those of the dataset
        chosen("folder", file(DDS, classifier="cifar_resnet110"), DDS, normaliser="by_classifier")
