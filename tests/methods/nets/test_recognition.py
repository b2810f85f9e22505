"""Networks are told by their tensors, loaded from under their wrappers, and named truly where they cannot be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weights_files import shapes_of

from bench.types import Setting, WeightsFile
from bench.types.errors import MethodError, WeightsError
from methods.nets.architectures import build_network
from methods.nets.backbones import backbone
from methods.nets.cifar_resnet import cifar_resnet
from methods.nets.load_weights import load_network
from methods.nets.recognition import classifier_arch, described


def on_meta(arch: str, classes: int = 10, side: int = 32) -> nn.Module:
    with torch.device("meta"):
        return build_network(arch, num_classes=classes, shape=(3, side, side))


@pytest.mark.parametrize(
    "arch", ["resnet18", "resnet34", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d"]
)
def test_torchvisions_networks_have_its_tensors_and_are_recognised(arch: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = shapes_of(torchvision.models.get_model(arch))
    assert shapes_of(on_meta(arch, 1000)) == theirs
    assert classifier_arch(theirs) == arch
    assert backbone(arch).normaliser == "mean_std_imagenet"


# Counts: Zagoruyko & Komodakis 2016, Table 4 (36.5M, 8.9M); pytorch-cifar's ResNet18, 11.17M.
@pytest.mark.parametrize(
    ("arch", "parameters"),
    [("cifar_wrn28_10", 36_479_194), ("cifar_wrn40_4", 8_949_210), ("kuangliu_resnet18", 11_173_962)],
)
def test_cifars_wide_networks_have_the_published_number_of_parameters(arch: str, parameters: int) -> None:
    network = on_meta(arch)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert classifier_arch(shapes_of(network)) == arch


@pytest.mark.parametrize(
    ("arch", "side", "parameters"),
    [
        ("cifar_small_vit", 32, 809_354),
        ("cifar_small_mae_vit", 32, 809_354),
        ("vit_base_patch16_clip_384", 384, 86_098_954),
    ],
)
def test_vits_of_fine_tuning_are_recognised(arch: str, side: int, parameters: int) -> None:
    network = on_meta(arch, side=side)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert classifier_arch(shapes_of(network)) == arch
    assert backbone("vit_base_patch16_clip_384").side == 384


def test_a_depth_that_no_wide_network_has_is_refused() -> None:
    for arch in ("cifar_wrn27_10", "cifar_wrn4_1", "cifar_wrn28_0"):
        with pytest.raises(MethodError, match=r"6n\+4"):
            on_meta(arch)


def norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    part = {key: state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
    return F.batch_norm(x, part["running_mean"], part["running_var"], part["weight"], part["bias"])


def worn(network: nn.Module) -> nn.Module:
    """With statistics that are no identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and "conv" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return network.eval()


