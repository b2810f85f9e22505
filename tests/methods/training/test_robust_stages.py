"""SmoothAdv, MACER, SmoothMix, Stability, Boosting and denoisers as stages: what they write, refuse, and resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from interrupted import Stage, whole_and_parts
from metrics import metrics_of
from refusals import check_refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bench.types import Setting, TrainRequest, WeightsFile
from bench.types.errors import BenchError, UsageError, WeightsError
from bench.weights.resolve import inspect
from methods.boosting import BOOSTING
from methods.denoised import DENOISED
from methods.nets.architectures import build_network
from methods.nets.denoisers import build_denoiser
from methods.noise_trained import MACER, SMOOTHADV, SMOOTHMIX, STABILITY, VIT_GAUSSIAN
from methods.training import (
    boosting,
    classical,
    denoising,
    macer,
    pack_ensemble,
    schedules,
    smoothadv,
    smoothmix,
    stability,
)
from methods.training.presets import presets, resolve_settings
from methods.training.rng import seeded_globals
from methods.training.settings import (
    Boosting,
    Classical,
    Denoising,
    Macer,
    SmoothAdv,
    SmoothMix,
    Stability,
    StageSettings,
)
from methods.training.train_classifier import rate

STAGES: dict[tuple[str, str], tuple[Stage, type[StageSettings]]] = {
    ("smoothadv", "train"): (smoothadv.train, SmoothAdv),
    ("macer", "train"): (macer.train, Macer),
    ("smoothmix", "train"): (smoothmix.train, SmoothMix),
    ("stability", "train"): (stability.train, Stability),
    ("boosting", "train"): (boosting.train, Boosting),
    ("denoised", "classifier"): (denoising.train_clean_classifier, Classical),
    ("denoised", "denoiser"): (denoising.train_denoiser, Denoising),
}
SHORT = {"epochs": "1", "batch": "100"}  # 3 steps


def request(method: str, stage: str, out: Path, **changes: Any) -> TrainRequest:
    values = {
        "method": method,
        "stage": stage,
        "dataset": "digits",
        "data_root": None,
        "preset": "",
        "sigma": None if stage == "classifier" else 0.25,
        "init": None,
        "out": out,
        "overrides": SHORT,
        "device": "cpu",
        "seed": 0,
        "resume": False,
        "dry_run": False,
    }
    return TrainRequest(**{**values, **changes})


@pytest.fixture(scope="module")
def clean_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier")
    changes = {"epochs": "6", "batch": "64", "warmup_epochs": "0"}
    return Path(denoising.train_clean_classifier(request("denoised", "classifier", out, overrides=changes))["weights"])


def overrides(stage: str, classifier: Path, **changes: str) -> dict[str, str]:
    behind = {"classifier_weights": str(classifier)} if stage == "denoiser" else {}
    return {**SHORT, **behind, **changes}


def meta_of(path: str) -> dict[str, str]:
    with safe_open(path, "pt") as opened:
        return dict(opened.metadata())


@pytest.mark.parametrize(("method", "stage"), STAGES)
@seeded_globals(1)
def test_interrupting_and_resuming_a_stage_changes_no_bit(
    method: str, stage: str, clean_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"members": "2"} if method == "boosting" else {}
    asked = request(method, stage, tmp_path, overrides=overrides(stage, clean_classifier, **few))
    whole, parts = whole_and_parts(STAGES[method, stage][0], asked, tmp_path, monkeypatch)
    assert json.loads(json.dumps(whole)) == whole
    assert whole["steps"] == 3 * (2 if method == "boosting" else 1)
    assert {"method": method, "stage": stage, "dataset": "digits", "seed": "0"}.items() <= meta_of(
        whole["weights"]
    ).items()
    assert parts["sha256"] == whole["sha256"]


@pytest.mark.parametrize(("method", "stage"), STAGES)
@seeded_globals(1)
def test_a_dry_run_counts_and_writes_nothing(method: str, stage: str, clean_classifier: Path, tmp_path: Path) -> None:
    asked = request(method, stage, tmp_path / "run", dry_run=True, overrides=overrides(stage, clean_classifier))
    report = STAGES[method, stage][0](asked)
    assert report["dry_run"] is True
    assert report["seconds"] > 0
    assert report["parameters"] > 10_000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_every_preset_gives_every_setting_at_every_noise_level(method: str, stage: str) -> None:
    known = presets(method, stage)
    expected = {"cifar10", "digits"} if stage == "classifier" else {"cifar10", "imagenet", "digits"}
    assert {preset.dataset for preset in known} == expected
    for preset in known:
        assert preset.reaches
        assert set(preset.sigma) <= {"0.25", "0.5", "1"}, "keys must be what %g prints"
        for sigma in (None, 0.25, 0.5, 1.0):
            asked = request(method, stage, Path(), preset=preset.name, sigma=sigma, overrides={})
            kind = boosting.members_of(asked).settings if method == "boosting" else STAGES[method, stage][1]
            _, settings = resolve_settings(kind, asked)
            assert set(dataclasses.asdict(settings)) >= set(preset.values) | {
                k for d in preset.sigma.values() for k in d
            }


PAPER: list[tuple[str, str, str, float, dict[str, Any]]] = [
    ("smoothadv", "train", "cifar10", 0.25, {"attack_steps": 10, "radius": 255 / 256, "copies": 8, "batch": 256 // 8}),
    ("smoothadv", "train", "cifar10", 0.5, {"attack_steps": 2, "radius": 2.0, "copies": 2, "batch": 256 // 2}),
    ("smoothadv", "train", "cifar10", 1.0, {"attack_steps": 10, "radius": 2.0, "epochs": 150, "normaliser": "mean"}),
    ("smoothadv", "train", "imagenet", 0.25, {"attack": "ddn", "attack_steps": 2, "radius": 2.0}),
    ("macer", "train", "cifar10", 0.25, {"copies": 16, "beta": 16.0, "gamma": 8.0, "lbd": 12.0, "weight_decay": 5e-4}),
    ("macer", "train", "cifar10", 0.5, {"lbd": 4.0, "lbd_from": 0, "epochs": 440, "lr_every": 200, "lr": 0.01}),
    ("macer", "train", "cifar10", 1.0, {"lbd": 12.0, "lbd_from": 200, "normaliser": "none", "batch": 64}),
    ("smoothmix", "train", "cifar10", 0.25, {"attack_length": 0.5, "attack_steps": 4, "eta": 5.0, "copies": 2}),
    ("smoothmix", "train", "cifar10", 1.0, {"attack_length": 2.0, "batch": 128, "clean_after": 0, "eta_warmup": 10}),
    ("boosting", "train", "cifar10", 0.5, {"members": 10, "batch": 256, "epochs": 150, "lr_every": 50}),
    ("boosting", "train", "imagenet", 1.0, {"members": 3, "arch": "resnet50"}),
    ("denoised", "denoiser", "cifar10", 0.5, {"objective": "mse", "lr": 1e-3, "batch": 256, "epochs": 90}),
    ("denoised", "denoiser", "imagenet", 0.5, {"weight_decay": 1e-4, "initialisation": "orthogonal", "batch": 256}),
]


@pytest.mark.parametrize(("method", "stage", "dataset", "sigma", "expected"), PAPER)
def test_the_presets_carry_the_authors_numbers(
    method: str, stage: str, dataset: str, sigma: float, expected: dict[str, Any]
) -> None:
    asked = request(method, stage, Path(), dataset=dataset, sigma=sigma, overrides={})
    settings = dataclasses.asdict(resolve_settings(STAGES[method, stage][1], asked)[1])
    assert {key: settings[key] for key in expected} == expected


REFUSED: list[tuple[str, str, dict[str, Any], type[BenchError], str]] = [
    ("smoothadv", "train", {"overrides": {"radius": "0"}}, UsageError, "above 0 and below 8 for these images, got 0.0"),
    ("smoothadv", "train", {"overrides": {"radius": "255"}}, UsageError, "the authors' 64, 127, 255, 512 are 0.25"),
    ("smoothadv", "train", {"overrides": {"radius": "-1"}}, UsageError, "got -1.0"),
    ("smoothadv", "train", {"overrides": {"attack": "fgsm"}}, UsageError, "one of pgd, ddn, got 'fgsm'"),
    ("smoothadv", "train", {"overrides": {"attack_steps": "0"}}, UsageError, "attack_steps must be at least 1, got 0"),
    ("smoothadv", "train", {"sigma": None}, UsageError, "needs a positive noise level"),
    ("macer", "train", {"overrides": {"lbd": "-1"}}, UsageError, "lbd must be at least 0, got -1.0"),
    ("macer", "train", {"overrides": {"gamma": "0"}}, UsageError, "gamma must be positive, got 0.0"),
    ("macer", "train", {"overrides": {"radius": "1"}}, UsageError, "no setting 'radius'"),
    ("smoothmix", "train", {"overrides": {"clean_after": "9"}}, UsageError, "within the attack's 2 steps, got 9"),
    ("smoothmix", "train", {"overrides": {"attack_length": "0"}}, UsageError, "attack_length must be positive"),
    ("boosting", "train", {"overrides": {"members": "0"}}, UsageError, "members must be at least 1, got 0"),
    (
        *("boosting", "train", {"overrides": {"loss": "consistency", "copies": "1"}}),
        *(UsageError, "at least 2 noisy copies, got copies=1"),
    ),
    ("boosting", "train", {"overrides": {"loss": "smoothadv", "radius": "0"}}, UsageError, "got 0.0"),
    ("boosting", "train", {"overrides": {"loss": "cat-rs"}}, UsageError, "loss must be one of gaussian, consistency"),
    ("boosting", "train", {"overrides": {"radius": "1"}}, UsageError, "no setting 'radius'"),
    ("denoised", "denoiser", {"overrides": {"initialisation": "orthogonal"}}, UsageError, "as the identity, got 'ffd"),
    (
        *("denoised", "denoiser", {"overrides": {"objective": "mse", "surrogates": "x"}}),
        *(UsageError, "mse looks at no classifier"),
    ),
    ("denoised", "denoiser", {"overrides": {"surrogates": "/nowhere"}}, WeightsError, "found neither"),
    ("boosting", "train", {"init": Path("x")}, UsageError, "must not begin alike"),
    ("denoised", "classifier", {"sigma": 0.25}, UsageError, "leave --sigma out"),
    ("denoised", "denoiser", {"overrides": {"objective": "stab_mse"}}, UsageError, "give --init FILE"),
    ("denoised", "denoiser", {"overrides": {"denoiser": "unet"}}, UsageError, "denoiser must be one of ffdnet"),
    ("denoised", "denoiser", {"overrides": {"classifier_weights": "/nowhere"}}, WeightsError, "found neither"),
]


@pytest.mark.parametrize(("method", "stage", "changes", "error", "words"), REFUSED)
def test_a_wrong_request_of_a_robust_stage_is_refused_in_one_line(
    method: str, stage: str, changes: dict[str, Any], error: type[BenchError], words: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    check_refused(lambda: STAGES[method, stage][0](request(method, stage, out, **changes)), error, words, out)


def test_smoothadv_learns_from_images_as_far_away_as_its_warm_up_says(tmp_path: Path) -> None:
    for epochs, growth, expected in (("1", "1", 0.5), ("1", "4", 0.125), ("4", "4", 0.3125)):
        changes = {"epochs": epochs, "batch": "100", "radius": "0.5", "radius_warmup": growth, "lr": "0"}
        out = tmp_path / f"{epochs}-{growth}"
        smoothadv.train(request("smoothadv", "train", out, overrides=changes))
        # Two steps of the whole radius end on the ball, but where pixels stop at 0 or 1.
        assert metrics_of(out)[-1]["distance"] == pytest.approx(expected, rel=0.1)


def test_macer_s_hinge_waits_for_its_epoch(tmp_path: Path) -> None:
    told = {}
    for start in ("0", "1"):
        changes = {**SHORT, "lbd_from": start, "lbd": "3", "lr": "0"}
        macer.train(request("macer", "train", tmp_path / start, overrides=changes))
        told[start] = metrics_of(tmp_path / start)[-1]
    assert told["0"]["loss"] == pytest.approx(told["0"]["ce"] + 3 * told["0"]["hinge"], rel=1e-5)
    assert told["1"]["loss"] == pytest.approx(told["1"]["ce"], rel=1e-6)
    assert told["0"]["hinge"] > 0


def test_smoothmix_weighs_its_mixed_images_by_the_warm_up(tmp_path: Path) -> None:
    changes = {**SHORT, "eta": "5", "eta_warmup": "10"}
    smoothmix.train(request("smoothmix", "train", tmp_path, overrides=changes))
    line = metrics_of(tmp_path)[-1]
    assert line["loss"] == pytest.approx(line["ce"] + 0.1 * 5 * line["kl"], rel=1e-4)
    assert line["kl"] > 0


@seeded_globals(1)
def test_the_members_differ_and_stand_in_the_order_of_what_they_can(tmp_path: Path) -> None:
    changes = {"epochs": "2", "batch": "64", "members": "3", "hold_out": "64", "warmup_epochs": "0"}
    report = boosting.train(request("boosting", "train", tmp_path, overrides=changes, seed=7))
    shown = [member["hold_out_accuracy"] for member in report["members"]]
    assert report["ordered_by"] == "hold_out_accuracy"
    assert shown == sorted(shown, reverse=True)
    assert sorted(report["order"].split(",")) == ["7", "8", "9"]
    assert report["test_accuracy"] is None, "while settings are chosen, the test split stays out of sight"
    tensors = load_file(report["weights"])
    assert not torch.equal(tensors["0.conv1.weight"], tensors["1.conv1.weight"])
    first = tmp_path / f"member-{int(report['order'].split(',')[0]) - 7}" / "boosting-train-0.25.safetensors"
    assert torch.equal(load_file(first)["conv1.weight"], tensors["0.conv1.weight"])


@pytest.mark.parametrize("loss", ["consistency", "stability", "smoothadv", "macer", "smoothmix"])
@seeded_globals(1)
def test_a_member_is_the_network_that_its_loss_s_method_trains(loss: str, tmp_path: Path) -> None:
    changes = {**SHORT, "loss": loss, "members": "1"}
    report = boosting.train(request("boosting", "train", tmp_path / "boosting", overrides=changes))
    train = classical.consistency if loss == "consistency" else STAGES[loss, "train"][0]
    alone = load_file(train(request(loss, "train", tmp_path / loss))["weights"])
    packed = load_file(report["weights"])
    assert all(torch.equal(alone[name], packed[f"0.{name}"]) for name in alone)
    assert meta_of(report["weights"])["loss"] == loss


def test_a_budget_of_steps_stretches_a_recipe_as_a_whole(tmp_path: Path) -> None:
    # 2 epochs of 3 steps, then the same recipe in 12 steps: the hinge still begins in the second half.
    for steps, began in ((0, 3), (12, 6)):
        changes = {"epochs": "2", "batch": "100", "lbd_from": "1", "warmup_epochs": "1", "lr": "1"}
        _, settings = resolve_settings(
            Macer, request("macer", "train", tmp_path, overrides={**changes, "steps": str(steps)})
        )
        total, per_epoch = schedules.length(settings.epochs, 3, settings.steps)
        assert total == (steps or 6)
        rates = [rate(settings, per_epoch)(step) for step in range(total)]
        assert rates[began] == pytest.approx(1.0)
        assert rates[began - 1] < rates[began] > rates[began + 1]
        assert int((began - 1) // per_epoch) == 0
        assert int(began // per_epoch) == 1


def test_a_budget_is_that_many_steps_of_whatever_stage(tmp_path: Path) -> None:
    report = stability.train(request("stability", "train", tmp_path, overrides={**SHORT, "steps": "5"}))
    assert report["steps"] == 5
    assert metrics_of(tmp_path)[-1]["step"] == 5


def setting(method: Any, files: dict[str, WeightsFile]) -> Setting:
    params = {param.name: param.default_for("digits") for param in method.params}
    for role, file in files.items():
        shapes, meta = inspect(file.path)
        params |= {k: v for k, v in meta.items() if k in params} | dict(method.recognise(role, shapes, meta))
    return Setting(
        dataset="digits", num_classes=10, shape=(1, 8, 8), sigma=0.25, params=params, weights=files,
        random_weights=False, seed=0, device="cpu",
    )  # fmt: skip


def weights_file(role: str, path: str | Path) -> WeightsFile:
    return WeightsFile(role=role, path=Path(path), sha256="", name=Path(path).name)


@seeded_globals(1)
def test_what_the_stages_write_is_what_the_methods_read(clean_classifier: Path, tmp_path: Path) -> None:
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for method, train in (
        (SMOOTHADV, smoothadv.train),
        (MACER, macer.train),
        (SMOOTHMIX, smoothmix.train),
        (STABILITY, stability.train),
    ):
        report = train(request(method.name, "train", tmp_path / method.name))
        made = setting(method, {"network": weights_file("network", report["weights"])})
        assert method.build(made).predict(x, None).shape == (20,)  # type: ignore[arg-type]
    report = boosting.train(request("boosting", "train", tmp_path / "boosting"))
    made = setting(BOOSTING, {"members": weights_file("members", report["weights"])})
    assert BOOSTING.build(made).predict(x, None).shape == (20,)  # type: ignore[arg-type]
    changes = overrides("denoiser", clean_classifier)
    report = denoising.train_denoiser(request("denoised", "denoiser", tmp_path / "denoiser", overrides=changes))
    roles = {
        "denoiser": weights_file("denoiser", report["weights"]),
        "classifier": weights_file("classifier", clean_classifier),
    }
    made = setting(DENOISED, roles)
    assert (made.params["denoiser"], made.params["classifier"]) == ("ffdnet_digits", "digits_resnet")
    assert DENOISED.build(made).predict(x, None).shape == (20,)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["mse", "clf", "stab"])
@seeded_globals(1)
def test_a_denoiser_s_loss_falls_and_its_classifier_stays(
    objective: str, clean_classifier: Path, tmp_path: Path
) -> None:
    before = clean_classifier.read_bytes()
    changes = {"objective": objective, "epochs": "8", "batch": "32", "warmup_epochs": "0"}
    changes["classifier_weights"] = str(clean_classifier)
    report = denoising.train_denoiser(request("denoised", "denoiser", tmp_path, overrides=changes))
    told = metrics_of(tmp_path)
    assert told[-1]["loss"] < 0.9 * told[0]["loss"]
    assert clean_classifier.read_bytes() == before
    assert meta_of(report["weights"])["objective"] == objective


@seeded_globals(1)
def test_stab_mse_goes_on_from_its_denoiser(clean_classifier: Path, tmp_path: Path) -> None:
    changes = overrides("denoiser", clean_classifier, objective="mse")
    first = denoising.train_denoiser(request("denoised", "denoiser", tmp_path / "mse", overrides=changes))
    changes = {**changes, "objective": "stab_mse", "lr": "0"}
    second = denoising.train_denoiser(
        request("denoised", "denoiser", tmp_path / "stab", overrides=changes, init=Path(first["weights"]))
    )
    one, other = load_file(first["weights"]), load_file(second["weights"])
    assert all(torch.equal(one[name], other[name]) for name in one)


@seeded_globals(1)
def test_an_orthogonal_denoiser_starts_as_the_identity() -> None:
    for name in denoising.RESIDUAL:
        denoiser = build_denoiser(name, in_channels=3, sigma=0.25)
        denoising.start_as_identity(denoiser)
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(denoiser.eval()(x), x)
        weights = [m.weight for m in denoiser.modules() if isinstance(m, torch.nn.Conv2d)]
        rows = weights[1].flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5) or len(rows) > rows.shape[1]
        assert float(weights[-1].detach().abs().max()) == 0


@seeded_globals(1)
def test_with_query_access_each_batch_asks_the_next_surrogate(clean_classifier: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    tensors = {
        name: torch.zeros_like(t) if name.startswith("fc.") else t for name, t in load_file(clean_classifier).items()
    }
    save_file(tensors, other, metadata={**meta_of(str(clean_classifier)), "dataset": "digits"})
    changes = overrides("denoiser", clean_classifier, objective="clf", lr="0", weight_decay="0")
    told = {}
    for name, asked in (
        ("first", str(clean_classifier)),
        ("both", f"{clean_classifier} {other}"),
        ("flat", str(other)),
    ):
        out = tmp_path / name
        report = denoising.train_denoiser(
            request("denoised", "denoiser", out, overrides={**changes, "surrogates": asked, "steps": "2"})
        )
        told[name] = metrics_of(out)[-1]["loss"]
        assert meta_of(report["weights"])["objective"] == "clf"
    assert told["flat"] == pytest.approx(2.302585, abs=1e-5)  # zero logits: ln 10, whatever the image
    # Of two steps the first asks the one, the second the other: the mean of its loss and ln 10.
    out = tmp_path / "once"
    denoising.train_denoiser(
        request("denoised", "denoiser", out, overrides={**changes, "surrogates": str(clean_classifier), "steps": "1"})
    )
    assert told["both"] == pytest.approx((metrics_of(out)[-1]["loss"] + 2.302585) / 2, abs=1e-5)
    assert told["first"] != pytest.approx(told["flat"], abs=0.01)


@seeded_globals(1)
def test_a_classifier_may_begin_from_weights_of_other_classes(tmp_path: Path) -> None:
    network = build_network("digits_resnet", num_classes=7, shape=(1, 8, 8))
    path = tmp_path / "seven.safetensors"
    save_file({f"1.{k}": v for k, v in network.state_dict().items()}, path)
    report = classical.gaussian(
        request("gaussian", "train", tmp_path / "ten", overrides={**SHORT, "lr": "0"}, init=path)
    )
    tensors = load_file(report["weights"])
    assert torch.equal(tensors["conv1.weight"], network.state_dict()["conv1.weight"])
    assert tensors["fc.weight"].shape == (10, 64)
    assert len(meta_of(report["weights"])["init"]) == 64


@seeded_globals(1)
def test_a_classifier_does_not_begin_from_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(build_network("cifar_resnet20", num_classes=10, shape=(1, 8, 8)).state_dict(), path)
    with pytest.raises(WeightsError, match=r"expected those of 'digits_resnet' with .*give --init FILE"):
        smoothadv.train(request("smoothadv", "train", tmp_path / "run", init=path))


def test_the_vit_has_its_own_presets() -> None:
    known = {preset.name: preset.values for preset in presets("vit_gaussian", "train")}
    assert [*known] == ["as_logged", "as_logged-in21k", "cifar10-small", "imagenet", "imagenet-in21k"]
    assert set(VIT_GAUSSIAN.train) == {"train"}
    logged = {"optimiser": "sgd", "lr": 0.1, "lr_gamma": 0.05, "lr_every": 30, "batch": 1024, "weight_decay": 1e-4}
    assert logged.items() <= known["as_logged"].items()
    assert {"augment": "resized_crop_flip", "normaliser": "half", "copies": 1}.items() <= known["as_logged"].items()


@seeded_globals(1)
def test_packing_puts_the_better_member_first_by_images_that_are_not_certified(tmp_path: Path) -> None:
    trained = classical.gaussian(
        request("gaussian", "train", tmp_path / "t", overrides={"epochs": "6", "batch": "64", "warmup_epochs": "0"})
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(
            build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).state_dict(), tmp_path / "n1.safetensors"
        )
    (tmp_path / "n2.safetensors").write_bytes(Path(trained["weights"]).read_bytes())
    asked = request(
        "boosting", "pack", tmp_path / "out", overrides={"subset": "skip:5+1"}, init=tmp_path / "n{member}.safetensors"
    )
    report = BOOSTING.train["pack"](asked)
    assert report["order"] == ["n2.safetensors", "n1.safetensors"]
    assert report["accuracies"][0] > report["accuracies"][1]
    assert report["images"] == 20
    tensors = load_file(report["weights"])
    assert torch.equal(tensors["0.fc.weight"], load_file(trained["weights"])["fc.weight"])
    made = setting(BOOSTING, {"members": weights_file("members", report["weights"])})
    assert made.params["normaliser"] == "mean_std"
    again = pack_ensemble.pack(dataclasses.replace(asked, init=Path(report["weights"]), out=tmp_path / "again"))
    assert again["order"] == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "give --init"),
        ({"overrides": {"archs": "x"}, "init": Path("x")}, "Did you mean 'arch'"),
        ({"sigma": None, "overrides": {}}, "needs a positive noise level"),
    ],
)
def test_a_wrong_packing_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        pack_ensemble.pack(request("boosting", "pack", tmp_path / "out", **{"overrides": {}, **changes}))
