"""dds, densepure, diffsmooth and dmae: their formulas, their votes, what they refuse, what they read off a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusion_settings import SIGMA, NoNoise, copies_of_digits, own_noise, setting, with_weights
from safetensors.torch import save_file
from torch import Tensor

from bench.types import Method, Scalar, WeightsFile
from bench.types.errors import MethodError, WeightsError
from methods.dds import DDS
from methods.denoised import DENOISED
from methods.densepure import DENSEPURE
from methods.diffsmooth import DIFFSMOOTH
from methods.diffusion.schedules import level, level_sigma, schedule
from methods.diffusion.unets import build_unet
from methods.nets.architectures import KNOWN, build_network
from methods.nets.backbones import backbone
from methods.nets.normalisers import Normaliser
from methods.nets.recognition import classifier_arch
from methods.nets.resized import RESIZES, Resized
from methods.nets.voting import ROWS, first_seen_mode, votes_together
from methods.noise_trained import DMAE
from methods.training.rng import seeded_globals

METHODS = (DDS, DENSEPURE, DIFFSMOOTH)


# ---- formulas --------------------------------------------------------------------------------------------------------


def test_dds_is_its_formula(tmp_path: Path) -> None:
    classifier = DDS.build(with_weights(setting(DDS), tmp_path))
    x = copies_of_digits(0, 64)
    plan = schedule("cosine-1000")
    r = ((1 - plan.alphas_bar) / plan.alphas_bar) ** 0.5
    t = next(t for t in range(1, 1000) if r[t] >= 2 * SIGMA)
    assert classifier.t == t  # type: ignore[attr-defined]
    scale = float(plan.alphas_bar[t]) ** 0.5
    unet, head = classifier.unet, classifier.head  # type: ignore[attr-defined]
    with torch.no_grad():
        state = scale * (2 * x - 1)
        eps = unet(state, t)[:, :1]
        clean = (state / scale - float(r[t]) * eps).clamp(-1, 1)
        expected = head((clean + 1) / 2).argmax(1)
    assert len(expected.unique()) > 2
    assert torch.equal(classifier.predict(x, NoNoise()), expected)


def test_dds_sees_the_image_at_the_gain_of_the_grid_and_not_of_sigma() -> None:
    # Where the network finds no noise, what it hands on is the image itself, neither paler nor stronger.
    classifier = DDS.build(setting(DDS))
    with torch.no_grad():
        classifier.unet.get_parameter("conv_out.weight").zero_()  # type: ignore[attr-defined]
        classifier.unet.get_parameter("conv_out.bias").zero_()  # type: ignore[attr-defined]
    from methods.purification import denoised

    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (denoised(classifier.unet, x, classifier.t) - x).abs().max() < 1e-5  # type: ignore[attr-defined]


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_the_grids_noise_is_the_levels(sigma: float) -> None:
    made = replace(setting(DDS, noise="grid"), sigma=sigma)
    classifier = DDS.build(made)
    plan = schedule("cosine-1000")
    grid = level_sigma(plan, level(plan, sigma, "first"))
    assert grid >= sigma
    assert (sigma**2 + classifier.top_up**2) ** 0.5 == pytest.approx(grid, rel=1e-12)  # type: ignore[attr-defined]


def test_padding_shows_the_network_a_mirrored_frame_and_hands_on_the_middle() -> None:
    classifier = DDS.build(setting(DDS, "cifar10", denoiser="cifar10_small_unet", classifier="akamaster_resnet20"))
    unet = classifier.unet  # type: ignore[attr-defined]
    seen: list[Tensor] = []
    unet.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    from methods.purification import denoised

    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert denoised(unet, x, classifier.t, padding=16).shape == x.shape  # type: ignore[attr-defined]
    scale = float(unet.schedule.alphas_bar[classifier.t]) ** 0.5  # type: ignore[attr-defined]
    frame = (seen[0] / scale + 1) / 2
    assert frame.shape == (2, 3, 64, 64)
    assert (frame[:, :, 16:-16, 16:-16] - x).abs().max() < 1e-5
    assert (frame[:, :, 15] - frame[:, :, 17]).abs().max() < 1e-5  # mirrored about the first row, which is not repeated


def test_densepure_in_one_step_is_a_single_estimate_at_the_exact_scale(tmp_path: Path) -> None:
    classifier = DENSEPURE.build(with_weights(setting(DENSEPURE, steps=1, votes=1), tmp_path))
    x = copies_of_digits(0, 64)
    s = 1 / (1 + 4 * SIGMA**2) ** 0.5
    sub = classifier.sub  # type: ignore[attr-defined]
    assert sub.scale == pytest.approx(s, rel=1e-15)
    with torch.no_grad():
        state = s * (2 * x - 1)
        eps = classifier.unet(state, sub.times[0])[:, :1]  # type: ignore[attr-defined]
        abar = sub.alphas_bar[0]
        clean = ((state - (1 - abar) ** 0.5 * eps) / abar**0.5).clamp(-1, 1)
        expected = classifier.head((clean + 1) / 2).argmax(1)  # type: ignore[attr-defined]
    assert torch.equal(classifier.predict(x, NoNoise()), expected)


def test_densepure_is_the_first_seen_mode_of_its_single_votes(tmp_path: Path) -> None:
    made = with_weights(setting(DENSEPURE, steps=3, votes=5), tmp_path)
    classifier = DENSEPURE.build(made)
    alone = DENSEPURE.build(replace(made, params={**made.params, "votes": 1}))
    x, noise = copies_of_digits(0, 80), own_noise(0, 80)
    votes = torch.stack([alone.predict(x, noise) for _ in range(5)])  # one draw a vote: the five draws of the whole
    assert len({tuple(row) for row in votes.T.tolist() if len(set(row)) > 1}) > 3
    expected = torch.tensor([Counter(row).most_common(1)[0][0] for row in votes.T.tolist()])
    assert torch.equal(classifier.predict(x, own_noise(0, 80)), expected)


def test_diffsmooth_without_local_noise_is_dds(tmp_path: Path) -> None:
    dds = DDS.build(with_weights(setting(DDS), tmp_path, "gaussian-0.25"))
    quiet = with_weights(setting(DIFFSMOOTH, local_sigma=0.0, local_noises=2), tmp_path, "gaussian-0.25")
    x = copies_of_digits(0, 64)
    assert torch.equal(DIFFSMOOTH.build(quiet).predict(x, NoNoise()), dds.predict(x, NoNoise()))


@pytest.mark.parametrize("vote", ["soft", "hard"])
@pytest.mark.parametrize("copies", [3, 80])
def test_diffsmooth_votes_over_its_local_noises(tmp_path: Path, vote: str, copies: int) -> None:
    made = with_weights(setting(DIFFSMOOTH, vote=vote, local_noises=7, local_sigma=0.6), tmp_path, "gaussian-0.25")
    classifier = DIFFSMOOTH.build(made)
    from methods.purification import denoised

    x = copies_of_digits(0, copies)
    with torch.inference_mode():
        clean = denoised(classifier.unet, x, classifier.t)  # type: ignore[attr-defined]
        logits = torch.stack([classifier.head(clean + 0.6 * n) for n in classifier.fixed])  # type: ignore[attr-defined]
    if vote == "soft":
        expected = logits.double().softmax(2).sum(0).argmax(1)
    else:
        rows = logits.argmax(2).T.tolist()
        expected = torch.tensor([Counter(row).most_common(1)[0][0] for row in rows])
    assert torch.equal(classifier.predict(x, NoNoise()), expected)


# ---- votes, sizes ----------------------------------------------------------------------------------------------------


def test_the_mode_is_pythons_which_keeps_the_first_seen() -> None:
    votes = torch.randint(0, 4, (6, 500), generator=torch.Generator().manual_seed(0))
    expected = [Counter(row).most_common(1)[0][0] for row in votes.T.tolist()]
    assert first_seen_mode(votes, 4).tolist() == expected
    assert any(sorted(Counter(row).values())[-2:] == [2, 2] for row in votes.T.tolist())  # ties were among them


@pytest.mark.parametrize(("copies", "votes"), [(1, 40), (16, 40), (64, 40), (500, 3), (3, 1)])
def test_votes_that_share_a_pass_are_bounded(copies: int, votes: int) -> None:
    together = votes_together(copies, votes)
    assert 1 <= together <= votes
    assert together == 1 or together * copies <= ROWS


@pytest.mark.parametrize("kind", RESIZES)
def test_a_flat_image_stays_flat_at_another_size(kind: str) -> None:
    resized = Resized(torch.nn.Identity(), Normaliser("none", "digits"), side=21, resize=kind)
    x = torch.full((1, 3, 8, 8), 51 / 255)
    assert resized.enlarged(x).shape == (1, 3, 21, 21)
    assert (resized.enlarged(x) - 51 / 255).abs().max() < (1.01 / 255 if kind == "bilinear_uint8" else 1e-6)


def test_each_resize_is_another_function_and_none_clips() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., ::2] = 1
    out = {kind: Resized(torch.nn.Identity(), Normaliser("none", "digits"), side=24, resize=kind).enlarged(x)
           for kind in RESIZES}  # fmt: skip
    assert (out["bicubic"] - out["bicubic_antialias"]).abs().max() > 0.01
    assert (out["bicubic"] - out["bilinear"]).abs().max() > 0.01
    assert out["bicubic"].min() < -0.05
    assert torch.equal(out["bilinear"], F.interpolate(x, size=(24, 24), mode="bilinear", align_corners=False))


def test_rounding_to_grey_levels_goes_down() -> None:
    resized = Resized(torch.nn.Identity(), Normaliser("none", "digits"), side=9, resize="bilinear_uint8")
    found = resized.enlarged(torch.full((1, 1, 8, 8), 100.9 / 255))
    assert (found - 100 / 255).abs().max() < 1e-6


# ---- names -----------------------------------------------------------------------------------------------------------


def test_every_transformer_is_recognised_by_its_tensors() -> None:
    same = {"deit_base_patch16_224": "vit_base_patch16_224", "vit_base_patch16_224_hf": "vit_base_patch16_224"}
    for arch in (name for name in KNOWN if "patch16" in name):
        side = backbone(arch).side or 224
        with torch.device("meta"):
            network = build_network(arch, num_classes=10, shape=(3, side, side))
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        assert classifier_arch(shapes) == same.get(arch, arch), arch


def test_hugging_faces_vit_is_recognised_before_and_after_conversion() -> None:
    assert DDS.recognise is not None
    hf = {"vit.embeddings.cls_token": (1, 1, 768), "classifier.weight": (10, 768)}
    assert DDS.recognise("classifier", hf, {}) == {"classifier": "vit_base_patch16_224_hf"}
    with torch.device("meta"):
        network = build_network("vit_base_patch16_224", num_classes=10, shape=(3, 224, 224))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    told = DDS.recognise("classifier", shapes, {"converter": "hf-vit"})
    assert told == {"classifier": "vit_base_patch16_224_hf"}
    with torch.device("meta"):
        exact = build_network("vit_base_patch16_224_hf", num_classes=2, shape=(3, 32, 32))
    assert {module.eps for module in exact.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-12}


@seeded_globals(1)
def test_the_denoiser_is_recognised() -> None:
    assert DDS.recognise is not None
    state = build_unet("digits_unet", shape=(1, 8, 8)).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert DDS.recognise("denoiser", shapes, {}) == {"denoiser": "digits_unet"}


@pytest.mark.parametrize("method", [*METHODS, DMAE])
def test_a_default_is_among_its_own_choices(method: Method) -> None:
    for param in method.params:
        assert not param.choices or {param.default, *param.by_dataset.values()} <= set(param.choices)


# ---- DMAE ------------------------------------------------------------------------------------------------------------


def test_dmae_pools_the_patches_and_leaves_the_class_token_out() -> None:
    with torch.device("meta"):
        network = build_network("mae_vit_base_patch16", num_classes=3, shape=(3, 32, 32)).eval()
    network.to_empty(device="cpu")
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.02, generator=source)
    names = set(network.state_dict())
    assert {"fc_norm.weight", "cls_token", "pos_embed", "head.weight", "patch_embed.proj.weight"} <= names
    assert not any(name.startswith("norm.") for name in names)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = network.patch_embed(x)
        tokens = torch.cat([network.cls_token.expand(2, -1, -1), tokens], 1) + network.pos_embed
        for block in network.blocks:
            tokens = block(tokens)
        expected = network.head(network.fc_norm(tokens[:, 1:].mean(1)))
        assert (network(x) - expected).abs().max() < 1e-5


@seeded_globals(1)
def test_dmae_enlarges_cifar_after_the_noise_and_declines_grey_images() -> None:
    made = replace(setting(DMAE, "cifar10"), device="meta")
    network = DMAE.build(made).network  # type: ignore[attr-defined]
    assert isinstance(network, Resized)
    assert network.enlarged(torch.rand(1, 3, 32, 32)).shape == (1, 3, 224, 224)
    assert made.params["normaliser"] == "mean_std_pixels"
    assert "square colour images" in str(DMAE.declines("digits", (1, 8, 8), 10))


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "dataset", "params", "words"),
    [
        (DENSEPURE, "digits", {"votes": 0}, "votes must be at least 1, got 0"),
        (DENSEPURE, "digits", {"steps": 0}, "steps must be at least 1, got 0"),
        (DENSEPURE, "digits", {"steps": 1}, "one step draws no noise.*set votes=1"),
        (DIFFSMOOTH, "digits", {"local_sigma": -0.1}, "local_sigma must be a noise level.*got -0.1"),
        (DIFFSMOOTH, "digits", {"local_noises": 0}, "local_noises must be at least 1, got 0"),
        (DDS, "digits", {"track": "as_published"}, "exists for imagenet and cifar10, got 'digits'; set track="),
        (
            DDS,
            "digits",
            {"classifier": "vit_base_patch16_224"},
            "takes colour images of 224x224, these have 1 channels",
        ),
        (DDS, "digits", {"denoiser": "adm_256"}, "takes images of 3 channels, got 1"),
        (DDS, "digits", {"denoiser": "adm_255"}, "no diffusion network named 'adm_255'. Did you mean 'adm_256'"),
        (DDS, "digits", {"classifier": "vit_huge"}, "no architecture named 'vit_huge'"),
        (DDS, "digits", {"geometry": "pad256"}, "reflects images of 224x224 out to 256x256, got 8x8"),
        (DENSEPURE, "imagenet", {"track": "as_published"}, "crops of 256x256, got 224x224; give --size 256"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    method: Method, dataset: str, params: dict[str, Scalar], words: str
) -> None:
    with pytest.raises(MethodError, match=words) as caught:
        method.build(setting(method, dataset, **params))
    assert "\n" not in str(caught.value)


def test_a_level_below_sigma_cannot_be_topped_up_to() -> None:
    made = replace(setting(DDS, "imagenet", noise="grid", level="nearest"), sigma=0.25, device="meta")
    with pytest.raises(MethodError, match=r"is 0\.249\d* and below sigma 0.25; set level=first, or noise=exact"):
        DDS.build(made)


@pytest.mark.parametrize("method", METHODS)
def test_a_sigma_beyond_the_schedule_is_refused_with_the_largest(method: Method) -> None:
    with pytest.raises(MethodError, match="beyond cosine-1000, whose noisiest level has sigma"):
        method.build(replace(setting(method), sigma=1e7))


@pytest.mark.parametrize("method", METHODS)
def test_images_that_no_denoiser_takes_are_declined(method: Method) -> None:
    assert method.declines("digits", (1, 8, 8), 10) is None
    assert method.declines("cifar10", (3, 32, 32), 10) is None
    assert method.declines("imagenet", (3, 224, 224), 1000) is None
    assert "these are 30x30 with 3 channels" in str(method.declines("folder", (3, 30, 30), 10))


@seeded_globals(1)
def test_a_denoiser_of_another_image_size_or_without_variances_is_refused(tmp_path: Path) -> None:
    made = with_weights(setting(DENSEPURE), tmp_path)
    path = made.weights["denoiser"].path
    whole = {
        name: tensor.contiguous() for name, tensor in build_unet("digits_unet", shape=(1, 8, 8)).state_dict().items()
    }
    last = whole["conv_out.weight"]
    for changed in (
        {**whole, "conv_out.weight": last[: len(last) // 2].clone()},  # noise alone
        {name: tensor for name, tensor in whole.items() if not name.startswith("mid_block")},  # fewer levels
    ):
        save_file(changed, path)
        with pytest.raises(WeightsError, match=r"unet\.safetensors.*digits_unet") as caught:
            DENSEPURE.build(made)
        assert "\n" not in str(caught.value)


def test_openais_tensors_of_another_network_are_refused_with_the_files_name(tmp_path: Path) -> None:
    made = with_weights(setting(DDS), tmp_path)
    wrong = {"input_blocks.0.0.weight": torch.zeros(256, 3, 3, 3), "time_embed.0.weight": torch.zeros(4, 4)}
    save_file(wrong, tmp_path / "openai.safetensors")
    file = WeightsFile(role="denoiser", path=tmp_path / "openai.safetensors", sha256="", name="openai.safetensors")
    with pytest.raises(WeightsError, match=r"^weights 'openai.safetensors': .*; give") as caught:
        DDS.build(replace(made, weights={**made.weights, "denoiser": file}))
    assert "\n" not in str(caught.value)


@seeded_globals(1)
def test_the_normaliser_is_the_classifiers_own_unless_set() -> None:
    images = torch.rand(4, 1, 8, 8)
    heads = {
        kind: DDS.build(setting(DDS, normaliser=kind)).head  # type: ignore[attr-defined]
        for kind in ("by_classifier", "mean_std", "none")
    }
    assert torch.equal(heads["by_classifier"](images), heads["mean_std"](images))
    assert not torch.equal(heads["none"](images), heads["mean_std"](images))


@pytest.mark.parametrize("method", METHODS)
def test_another_normaliser_takes_no_second_network(method: Method) -> None:
    classifier = method.build(setting(method))
    other = classifier.adjusted("normaliser", "none")  # type: ignore[attr-defined]
    rebuilt = method.build(setting(method, normaliser="none"))
    assert other.unet is classifier.unet  # type: ignore[attr-defined]
    assert other.head.network is classifier.head.network  # type: ignore[attr-defined]
    x = copies_of_digits(0, 40)
    assert torch.equal(other.predict(x, own_noise(0, 40)), rebuilt.predict(x, own_noise(0, 40)))
    assert classifier.adjusted("track", "as_published") is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", [DENOISED, DDS, DENSEPURE], ids=lambda m: m.name)
def test_the_pixels_shown_are_those_that_are_classified(method: Method, tmp_path: Path) -> None:
    made = setting(method, **({"votes": 1} if method is DENSEPURE else {}))
    classifier: Any = method.build(made if method is DENOISED else with_weights(made, tmp_path))
    x = copies_of_digits(0, 64)
    shown = classifier.denoised(x, own_noise(0, 64))
    assert shown.shape == x.shape
    assert (shown - x).abs().max() > 0.1
    behind = classifier.network[1:] if method is DENOISED else classifier.head
    with torch.inference_mode():
        assert torch.equal(behind(shown).argmax(dim=1), classifier.predict(x, own_noise(0, 64)))
