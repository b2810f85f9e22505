"""Checkpoints: only whole, harmless files are read, whatever they are called."""

from __future__ import annotations

import contextlib
import os
import pickle
import random

import pytest
import torch
from weights_files import (
    TOY,
    _own_folders,  # noqa: F401 - a fixture that every test here takes
    installed,
    refused,
    saved,
    state,
)

from bench.types.errors import WeightsError
from bench.weights import resolve
from methods.training.rng import seeded_globals


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("key", ["state_dict", "net", "model", None])
def test_every_container_of_the_field_gives_the_same_tensors(tmp_path, key, old):
    content = {key: state(), "arch": "small", "epoch": 7} if key else state()
    tensors, meta = resolve.load_tensors(saved(tmp_path / "checkpoint.pth.tar", content, old=old))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {k: v.tolist() for k, v in state().items()}
    assert meta == ({"arch": "small", "epoch": 7} if key else {})


def test_safetensors_tell_of_themselves_whatever_they_are_called(tmp_path):
    from safetensors.torch import save_file

    save_file(state(), tmp_path / "misnamed.pth", metadata={"arch": "small", "sigma": "0.25"})
    tensors, meta = resolve.load_tensors(tmp_path / "misnamed.pth")
    assert torch.equal(tensors["fc.weight"], state()["fc.weight"])
    assert meta == {"arch": "small", "sigma": "0.25"}


def test_torch_format_called_safetensors_is_read_all_the_same(tmp_path):
    tensors, _ = resolve.load_tensors(saved(tmp_path / "misnamed.safetensors", state()))
    assert torch.equal(tensors["fc.weight"], state()["fc.weight"])


def test_a_pre_training_folder_stands_for_its_online_network(tmp_path):
    saved(tmp_path / "600000.ckpt" / "nnet.pth", state())
    saved(tmp_path / "600000.ckpt" / "nnet_ema.pth", state(9))
    assert resolve.load_tensors(tmp_path / "600000.ckpt")[0]["fc.weight"].shape == (2, 3)
    refused(lambda: resolve.load_tensors(tmp_path), "nnet.pth")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path, old):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    file = saved(tmp_path / "bomb.pth", {"state_dict": state(), "extra": Bomb()}, old=old)
    refused(lambda: resolve.load_tensors(file), "holds code, refused", "mkdir")
    bare = tmp_path / "plain.pkl"
    bare.write_bytes(pickle.dumps(Bomb()))
    refused(lambda: resolve.load_tensors(bare), "holds code, refused")
    assert not (tmp_path / "exploded").exists()


@seeded_globals(1)
def test_a_whole_module_is_refused_by_its_name(tmp_path):
    file = saved(tmp_path / "module.pt", torch.nn.Linear(2, 2))
    refused(lambda: resolve.load_tensors(file), "holds code, refused", "torch.nn.modules.linear.Linear")


@pytest.mark.parametrize("kind", ["zip", "before 1.6", "safetensors"])
def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path, kind):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state(), whole)
    else:
        saved(whole, {"state_dict": state(), "epoch": 1}, old=kind != "zip")
    data = whole.read_bytes()
    for size in range(0, len(data), 1 + len(data) // 150):
        cut.write_bytes(data[:size])
        refused(lambda: resolve.load_tensors(cut), "fetch it again")


def test_no_flipped_byte_gives_a_traceback(tmp_path):
    data = saved(tmp_path / "whole", {"state_dict": state()}, old=True).read_bytes()
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        with contextlib.suppress(WeightsError):  # a flip within the numbers is not seen here: the sha256 sees it
            resolve.load_tensors(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty file"),
        (b"\n<!DOCTYPE html><html><title>Quota exceeded</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"epoch,loss\n1,0.5\n", "expected a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, word):
    (tmp_path / "model.pth").write_bytes(content)
    refused(lambda: resolve.load_tensors(tmp_path / "model.pth"), word, "model.pth")


def test_a_path_that_cannot_be_is_one_line():
    for text in ("x" * 300, "~nobody/such/x.pth", "a\0b"):
        call = lambda text=text: resolve.resolve(TOY, "digits", 0.25, {"network": text}, download=False)  # noqa: E731
        refused(call, "check the path")


def test_a_package_without_its_catalogue_is_named(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path / "package", text="")
    (tmp_path / "package" / "weights.toml").unlink()
    refused(resolve.catalogue, "'theirs'", "no file")


def test_a_missing_file_is_named(tmp_path):
    refused(lambda: resolve.load_tensors(tmp_path / "nowhere.pth"), "nowhere.pth", "found nothing there")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_diverged_network_is_refused_by_the_tensor(tmp_path, value, dtype):
    bad = state()
    bad["fc.bias"] = torch.tensor([0.0, value], dtype=getattr(torch, dtype))
    refused(lambda: resolve.load_tensors(saved(tmp_path / "bad.pth", bad)), "'fc.bias'", "NaN or infinity")


@pytest.mark.parametrize(
    "content", [{"state": {}, "param_groups": [{"lr": 0.1}]}, {"state_dict": {"a": [1.0]}}, [1, 2], {"epoch": 3}, {}]
)
def test_an_optimiser_or_a_list_is_no_network(tmp_path, content):
    refused(lambda: resolve.load_tensors(saved(tmp_path / "other.pth", content)), "expected a state dict")


@pytest.mark.parametrize("prefix", ["", "1.", "module.", "1.module.", "module.1.", "module.module.1."])
def test_wrappers_come_off_in_any_order(prefix):
    assert list(resolve.strip_prefixes({f"{prefix}conv1.weight": 0, f"{prefix}fc.bias": 1}).items()) == [
        ("conv1.weight", 0),
        ("fc.bias", 1),
    ]


def test_a_prefix_that_not_all_names_share_is_part_of_the_name():
    names = {"module.fc.weight": 0, "head.weight": 1}
    assert resolve.strip_prefixes(names) == names
    assert resolve.strip_prefixes({"1.fc.weight": 0, "0.mean": 1}) == {"1.fc.weight": 0, "0.mean": 1}
    assert resolve.strip_prefixes({"model.0.weight": 0}) == {"model.0.weight": 0}
    assert resolve.strip_prefixes({}) == {}
