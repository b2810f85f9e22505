"""DMAE's and FT-CADIS's fine-tunings: losses by slow loops, layers, and that DDS and DMAE take the result."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from interrupted import Stage, whole_and_parts
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.types import Setting, TrainRequest
from bench.types.errors import BenchError, UsageError, WeightsError
from bench.weights.resolve import resolve
from methods.dds import DDS
from methods.nets.architectures import build_network
from methods.noise_trained import DMAE
from methods.training import denoised_finetune, dmae
from methods.training.denoised_finetune import search, selective
from methods.training.finetuning import cosine_rate, layer_groups, set_attention_dropout, set_drop_path
from methods.training.loop import METRICS
from methods.training.lora import add_adapters, merged_state
from methods.training.presets import presets, resolve_settings
from methods.training.rng import seeded_globals
from methods.training.settings import DdsFinetune, DmaeFinetune, StageSettings

SMALL_VIT = {"arch": "cifar_small_mae_vit", "start": "random", "augment": "digits", "normaliser": "half"}
SHORT = {
    "dmae": {**SMALL_VIT, "batch": "32", "steps": "2", "warmup_epochs": "0", "drop_path": "0.1", "mixup": "0.8"},
    "dds": {"batch": "32", "steps": "2", "warmup_epochs": "0"},
}
STAGES: dict[str, tuple[Stage, type[StageSettings]]] = {
    "dmae": (dmae.finetune, DmaeFinetune),
    "dds": (denoised_finetune.finetune, DdsFinetune),
}


def request(method: str, out: Path, **changes: Any) -> TrainRequest:
    overrides = {**SHORT[method], **changes.pop("overrides", {})}
    values = {
        "method": method,
        "stage": "finetune",
        "dataset": "digits",
        "data_root": None,
        "preset": "cifar10-small" if method == "dmae" else "digits",
        "sigma": 0.25,
        "init": None,
        "out": out,
        "overrides": overrides,
        "device": "cpu",
        "seed": 0,
        "resume": False,
        "dry_run": False,
    }
    return TrainRequest(**{**values, **changes})


# ---- FT-CADIS: the loss and the search -------------------------------------------------------------------------------

M, B, K = 3, 5, 4
Y = torch.tensor([0, 1, 2, 3, 0])


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def slow_selective(clean: np.ndarray, attacked: np.ndarray, y: np.ndarray, lbd: float, warm_start: bool) -> float:
    total = 0.0
    for j in range(len(y)):
        p = [softmax(copy[j]) for copy in clean]
        ce = [-math.log(each[y[j]]) for each in p]
        right = [int(each.argmax()) == y[j] for each in p]
        chosen = list(right)
        if warm_start and not any(right):
            chosen[int(np.argmin(ce))] = True
        total += sum(c for c, keep in zip(ce, chosen, strict=True) if keep) / len(p)
        if all(right):
            mean = np.mean(p, axis=0)
            total += lbd * max((mean * np.log(mean / softmax(copy[j]))).sum() for copy in attacked)
    return total / len(y)


def some_right() -> tuple[Tensor, Tensor]:
    clean = drawn(M, B, K, seed=0)
    clean[:, range(2), Y[:2]] += 5  # all right
    clean[:, 2, Y[2]] -= 5  # none
    return clean, drawn(M, B, K, seed=1)


@pytest.mark.parametrize("warm_start", [True, False])
def test_the_selective_loss_equals_a_loop_over_images(warm_start: bool) -> None:
    clean, attacked = some_right()
    parts = selective(clean, attacked, Y, lbd=4.0, warm_start=warm_start)
    slow = slow_selective(clean.numpy(), attacked.numpy(), Y.numpy(), 4.0, warm_start)
    assert float(parts.total) == pytest.approx(slow, rel=1e-12)
    assert float(parts.total) == pytest.approx(float(parts.ce + 4.0 * parts.adversarial), rel=1e-12)
    assert parts.adversarial > 0


def test_the_target_of_the_adversarial_loss_is_not_held_fixed() -> None:
    clean, attacked = (z.requires_grad_() for z in some_right())
    assert torch.autograd.gradcheck(lambda a, b: selective(a, b, Y, lbd=4.0, warm_start=True).total, (clean, attacked))
    selective(clean, attacked, Y, lbd=1.0, warm_start=True).adversarial.backward()
    assert clean.grad is not None
    assert clean.grad.abs().max() > 1e-4


SIDE = (1, 3, 4)
W = drawn(12, K, seed=2)


def bent(x: Tensor) -> Tensor:
    return torch.tanh(2 * x.flatten(1) @ W) * 3


def slow_search(x: np.ndarray, copy: np.ndarray, target: np.ndarray, radius: float, steps: int) -> np.ndarray:
    def divergence(e: np.ndarray) -> float:
        q = softmax(np.tanh(2 * (x + e).reshape(-1) @ W.numpy()) * 3)
        return float((target * np.log(target / q)).sum())

    start = copy - x
    mean, size = start.mean(), np.sqrt((start**2).mean())
    moved = start
    for _ in range(steps):
        gradient = np.zeros_like(moved)
        for i in np.ndindex(*moved.shape):
            step = np.zeros_like(moved)
            step[i] = 1e-6
            gradient[i] = (divergence(moved + step) - divergence(moved - step)) / 2e-6
        away = moved + 2 * radius / steps * gradient / np.linalg.norm(gradient) - start
        moved = start + away * min(1.0, radius / np.linalg.norm(away))
        moved = mean + (moved - moved.mean()) / np.sqrt((moved**2).mean()) * size
    return x + moved


@pytest.mark.parametrize("steps", [1, 3])
def test_the_search_equals_a_loop_with_numerical_gradients(steps: int) -> None:
    x = torch.rand(B, *SIDE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    copies = x + 0.2 * drawn(M, B, *SIDE, seed=4)
    target = drawn(B, K, seed=5).softmax(dim=1)
    fast = search(bent, x, copies, target, radius=0.3, steps=steps)
    for i in range(M):
        for j in range(B):
            slow = slow_search(x[j].numpy(), copies[i, j].numpy(), target[j].numpy(), 0.3, steps)
            assert fast[i, j].numpy() == pytest.approx(slow, abs=1e-6)


# ---- layers and rates ------------------------------------------------------------------------------------------------


@seeded_globals(1)
def test_layers_decay_by_depth_and_vectors_have_no_weight_decay() -> None:
    network = build_network("cifar_small_mae_vit", num_classes=10, shape=(3, 32, 32))
    groups = layer_groups(network, layer_decay=0.5, weight_decay=0.05)
    of = {id(p): group for group in groups for p in group["params"]}
    share = {name: (of[id(p)]["lr_scale"], of[id(p)]["weight_decay"]) for name, p in network.named_parameters()}
    # four blocks: MAE's rule is decay^(depth + 1 - layer), patches and positions in layer 0, the head in the last
    assert share["head.weight"] == (1.0, 0.05)
    assert share["head.bias"] == share["fc_norm.weight"] == (1.0, 0.0)
    assert share["blocks.3.mlp.fc1.weight"] == (0.5, 0.05)
    assert share["blocks.0.attn.qkv.weight"] == (0.5**4, 0.05)
    assert share["blocks.0.norm1.weight"] == (0.5**4, 0.0)
    assert share["pos_embed"] == share["cls_token"] == share["patch_embed.proj.bias"] == (0.5**5, 0.0)
    with pytest.raises(UsageError, match=r"for transformers alone, got 0\.5"):
        layer_groups(build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)), layer_decay=0.5, weight_decay=0.0)


@seeded_globals(1)
def test_what_drops_at_random_rises_with_the_depth() -> None:
    network = build_network("cifar_small_vit", num_classes=10, shape=(3, 32, 32))
    set_drop_path(network, 0.3)
    set_attention_dropout(network, 0.6)
    assert [block.drop_path1.drop_prob for block in network.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [block.attn.attn_drop.p for block in network.blocks] == pytest.approx([0, 0.2, 0.4, 0.6])
    for wrong, refused in ((network, 1.0), (nn.Linear(1, 1), 0.1)):
        with pytest.raises(UsageError, match="probability below 1"):
            set_drop_path(wrong, refused)


def test_the_rate_falls_to_its_least() -> None:
    _, settings = resolve_settings(DmaeFinetune, request("dmae", Path()))
    settings = replace(settings, lr=1e-3, lr_min=1e-6, warmup_epochs=5, epochs=50)
    rate = cosine_rate(settings, per_epoch=10)
    assert [rate(0), rate(25), rate(50), rate(500)] == pytest.approx([0, 0.5, 1.0, 1e-3])
    assert rate(275) == pytest.approx(1e-3 + (1 - 1e-3) / 2)
    assert cosine_rate(replace(settings, lr=0.0, warmup_epochs=0, epochs=1), per_epoch=1)(0) == 1.0


# ---- LoRA ------------------------------------------------------------------------------------------------------------


@seeded_globals(1)
def test_adapters_start_at_nothing_train_two_parts_of_three_and_merge_into_the_plain_network() -> None:
    pytest.importorskip("peft")
    plain = build_network("cifar_small_vit", num_classes=10, shape=(1, 8, 8)).eval()
    x = torch.randn(4, 1, 8, 8)
    before = plain(x).detach()
    adapted = build_network("cifar_small_vit", num_classes=10, shape=(1, 8, 8)).eval()
    adapted.load_state_dict(plain.state_dict())
    add_adapters(adapted, rank=4, alpha=4.0)
    assert torch.allclose(adapted(x), before, atol=1e-6)
    learning = {name for name, p in adapted.named_parameters() if p.requires_grad}
    width, depth = 128, 4
    assert (
        sum(p.numel() for p in adapted.parameters() if p.requires_grad) == depth * 2 * 2 * 4 * width + 10 * width + 10
    )
    assert {name.split(".")[4] for name in learning if name.startswith("blocks")} == {"q", "v"}
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    state = merged_state(adapted)
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    assert torch.allclose(plain(x), adapted(x), atol=1e-5)
    assert not torch.allclose(plain(x), before, atol=1e-3)
    # alpha / rank is 1: what was added to the queries is B A, and nothing to the keys
    q = adapted.blocks[0].attn.qkv.q
    fused = adapted.blocks[0].attn.qkv
    frozen = torch.cat([q.get_base_layer().weight, fused.k.weight, fused.v.get_base_layer().weight])
    added = state["blocks.0.attn.qkv.weight"] - frozen
    assert torch.allclose(added[:width], q.lora_B["default"].weight @ q.lora_A["default"].weight, atol=1e-6)
    assert torch.equal(added[width : 2 * width], torch.zeros(width, width))


def test_without_peft_adapters_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError) as caught:
        denoised_finetune.finetune(request("dds", tmp_path / "run", overrides={"adapter": "lora"}))
    assert "pip install 'rrcm-bench[lora]'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


# ---- the stages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that never learnt: what is tested is where it goes."""
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    with seeded_globals(1):
        network = build_network("cifar_small_vit", num_classes=10, shape=(1, 8, 8))
    save_file(network.state_dict(), path)
    return path


