"""Catalogues: each name one file, each place one default; a broken one is a line with its name."""

from __future__ import annotations

import json
import tomllib
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
from weights_files import (
    BUILT_IN,
    SHARED,
    TOY,
    _own_folders,  # noqa: F401 - a fixture that every test here takes
    entry,
    installed,
    refused,
    saved,
    state,
)

from bench.weights import cache, resolve
from bench.weights import catalogue as catalogue_module
from bench.weights.catalogue import Entry
from bench.weights.user_catalogue import as_toml


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
    refused(resolve.catalogue, "'theirs'", "pointer:WHERE", word)


@pytest.mark.parametrize("value", ["no_such_package:X", "bench.types.errors:NOTHING", "bench.types.errors:BenchError"])
def test_an_entry_point_that_leads_nowhere_is_one_line_with_its_name(monkeypatch, value):
    point = EntryPoint(name="theirs", value=value, group="rrcm_bench.weights")
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [point])
    refused(resolve.catalogue, "'theirs'", value)


def test_no_catalogue_has_two_defaults_for_one_place(monkeypatch, tmp_path):
    file = saved(tmp_path / "a.pth", state())
    one, two = entry(file, name="one"), entry(file, name="two")
    installed(monkeypatch, tmp_path / "package", one, two)
    refused(resolve.catalogue, "'one'", "'two'", "default = false")
    installed(monkeypatch, tmp_path / "package", one, replace(two, default=False))
    assert [known.name for known in resolve.catalogue()] == ["one", "two"]


def test_one_name_for_two_files_is_refused(monkeypatch, tmp_path):
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    resolve.add("toy/digits/0.25", saved(tmp_path / "1.pth", state()), **words)
    other = saved(tmp_path / "2.pth", state(4))
    installed(monkeypatch, tmp_path / "package", entry(other, url="https://example.org/2.pth"))
    refused(resolve.catalogue, "toy/digits/0.25", "theirs", "rename or remove one")


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


def own(text):
    """The user's catalogue with that text."""
    path = catalogue_module.user_catalogue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


WORDS = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}


@pytest.mark.parametrize(
    "change",
    [
        *({"sigma": sigma} for sigma in (float("nan"), float("inf"), -1.0, 0.0)),
        *({"dataset": text} for text in ("", " ", "a\nb", "\x1b[31m", "\udcff", "a\u202eb", "digits ")),
        *({"licence": "a\tb"}, {"source": "\x07"}, {"method": ""}, {"role": "\x00"}),
        *({"params": {"scale": value}} for value in (float("nan"), float("inf"))),
    ],
)
def test_what_could_not_be_read_again_is_not_added(tmp_path, change):
    file = saved(tmp_path / "1.pth", state())
    refused(lambda: resolve.add("mine", file, **{**WORDS, **change}), "'mine'")
    assert not catalogue_module.user_catalogue().exists()
    assert not (tmp_path / "cache").exists()


def test_a_broken_entry_is_said_once_and_costs_no_other(tmp_path, caplog):
    file = saved(tmp_path / "1.pth", state())
    resolve.add("sound", file, **WORDS)
    text = catalogue_module.user_catalogue().read_text()
    bad = '\n[[weights]]\nname = "bad"\nmethod = "toy"\nrole = "network"\ndataset = "other"\nsigma = nan\n'
    own(bad + text + bad.replace('"bad"', '"sound"').replace("nan", "1.0"))
    for _ in range(3):
        assert [known.name for known in resolve.catalogue()] == ["sound"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "'bad'" in said[0]
    assert "same place" in said[1]
    assert resolve.resolve(TOY, "digits", 0.25, {}, download=False)["network"].name == "sound"
    # Where the broken one may have been meant, nothing else takes its place.
    refused(lambda: resolve.resolve(TOY, "other", 1.0, {}, download=False), "'bad'", "--weights network=PATH")
    resolve.add("more", saved(tmp_path / "2.pth", state(4)), **{**WORDS, "sigma": 0.5})
    assert [known.name for known in resolve.catalogue()] == ["sound", "more"]


@pytest.mark.parametrize("text", ["[[weights", "weights = 3", "a = " + "[" * 5000, "\ufeff\x00"])
def test_a_catalogue_that_is_none_stops_only_what_needs_it(tmp_path, monkeypatch, caplog, text):
    path = own(text)
    file = saved(tmp_path / "1.pth", state())
    installed(monkeypatch, tmp_path / "package", entry(file, file="../1.pth".removeprefix("../")))
    saved(tmp_path / "package" / "1.pth", state())
    assert [known.name for known in resolve.catalogue()] == ["toy/digits/0.25"]
    assert str(path) in caplog.text
    assert resolve.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)
    refused(lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=False), str(path), "mend or remove")
    refused(lambda: resolve.add("mine", file, **WORDS), str(path), "mend or remove")
    assert path.read_text(encoding="utf-8") == text


def test_entries_that_are_added_at_once_all_survive(tmp_path):
    files = [saved(tmp_path / f"{i}.pth", state(i + 1)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:  # each lock is an open file of its own: threads wait as processes do
        added = list(pool.map(lambda i: resolve.add(f"w{i}", files[i], **WORDS), range(8)))
    assert {known.name for known in resolve.catalogue()} == {f"w{i}" for i in range(8)}
    assert sum(known.default for known in added) == 1


def test_a_catalogue_that_is_a_link_stays_one(tmp_path):
    real = tmp_path / "dotfiles.toml"
    real.write_text("# mine\n")
    home = catalogue_module.user_catalogue()
    home.parent.mkdir(parents=True)
    home.symlink_to(real)
    resolve.add("mine", saved(tmp_path / "1.pth", state()), **WORDS)
    assert home.is_symlink()
    assert real.read_text().startswith("# mine\n\n[[weights]]")


def _plain(known):
    return {key: getattr(known, key) for key in ("name", "method", "role", "dataset", "page", "sigma", "params")}


def test_the_built_in_catalogue_is_sound_and_its_shipped_files_are_whole():
    entries = catalogue_module._read("built-in", BUILT_IN)
    assert {e.name for e in entries} >= {"kair/ffdnet-color", "akamaster/resnet56", "gaussian/imagenet/0.50"}
    for known in entries:
        assert known.licence, known.name
        assert known.source, known.name
        assert known.sha256 or known.page, known.name
        if known.file:
            file = known.folder / known.file
            assert resolve.sha256_of(file) == known.sha256, known.name
            assert file.stat().st_size == known.bytes, known.name
            resolve.load_tensors(file)


def test_the_third_party_files_are_those_of_the_catalogue(monkeypatch):
    if not SHARED.is_dir():
        pytest.skip("../shared is absent: the third-party checkpoints cannot be checked")
    monkeypatch.setenv("RRCM_BENCH_WEIGHTS", str(SHARED))
    listed = [e for e in catalogue_module._read("built-in", BUILT_IN) if e.url]
    assert len({e.url for e in listed}) == 4
    hashes = {resolve.sha256_of(file) for file in SHARED.iterdir()}
    for known in listed:
        path = cache.locate(known, download=False)
        assert path is not None, known.name
        assert path.stat().st_size == known.bytes
        assert set(known.also) < hashes
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert resolve.load_tensors(path)[0]
