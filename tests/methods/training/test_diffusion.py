"""Training a diffusion network, end to end at toy length: what it writes, what it refuses, and that it learns."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from metrics import metrics_of
from refusals import check_refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import methods
from bench.types import Setting, TrainRequest, WeightsFile
from bench.types.errors import BenchError, MethodError, TrainingError, UsageError, WeightsError
from methods.dds import DDS, DEFAULTS
from methods.diffusion.schedules import level, level_sigma
from methods.diffusion.unets import UNETS, build_unet, prediction_of, unet_arch
from methods.purification import build_parts
from methods.training.diffusion import diffusion, levels_of, zero_init
from methods.training.loop import CHECKPOINT, METRICS
from methods.training.presets import presets, resolve_settings
from methods.training.rng import seeded_globals
from methods.training.settings import Diffusion

PRETRAINED = Path(str(methods.__file__)).with_name("pretrained") / "digits"
SHORT = {"steps": "3", "batch": "32", "warmup_steps": "1", "ema": "0.5", "hold_out": "32"}


def request(out: Path, **changes: Any) -> TrainRequest:
    values = {
        "method": "dds",
        "stage": "diffusion",
        "dataset": "digits",
        "data_root": None,
        "preset": "",
        "sigma": None,
        "init": None,
        "out": out,
        "overrides": SHORT,
        "device": "cpu",
        "seed": 0,
        "resume": False,
        "dry_run": False,
    }
    return TrainRequest(**{**values, **changes})


@seeded_globals(1)
def test_the_stage_leaves_a_network_that_is_recognised_and_says_what_it_is(tmp_path: Path) -> None:
    report = diffusion(request(tmp_path))
    path = Path(report["weights"])
    tensors = load_file(path)
    assert unet_arch({name: tuple(tensor.shape) for name, tensor in tensors.items()}) == "digits_unet"
    build_unet("digits_unet", shape=(1, 8, 8)).load_state_dict(tensors)
    with safe_open(path, "pt") as opened:
        meta = opened.metadata()
    expected = {"arch": "digits_unet", "prediction": "eps", "largest_sigma": "1.0", "ema": "0.5", "dataset": "digits"}
    assert expected.items() <= meta.items()
    assert meta["schedule"] == UNETS["digits_unet"].schedule
    assert "sigma" not in meta
    assert report["parameters"] == UNETS["digits_unet"].parameters
    assert set(report["rms_error"]) == {"0.25", "0.5", "1"}
    assert {"loss", "simple", "bound"} <= metrics_of(tmp_path)[0].keys()
    assert json.loads(json.dumps(report)) == report
    assert {CHECKPOINT, METRICS} <= {file.name for file in tmp_path.iterdir()}


@seeded_globals(1)
def test_an_untrained_network_starts_from_zero_so_that_the_loss_starts_at_one(tmp_path: Path) -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8))
    zero_init(unet)
    assert unet(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), 5).abs().max() == 0
    diffusion(request(tmp_path, overrides={**SHORT, "steps": "1", "batch": "256"}))
    # E eps^2 = 1; 16 384 values: off by more than 0.055 once in 10^6 seeds
    assert metrics_of(tmp_path)[0]["simple"] == pytest.approx(1.0, abs=0.055)


def test_training_denoises_better_than_no_network_and_than_the_mean_image(tmp_path: Path) -> None:
    changes = {"steps": "80", "batch": "32", "warmup_steps": "10", "hold_out": "64", "ema": "0.9"}
    report = diffusion(request(tmp_path, overrides=changes))
    error = report["rms_error"]
    # The mean image has an error of 0.29 at any noise, and noise clamped to [0, 1] 0.19 at sigma 0.25.
    assert error["0.25"] < 0.19
    assert error["0.25"] < error["0.5"] < error["1"]
    lines = metrics_of(tmp_path)
    assert lines[-1]["simple"] < 0.7 * lines[0]["simple"]


@pytest.mark.parametrize("changes", [{}, {"dropout": "0.3", "prediction": "v"}])
def test_interrupting_and_resuming_changes_no_bit(
    changes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.training import run_stage as around
    from methods.training.loop import Intervals, run

    asked = request(tmp_path / "parts", overrides={**SHORT, **changes})
    before = torch.get_rng_state()
    whole = diffusion(dataclasses.replace(asked, out=tmp_path / "whole"))
    assert torch.equal(torch.get_rng_state(), before), "dropout's draws must be lent, not taken"
    with monkeypatch.context() as patch:
        patch.setattr(
            around, "run", lambda task, out, resume: run(task, out, resume=resume, intervals=Intervals(stop_after=2))
        )
        with pytest.raises(KeyboardInterrupt):
            diffusion(asked)
    parts = diffusion(dataclasses.replace(asked, resume=True))
    assert parts["sha256"] == whole["sha256"]
    assert parts["rms_error"] == whole["rms_error"]


def test_micro_batches_train_on_the_same_levels_and_noise(tmp_path: Path) -> None:
    reports = [diffusion(request(tmp_path / n, overrides={**SHORT, "steps": "1", "accumulate": n})) for n in ("1", "2")]
    losses = [metrics_of(tmp_path / n)[0]["loss"] for n in ("1", "2")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert reports[1]["rms_error"] == pytest.approx(reports[0]["rms_error"], rel=1e-3)


def test_the_averaged_weights_are_exported(tmp_path: Path) -> None:
    tensors = {}
    for ema in ("0", "0.5"):
        changes = {**SHORT, "ema": ema}
        tensors[ema] = load_file(diffusion(request(tmp_path / ema, overrides=changes))["weights"])
    assert not torch.equal(tensors["0"]["conv_out.weight"], tensors["0.5"]["conv_out.weight"])


@seeded_globals(1)
def test_a_velocity_network_gives_noise_to_whoever_calls_it() -> None:
    source = torch.Generator().manual_seed(0)
    unet = build_unet("digits_unet", shape=(1, 8, 8)).eval()
    x = torch.randn(3, 1, 8, 8, generator=source)
    t = torch.tensor([0, 300, 700])
    with torch.inference_mode():
        raw = unet(x, t)
        unet.prediction = "v"
        noise = unet(x, t)
        alone = unet(x[1:2], 300)
    abar = torch.from_numpy(unet.schedule.alphas_bar[[0, 300, 700]]).view(-1, 1, 1, 1)
    expected = abar.sqrt() * raw[:, :1] + (1 - abar).sqrt() * x
    assert torch.allclose(noise[:, :1], expected.float(), atol=1e-6)
    assert torch.equal(noise[:, 1:], raw[:, 1:])
    assert torch.allclose(alone, noise[1:2], atol=1e-5)


def test_velocity_training_is_said_in_the_file_and_denoises(tmp_path: Path) -> None:
    changes = {"steps": "80", "batch": "32", "warmup_steps": "10", "prediction": "v", "ema": "0.9", "hold_out": "32"}
    report = diffusion(request(tmp_path, overrides=changes))
    with safe_open(report["weights"], "pt") as opened:
        assert opened.metadata()["prediction"] == "v"
    assert report["rms_error"]["0.25"] < 0.19
    assert report["rms_error"]["1"] < 0.5


@seeded_globals(1)
def test_only_levels_that_certification_up_to_that_sigma_uses_are_trained() -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8))
    count = levels_of(unet, 0.5)
    assert count - 1 == level(unet.schedule, 0.5, "first") >= level(unet.schedule, 0.5, "nearest")
    assert level_sigma(unet.schedule, count - 2) < 0.5 <= level_sigma(unet.schedule, count - 1)
    assert levels_of(unet, 0.0) == len(unet.schedule.betas)
    with pytest.raises(MethodError, match="is beyond"):
        levels_of(unet, 1e9)


def test_levels_that_were_not_trained_are_not_measured(tmp_path: Path) -> None:
    report = diffusion(request(tmp_path, overrides={**SHORT, "largest_sigma": "0.5"}))
    assert set(report["rms_error"]) == {"0.25", "0.5"}


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    report = diffusion(request(tmp_path / "run", dry_run=True, overrides={"batch": "32"}))
    assert report["dry_run"] is True
    assert report["seconds"] > 0
    assert "rms_error" not in report
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss must stay finite"):
        diffusion(request(tmp_path, overrides={**SHORT, "steps": "6", "lr": "1e12", "clip": "0"}))


REFUSED: list[tuple[dict[str, Any], type[BenchError], str]] = [
    ({"sigma": 0.5}, UsageError, "covers all noise levels, got sigma 0.5; leave --sigma out"),
    ({"init": Path("weights.safetensors")}, UsageError, "starts from random weights"),
    ({"overrides": {"dropout": "1"}}, UsageError, "dropout must be less than 1, got 1.0"),
    ({"overrides": {"prediction": "x0"}}, UsageError, "one of eps, v, got 'x0'"),
    ({"overrides": {"arch": "digit_unet"}}, MethodError, "Did you mean 'digits_unet'"),
    ({"overrides": {"arch": "improved_cifar10"}}, MethodError, "takes images of 3 channels, got 1"),
    ({"overrides": {"largest_sigma": "1e12"}}, MethodError, "is beyond cosine-"),
    ({"overrides": {"largest_sigma": "-1"}}, UsageError, "largest_sigma must be at least 0"),
    ({"overrides": {"augment": "digits_moco"}}, UsageError, "needs one view of an image"),
]


@pytest.mark.parametrize(("changes", "error", "words"), REFUSED)
def test_a_wrong_request_of_the_diffusion_stage_is_refused_in_one_line(
    changes: dict[str, Any], error: type[BenchError], words: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    check_refused(lambda: diffusion(request(out, **changes)), error, words, out)


def test_every_preset_names_a_network_of_its_data_set_and_a_share_of_its_levels() -> None:
    known = presets("dds", "diffusion")
    assert [preset.name for preset in known] == ["cifar10", "cifar10-small", "cifar10-small-long", "imagenet", "digits"]
    channels = {"digits": 1, "cifar10": 3, "imagenet": 3}
    for preset in known:
        _, settings = resolve_settings(Diffusion, request(Path(), preset=preset.name, overrides={}))
        assert UNETS[settings.arch].channels == channels[preset.dataset]
        assert preset.reaches
        # lambda of Nichol & Dhariwal 2021, Eq. 16
        assert settings.lbd == 0.001
        assert math.isfinite(settings.steps * settings.lr)


def test_the_paper_scale_presets_are_those_of_the_published_checkpoints() -> None:
    _, cifar = resolve_settings(Diffusion, request(Path(), preset="cifar10", overrides={}))
    _, imagenet = resolve_settings(Diffusion, request(Path(), preset="imagenet", overrides={}))
    assert (cifar.arch, cifar.batch, cifar.lr, cifar.steps) == ("improved_cifar10", 128, 1e-4, 500_000)
    assert (cifar.dropout, cifar.ema, cifar.largest_sigma) == (0.3, 0.9999, 0.0)
    assert (imagenet.arch, imagenet.batch, imagenet.lr, imagenet.steps) == ("adm_256", 256, 1e-4, 1_980_000)
    assert (imagenet.dropout, imagenet.ema, imagenet.largest_sigma) == (0.0, 0.9999, 0.0)


@seeded_globals(1)
def test_dds_reads_from_the_file_what_its_network_gives(tmp_path: Path) -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8))
    tensors = {name: tensor.contiguous() for name, tensor in unet.state_dict().items()}
    for said, expected in (({"prediction": "v"}, "v"), ({"prediction": "eps"}, "eps"), ({}, "eps")):
        save_file(tensors, tmp_path / "unet.safetensors", metadata=said)
        assert prediction_of(tmp_path / "unet.safetensors") == expected
        file = WeightsFile(role="denoiser", path=tmp_path / "unet.safetensors", sha256="", name="unet")
        assert build_parts(dds_setting({"denoiser": file}), DEFAULTS).unet.prediction == expected
    torch.save(tensors, tmp_path / "unet.pt")
    assert prediction_of(tmp_path / "unet.pt") == "eps"
    save_file(tensors, tmp_path / "unet.safetensors", metadata={"prediction": "x0"})
    with pytest.raises(WeightsError, match="expected prediction eps or v, got 'x0'"):
        prediction_of(tmp_path / "unet.safetensors")


@seeded_globals(1)
def test_a_network_is_refused_at_noise_that_it_never_saw(tmp_path: Path) -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8))
    tensors = {name: tensor.contiguous() for name, tensor in unet.state_dict().items()}
    path = tmp_path / "unet.safetensors"
    save_file(tensors, path, metadata={"largest_sigma": "0.25"})
    file = WeightsFile(role="denoiser", path=path, sha256="", name="unet")
    setting = dds_setting({"denoiser": file})
    with pytest.raises(WeightsError, match=r"trained for noise up to sigma 0\.25, got 0\.5; give a smaller sigma"):
        build_parts(setting, DEFAULTS)
    build_parts(dataclasses.replace(setting, sigma=0.25), DEFAULTS)
    save_file(tensors, path, metadata={"largest_sigma": "0.0"})  # the schedule's
    build_parts(setting, DEFAULTS)


def dds_setting(weights: dict[str, WeightsFile]) -> Setting:
    classifier = WeightsFile(
        role="classifier", path=PRETRAINED / "denoised-classifier.safetensors", sha256="", name="c"
    )
    return Setting(
        dataset="digits",
        num_classes=10,
        shape=(1, 8, 8),
        sigma=0.5,
        params={param.name: param.default_for("digits") for param in DDS.params},
        weights={**weights, "classifier": classifier},
        random_weights=False,
        seed=0,
        device="cpu",
    )