def test_a_wide_network_computes_what_its_tensors_say() -> None:
    """Written out from xternalz's forward, by names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = worn(build_network("cifar_wrn16_2", num_classes=5, shape=(3, 16, 16)))
    state = network.state_dict()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    y = F.conv2d(x, state["conv1.weight"], padding=1)
    for block in (1, 2, 3):
        for i in (0, 1):
            at = f"block{block}.layer.{i}"
            stride = 2 if block > 1 and i == 0 else 1
            active = F.relu(norm(y, state, f"{at}.bn1"))
            out = F.relu(norm(F.conv2d(active, state[f"{at}.conv1.weight"], None, stride, 1), state, f"{at}.bn2"))
            out = F.conv2d(out, state[f"{at}.conv2.weight"], None, 1, 1)
            y = out + (F.conv2d(active, state[f"{at}.convShortcut.weight"], None, stride) if i == 0 else y)
    y = F.avg_pool2d(F.relu(norm(y, state, "bn1")), 4).flatten(1)
    expected = F.linear(y, state["fc.weight"], state["fc.bias"])
    with torch.no_grad():
        assert (network(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_an_18_layer_network_for_small_images_computes_what_its_tensors_say() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = worn(build_network("kuangliu_resnet18", num_classes=5, shape=(3, 16, 16)))
    state = network.state_dict()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    y = F.relu(norm(F.conv2d(x, state["conv1.weight"], padding=1), state, "bn1"))
    for layer in (1, 2, 3, 4):
        for i in (0, 1):
            at = f"layer{layer}.{i}"
            stride = 2 if layer > 1 and i == 0 else 1
            out = F.relu(norm(F.conv2d(y, state[f"{at}.conv1.weight"], None, stride, 1), state, f"{at}.bn1"))
            out = norm(F.conv2d(out, state[f"{at}.conv2.weight"], None, 1, 1), state, f"{at}.bn2")
            if f"{at}.shortcut.0.weight" in state:
                y = norm(F.conv2d(y, state[f"{at}.shortcut.0.weight"], None, stride), state, f"{at}.shortcut.1")
            y = F.relu(out + y)
    expected = F.linear(F.avg_pool2d(y, 2).flatten(1), state["linear.weight"], state["linear.bias"])
    with torch.no_grad():
        assert (network(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def furnished(path: Path, content: object, arch: str = "cifar_resnet8", side: int = 32) -> nn.Module:
    torch.save(content, path)
    file = WeightsFile(role="network", path=path, sha256="", name=path.name)
    setting = Setting(
        dataset="cifar10", num_classes=10, shape=(3, side, side), sigma=0.25, params={}, weights={"network": file},
        random_weights=False, seed=0, device="cpu",
    )  # fmt: skip
    return load_network(
        setting,
        "network",
        lambda: build_network(arch, num_classes=10, shape=(3, side, side)),
        arch=arch,
        recognise=classifier_arch,
    )


def small() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cifar_resnet(8, 10).state_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_loaded_as_torch_casts_them(tmp_path: Path, dtype: torch.dtype) -> None:
    cast = {k: nn.Parameter(v.to(dtype)) if v.is_floating_point() else v for k, v in small().items()}
    loaded = furnished(tmp_path / "a.pth", cast).state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, cast[name].detach().to(tensor.dtype)), name


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    state = small() | {"fc.weight": torch.ones(10, 64, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"'fc.weight', got torch.int8; .*quantised"):
        furnished(tmp_path / "a.pth", state)


def test_a_trainers_wrapper_comes_off_with_what_it_kept_beside(tmp_path: Path) -> None:
    state = small()
    content = {"state_dict": {**{f"model.net.{k}": v for k, v in state.items()}, "criterion.weight": torch.ones(10)}}
    loaded = furnished(tmp_path / "a.ckpt", content).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    content["state_dict"]["model.net.attention.weight"] = torch.ones(1)  # within the network nothing is left out
    with pytest.raises(WeightsError, match=r"'attention.weight' should be none of that name"):
        furnished(tmp_path / "a.ckpt", content)


def test_a_normaliser_that_no_setting_took_over_is_not_dropped(tmp_path: Path) -> None:
    content = {"mean": torch.ones(3) / 2, "std": torch.ones(3) / 2, **small()}
    with pytest.raises(WeightsError, match=r"come with a normaliser, 0.5,0.5,0.5/0.5,0.5,0.5"):
        furnished(tmp_path / "a.pth", content)


def test_two_networks_of_one_file_are_never_chosen_between(tmp_path: Path) -> None:
    state = small()
    with pytest.raises(WeightsError, match="different networks"):
        furnished(tmp_path / "a.pth", {"model": state, "model_ema": {k: v + 1 for k, v in state.items()}})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"features.denseblock1.denselayer1.conv1.weight": (1,)}, "a DenseNet"),
        ({"features.0.weight": (64, 3, 3, 3), "classifier.0.weight": (1,)}, "a VGG"),
        ({"stages.0.blocks.0.conv_dw.weight": (1,)}, "a ConvNeXt"),
        ({"visual.conv1.weight": (1,)}, "a CLIP"),
        ({"resnet.embedder.embedder.convolution.weight": (1,)}, "Hugging Face"),
        ({"conv1.weight": (64, 3, 3, 3), "layer1.0.conv1.weight": (1,)}, "small image's stem"),
        (
            {"patch_embed.proj.weight": (384, 3, 14, 14), "blocks.0.attn.qkv.weight": (1,)},
            "a ViT of 1 blocks, 384 wide, patches of 14x14",
        ),
    ],
)
def test_what_cannot_be_loaded_is_called_what_it_is(
    tmp_path: Path, names: dict[str, tuple[int, ...]], words: str
) -> None:
    assert words in str(described(names))
    assert classifier_arch(names) is None
    with pytest.raises(WeightsError, match="these look like") as refusal:
        furnished(tmp_path / "a.pth", {name: torch.ones(shape) for name, shape in names.items()})
    assert words in str(refusal.value)


def test_a_transformer_for_larger_images_says_their_size(tmp_path: Path) -> None:
    from methods.nets.load_weights import load_weights

    state = on_meta("vit_base_patch16_384", side=384).state_dict()
    file = WeightsFile(role="network", path=tmp_path, sha256="", name="vit.pth")
    for arch, words in (("vit_base_patch16_224", "'vit_base_patch16_384'"), ("vit_base_patch16_384", "--size 384")):
        with pytest.raises(WeightsError, match=words):
            load_weights(on_meta(arch, side=224), state, file, arch=arch, recognise=classifier_arch)
    assert backbone("vit_base_patch16_384").side == 384
