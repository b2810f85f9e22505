"""Weights: only whole, harmless files of the right hash get in, and a missing one says how to go on."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import sys
import tomllib
import warnings
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from bench import catalogue as catalogue_module
from bench import depot, weights
from bench.catalogue import Entry, as_toml
from bench.errors import UsageError, WeightsError
from bench.types import Method, Param, Role

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT.parent / "shared" / "data" / "checkpoints"
BUILT_IN = PROJECT / "methods" / "weights.toml"

TOY = Method(
    name="toy",
    title="Toy",
    cite="nobody",
    build=lambda setting: None,  # type: ignore[arg-type, return-value]
    params=(
        Param(name="arch", default="small", help="network"),
        Param(name="normaliser", default="mean_std", help="-"),
    ),
    roles=(Role("network", "the classifier"),),
    recognise=lambda role, shapes, meta: {"arch": f"width{shapes['fc.weight'][1]}"} if "fc.weight" in shapes else {},
)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("RRCM_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RRCM_BENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [])


def state(width=3):
    return {"fc.weight": torch.arange(2.0 * width).reshape(2, width), "fc.bias": torch.zeros(2)}


def saved(path, content, *, old=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def installed(monkeypatch, folder, *entries, text=None):
    """A package's catalogue with those entries, as an entry point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.toml").write_text("".join(map(as_toml, entries)) if text is None else text, encoding="utf-8")
    (folder / "pointer.py").write_text("from pathlib import Path\nWHERE = Path(__file__).with_name('weights.toml')\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "pointer", raising=False)
    point = EntryPoint(name="theirs", value="pointer:WHERE", group="rrcm_bench.weights")
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [point])


def entry(path=None, **changes):
    known = Entry(
        name="toy/digits/0.25",
        method="toy",
        role="network",
        dataset="digits",
        sigma=0.25,
        params={"arch": "small"},
        **({} if path is None else {"sha256": weights.sha256_of(path), "bytes": path.stat().st_size}),
    )
    return replace(known, **changes)