def asked(name: str, out: Path, small_vit: Path) -> TrainRequest:
    if name != "lora":
        return request(name, out)
    changes = {"adapter": "lora", "classifier": "cifar_small_vit", "attention_dropout": "0.2", "layer_decay": "0.65"}
    return request("dds", out, init=small_vit, overrides={**changes, "weight_decay_end": "0.4"})


@pytest.mark.parametrize("name", ["dmae", "dds", "lora"])
def test_interrupting_and_resuming_a_stage_changes_no_bit(
    name: str, small_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "lora":
        pytest.importorskip("peft")
    first = asked(name, tmp_path, small_vit)
    whole, parts = whole_and_parts(STAGES[first.method][0], first, tmp_path, monkeypatch, stop_after=1)
    assert parts["sha256"] == whole["sha256"]
    assert whole["steps"] == 2
    assert json.loads(json.dumps(whole)) == whole


class NoNoise:
    """A source of randomness for methods that must not draw from it."""

    def randn(self, *shape: int) -> Tensor:
        raise AssertionError("a deterministic method drew noise")


@pytest.mark.parametrize("name", ["dmae", "dds", "lora"])
def test_the_result_is_certified_by_its_role(name: str, small_vit: Path, tmp_path: Path) -> None:
    if name == "lora":
        pytest.importorskip("peft")
    first = asked(name, tmp_path, small_vit)
    report = STAGES[first.method][0](first)
    method, role = (DMAE, "network") if name == "dmae" else (DDS, "classifier")
    files = resolve(method, "digits", 0.25, {role: report["weights"]}, download=False)
    params = {param.name: param.default_for("digits") for param in method.params}
    for file in files.values():
        params |= dict(file.params)
    built = method.build(
        Setting(
            dataset="digits", num_classes=10, shape=(1, 8, 8), sigma=0.25, params=params, weights=files,
            random_weights=False, seed=0, device="cpu",
        )
    )  # fmt: skip
    expected = {"dmae": "cifar_small_mae_vit", "dds": "digits_resnet", "lora": "cifar_small_vit"}[name]
    assert params["arch" if name == "dmae" else "classifier"] == expected
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert built.predict(x, NoNoise()).shape == (20,)


def test_adapters_leave_what_they_do_not_adapt(small_vit: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    report = denoised_finetune.finetune(asked("lora", tmp_path, small_vit))
    before, after = load_file(small_vit), load_file(report["weights"])
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"blocks.{i}.attn.qkv.weight" for i in range(4)} | {"head.weight", "head.bias"}
    keys = slice(128, 256)
    assert all(torch.equal(before[name][keys], after[name][keys]) for name in moved if "qkv" in name)


def test_fine_tuning_on_denoised_digits_lowers_a_loss_that_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    told = {}
    for lr in ("0", "0.003"):
        denoised_finetune.finetune(request("dds", tmp_path / lr, sigma=0.5, overrides={"steps": "20", "lr": lr}))
        told[lr] = json.loads((tmp_path / lr / METRICS).read_text().splitlines()[-1])
        assert told[lr]["loss"] == pytest.approx(told[lr]["ce"] + 2 * told[lr]["adversarial"], rel=1e-4)
    assert told["0.003"]["loss"] < told["0"]["loss"], "on the same images and noises"
    assert told["0"]["right"] > 0.5, "the denoiser is before its own classifier"


def test_an_untrained_dmae_starts_at_ln_ten(tmp_path: Path) -> None:
    changes = {"lr": "0", "lr_min": "0", "head_std": "2e-5", "mixup": "0", "drop_path": "0"}
    dmae.finetune(request("dmae", tmp_path, overrides=changes))
    line = json.loads((tmp_path / METRICS).read_text().splitlines()[-1])
    assert line["ce"] == pytest.approx(math.log(10), abs=1e-3)
    assert line["loss"] - line["ce"] == pytest.approx(0.5 * math.log(10), abs=1e-3)


@seeded_globals(1)
def test_a_masked_autoencoder_gives_all_but_the_head(tmp_path: Path) -> None:
    network = build_network("cifar_small_mae_vit", num_classes=10, shape=(1, 8, 8))
    encoder = {name: t for name, t in network.state_dict().items() if not name.startswith(("head.", "fc_norm."))}
    extra = {"norm.weight": torch.ones(128), "mask_token": torch.zeros(1, 1, 64), "decoder_pred.bias": torch.zeros(16)}
    path, wrong = tmp_path / "mae.pth", tmp_path / "wrong.pth"
    torch.save({"model": {**encoder, **extra}, "epoch": 3}, path)
    report = dmae.finetune(request("dmae", tmp_path / "run", init=path, overrides={"lr": "0"}))
    tensors = load_file(report["weights"])
    assert all(torch.equal(tensors[name], t) for name, t in encoder.items())
    with pytest.raises(WeightsError, match="expected a masked autoencoder, got a network with a head"):
        dmae.finetune(request("dmae", tmp_path / "again", init=Path(report["weights"])))
    torch.save({"model": {**encoder, "pos_embed": torch.zeros(1, 10, 128)}}, wrong)
    with pytest.raises(WeightsError, match="expected the encoder of 'cifar_small_mae_vit' with 'pos_embed'"):
        dmae.finetune(request("dmae", tmp_path / "again", init=wrong))


REFUSED: list[tuple[str, dict[str, Any], type[BenchError], str]] = [
    ("dmae", {"overrides": {"start": "pretrained"}}, UsageError, "give --init FILE"),
    ("dmae", {"overrides": {"arch": "digits_resnet"}}, UsageError, "a ViT of a masked autoencoder"),
    ("dmae", {"overrides": {"copies": "1"}}, UsageError, "at least 2 noisy copies, got copies=1"),
    ("dmae", {"overrides": {"drop_path": "1"}}, UsageError, "drop_path is a probability below 1"),
    ("dmae", {"overrides": {"layer_decay": "2"}}, UsageError, "layer_decay is above 0 and at most 1"),
    ("dmae", {"sigma": None}, UsageError, "needs a positive noise level"),
    ("dds", {"sigma": None}, UsageError, "needs a positive noise level"),
    ("dds", {"sigma": 2.0}, WeightsError, "trained for noise up to sigma 1"),
    ("dds", {"overrides": {"radius": "0"}}, UsageError, "radius must be positive"),
    ("dds", {"overrides": {"adapter": "prefix"}}, UsageError, "one of full, lora, got 'prefix'"),
    ("dds", {"overrides": {"layer_decay": "0.5"}}, UsageError, "for transformers alone"),
    ("dds", {"overrides": {"attention_dropout": "0.5"}}, UsageError, "0 for networks other than transformers"),
    ("dds", {"overrides": {"lora_rank": "0"}}, UsageError, "lora_rank must be at least 1"),
    ("dds", {"overrides": {"denoiser_weights": "/nowhere"}}, WeightsError, "found neither"),
    ("dds", {"init": Path("/nowhere")}, WeightsError, "found neither"),
    ("dds", {"overrides": {"classifier": "cifar_small_resnet"}}, WeightsError, "these look like 'digits_resnet'"),
]


@pytest.mark.parametrize(("method", "changes", "error", "words"), REFUSED)
def test_a_wrong_request_is_refused_in_one_line(
    method: str, changes: dict[str, Any], error: type[BenchError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        STAGES[method][0](request(method, tmp_path / "run", **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_adapters_of_a_convolutional_network_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(UsageError, match="adapter=lora is for plain ViTs, got a"):
        denoised_finetune.finetune(request("dds", tmp_path / "run", overrides={"adapter": "lora"}))


@pytest.mark.parametrize("method", STAGES)
def test_every_preset_gives_every_setting_at_every_noise_level(method: str) -> None:
    for preset in presets(method, "finetune"):
        assert preset.reaches
        for sigma in (0.25, 0.5, 1.0):
            chosen = request(method, Path(), preset=preset.name, sigma=sigma)
            resolve_settings(STAGES[method][1], TrainRequest(**{**_fields(chosen), "overrides": {}}))


def _fields(chosen: TrainRequest) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}


def test_the_presets_carry_the_authors_numbers() -> None:
    found = {(m, p.name): p.values for m in STAGES for p in presets(m, "finetune")}
    dmae_b = {"lr": 5e-4 * 1024 / 256, "layer_decay": 0.65, "weight_decay": 0.05, "drop_path": 0.1, "epochs": 100}
    assert {**dmae_b, "lbd": 2.0, "eta": 0.5, "mixup": 0.8, "smoothing": 0.1}.items() <= found[
        "dmae", "imagenet-b"
    ].items()
    assert {"copies": 1, "lbd": 0.0, "lr": 1e-3 * 4}.items() <= found["dmae", "imagenet-l"].items()
    cadis = {"lr": 1e-4 * 128 / 256, "copies": 4, "attack_steps": 4, "lbd": 4.0, "clip": 0.3, "radius": 0.125}
    assert {**cadis, "weight_decay": 0.04, "weight_decay_end": 0.4, "batch": 128}.items() <= found[
        "dds", "cifar10"
    ].items()
    adapted = {"adapter": "lora", "lora_rank": 4, "lora_alpha": 4.0, "layer_decay": 0.9, "copies": 2, "clip": 1.0}
    assert adapted.items() <= found["dds", "imagenet"].items()
