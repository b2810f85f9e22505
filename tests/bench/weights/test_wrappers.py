"""Names come out from under their wrappers, a normaliser in front is handed over, and nothing is dropped unsaid."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from weights_files import (
    TOY,
    _own_folders,  # noqa: F401 - a fixture that every test here takes
    refused,
    saved,
    state,
)

from bench.types import Role
from bench.types.errors import WeightsError
from bench.weights import resolve
from bench.weights.checkpoints import read_checkpoint
from bench.weights.wrappers import split_normaliser, tidied, under, unwrapped

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SAID = ",".join(f"{v:.9g}" for v in MEAN.tolist()) + "/" + ",".join(f"{v:.9g}" for v in STD.tolist())


def known(shapes):
    return "fc.weight" in shapes


def named(prefix, tensors=None):
    return {f"{prefix}{name}": tensor for name, tensor in (tensors or state()).items()}


@pytest.mark.parametrize(
    "prefix",
    ["model.", "net.", "network.", "module.model.", "model.module.", "_orig_mod.", "module._orig_mod.",
     "_orig_mod.1.", "_orig_mod.module.", "model._orig_mod.", "_forward_module.model.", "_fsdp_wrapped_module.",
     "student.", "backbone.", "module.1.model.net."],
)  # fmt: skip
@pytest.mark.parametrize("extra", [{}, {"criterion.weight": torch.ones(10), "train_acc.total": torch.ones(())}])
def test_a_wrapper_comes_off_and_what_lies_beside_it_is_named(prefix, extra):
    found, outside = unwrapped(tidied({**named(prefix), **extra}), known)
    if extra and not set(prefix.split(".")) - {"_orig_mod", "_forward_module", "_fsdp_wrapped_module", ""}:
        assert outside == ()  # nothing tells the network from the rest: it is left to the strict loading
        return
    assert {name: tensor.tolist() for name, tensor in found.items()} == {k: v.tolist() for k, v in state().items()}
    assert set(outside) == set(extra)


def test_wrappers_within_a_name_go_too():
    assert tidied({"layer1._orig_mod.0._checkpoint_wrapped_module.conv.weight": 0}) == {"layer1.0.conv.weight": 0}
    assert tidied({"n_averaged": 3, "module.fc.weight": 0}) == {"module.fc.weight": 0}
    assert tidied({"n_averaged": 3, "fc.weight": 0}).keys() == {"n_averaged", "fc.weight"}
    assert tidied({"fc.weight": 0, "fc.total_ops": 1, "total_params": 2}) == {"fc.weight": 0}  # thop's counts
    with pytest.raises(WeightsError, match="one name"):
        tidied({"_orig_mod.fc.weight": 0, "fc.weight": 1})


def test_two_networks_under_two_holders_are_refused_unless_they_are_one():
    other = {name: tensor + 1 for name, tensor in state().items()}
    with pytest.raises(WeightsError, match="two networks, under 'student' and under 'teacher'"):
        unwrapped({**named("student."), **named("teacher.", other)}, known)
    found, _ = unwrapped({**named("student."), **named("teacher.")}, known)
    assert found.keys() == state().keys()


def test_names_that_are_known_need_no_recognition():
    beside = {"criterion.weight": torch.ones(2)}
    assert under({**named("wrapper.model."), **beside}, list(state())).keys() != state().keys()
    assert under(named("wrapper.model."), list(state())).keys() == state().keys()
    assert under(named("model.net."), list(state())).keys() == state().keys()
    assert under(named("model.0."), ["model.0.fc.weight", "model.0.fc.bias"]).keys() == named("model.0.").keys()


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
@pytest.mark.parametrize(
    ("names", "network"),
    [
        (("mean", "std"), ""),
        (("mu", "sigma"), ""),
        (("0.mean", "0.std"), "1."),
        (("normalize.mean", "normalize.std"), "model."),
        (("normalizer.new_mean", "normalizer.new_std"), "model."),
        (("module.normalizer.new_mean", "module.normalizer.new_std"), "module.model."),
        (("model.mean", "model.std"), "model."),
        (("preprocess.mean", "preprocess.std"), "net."),
    ],
)
def test_a_normaliser_in_front_is_taken_off_and_told(tmp_path, names, network, shape):
    buffers = dict(zip(names, (MEAN.reshape(shape), STD.reshape(shape)), strict=True))
    for content in ({**buffers, **named(network)}, {"state_dict": {**named(network), **buffers}}):
        path = saved(tmp_path / "a.pth", content)
        found = read_checkpoint(path)
        assert found.normaliser == found.meta["normaliser"] == SAID
        assert unwrapped(found.tensors, known)[0].keys() == state().keys()
        file = resolve.resolve(TOY, "digits", 0.25, {"network": str(path)}, download=False)["network"]
        assert file.params["normaliser"] == SAID


@pytest.mark.parametrize("form", [torch.Tensor.clone, torch.Tensor.tolist])
def test_a_normaliser_beside_the_container_counts(tmp_path, form):
    path = saved(tmp_path / "a.pth", {"model": state(), "mean": form(MEAN), "std": form(STD)})
    assert read_checkpoint(path).normaliser == SAID


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5, 0.25], "image_std": [0.5, 1]}, "0.5,0.25/0.5,1"),
        ("config.json", {"pretrained_cfg": {"mean": [0.5], "std": [0.25]}}, "0.5/0.25"),
        ("config.json", {"mean": [0.5], "std": [0.25]}, "0.5/0.25"),
        ("config.json", {"hidden_size": 3}, None),
    ],
)
def test_a_hugging_face_folder_tells_its_normaliser(tmp_path, name, config, said):
    torch.save(state(), tmp_path / "pytorch_model.bin")
    (tmp_path / name).write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        found = read_checkpoint(path)
        assert found.meta.get("normaliser") == said
        assert found.normaliser is None  # no layer of the network was taken off


@pytest.mark.parametrize("change", [{"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}])
def test_pixels_that_a_folder_scales_otherwise_are_said(tmp_path, change):
    torch.save(state(), tmp_path / "pytorch_model.bin")
    config = {"image_mean": [0.5], "image_std": [0.5], "rescale_factor": 1 / 255, **change}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    found = read_checkpoint(tmp_path)
    assert "normaliser" not in found.meta
    assert "pixels" in found.notes[0]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"image_mean": ["a"], "image_std": [1]}', '{"image_mean": 0.5}'])
def test_a_broken_configuration_of_a_folder_is_one_line(tmp_path, text):
    torch.save(state(), tmp_path / "pytorch_model.bin")
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(WeightsError, match="preprocessor_config") as caught:
        read_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_robustness_library_wrapper_is_its_network_and_its_normaliser(tmp_path):
    """AttackerModel keeps both a second time, within its attacker."""
    model = {f"module.{k}": v for part in ("", "attacker.") for k, v in named(f"{part}model.").items()}
    for part in ("normalizer.", "attacker.normalize."):
        model |= {f"module.{part}new_mean": MEAN.reshape(3, 1, 1), f"module.{part}new_std": STD.reshape(3, 1, 1)}
    path = saved(tmp_path / "a.pth", {"model": model, "optimizer": {"state": {}}, "epoch": 3})
    file = resolve.resolve(TOY, "digits", 0.25, {"network": str(path)}, download=False)["network"]
    assert file.params == {"arch": "width3", "normaliser": SAID}


def test_what_a_safetensors_file_says_stands_before_its_buffers(tmp_path):
    from safetensors.torch import save_file

    save_file({**state(), "mean": MEAN, "std": STD}, tmp_path / "a.safetensors", metadata={"normaliser": "half"})
    assert read_checkpoint(tmp_path / "a.safetensors").meta["normaliser"] == "half"


@pytest.mark.parametrize(
    ("mean", "std", "word"),
    [
        (MEAN * 255, STD * 255, "pixels in [0, 1]"),
        (MEAN, STD * 0, "pixels in [0, 1]"),
        (MEAN, -STD, "pixels in [0, 1]"),
    ],
)
def test_a_normaliser_of_other_pixels_is_refused(mean, std, word):
    with pytest.raises(WeightsError, match=word.replace("[", r"\[")):
        split_normaliser({**state(), "mean": mean, "std": std})


def test_two_normalisers_that_differ_are_refused():
    with pytest.raises(WeightsError, match="several normalisers"):
        split_normaliser({**state(), "mean": MEAN, "std": STD, "mu": MEAN + 0.1, "sigma": STD})


@pytest.mark.parametrize(
    "tensors",
    [
        {"mean": MEAN},
        {"mean": torch.ones(64), "std": torch.ones(64)},
        {"blocks.0.norm.mean": MEAN, "blocks.0.norm.std": STD},
        {"head.mean": MEAN, "head.std": STD, "head.weight": MEAN},
    ],
)
def test_tensors_within_a_network_are_none_of_a_normaliser(tensors):
    kept, said = split_normaliser({**state(), **tensors})
    assert kept.keys() == {**state(), **tensors}.keys()
    assert said is None


def test_a_normaliser_is_never_dropped_where_the_method_has_no_place_for_it(tmp_path):
    path = saved(tmp_path / "a.pth", {**state(), "mean": MEAN, "std": STD})
    without = replace(TOY, params=TOY.params[:1])
    denoiser = replace(TOY, roles=(Role("denoiser", "-"),))
    for method, role in ((without, "network"), (denoiser, "denoiser")):
        call = lambda m=method, r=role: resolve.resolve(m, "digits", 0.25, {r: str(path)}, download=False)  # noqa: E731
        refused(call, "come with a normaliser", SAID)