def refused(call, *words, error=WeightsError):
    """The call's one-line error, which has all the words."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("key", ["state_dict", "net", "model", None])
def test_every_container_of_the_field_gives_the_same_tensors(tmp_path, key, old):
    content = {key: state(), "arch": "small", "epoch": 7} if key else state()
    tensors, meta = weights.load_tensors(saved(tmp_path / "checkpoint.pth.tar", content, old=old))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {k: v.tolist() for k, v in state().items()}
    assert meta == ({"arch": "small", "epoch": 7} if key else {})


def test_safetensors_tell_of_themselves_whatever_they_are_called(tmp_path):
    from safetensors.torch import save_file

    save_file(state(), tmp_path / "misnamed.pth", metadata={"arch": "small", "sigma": "0.25"})
    tensors, meta = weights.load_tensors(tmp_path / "misnamed.pth")
    assert torch.equal(tensors["fc.weight"], state()["fc.weight"])
    assert meta == {"arch": "small", "sigma": "0.25"}


def test_a_pre_training_folder_stands_for_its_online_network(tmp_path):
    saved(tmp_path / "600000.ckpt" / "nnet.pth", state())
    saved(tmp_path / "600000.ckpt" / "nnet_ema.pth", state(9))
    assert weights.load_tensors(tmp_path / "600000.ckpt")[0]["fc.weight"].shape == (2, 3)
    refused(lambda: weights.load_tensors(tmp_path), "nnet.pth")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path, old):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    file = saved(tmp_path / "bomb.pth", {"state_dict": state(), "extra": Bomb()}, old=old)
    refused(lambda: weights.load_tensors(file), "holds code, refused", "mkdir")
    bare = tmp_path / "plain.pkl"
    bare.write_bytes(pickle.dumps(Bomb()))
    refused(lambda: weights.load_tensors(bare), "holds code, refused")
    assert not (tmp_path / "exploded").exists()


def test_a_whole_module_is_refused_by_its_name(tmp_path):
    file = saved(tmp_path / "module.pt", torch.nn.Linear(2, 2))
    refused(lambda: weights.load_tensors(file), "holds code, refused", "torch.nn.modules.linear.Linear")


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
        refused(lambda: weights.load_tensors(cut), "fetch it again")


def test_no_flipped_byte_gives_a_traceback(tmp_path):
    data = saved(tmp_path / "whole", {"state_dict": state()}, old=True).read_bytes()
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        with contextlib.suppress(WeightsError):  # a flip within the numbers is not seen here: the sha256 sees it
            weights.load_tensors(tmp_path / "damaged")


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
    refused(lambda: weights.load_tensors(tmp_path / "model.pth"), word, "model.pth")


def test_a_path_that_cannot_be_is_one_line():
    for text in ("x" * 300, "~nobody/such/x.pth", "a\0b"):
        call = lambda text=text: weights.resolve(TOY, "digits", 0.25, {"network": text}, download=False)  # noqa: E731
        refused(call, "check the path")


def test_a_package_without_its_catalogue_is_named(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path / "package", text="")
    (tmp_path / "package" / "weights.toml").unlink()
    refused(weights.catalogue, "'theirs'", "no file")


def test_a_missing_file_is_named(tmp_path):
    refused(lambda: weights.load_tensors(tmp_path / "nowhere.pth"), "nowhere.pth", "found nothing there")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_diverged_network_is_refused_by_the_tensor(tmp_path, value, dtype):
    bad = state()
    bad["fc.bias"] = torch.tensor([0.0, value], dtype=getattr(torch, dtype))
    refused(lambda: weights.load_tensors(saved(tmp_path / "bad.pth", bad)), "'fc.bias'", "NaN or infinity")


@pytest.mark.parametrize(
    "content", [{"state": {}, "param_groups": [{"lr": 0.1}]}, {"state_dict": {"a": [1.0]}}, [1, 2], {"epoch": 3}, {}]
)
def test_an_optimiser_or_a_list_is_no_network(tmp_path, content):
    refused(lambda: weights.load_tensors(saved(tmp_path / "other.pth", content)), "expected a state dict")


@pytest.mark.parametrize("prefix", ["", "1.", "module.", "1.module.", "module.1.", "module.module.1."])
def test_wrappers_come_off_in_any_order(prefix):
    assert list(weights.strip_prefixes({f"{prefix}conv1.weight": 0, f"{prefix}fc.bias": 1}).items()) == [
        ("conv1.weight", 0),
        ("fc.bias", 1),
    ]


def test_a_prefix_that_not_all_names_share_is_part_of_the_name():
    names = {"module.fc.weight": 0, "head.weight": 1}
    assert weights.strip_prefixes(names) == names
    assert weights.strip_prefixes({"1.fc.weight": 0, "0.mean": 1}) == {"1.fc.weight": 0, "0.mean": 1}
    assert weights.strip_prefixes({"model.0.weight": 0}) == {"model.0.weight": 0}
    assert weights.strip_prefixes({}) == {}


# ---- resolving -------------------------------------------------------------------------------------------------------


def test_a_given_file_is_hashed_and_recognised_by_its_shapes(tmp_path):
    file = saved(tmp_path / "mine.pth", {"state_dict": {f"1.module.{k}": v for k, v in state(5).items()}})
    found = weights.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)["network"]
    assert (found.path, found.name, found.sha256) == (file, "mine.pth", weights.sha256_of(file))
    assert found.params == {"arch": "width5"}


def test_what_a_file_says_of_itself_reaches_the_method_and_nothing_else_does(tmp_path):
    file = saved(tmp_path / "mine.pth", {"net": {"w": torch.ones(1)}, "normaliser": "mean", "epoch": 4})
    found = weights.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)["network"]
    assert found.params == {"normaliser": "mean"}


@pytest.mark.parametrize(
    ("hole", "sigma", "name"),
    [("{sigma}", 0.25, "n0.25"), ("{sigma}", 1.0, "n1.00"), ("{sigma:g}", 1.0, "n1"), ("{sigma:.3f}", 0.125, "n0.125")],
)
def test_sigma_finds_its_file(tmp_path, hole, sigma, name):
    file = saved(tmp_path / name / "checkpoint.pth.tar", state())
    given = {"network": f"{tmp_path}/n{hole}/checkpoint.pth.tar"}
    assert weights.resolve(TOY, "digits", sigma, given, download=False)["network"].path == file


def test_two_decimals_never_name_the_weights_of_another_sigma(tmp_path):
    saved(tmp_path / "0.12.pth", state())
    given = {"network": f"{tmp_path}/{{sigma}}.pth"}
    refused(lambda: weights.resolve(TOY, "digits", 0.125, given, download=False), "{sigma:g}", error=UsageError)
    given = {"network": f"{tmp_path}/{{sigma:q}}.pth"}
    refused(lambda: weights.resolve(TOY, "digits", 0.25, given, download=False), "{sigma:q}", error=UsageError)


def test_an_unknown_role_shows_the_methods_own():
    call = lambda: weights.resolve(TOY, "digits", 0.25, {"denoiser": "x"}, download=False)  # noqa: E731
    refused(call, "'denoiser'", "network", error=UsageError)


def test_missing_weights_say_every_way_on(monkeypatch, tmp_path):
    page_only = entry(page="https://example.org/models")
    installed(monkeypatch, tmp_path / "package", page_only)
    trained = replace(TOY, train={"train": dict})
    message = refused(
        lambda: weights.resolve(trained, "digits", 0.25, {}, download=True), "'network'", "digits", "0.25"
    )
    for way in ("toy/digits/0.25", "https://example.org/models", "--weights network=PATH", "rrcm-bench weights add"):
        assert way in message
    assert "rrcm-bench train toy" in message
    assert "--random-weights" in message
    assert "train" not in refused(lambda: weights.resolve(TOY, "digits", 0.5, {}, download=True), "known: none")


def test_a_misspelt_name_meets_the_right_one(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path / "package", entry(page="https://example.org"))
    call = lambda: weights.resolve(TOY, "digits", 0.25, {"network": "toy/digit/0.25"}, download=False)  # noqa: E731
    refused(call, "did you mean 'toy/digits/0.25'")
    refused(lambda: weights.find("toy/digit/0.25"), "did you mean 'toy/digits/0.25'")


def test_shipped_weights_need_no_word_and_no_network(monkeypatch, tmp_path):
    file = saved(tmp_path / "package" / "digits" / "a.pth", state())
    installed(monkeypatch, tmp_path / "package", entry(file, file="digits/a.pth"))
    found = weights.resolve(TOY, "digits", 0.25, {}, download=False)["network"]
    assert (found.path, found.name, found.params) == (file, "toy/digits/0.25", {"arch": "small"})


def test_a_shipped_file_with_another_hash_is_refused(monkeypatch, tmp_path):
    file = saved(tmp_path / "package" / "a.pth", state())
    known = entry(file, file="a.pth")
    installed(monkeypatch, tmp_path / "package", known)
    came = saved(file, state(4))
    refused(
        lambda: weights.resolve(TOY, "digits", 0.25, {}, download=False),
        known.sha256[:12],
        weights.sha256_of(came)[:12],
        str(file),
    )
    assert weights.verify() == [(replace(known, folder=tmp_path / "package"), "damaged", file)]


def test_one_sigma_comes_before_any_and_the_user_before_a_package(monkeypatch, tmp_path):
    package = tmp_path / "package"
    files = {name: saved(package / name, state(width)) for width, name in enumerate(("any.pth", "this.pth"), 3)}
    installed(
        monkeypatch,
        package,
        entry(files["any.pth"], name="any", sigma=None, file="any.pth"),
        entry(files["this.pth"], name="this", file="this.pth"),
    )
    resolved = lambda sigma: weights.resolve(TOY, "digits", sigma, {}, download=False)["network"].name  # noqa: E731
    assert (resolved(0.25), resolved(0.5)) == ("this", "any")
    mine = saved(tmp_path / "mine.pth", state(8))
    weights.add("mine", mine, method="toy", role="network", dataset="digits", sigma=None, params={})
    assert (resolved(0.25), resolved(0.5)) == ("mine", "mine")


def test_a_folder_of_the_users_serves_the_file_of_that_name_and_hash_only(monkeypatch, tmp_path):
    file = saved(tmp_path / "right" / "net.pth", state())
    saved(tmp_path / "wrong" / "net.pth", state(4))
    installed(monkeypatch, tmp_path / "package", entry(file, url="https://example.org/v1/net.pth?raw=1"))
    resolve = lambda: weights.resolve(TOY, "digits", 0.25, {}, download=False)  # noqa: E731
    refused(resolve, "--download fetches https://example.org/v1/net.pth")
    monkeypatch.setenv("RRCM_BENCH_WEIGHTS", str(tmp_path / "wrong"))
    refused(resolve, "none is here")
    monkeypatch.setenv("RRCM_BENCH_WEIGHTS", f"{tmp_path / 'wrong'}{os.pathsep}{tmp_path / 'right'}")
    assert resolve()["network"].path == file


def test_a_download_is_checked_kept_and_not_repeated(monkeypatch, tmp_path):
    import pooch

    file = saved(tmp_path / "origin" / "net.th", state())
    served = []

    def fetch(url, output_file, pooch):
        served.append(url)
        Path(output_file).write_bytes(file.read_bytes())

    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **settings: fetch)
    known = entry(file, url="https://example.org/net.th")
    installed(monkeypatch, tmp_path / "package", known)
    for _ in range(2):
        found = weights.resolve(TOY, "digits", 0.25, {}, download=True)["network"]
    assert found.path == tmp_path / "cache" / "weights" / f"{known.sha256}.th"
    assert served == ["https://example.org/net.th"]
    found.path.write_bytes(b"bit rot")
    refused(lambda: weights.resolve(TOY, "digits", 0.25, {}, download=True), known.sha256[:12], "delete it")


def test_a_download_with_another_hash_is_not_kept(monkeypatch, tmp_path):
    import pooch

    file = saved(tmp_path / "net.th", state())
    fetch = lambda url, output_file, pooch: Path(output_file).write_bytes(b"<html>quota</html>")  # noqa: E731
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **settings: fetch)
    installed(monkeypatch, tmp_path / "package", entry(file, url="https://example.org/net.th"))
    refused(lambda: weights.resolve(TOY, "digits", 0.25, {}, download=True), "cannot be fetched", "example.org")
    assert weights.verify()[0][1:] == ("missing", None)


def test_a_given_file_that_the_catalogue_knows_takes_its_params(monkeypatch, tmp_path):
    original = saved(tmp_path / "original.pth", state())
    converted = saved(tmp_path / "converted.pth", {"net": state()})
    known = entry(original, params={"arch": "small", "normaliser": "mean"}, also=(weights.sha256_of(converted),))
    installed(monkeypatch, tmp_path / "package", known)
    for file in (original, converted):
        found = weights.resolve(TOY, "digits", 0.5, {"network": str(file)}, download=False)["network"]
        assert found.params == {"arch": "small", "normaliser": "mean"}
        assert found.sha256 == weights.sha256_of(file)


def test_params_of_another_methods_words_are_not_taken_over(monkeypatch, tmp_path):
    file = saved(tmp_path / "net.pth", state(6))
    installed(monkeypatch, tmp_path / "package", entry(file, method="other", params={"classifier": "resnet"}))
    assert weights.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)["network"].params == {
        "arch": "width6"
    }


# ---- adding and verifying --------------------------------------------------------------------------------------------


def test_added_weights_survive_their_source_and_become_the_default(tmp_path):
    file = saved(tmp_path / "checkpoint.pth.tar", state())
    params = {"arch": 'na"me\\\n', "normaliser": "Größe \U0001f600\x7f"}
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": params}
    added = weights.add("mine/0.25", file, **words, licence="MIT", source="Müller 2024")
    file.unlink()
    found = weights.resolve(TOY, "digits", 0.25, {}, download=False)["network"]
    assert (found.name, found.params) == ("mine/0.25", params)
    assert found.path.name == f"{added.sha256}.tar"
    assert weights.catalogue() == (added,)
    assert weights.verify(["mine/0.25"]) == [(added, "ok", found.path)]
    found.path.unlink()
    assert weights.verify() == [(added, "missing", None)]


def test_a_second_file_for_the_same_place_is_used_by_name(tmp_path):
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    first = weights.add("first", saved(tmp_path / "1.pth", state()), **words)
    second = weights.add("second", saved(tmp_path / "2.pth", state(4)), **words)
    assert (first.default, second.default) == (True, False)
    assert weights.resolve(TOY, "digits", 0.25, {}, download=False)["network"].name == "first"
    assert weights.resolve(TOY, "digits", 0.25, {"network": "second"}, download=False)["network"].name == "second"


def test_a_name_stands_for_one_file_and_one_meaning(tmp_path):
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    file = saved(tmp_path / "1.pth", state())
    added = weights.add("mine", file, **words)
    assert weights.add("mine", file, **words) == added
    refused(lambda: weights.add("mine", file, **{**words, "sigma": 0.5}), "another method, role, dataset, sigma")
    refused(lambda: weights.add("mine", saved(tmp_path / "2.pth", state(4)), **words), added.sha256[:12])
    for name in ("", "two words", "-x", "new\nline", "{sigma}"):
        refused(lambda name=name: weights.add(name, file, **words), "expected a name")
    assert weights.catalogue() == (added,)


def test_what_does_not_load_is_not_listed(tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": None, "params": {}}
    refused(lambda: weights.add("mine", tmp_path / "page.pth", **words), "web page")
    assert weights.catalogue() == ()
    assert not (tmp_path / "cache").exists()


def test_an_added_file_takes_the_name_of_one_that_has_no_checksum(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path / "package", entry(page="https://example.org"))
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    added = weights.add("toy/digits/0.25", saved(tmp_path / "1.pth", state()), **words)
    assert weights.catalogue() == (added,)


# ---- catalogues ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[weights", "not TOML"),
        ("[other]\n", "[[weights]]"),
        ("weights = 3\n", "[[weights]]"),
        ('[[weights]]\nname = "a"\n', "method"),
        ("sha512 = 'x'", "sha512"),
        ("sha256 = 'ABC'", "64 lower-case hex digits"),
        ("file = 'a.pth'", "sha256 beside"),
        (f"sha256 = '{'0' * 64}'\nfile = '../a.pth'", "relative to the catalogue"),
        (f"sha256 = '{'0' * 64}'\nurl = 'file:///etc/passwd'", "https"),
        ("sigma = '0.25'", "sigma as a number"),
        ("sigma = nan", "sigma as a number"),
        ("params = { arch = [1] }", "plain values"),
        ("also = ['x']", "sha256"),
        ("default = 1", "true or false"),
        ("bytes = 0", "positive whole number"),
        ("note = 3", "text for note"),
    ],
)
def test_a_broken_catalogue_is_one_line_with_its_name(monkeypatch, tmp_path, text, word):
    head = '[[weights]]\nname = "a"\nmethod = "toy"\nrole = "network"\ndataset = "digits"\n'
    installed(monkeypatch, tmp_path / "package", text=text if "weights" in text or "other" in text else head + text)
    refused(weights.catalogue, "'theirs'", "pointer:WHERE", word)


@pytest.mark.parametrize("value", ["no_such_package:X", "bench.errors:NOTHING", "bench.errors:BenchError"])
def test_an_entry_point_that_leads_nowhere_is_one_line_with_its_name(monkeypatch, value):
    point = EntryPoint(name="theirs", value=value, group="rrcm_bench.weights")
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [point])
    refused(weights.catalogue, "'theirs'", value)


def test_no_catalogue_has_two_defaults_for_one_place(monkeypatch, tmp_path):
    file = saved(tmp_path / "a.pth", state())
    one, two = entry(file, name="one"), entry(file, name="two")
    installed(monkeypatch, tmp_path / "package", one, two)
    refused(weights.catalogue, "'one'", "'two'", "default = false")
    installed(monkeypatch, tmp_path / "package", one, replace(two, default=False))
    assert [known.name for known in weights.catalogue()] == ["one", "two"]


def test_one_name_for_two_files_is_refused(monkeypatch, tmp_path):
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    weights.add("toy/digits/0.25", saved(tmp_path / "1.pth", state()), **words)
    other = saved(tmp_path / "2.pth", state(4))
    installed(monkeypatch, tmp_path / "package", entry(other, url="https://example.org/2.pth"))
    refused(weights.catalogue, "toy/digits/0.25", "theirs", "rename or remove one")


def test_an_entry_written_is_the_entry_read(tmp_path):
    full = Entry(
        name="a/b@1",
        method="m",
        role="r",
        dataset="d",
        sigma=1e-5,
        params={"flag": True, "depth": 3, "scale": 0.1, "text": 'quo"te\\ \t\n\u2028\x7f\U0001f600', "odd key": "x"},
        default=False,
        file="x/y.pth",
        url="https://example.org/y.pth",
        page="https://example.org",
        basename="y.pth",
        sha256="0" * 64,
        also=("1" * 64, "2" * 64),
        bytes=12,
        licence="MIT",
        source="Š",
        note="n",
        folder=tmp_path,
    )
    (tmp_path / "c.toml").write_text(as_toml(full) + as_toml(replace(full, name="c")), encoding="utf-8")
    assert catalogue_module._read("c", tmp_path / "c.toml") == [full, replace(full, name="c")]
    assert tomllib.loads(as_toml(entry(page="https://p"))) == {
        "weights": [json.loads(json.dumps(_plain(entry(page="https://p"))))]
    }


def _plain(known):
    return {key: getattr(known, key) for key in ("name", "method", "role", "dataset", "page", "sigma", "params")}


# ---- what the project itself knows -----------------------------------------------------------------------------------


def test_the_built_in_catalogue_is_sound_and_its_shipped_files_are_whole():
    entries = catalogue_module._read("built-in", BUILT_IN)
    assert {e.name for e in entries} >= {"kair/ffdnet-color", "akamaster/resnet56", "gaussian/imagenet/0.50"}
    for known in entries:
        assert known.licence, known.name
        assert known.source, known.name
        assert known.sha256 or known.page, known.name
        if known.file:
            file = known.folder / known.file
            assert weights.sha256_of(file) == known.sha256, known.name
            assert file.stat().st_size == known.bytes, known.name
            weights.load_tensors(file)


def test_the_third_party_files_are_those_of_the_catalogue(monkeypatch):
    if not SHARED.is_dir():
        pytest.skip("../shared is absent: the third-party checkpoints cannot be checked")
    monkeypatch.setenv("RRCM_BENCH_WEIGHTS", str(SHARED))
    listed = [e for e in catalogue_module._read("built-in", BUILT_IN) if e.url]
    assert len(listed) == 4
    hashes = {weights.sha256_of(file) for file in SHARED.iterdir()}
    for known in listed:
        path = depot.locate(known, download=False)
        assert path is not None, known.name
        assert path.stat().st_size == known.bytes
        assert set(known.also) < hashes
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert weights.load_tensors(path)[0]
