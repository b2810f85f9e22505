"""One network out of a file: the only one, the averaged one, or the one that was chosen; never one of two unsaid."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from weights_files import (
    TOY,
    _own_folders,  # noqa: F401 - a fixture that every test here takes
    refused,
    saved,
    state,
)

from bench.weights import resolve
from bench.weights.checkpoints import load_tensors, read_checkpoint, sha256_of, with_key
from bench.weights.resolve import identity

RAW, MEAN = state(), {name: tensor + 1 for name, tensor in state().items()}


def resolved(path, key=""):
    text = f"{path}#{key}" if key else str(path)
    return resolve.resolve(TOY, "digits", 0.25, {"network": text}, download=False)["network"]


def is_mean(file):
    tensors = resolve.unwrapped(load_tensors(file.path, file.key)[0], lambda shapes: "fc.weight" in shapes)[0]
    assert tensors.keys() == MEAN.keys()
    return all(torch.equal(tensor, MEAN[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model", "net", "model_state_dict", "model_state", "network", "weights", "params", "params_ema",
     "ema", "ema_state_dict", "student", "teacher", "classifier", "backbone", "module", "generator", "anything"],
)  # fmt: skip
def test_a_container_may_have_any_name(tmp_path, key):
    optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {
        key: MEAN,
        "optimizer": optimiser,
        "optimizer_states": [optimiser],
        "best": torch.tensor(0.9),
        "epoch": 3,
    }
    for made in (content, {"outer": content}, [content, 7], (MEAN, 7)):
        file = resolved(saved(tmp_path / "a.pth", made))
        assert is_mean(file)
        assert identity(file) == sha256_of(file.path)
        assert not file.notes


@pytest.mark.parametrize(
    ("raw", "mean"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("params", "params_ema"), ("net", "ema"),
     ("model", "ema_model_state_dict"), ("model_state_dict", "swa_state_dict")],
)  # fmt: skip
def test_of_raw_and_averaged_weights_the_averaged_are_taken_and_said(tmp_path, raw, mean):
    for made in ({raw: RAW, mean: MEAN}, {mean: {f"module.{k}": v for k, v in MEAN.items()}, raw: RAW}):
        path = saved(tmp_path / "a.pth", made)
        averaged, plain = resolved(path), resolved(path, raw)
        assert is_mean(averaged)
        assert not is_mean(plain)
        assert identity(averaged) == f"{sha256_of(path)}#{mean}"
        assert identity(plain) == f"{sha256_of(path)}#{raw}"
        assert f"'{mean}'" in averaged.notes[0]
        assert identity(resolved(path, mean)) == identity(averaged)
        refused(lambda path=path: load_tensors(path), f"FILE#{mean}")


@pytest.mark.parametrize(
    "content",
    [
        {"net": RAW, "state_dict": MEAN},
        {"student": RAW, "teacher": MEAN},
        [RAW, MEAN],
        {"state_dict": RAW, "ema": MEAN, "swa": {k: v + 2 for k, v in RAW.items()}},
        {"model": RAW, "ema": state(7)},  # another network, not the average of this one
        {**{f"layer.{k}": v for k, v in RAW.items()}, "model": MEAN},
        {"model": {"a": RAW, "b": MEAN}},
    ],
)
def test_where_nothing_says_which_the_file_is_refused_until_a_key_does(tmp_path, content):
    path = saved(tmp_path / "a.pth", content)
    message = refused(lambda: resolved(path), "different networks", "say which", "#")
    key = message.rpartition("#")[2]
    if key:
        assert identity(resolved(path, key)) == f"{sha256_of(path)}#{key}"


def test_the_same_network_twice_is_one(tmp_path):
    for content in ([MEAN, MEAN], {"net": MEAN, "state_dict": {k: v.clone() for k, v in MEAN.items()}}):
        file = resolved(saved(tmp_path / "a.pth", content))
        assert is_mean(file)
        assert identity(file) == file.sha256


def test_a_key_leads_inwards_by_dots_places_and_beginnings_of_names(tmp_path):
    path = saved(tmp_path / "a.pth", {"runs": [{"a.b": {"ema": MEAN}}, {"ema": RAW}]})
    assert is_mean(resolved(path, "runs.0"))
    assert is_mean(resolved(path, "runs.0.a.b.ema"))
    assert not is_mean(resolved(path, "runs.1"))
    flat = {**{f"model.{k}": v for k, v in RAW.items()}, **{f"model_ema.{k}": v for k, v in MEAN.items()}}
    save_file(flat, tmp_path / "b.safetensors")
    refused(lambda: resolved(tmp_path / "b.safetensors"), "two networks", "#model")
    assert is_mean(resolved(tmp_path / "b.safetensors", "model_ema"))
    assert identity(resolved(tmp_path / "b.safetensors", "model")).endswith("#model")
    nested = saved(
        tmp_path / "c.ckpt", {"state_dict": {name.replace("model_ema", "net_ema"): v for name, v in flat.items()}}
    )
    refused(lambda: resolved(nested), "two networks", "#model")
    assert is_mean(resolved(nested, "net_ema"))  # as the refusal advises, without the container's own key
    assert identity(resolved(nested, "net_ema")).endswith("#state_dict.net_ema")
    for key in ("nothing", "runs.9", "runs.x", "runs", "9" * 5000):
        refused(lambda key=key: resolved(path, key), "a.pth")
    refused(lambda: resolved(f"{path}#"), "expected a key")


def test_a_path_with_the_sign_in_its_name_is_that_path(tmp_path):
    saved(tmp_path / "a", {"x#y": RAW, "y": MEAN})
    assert is_mean(resolved(saved(tmp_path / "a#y", {"x": MEAN})))
    assert with_key(tmp_path / "a#y") == (tmp_path / "a#y", "")
    assert is_mean(resolved(saved(tmp_path / "c#1" / "b.pth", {"r": RAW, "m": MEAN}), "m"))


def test_a_list_of_averages_without_names_is_said(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": MEAN, "ema": {"decay": 0.9, "shadow_params": [torch.ones(2)]}})
    file = resolved(path)
    assert is_mean(file)
    assert "'ema'" in file.notes[0]
    counted = {"n_averaged": torch.tensor(5), **{f"module.{name}": tensor for name, tensor in MEAN.items()}}
    assert not resolved(saved(tmp_path / "b.pth", counted)).notes  # torch's AveragedModel: a count, and the average


def test_a_container_that_holds_itself_is_no_endless_search(tmp_path):
    content = {"model": MEAN}
    content.update({f"self{i}": content for i in range(30)})
    assert is_mean(resolved(saved(tmp_path / "a.pth", content)))


def test_added_weights_keep_the_choice(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": RAW, "model_ema": MEAN})
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    added = resolve.add("mean", path, **words)
    other = resolve.add("raw", type(path)(f"{path}#model"), **{**words, "sigma": 0.5})
    assert (added.key, other.key) == ("model_ema", "model")
    assert is_mean(resolve.resolve(TOY, "digits", 0.25, {}, download=False)["network"])
    assert not is_mean(resolve.resolve(TOY, "digits", 0.5, {}, download=False)["network"])
    assert identity(resolved(path, "model")) == f"{added.sha256}#model"
    assert identity(resolved("raw")) == f"{added.sha256}#model"
    refused(lambda: resolve.add("mean", type(path)(f"{path}#model"), **words), "another network in it")


def test_a_list_of_networks_is_an_ensemble_where_a_role_takes_many(tmp_path):
    many = replace(TOY, roles=(replace(TOY.roles[0], many=True),))
    for content, key in (([RAW, MEAN], "*"), ({"models": [RAW, MEAN], "epoch": 3}, "models.*")):
        path = saved(tmp_path / "a.pth", content)
        file = resolve.resolve(many, "digits", 0.25, {"network": str(path)}, download=False)["network"]
        assert identity(file) == f"{sha256_of(path)}#{key}"
        tensors, _ = load_tensors(file.path, file.key)
        assert tensors.keys() == {f"{i}.{name}" for i in (0, 1) for name in MEAN}
        assert torch.equal(tensors["1.fc.bias"], MEAN["fc.bias"])
        refused(lambda path=path: resolved(path), "2 different networks")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_hugging_face_folder_is_its_network_whole_or_in_parts(tmp_path, kind):
    name = {"safetensors": "model", "bin": "pytorch_model"}[kind]
    store = save_file if kind == "safetensors" else torch.save
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("{}")
    store(MEAN, tmp_path / "one" / f"{name}.{kind}")
    assert is_mean(resolved(tmp_path / "one"))
    parts = tmp_path / "parts"
    parts.mkdir()
    where = {key: f"{name}-0000{i}-of-00002.{kind}" for i, key in enumerate(MEAN, 1)}
    for key, part in where.items():
        store({key: MEAN[key]}, parts / part)
    index = parts / f"{name}.{kind}.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    file = resolved(parts)
    assert is_mean(file)
    assert file.path == index
    store({"fc.weight": MEAN["fc.weight"] + 1}, parts / where["fc.weight"])
    assert sha256_of(index) != file.sha256
    index.write_text(json.dumps({"weight_map": {**where, "gone": where["fc.bias"]}}))
    refused(lambda: resolved(parts), "'gone'")
    for bad in ({"fc.bias": "../x"}, {"fc.bias": "absent"}, {"fc.bias": 3}, {}, [], {"fc.bias": index.name}):
        index.write_text(json.dumps({"weight_map": bad}))
        refused(lambda: resolved(parts))
    index.write_text("[" * 100_000)
    refused(lambda: resolved(parts))


def test_a_folder_without_a_network_lists_what_it_has(tmp_path):
    saved(tmp_path / "last.pth", RAW)
    refused(lambda: resolved(tmp_path), "'last.pth'")
    (tmp_path / "__0_0.distcp").touch()
    refused(lambda: resolved(tmp_path), "torch.distributed.checkpoint")


def test_what_stands_beside_a_network_is_told_and_its_tensors_are_not_mixed_in(tmp_path):
    content = {
        "state_dict": OrderedDict(MEAN),
        "arch": "small",
        "score": torch.tensor(0.5),
        "class_weights": torch.ones(9),
    }
    found = read_checkpoint(saved(tmp_path / "a.pth", content))
    assert found.tensors.keys() == MEAN.keys()
    assert found.meta == {"arch": "small", "score": 0.5}
