"""What weights files say of their making, and what is read from it; milestones on the way; dry runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode
from two_processes import SHORT, request
from typer.testing import CliRunner

import methods
from bench.cli.app import app
from bench.cli.training_cost import SHARE_OF_CONVOLUTIONS, SHARE_OF_TRANSFORMERS, with_gpus
from bench.types.errors import WeightsError
from bench.weights.resolve import read_checkpoint, said_by
from methods.nets.architectures import build_network
from methods.nets.karras_grid import nearest_time
from methods.rrcm import RRCM
from methods.training import classical, provenance, rrcm
from methods.training.checkpoints import CHECKPOINT
from methods.training.provenance import KEY
from methods.training.rng import seeded_globals

PRETRAIN = {"steps": "2", "batch": "32", "warmup_steps": "1"}


def gaussian(out: Path, **changes: str) -> dict[str, Any]:
    return dict(classical.gaussian(request(out, None, {**SHORT, **changes}, method="gaussian", stage="train")))


def pretrained(out: Path, **changes: str) -> Path:
    asked = request(out, None, {**PRETRAIN, **changes}, stage="pretrain", sigma=None)
    return Path(rrcm.pretrain(asked)["weights"])


def header(path: Path | str) -> dict[str, str]:
    with safe_open(path, "pt") as opened:
        return opened.metadata()


def record(path: Path | str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(header(path)[KEY])
    return found


def test_weights_tell_every_setting_and_which_were_changed(tmp_path: Path) -> None:
    report = gaussian(tmp_path, lr="0.05")
    told = record(report["weights"])
    assert told["settings"] == report["settings"]
    assert told["changed"] == {"lr": [0.1, 0.05], "epochs": [150, 1], "warmup_epochs": [2.0, 0.0]}
    assert told["steps"] == told["of_steps"] == report["steps"] == 5
    assert told["parents"] == {}


def test_a_record_names_files_and_not_the_folders_of_the_machine_that_had_them(tmp_path: Path) -> None:
    (tmp_path / "classifier.safetensors").write_bytes(b"")
    settings = {
        "classifier_weights": str(tmp_path / "classifier.safetensors"),
        "denoiser_weights": "small/cifar10/dds/denoiser",
        "condition_weights": "",
        "lr": 0.1,
    }
    told = provenance._by_name(settings)
    assert told == {**settings, "classifier_weights": "classifier.safetensors"}


def test_the_fingerprint_is_that_of_the_images(tmp_path: Path) -> None:
    first, again = (record(gaussian(tmp_path / name)["weights"])["data"] for name in ("first", "again"))
    fewer = record(gaussian(tmp_path / "fewer", hold_out="20")["weights"])["data"]
    assert first == again
    assert (first["images"], fewer["images"]) == (320, 300)
    assert first["fingerprint"] != fewer["fingerprint"]


def test_a_fine_tuned_network_names_its_parent_and_has_the_levels_of_its_pre_training(tmp_path: Path) -> None:
    init = pretrained(tmp_path / "pre", scales_first="10", scales_last="30")
    tuned = rrcm.finetune(request(tmp_path / "tuned", init, SHORT))["weights"]
    assert record(tuned)["parents"] == {"init": header(tuned)["init"]}
    assert header(init)["levels"] == header(tuned)["grid"] == "31"
    said, _ = said_by(RRCM, "network", "tuned", read_checkpoint(Path(tuned)))
    assert int(said["grid"]) == 31
    assert nearest_time(0.5, 31) != nearest_time(0.5, 81)
    # Of a file that does not say, the finest of the paper.
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(init), bare)
    assert header(rrcm.finetune(request(tmp_path / "81", bare, SHORT))["weights"])["grid"] == "81"


@pytest.mark.parametrize(("said", "words"), [({"normaliser": "none"}, "normaliser half"), ({"levels": "1"}, "got '1'")])
def test_an_encoder_of_other_pixels_or_levels_is_refused(said: dict[str, str], words: str, tmp_path: Path) -> None:
    init = pretrained(tmp_path / "pre")
    other = tmp_path / "other.safetensors"
    save_file(load_file(init), other, metadata={**header(init), **said})
    with pytest.raises(WeightsError, match=words) as caught:
        rrcm.finetune(request(tmp_path / "tuned", other, SHORT))
    assert "\n" not in str(caught.value)


def test_milestones_are_the_weights_of_their_steps_and_change_none(tmp_path: Path) -> None:
    kept = gaussian(tmp_path / "kept", ema="0.5", keep_every="2", epochs="2")
    plain = gaussian(tmp_path / "plain", ema="0.5", epochs="2")
    names = {file.name for file in (tmp_path / "kept").glob("*-step*")}
    assert names == {f"gaussian-train-0.25-step{step}.safetensors" for step in (2, 4, 6, 8, 10)}
    ours, theirs = load_file(kept["weights"]), load_file(plain["weights"])
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    last = load_file(tmp_path / "kept" / "gaussian-train-0.25-step10.safetensors")
    assert all(torch.equal(last[key], theirs[key]) for key in theirs)
    states = [torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["modules"] for name in ("kept", "plain")]
    assert all(torch.equal(states[0][m][key], states[1][m][key]) for m in states[0] for key in states[0][m])
    middle = tmp_path / "kept" / "gaussian-train-0.25-step4.safetensors"
    assert (record(middle)["steps"], record(middle)["of_steps"]) == (4, 10)
    assert any(not torch.equal(load_file(middle)[key], theirs[key]) for key in theirs)


def test_weights_show_tells_what_is_recorded_and_what_is_not(tmp_path: Path) -> None:
    path = Path(gaussian(tmp_path)["weights"])
    told = json.loads(CliRunner().invoke(app, ["weights", "show", str(path), "--json"]).stdout)
    assert told["training"] == record(path)
    assert KEY not in told["says"]
    words = CliRunner().invoke(app, ["weights", "show", str(path)]).stdout
    assert "150 -> 1" in words
    shipped = Path(methods.__file__).parent / "pretrained" / "digits" / "gaussian-0.50.safetensors"
    for given, damage in ((shipped, None), (path, "{"), (path, "[]"), (path, '{"settings": 3}'), (path, "[" * 9999)):
        file = given
        if damage is not None:
            file = tmp_path / "damaged.safetensors"
            save_file(load_file(given), file, metadata={KEY: damage})
        done = CliRunner().invoke(app, ["weights", "show", str(file)])
        assert (done.exit_code, "not recorded" in done.stdout) == (0, True)


def test_the_arithmetic_of_a_dry_run_is_three_forward_passes(tmp_path: Path) -> None:
    asked = request(tmp_path / "run", None, SHORT, method="gaussian", stage="train", dry_run=True)
    report = classical.gaussian(asked)
    with seeded_globals("network"):
        network = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 8, 8))
    # Backwards, a layer costs twice as much, but for the first, whose input needs no gradient.
    assert 2.9 * counter.get_total_flops() < report["flops_per_image"] <= 3 * counter.get_total_flops()
    assert report["flops"] == report["flops_per_image"] * 64 * report["steps"]
    assert report["synthetic"] is False
    gpus = {each["key"]: each for each in with_gpus(report, "cpu")["gpus"]}
    assert gpus["h100"]["gpu_hours"] == pytest.approx(report["flops"] / (SHARE_OF_CONVOLUTIONS * 989.4e12) / 3600)
    assert report["convolutions"] > 0.99
    changes = {"arch": "cifar_small_vit", "batch": "8"}
    asked = request(
        tmp_path / "vit", None, changes, method="vit_gaussian", stage="train", dataset="cifar10", dry_run=True
    )  # fmt: skip
    vit = with_gpus(classical.gaussian(asked), "cpu")
    assert vit["convolutions"] < 0.05
    assert {each["share"] for each in vit["gpus"]} == {SHARE_OF_TRANSFORMERS}
    assert not (tmp_path / "run").exists()


def test_a_preset_brings_the_dataset_that_it_is_named_after(tmp_path: Path) -> None:
    words = ["train", "gaussian", "--sigma", "0.5", "--dry-run", "--json", "--out", str(tmp_path / "run")]
    words += ["--preset", "cifar10-small", "--set", "arch=cifar_resnet20", "--set", "batch=8"]
    report = json.loads(CliRunner().invoke(app, words).stdout)
    assert (report["dataset"], report["synthetic"], report["device"]) == ("cifar10", True, "cpu")
    wrong = CliRunner().invoke(app, [*words, "--dataset", "digits"])
    assert wrong.exit_code != 0


def test_a_dry_run_needs_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"arch": "cifar_resnet20", "batch": "8"}
    asked = request(
        tmp_path / "run", None, changes, method="gaussian", stage="train", dataset="cifar10", dry_run=True
    )  # fmt: skip
    report = classical.gaussian(asked)
    assert report["synthetic"] is True
    assert report["steps"] == 50_000 // 8 * report["settings"]["epochs"]
    assert "random images in their place" in capsys.readouterr().err
    assert {row["processes"] for row in report["memory"]} == {1, 2, 4, 8}
    totals = [row["activations"] for row in report["memory"]]
    assert totals == sorted(totals, reverse=True)
    with pytest.raises(Exception, match="cifar10"):
        classical.gaussian(dataclasses.replace(asked, dry_run=False))
