"""Claims on normalisers, denoisers, small residual networks, recognition and filling."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from weights_files import shapes_of

from bench.types import Setting, WeightsFile
from bench.types.errors import MethodError, WeightsError
from methods.nets import recognition, scales
from methods.nets.architectures import KNOWN, build_network
from methods.nets.cifar_resnet import akamaster_resnet, cifar_resnet
from methods.nets.denoisers import DENOISERS, FFDNet, build_denoiser
from methods.nets.hard_labels import HardLabels
from methods.nets.load_weights import load_network, load_weights, seeded
from methods.nets.normalisers import Normaliser
from methods.nets.vit import SIZES, time_token_vit
from methods.training.rng import seeded_globals

# ---- normalisers -----------------------------------------------------------------------------------------------------


@seeded_globals(1)
def test_each_kind_maps_pixels_as_its_formula_says() -> None:
    x = torch.rand(2, 3, 4, 4)
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.2023, 0.1994, 0.2010]).reshape(1, 3, 1, 1)
    assert torch.equal(Normaliser("mean_std", "cifar10")(x), (x - mean) / std)
    assert torch.equal(Normaliser("mean", "cifar10")(x), x - mean)
    assert torch.equal(Normaliser("none", "cifar10")(x), x)
    assert Normaliser("half", "cifar10")(x) == pytest.approx(2 * x - 1, abs=1e-6)
    assert torch.equal(Normaliser("mean_std_imagenet", "cifar10")(x), Normaliser("mean_std", "imagenet")(x))


def test_a_normaliser_leaves_no_tensor_in_the_state_dict() -> None:
    assert not Normaliser("mean_std", "imagenet").state_dict()


def test_a_normaliser_follows_its_network_to_another_device() -> None:
    assert Normaliser("mean_std", "imagenet").to("meta")(torch.zeros(1, 3, 2, 2, device="meta")).is_meta


def test_one_channel_is_never_broadcast_to_three() -> None:
    with pytest.raises(MethodError, match="are for 3 channels, got images of 1"):
        Normaliser("mean_std", "imagenet", channels=1)
    with pytest.raises(MethodError, match="are for 2 channels, got images of 3"):
        Normaliser("0.5,0.5/0.5,0.5", "imagenet")
    with pytest.raises(MethodError, match=r"none, half, .*mean_std_imagenet"):
        Normaliser("mean_std", "x-rays")


def test_the_digits_statistics_are_those_of_their_training_split() -> None:
    from bench.data.digits import DIGITS

    train = DIGITS.open(None, None, "train")
    pixels = torch.stack([torch.from_numpy(train[i].pixels) for i in range(len(train))]).double()
    (mean,), (std,) = scales.scale_of("mean_std", "digits")
    assert pixels.mean().item() == pytest.approx(mean, abs=5e-5)
    assert pixels.std(correction=0).item() == pytest.approx(std, abs=5e-5)


def test_numbers_are_a_normaliser_as_a_name_is() -> None:
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    text = "0.4914,0.4822,0.4465/0.2023,0.1994,0.201"
    for kind in ("mean_std_cifar10", text):
        assert torch.equal(Normaliser(kind, "x-rays")(x), Normaliser("mean_std", "cifar10")(x))
    assert scales.shown(scales.scale_of("mean_std", "cifar10")) == text


def test_equal_numbers_are_one_text_and_words_of_weights_keep_their_dataset() -> None:
    as_float32 = ",".join(repr(float(torch.tensor(v))) for v in (0.49, 0.48, 0.45))
    for text in ("0.49,0.48,0.45/1,0.25,2.6e-1", " .490, 0.48,0.45 /1.0, .25,0.26", f"{as_float32}/1,.25,.26"):
        assert scales.read(text, "folder", "folder") == "0.49,0.48,0.45/1,0.25,0.26"
    assert scales.read("-0/1", "digits", "digits") == "0/1"
    assert scales.read("mean_std", "cifar10", "cifar10") == "mean_std"
    assert scales.read("mean_std", "folder", "cifar10") == "mean_std_cifar10"
    assert scales.read("half", "folder", "cifar10") == "half"
    for dataset, told_on in (("folder", "folder"), ("cifar10", "x-rays")):  # numbers that nobody knows
        with pytest.raises(MethodError, match=f"got '{told_on}'"):
            scales.read("mean_std", dataset, told_on)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.5,0.5,0.5/0.5", "got 3 and 1"),
        ("0.5/0", "above 0"),
        ("0.5/1e-60", "above 0"),
        ("nan/1", "finite"),
        ("0/inf", "finite"),
        ("0/1e300", "finite"),
        ("123.7,116.3,103.5/58.4,57.1,57.4", "divide them by 255"),
        ("0.5/0.5/0.5", "numbers of each channel"),
        ("half/1", "numbers of each channel"),
        ("/", "numbers of each channel"),
        ("halve", "expected one of mean_std, "),
    ],
)
def test_what_is_no_scale_of_pixels_is_refused(text: str, words: str) -> None:
    with pytest.raises(MethodError, match=words):
        scales.read(text, "digits", "digits")


# ---- denoisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("side", [8, 7])
@seeded_globals(1)
def test_a_denoiser_returns_an_image_of_the_same_shape(name: str, side: int) -> None:
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        assert build_denoiser(name, in_channels=3, sigma=0.25).eval()(x).shape == x.shape


@seeded_globals(1)
def test_ffdnet_reads_its_noise_level() -> None:
    quiet, loud = FFDNet(in_channels=3, sigma=0.1), FFDNet(in_channels=3, sigma=0.2)
    loud.load_state_dict(quiet.state_dict())
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(quiet(x), loud(x))
        for net in (quiet, loud):
            net.model[0].weight[:, -1] = 0.0  # the level is the last channel, and nothing else differs
        assert torch.equal(quiet(x), loud(x))


# ---- residual networks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
@seeded_globals(1)
def test_padded_shortcuts_give_the_parameters_of_table_6(depth: int, millions: float) -> None:
    parameters = sum(p.numel() for p in akamaster_resnet(depth, 10).parameters())
    assert round(parameters / 1e6, 2 if millions < 1 else 1) == pytest.approx(millions)


@seeded_globals(1)
def test_a_padded_shortcut_subsamples_and_pads_with_zeros() -> None:
    block = akamaster_resnet(8, 10).layer2[0].eval()
    block.bn2.weight.data.zero_()  # only the shortcut is left
    x = torch.rand(1, 16, 6, 6)
    with torch.no_grad():
        y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_depth_must_be_six_n_plus_two() -> None:
    with pytest.raises(ValueError, match=r"depth must be 6n\+2"):
        cifar_resnet(18, 10)
    with pytest.raises(MethodError, match=r"'cifar_resnet18': depth must be 6n\+2"):
        build_network("cifar_resnet18", num_classes=10, shape=(3, 32, 32))


@seeded_globals(1)
def test_the_digits_network_is_small() -> None:
    parameters = sum(p.numel() for p in build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).parameters())
    assert parameters == 77_754


def test_resnet50_has_the_tensors_of_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = torchvision.models.resnet50()
        ours = build_network("resnet50", num_classes=1000, shape=(3, 224, 224))
    assert shapes_of(ours) == shapes_of(theirs)


def test_an_unknown_architecture_is_answered_with_the_nearest() -> None:
    with pytest.raises(MethodError, match=r"no architecture named 'resnet5O'. Did you mean 'resnet50'\? Known: akamas"):
        build_network("resnet5O", num_classes=10, shape=(3, 32, 32))


# ---- recognition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", KNOWN)
def test_every_architecture_is_recognised_by_its_tensors(arch: str) -> None:
    side = int(size.group(1)) if (size := re.search(r"_(224|384|512)", arch)) else 32
    shape = (1, 8, 8) if arch == "digits_resnet" else (3, side, side)
    with torch.device("meta"):
        network = build_network(arch, num_classes=10, shape=shape)
    # These have the tensors of the ViT, and differ in what no tensor shows: the normaliser, the norms' eps.
    shown = {"deit_base_patch16_224": "vit_base_patch16_224", "vit_base_patch16_224_hf": "vit_base_patch16_224"}
    for prefix in ("", "1.", "module.", "1.module.", "module.1."):
        found = recognition.classifier_arch({prefix + k: v for k, v in shapes_of(network).items()})
        assert found == shown.get(arch, arch)
    assert recognition.denoiser_arch(shapes_of(network)) is None
    assert recognition.vit_size(shapes_of(network)) is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", DENOISERS)
def test_every_denoiser_is_recognised_by_its_tensors(name: str, channels: int) -> None:
    with torch.device("meta"):
        shapes = shapes_of(build_denoiser(name, in_channels=channels, sigma=0.25))
    assert recognition.denoiser_arch(shapes) == name
    assert recognition.classifier_arch(shapes) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefix", ["", "base_model.", "module.base_model."])
def test_every_size_is_recognised_by_its_tensors(size: str, prefix: str) -> None:
    side = next(iter(SIZES[size].patch_sizes))
    with torch.device("meta"):
        shapes = shapes_of(time_token_vit(size, image_size=side, in_channels=3))
    assert recognition.vit_size({prefix + k: v for k, v in shapes.items()}) == size


def test_other_networks_are_not_recognised() -> None:
    with torch.device("meta"):
        shapes = shapes_of(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Linear(4, 10)))
    assert recognition.classifier_arch(shapes) is None
    assert recognition.denoiser_arch(shapes) is None
    assert recognition.vit_size(shapes) is None


# ---- filling ---------------------------------------------------------------------------------------------------------


def file_of(state: dict[str, Tensor], path: Path) -> WeightsFile:
    save_file(state, path)
    return WeightsFile(role="network", path=path, sha256="", name=path.name)


def setting(files: dict[str, WeightsFile], *, random_weights: bool = False, seed: int = 0) -> Setting:
    return Setting(
        dataset="digits", num_classes=10, shape=(1, 8, 8), sigma=0.25, params={}, weights=files,
        random_weights=random_weights, seed=seed, device="cpu",
    )  # fmt: skip


def draw(files: dict[str, WeightsFile], **words: object) -> nn.Module:
    return load_network(
        setting(files, **words),  # type: ignore[arg-type]
        "network",
        lambda: build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)),
        arch="digits_resnet",
        recognise=recognition.classifier_arch,
    )


@seeded_globals(1)
def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    original = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8))
    file = file_of({f"1.module.{k}": v for k, v in original.state_dict().items()}, tmp_path / "a.safetensors")
    loaded = draw({"network": file}).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.state_dict().items())


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ["digits_resnet", "resnet50", "vit_base_patch16_224"])
def test_random_weights_that_are_only_timed_are_drawn_on_the_gpu_from_the_seed(arch: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    before = torch.cuda.get_rng_state("cuda:0"), torch.get_rng_state()

    def drawn(seed: int) -> list[Tensor]:
        on_gpu = dataclasses.replace(setting({}, random_weights=True, seed=seed), device="cuda:0", timed_alone=True)
        network = load_network(
            on_gpu,
            "network",
            lambda: build_network(arch, num_classes=10, shape=(3, 224, 224) if arch != "digits_resnet" else (1, 8, 8)),
            arch=arch,
            recognise=recognition.classifier_arch,
        )
        return list(network.state_dict().values())

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(tensor.is_cuda for tensor in first)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
    assert torch.equal(torch.cuda.get_rng_state("cuda:0"), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@seeded_globals(1)
def test_another_architecture_is_refused_with_its_name(tmp_path: Path) -> None:
    state = cifar_resnet(20, 10).state_dict()
    with pytest.raises(WeightsError) as refusal:
        draw({"network": file_of(state, tmp_path / "b.safetensors")})
    message = str(refusal.value)
    assert "'b.safetensors': expected the tensors of 'digits_resnet'; 'conv1.weight' should be (16, 1, 3, 3)" in message
    assert "these look like 'cifar_resnet20'" in message
    assert "\n" not in message


@seeded_globals(1)
def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    state = build_network("digits_resnet", num_classes=7, shape=(1, 8, 8)).state_dict()
    with pytest.raises(WeightsError, match=r"'fc.bias' should be \(10,\), got \(7,\); .*number of classes"):
        draw({"network": file_of(state, tmp_path / "c.safetensors")})


@pytest.mark.parametrize("change", ["missing", "more"])
@seeded_globals(1)
def test_a_tensor_too_few_or_too_many_is_refused(tmp_path: Path, change: str) -> None:
    state = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).state_dict()
    if change == "missing":
        del state["layer2.0.bn1.running_var"]
    else:
        state["attention.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError, match="none of that name"):
        draw({"network": file_of(state, tmp_path / "d.safetensors")})


@seeded_globals(1)
def test_only_the_batch_counters_may_be_absent(tmp_path: Path) -> None:
    state = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    network = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8))
    file = WeightsFile(role="network", path=tmp_path, sha256="", name="old")
    load_weights(network, state, file, arch="digits_resnet", recognise=recognition.classifier_arch)
    assert torch.equal(network.state_dict()["fc.weight"], state["fc.weight"])


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (draw({}, random_weights=True, seed=s).state_dict()["fc.weight"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_two_roles_of_one_seed_are_filled_differently() -> None:
    draws = []
    for role in ("denoiser", "classifier"):
        with seeded(0, role):
            draws.append(torch.rand(1).item())
    assert draws[0] != draws[1]


def test_missing_weights_are_named_by_role() -> None:
    with pytest.raises(WeightsError, match=r"role 'network' \(digits_resnet\) are missing; give a file"):
        draw({})


@pytest.mark.parametrize("arch", ["cifar_resnet110", "akamaster_resnet110"])
@seeded_globals(1)
def test_random_weights_do_not_overflow_half_precision(arch: str) -> None:
    network = load_network(
        setting({}, random_weights=True),
        "network",
        lambda: build_network(arch, num_classes=10, shape=(3, 8, 8)),
        arch=arch,
        recognise=recognition.classifier_arch,
    ).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        assert torch.isfinite(network(torch.randn(4, 3, 8, 8))).all()


# ---- hard labels -----------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Logits that are the pixels themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_the_label_is_the_largest_logit() -> None:
    classifier = HardLabels(Linear(), num_classes=3, device="cpu")
    labels = classifier.predict(torch.tensor([[[[0.1, 0.9, 0.2]]], [[[3.0, 1.0, 2.0]]]]), None)  # type: ignore[arg-type]
    assert labels.tolist() == [1, 0]
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_not_called_a_class(value: float) -> None:
    classifier = HardLabels(Linear(), num_classes=3, device="cpu")
    with pytest.raises(MethodError, match="for 1 of 2 copies"):
        classifier.predict(torch.tensor([[[[0.1, value, 0.2]]], [[[3.0, 1.0, 2.0]]]]), None)  # type: ignore[arg-type]
