"""Weights: only files of the right hash get in, and a missing one says how to go on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from weights_files import (
    TOY,
    _own_folders,  # noqa: F401 - a fixture that every test here takes
    entry,
    installed,
    refused,
    saved,
    state,
)

from bench.types.errors import UsageError
from bench.weights import resolve


def test_a_given_file_is_hashed_and_recognised_by_its_shapes(tmp_path):
    file = saved(tmp_path / "mine.pth", {"state_dict": {f"1.module.{k}": v for k, v in state(5).items()}})
    found = resolve.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)["network"]
    assert (found.path, found.name, found.sha256) == (file, "mine.pth", resolve.sha256_of(file))
    assert found.params == {"arch": "width5"}


def test_what_a_file_says_of_itself_reaches_the_method_and_nothing_else_does(tmp_path):
    file = saved(tmp_path / "mine.pth", {"net": {"w": torch.ones(1)}, "normaliser": "mean", "epoch": 4})
    found = resolve.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)["network"]
    assert found.params == {"normaliser": "mean"}


@pytest.mark.parametrize(
    ("hole", "sigma", "name"),
    [("{sigma}", 0.25, "n0.25"), ("{sigma}", 1.0, "n1.00"), ("{sigma:g}", 1.0, "n1"), ("{sigma:.3f}", 0.125, "n0.125")],
)
def test_sigma_finds_its_file(tmp_path, hole, sigma, name):
    file = saved(tmp_path / name / "checkpoint.pth.tar", state())
    given = {"network": f"{tmp_path}/n{hole}/checkpoint.pth.tar"}
    assert resolve.resolve(TOY, "digits", sigma, given, download=False)["network"].path == file


def test_two_decimals_never_name_the_weights_of_another_sigma(tmp_path):
    saved(tmp_path / "0.12.pth", state())
    given = {"network": f"{tmp_path}/{{sigma}}.pth"}
    refused(lambda: resolve.resolve(TOY, "digits", 0.125, given, download=False), "{sigma:g}", error=UsageError)
    given = {"network": f"{tmp_path}/{{sigma:q}}.pth"}
    refused(lambda: resolve.resolve(TOY, "digits", 0.25, given, download=False), "{sigma:q}", error=UsageError)


@pytest.mark.parametrize(
    ("hole", "sigma"),
    [("{sigma:.1f}", 0.25), ("{sigma:.0f}", 0.5), ("{sigma:.2g}", 0.125), ("{sigma:.3f}", 0.12345), ("{sigma}", 1 / 3),
     ("{sigma:g}", 0.1234567), ("{sigma:e}", 1 / 3)],
)  # fmt: skip
def test_no_format_names_the_weights_of_another_sigma(tmp_path, hole, sigma):
    try:
        saved(tmp_path / f"{hole.format(sigma=sigma) if ':' in hole else format(sigma, '.2f')}.pth", state())
    finally:
        given = {"network": f"{tmp_path}/{hole}.pth"}
        call = lambda: resolve.resolve(TOY, "digits", sigma, given, download=False)  # noqa: E731
        refused(call, hole, "another sigma", repr(sigma), error=UsageError)


@pytest.mark.parametrize("hole", ["{sigma:.1f}", "{sigma:g}", "{sigma:.3e}", "{sigma:05.2f}"])
def test_a_format_that_keeps_every_digit_is_taken(tmp_path, hole):
    file = saved(tmp_path / f"{hole.format(sigma=0.5)}.pth", state())
    given = {"network": f"{tmp_path}/{hole}.pth"}
    assert resolve.resolve(TOY, "digits", 0.5, given, download=False)["network"].path == file


@pytest.mark.parametrize("hole", ["{sigma:99999999999}", "{sigma:.999999999f}", "{sigma:%}", "{sigma:d}", "{sigma:s}"])
def test_a_format_that_no_file_has_is_refused_at_once(hole):
    call = lambda: resolve.resolve(TOY, "digits", 0.5, {"network": hole}, download=False)  # noqa: E731
    refused(call, "no format of a number", error=UsageError)


MANY = replace(TOY, roles=(replace(TOY.roles[0], many=True),))


def members(folder, *names):
    for i, name in enumerate(names):
        saved(folder / f"checkpoint-{name}.pth", {k: v + i for k, v in state().items()})
    given = {"network": f"{folder}/checkpoint-{{member}}.pth"}
    return resolve.resolve(MANY, "digits", 0.25, given, download=False)["network"]


def test_members_are_numbered_and_what_is_not_is_left_out_and_said(tmp_path):
    file = members(tmp_path, "10", "best", "9", "last")
    assert [part.name for part in file.parts] == ["checkpoint-9.pth", "checkpoint-10.pth"]
    assert "left out 'best', 'last'" in file.notes[0]


def test_checkpoints_without_numbers_are_no_members(tmp_path):
    refused(lambda: members(tmp_path, "best", "last"), "'best', 'last'", "numbers", error=UsageError)


def test_two_spellings_of_one_number_are_refused(tmp_path):
    refused(lambda: members(tmp_path, "1", "01", "2"), "'01'", "one number", error=UsageError)


def test_a_file_that_is_two_members_is_said(tmp_path):
    file = members(tmp_path, "0", "1")
    assert file.notes == ()
    (tmp_path / "checkpoint-3.pth").write_bytes((tmp_path / "checkpoint-0.pth").read_bytes())
    assert "members 0, 3 hold the same file" in members(tmp_path, "0", "1").notes[0]


def test_members_take_one_kind_of_network(tmp_path):
    mean = {k: v + 1 for k, v in state().items()}
    for i in range(2):
        saved(tmp_path / f"{i}.pth", {"model": {k: v - i for k, v in state().items()}, "model_ema": mean})
    given = lambda key: {"network": f"{tmp_path}/{{member}}.pth{key}"}  # noqa: E731
    for key, taken in (("", "model_ema"), ("#model", "model")):
        file = resolve.resolve(MANY, "digits", 0.25, given(key), download=False)["network"]
        assert file.key == taken
        assert resolve.identity(file).endswith(f"#{taken}")
    saved(tmp_path / "1.pth", state())
    refused(lambda: resolve.resolve(MANY, "digits", 0.25, given(""), download=False), "'model_ema'")


def test_an_unknown_role_shows_the_methods_own():
    call = lambda: resolve.resolve(TOY, "digits", 0.25, {"denoiser": "x"}, download=False)  # noqa: E731
    refused(call, "'denoiser'", "network", error=UsageError)


def test_missing_weights_say_every_way_on(monkeypatch, tmp_path):
    page_only = entry(page="https://example.org/models")
    installed(monkeypatch, tmp_path / "package", page_only)
    trained = replace(TOY, train={"train": dict})
    message = refused(
        lambda: resolve.resolve(trained, "digits", 0.25, {}, download=True), "'network'", "digits", "0.25"
    )
    for way in ("toy/digits/0.25", "https://example.org/models", "--weights network=PATH", "rrcm-bench weights add"):
        assert way in message
    assert "rrcm-bench train toy" in message
    assert "--random-weights" in message
    assert "train" not in refused(lambda: resolve.resolve(TOY, "digits", 0.5, {}, download=True), "known: none")


def test_a_misspelt_name_meets_the_right_one(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path / "package", entry(page="https://example.org"))
    call = lambda: resolve.resolve(TOY, "digits", 0.25, {"network": "toy/digit/0.25"}, download=False)  # noqa: E731
    refused(call, "did you mean 'toy/digits/0.25'")
    refused(lambda: resolve.find("toy/digit/0.25"), "did you mean 'toy/digits/0.25'")


def test_shipped_weights_need_no_word_and_no_network(monkeypatch, tmp_path):
    file = saved(tmp_path / "package" / "digits" / "a.pth", state())
    installed(monkeypatch, tmp_path / "package", entry(file, file="digits/a.pth"))
    found = resolve.resolve(TOY, "digits", 0.25, {}, download=False)["network"]
    assert (found.path, found.name, found.params) == (file, "toy/digits/0.25", {"arch": "small"})


def test_a_shipped_file_with_another_hash_is_refused(monkeypatch, tmp_path):
    file = saved(tmp_path / "package" / "a.pth", state())
    known = entry(file, file="a.pth")
    installed(monkeypatch, tmp_path / "package", known)
    came = saved(file, state(4))
    refused(
        lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=False),
        known.sha256[:12],
        resolve.sha256_of(came)[:12],
        str(file),
    )
    assert resolve.verify() == [(replace(known, folder=tmp_path / "package"), "damaged", file)]


def test_one_sigma_comes_before_any_and_the_user_before_a_package(monkeypatch, tmp_path):
    package = tmp_path / "package"
    files = {name: saved(package / name, state(width)) for width, name in enumerate(("any.pth", "this.pth"), 3)}
    installed(
        monkeypatch,
        package,
        entry(files["any.pth"], name="any", sigma=None, file="any.pth"),
        entry(files["this.pth"], name="this", file="this.pth"),
    )
    resolved = lambda sigma: resolve.resolve(TOY, "digits", sigma, {}, download=False)["network"].name  # noqa: E731
    assert (resolved(0.25), resolved(0.5)) == ("this", "any")
    mine = saved(tmp_path / "mine.pth", state(8))
    resolve.add("mine", mine, method="toy", role="network", dataset="digits", sigma=None, params={})
    assert (resolved(0.25), resolved(0.5)) == ("mine", "mine")


def test_a_folder_of_the_users_serves_the_file_of_that_name_and_hash_only(monkeypatch, tmp_path):
    file = saved(tmp_path / "right" / "net.pth", state())
    saved(tmp_path / "wrong" / "net.pth", state(4))
    installed(monkeypatch, tmp_path / "package", entry(file, url="https://example.org/v1/net.pth?raw=1"))
    found = lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=False)  # noqa: E731
    refused(found, "--download fetches https://example.org/v1/net.pth")
    monkeypatch.setenv("RRCM_BENCH_WEIGHTS", str(tmp_path / "wrong"))
    refused(found, "none is here")
    monkeypatch.setenv("RRCM_BENCH_WEIGHTS", f"{tmp_path / 'wrong'}{os.pathsep}{tmp_path / 'right'}")
    assert found()["network"].path == file


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
        found = resolve.resolve(TOY, "digits", 0.25, {}, download=True)["network"]
    assert found.path == tmp_path / "cache" / "weights" / f"{known.sha256}.th"
    assert served == ["https://example.org/net.th"]
    found.path.write_bytes(b"bit rot")
    refused(lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=True), known.sha256[:12], "delete it")


def test_a_download_with_another_hash_is_not_kept(monkeypatch, tmp_path):
    import pooch

    file = saved(tmp_path / "net.th", state())
    fetch = lambda url, output_file, pooch: Path(output_file).write_bytes(b"<html>quota</html>")  # noqa: E731
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **settings: fetch)
    installed(monkeypatch, tmp_path / "package", entry(file, url="https://example.org/net.th"))
    refused(lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=True), "cannot be fetched", "example.org")
    assert resolve.verify()[0][1:] == ("missing", None)


def test_a_given_file_that_the_catalogue_knows_takes_its_params(monkeypatch, tmp_path):
    original = saved(tmp_path / "original.pth", state())
    converted = saved(tmp_path / "converted.pth", {"net": state()})
    known = entry(original, params={"arch": "small", "normaliser": "mean"}, also=(resolve.sha256_of(converted),))
    installed(monkeypatch, tmp_path / "package", known)
    for file in (original, converted):
        found = resolve.resolve(TOY, "digits", 0.5, {"network": str(file)}, download=False)["network"]
        assert found.params == {"arch": "small", "normaliser": "mean"}
        assert found.sha256 == resolve.sha256_of(file)


def test_params_of_another_methods_words_are_not_taken_over(monkeypatch, tmp_path):
    file = saved(tmp_path / "net.pth", state(6))
    installed(monkeypatch, tmp_path / "package", entry(file, method="other", params={"classifier": "resnet"}))
    assert resolve.resolve(TOY, "digits", 0.25, {"network": str(file)}, download=False)["network"].params == {
        "arch": "width6"
    }


def test_added_weights_survive_their_source_and_become_the_default(tmp_path):
    file = saved(tmp_path / "checkpoint.pth.tar", state())
    params = {"arch": 'na"me\\\n', "normaliser": "Größe \U0001f600\x7f"}
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": params}
    added = resolve.add("mine/0.25", file, **words, licence="MIT", source="Müller 2024")
    file.unlink()
    found = resolve.resolve(TOY, "digits", 0.25, {}, download=False)["network"]
    assert (found.name, found.params) == ("mine/0.25", params)
    assert found.path.name == f"{added.sha256}.tar"
    assert resolve.catalogue() == (added,)
    assert resolve.verify(["mine/0.25"]) == [(added, "ok", found.path)]
    found.path.unlink()
    assert resolve.verify() == [(added, "missing", None)]


def test_a_second_file_for_the_same_place_is_used_by_name(tmp_path):
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    first = resolve.add("first", saved(tmp_path / "1.pth", state()), **words)
    second = resolve.add("second", saved(tmp_path / "2.pth", state(4)), **words)
    assert (first.default, second.default) == (True, False)
    assert resolve.resolve(TOY, "digits", 0.25, {}, download=False)["network"].name == "first"
    assert resolve.resolve(TOY, "digits", 0.25, {"network": "second"}, download=False)["network"].name == "second"


def test_a_name_stands_for_one_file_and_one_meaning(tmp_path):
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    file = saved(tmp_path / "1.pth", state())
    added = resolve.add("mine", file, **words)
    assert resolve.add("mine", file, **words) == added
    refused(lambda: resolve.add("mine", file, **{**words, "sigma": 0.5}), "another method, role, dataset, sigma")
    refused(lambda: resolve.add("mine", saved(tmp_path / "2.pth", state(4)), **words), added.sha256[:12])
    for name in ("", "two words", "-x", "new\nline", "{sigma}"):
        refused(lambda name=name: resolve.add(name, file, **words), "expected a name")
    assert resolve.catalogue() == (added,)


def test_what_does_not_load_is_not_listed(tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": None, "params": {}}
    refused(lambda: resolve.add("mine", tmp_path / "page.pth", **words), "web page")
    assert resolve.catalogue() == ()
    assert not (tmp_path / "cache").exists()


def test_an_added_file_takes_the_name_of_one_that_has_no_checksum(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path / "package", entry(page="https://example.org"))
    words = {"method": "toy", "role": "network", "dataset": "digits", "sigma": 0.25, "params": {}}
    added = resolve.add("toy/digits/0.25", saved(tmp_path / "1.pth", state()), **words)
    assert resolve.catalogue() == (added,)


def test_a_file_that_ships_and_is_no_default_is_called_here_and_not_gone(monkeypatch, tmp_path):
    file = saved(tmp_path / "package" / "net.pth", state())
    there = replace(entry(file, url=None), file="net.pth", default=False)
    installed(monkeypatch, tmp_path / "package", there)
    refused(
        lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=False),
        "none is taken unless named",
        f"{there.name!r} (here, taken only by --weights network={there.name})",
    )
    file.unlink()
    refused(lambda: resolve.resolve(TOY, "digits", 0.25, {}, download=False), "none is here", "(its file is gone)")
