"""The stages, end to end at toy length: what they write, what they refuse, and that they learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from interrupted import whole_and_parts
from refusals import check_refused
from safetensors import safe_open
from safetensors.torch import load_file

from bench.types import TrainRequest
from bench.types.errors import BenchError, TrainingError, UsageError, WeightsError
from methods.nets.sizes import SIZES
from methods.training import classical, rrcm
from methods.training.loop import CHECKPOINT, METRICS
from methods.training.presets import presets, resolve_settings
from methods.training.settings import Classical, Finetune, Pretrain

STAGES = {
    ("gaussian", "train"): (classical.gaussian, Classical),
    ("consistency", "train"): (classical.consistency, Classical),
    ("rrcm", "pretrain"): (rrcm.pretrain, Pretrain),
    ("rrcm", "finetune"): (rrcm.finetune, Finetune),
}
SHORT = {"epochs": "1", "batch": "64"}
SHORT_PRETRAIN = {"steps": "3", "batch": "32", "warmup_steps": "1"}


def request(method: str, stage: str, out: Path, **changes: Any) -> TrainRequest:
    values = {
        "method": method,
        "stage": stage,
        "dataset": "digits",
        "data_root": None,
        "preset": "",
        "sigma": None if stage == "pretrain" else 0.25,
        "init": None,
        "out": out,
        "overrides": {},
        "device": "cpu",
        "seed": 0,
        "resume": False,
        "dry_run": False,
    }
    return TrainRequest(**{**values, **changes})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained")
    report = rrcm.pretrain(request("rrcm", "pretrain", out, overrides=SHORT_PRETRAIN))
    return Path(report["weights"])


@pytest.mark.parametrize("method", ["gaussian", "consistency"])
def test_a_classical_stage_leaves_the_network_s_own_keys_and_says_what_it_is(method: str, tmp_path: Path) -> None:
    report = STAGES[method, "train"][0](request(method, "train", tmp_path, overrides=SHORT))
    path = Path(report["weights"])
    assert set(load_file(path)) >= {"conv1.weight", "bn1.running_mean", "fc.weight"}
    with safe_open(path, "pt") as opened:
        meta = opened.metadata()
    expected = {"arch": "digits_resnet", "normaliser": "mean_std", "dataset": "digits", "sigma": "0.25", "seed": "0"}
    assert expected.items() <= meta.items()
    assert {"method": method, "stage": "train", "preset": "digits"}.items() <= meta.items()
    assert report["steps"] == 320 // 64
    assert 0 <= report["test_accuracy"] <= 1
    assert json.loads(json.dumps(report)) == report
    assert {CHECKPOINT, METRICS} <= {file.name for file in tmp_path.iterdir()}


def test_gaussian_training_learns_digits_better_than_chance(tmp_path: Path) -> None:
    changes = {"epochs": "12", "batch": "32", "hold_out": "100"}
    report = classical.gaussian(request("gaussian", "train", tmp_path, overrides=changes))
    # 100 images: chance passes 0.4 once in 10^14; the seeds are fixed
    assert report["hold_out_accuracy"] > 0.4
    assert report["test_accuracy"] is None, "while settings are chosen, the test split stays out of sight"


def test_fine_tuning_keeps_the_encoder_without_projector_and_adds_a_head(pretrained: Path, tmp_path: Path) -> None:
    assert any(key.startswith("projection_head.") for key in load_file(pretrained))
    report = rrcm.finetune(request("rrcm", "finetune", tmp_path, init=pretrained, overrides=SHORT))
    tensors = load_file(report["weights"])
    encoder = {key for key in load_file(pretrained) if not key.startswith("projection_head.")}
    assert set(tensors) == {f"base_model.{key}" for key in encoder} | {"linear_head.weight", "linear_head.bias"}
    with safe_open(report["weights"], "pt") as opened:
        assert {"size": "tiny", "normaliser": "half", "final_norm": "true"}.items() <= opened.metadata().items()


def test_a_frozen_head_keeps_its_random_weights_and_a_trainable_one_does_not(pretrained: Path, tmp_path: Path) -> None:
    heads = {}
    for head in ("frozen", "trainable"):
        changes = {**SHORT, "head": head, "warmup_epochs": "0"}
        report = rrcm.finetune(request("rrcm", "finetune", tmp_path / head, init=pretrained, overrides=changes))
        heads[head] = load_file(report["weights"])["linear_head.weight"]
    assert float(heads["frozen"].abs().max()) < 2e-4
    assert float(heads["trainable"].abs().max()) > 1e-3


def test_an_untrained_head_starts_at_ln_ten(pretrained: Path, tmp_path: Path) -> None:
    changes = {**SHORT, "lr": "0"}
    rrcm.finetune(request("rrcm", "finetune", tmp_path, init=pretrained, overrides=changes))
    line = json.loads((tmp_path / METRICS).read_text().splitlines()[0])
    assert line["ce"] == pytest.approx(2.302585, abs=1e-3)
    assert line["loss"] - line["ce"] == pytest.approx(0.5 * 2.302585, abs=1e-3)


@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_interrupting_and_resuming_a_stage_changes_no_bit(
    method: str, stage: str, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = SHORT_PRETRAIN if stage == "pretrain" else SHORT
    init = pretrained if stage == "finetune" else None
    asked = request(method, stage, tmp_path, overrides=changes, init=init)
    whole, parts = whole_and_parts(STAGES[method, stage][0], asked, tmp_path, monkeypatch)
    assert parts["sha256"] == whole["sha256"]


@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_a_dry_run_counts_and_writes_nothing(method: str, stage: str, pretrained: Path, tmp_path: Path) -> None:
    init = pretrained if stage == "finetune" else None
    report = STAGES[method, stage][0](
        request(method, stage, tmp_path / "run", dry_run=True, init=init, overrides={"batch": "64"})
    )
    assert report["dry_run"] is True
    assert report["seconds"] > 0
    assert report["steps"] > 0
    assert report["world_size"] == 1
    assert report["images_per_second"] * report["seconds"] == pytest.approx(64 * report["steps"])
    assert report["parameters"] > 10_000
    assert not (tmp_path / "run").exists()


def test_the_symmetric_and_the_one_sided_loss_differ_by_about_one_direction(tmp_path: Path) -> None:
    told = {}
    for form in ("symmetric", "one_sided"):
        rrcm.pretrain(
            request(
                "rrcm", "pretrain", tmp_path / form, overrides={**SHORT_PRETRAIN, "contrastive": form, "steps": "1"}
            )
        )
        told[form] = json.loads((tmp_path / form / METRICS).read_text())["contrastive"]
    assert told["symmetric"] == pytest.approx(2 * told["one_sided"], rel=0.1)


def test_a_frozen_patch_embedding_stays_and_the_rest_moves(tmp_path: Path) -> None:
    tensors = []
    for steps in ("1", "3"):
        changes = {**SHORT_PRETRAIN, "patch_embed": "frozen", "warmup_steps": "0", "steps": steps}
        report = rrcm.pretrain(request("rrcm", "pretrain", tmp_path / steps, overrides=changes))
        tensors.append(load_file(report["weights"]))
    assert torch.equal(*(t["patch_embed.proj.weight"] for t in tensors))
    assert not torch.equal(*(t["blocks.0.attn.qkv.weight"] for t in tensors))


REFUSED: list[tuple[str, str, dict[str, Any], type[BenchError], str]] = [
    ("gaussian", "train", {"sigma": None}, UsageError, "needs a positive noise level"),
    ("gaussian", "train", {"sigma": -1.0}, UsageError, "got -1.0"),
    ("gaussian", "train", {"preset": "imagnet"}, UsageError, "Known: cifar10, "),
    ("gaussian", "train", {"dataset": "folder"}, UsageError, "has no preset for 'folder'"),
    ("gaussian", "train", {"overrides": {"epoch": "3"}}, UsageError, "Did you mean 'epochs'"),
    ("gaussian", "train", {"overrides": {"epochs": "three"}}, UsageError, "epochs must be a whole number, got 'three'"),
    ("gaussian", "train", {"overrides": {"lr": "fast"}}, UsageError, "lr must be a number, got 'fast'"),
    ("gaussian", "train", {"overrides": {"lr": "nan"}}, UsageError, "lr must be at least 0, got nan"),
    ("gaussian", "train", {"overrides": {"batch": "0"}}, UsageError, "batch must be at least 1, got 0"),
    ("gaussian", "train", {"overrides": {"batch": "5000"}}, TrainingError, "got batch=5000"),
    ("gaussian", "train", {"overrides": {"augment": "flip"}}, TrainingError, "does not fit images of shape"),
    ("gaussian", "train", {"overrides": {"augment": "moco"}}, UsageError, "needs one view of an image"),
    ("consistency", "train", {"overrides": {"copies": "1"}}, UsageError, "got copies=1"),
    ("rrcm", "pretrain", {"sigma": 0.25}, UsageError, "leave --sigma out"),
    ("rrcm", "pretrain", {"overrides": {"size": "B"}}, UsageError, "is for square images of side 32, 224"),
    ("rrcm", "pretrain", {"overrides": {"augment": "digits"}}, UsageError, "needs three views"),
    ("rrcm", "pretrain", {"overrides": {"contrastive": "both"}}, UsageError, "one of symmetric, one_sided, got 'both'"),
    ("rrcm", "finetune", {}, UsageError, "give --init FILE"),
    ("rrcm", "finetune", {"overrides": {"final_norm": "yes"}}, UsageError, "must be true or false, got 'yes'"),
]


@pytest.mark.parametrize(("method", "stage", "changes", "error", "words"), REFUSED)
def test_a_wrong_request_is_refused_in_one_line(
    method: str, stage: str, changes: dict[str, Any], error: type[BenchError], words: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    check_refused(lambda: STAGES[method, stage][0](request(method, stage, out, **changes)), error, words, out)


def test_weights_that_are_no_pre_trained_encoder_are_refused(pretrained: Path, tmp_path: Path) -> None:
    tuned = rrcm.finetune(request("rrcm", "finetune", tmp_path / "tuned", init=pretrained, overrides=SHORT))
    with pytest.raises(WeightsError, match="got a fine-tuned network"):
        rrcm.finetune(request("rrcm", "finetune", tmp_path / "again", init=Path(tuned["weights"])))
    resnet = classical.gaussian(request("gaussian", "train", tmp_path / "resnet", overrides=SHORT))
    with pytest.raises(WeightsError, match="expected an encoder of size 'tiny'"):
        rrcm.finetune(request("rrcm", "finetune", tmp_path / "again", init=Path(resnet["weights"])))


@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_every_preset_gives_every_setting_at_every_noise_level(method: str, stage: str) -> None:
    known = presets(method, stage)
    assert {preset.dataset for preset in known} >= {"cifar10", "imagenet", "digits"}
    for preset in known:
        assert preset.reaches
        assert set(preset.sigma) <= {"0.25", "0.5", "1"}, "keys must be what %g prints"
        for sigma in (None, 0.25, 0.5, 1.0):
            asked = request(method, stage, Path(), preset=preset.name, sigma=sigma)
            _, settings = resolve_settings(STAGES[method, stage][1], asked)
            assert getattr(settings, "size", "tiny") in SIZES


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [(0.25, (10.0, 1024, 150, "rand_augment")), (0.5, (20.0, 2048, 50, "strong")), (1.0, (20.0, 256, 150, "flip"))],
)
def test_the_imagenet_fine_tuning_preset_follows_the_published_runs(sigma: float, expected: tuple[Any, ...]) -> None:
    _, settings = resolve_settings(Finetune, request("rrcm", "finetune", Path(), preset="imagenet-b", sigma=sigma))
    assert (settings.lbd, settings.batch, settings.epochs, settings.augment) == expected
