"""The four built-in methods as values: what they build, what they refuse, what they read off a checkpoint."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from places import SHARED_FOLDER
from safetensors.torch import save_file
from torch import Tensor

from bench.types import Method, Scalar, Setting, WeightsFile
from bench.types.errors import MethodError, WeightsError
from bench.weights.resolve import inspect
from methods.boosting import BOOSTING
from methods.denoised import DENOISED
from methods.nets.architectures import build_network
from methods.nets.denoisers import DENOISERS
from methods.nets.vit import SIZES, TimeTokenClassifier, nearest_time, time_token_vit
from methods.noise_trained import CONSISTENCY, GAUSSIAN, MACER, SMOOTHADV, SMOOTHMIX, STABILITY, VIT_GAUSSIAN
from methods.rrcm import RRCM
from methods.training.rng import seeded_globals

SHAPES = {"cifar10": (3, 32, 32), "imagenet": (3, 224, 224), "digits": (1, 8, 8), "folder": (3, 224, 224)}


class NoNoise:
    """A source of randomness for methods that must not draw from it."""

    def randn(self, *shape: int) -> Tensor:
        raise AssertionError("a deterministic method drew noise")


def setting(
    method: Method, dataset: str, weights: Mapping[str, WeightsFile] | None = None, **params: Scalar
) -> Setting:
    values = {param.name: param.default_for(dataset) for param in method.params}
    for role, file in (weights or {}).items():
        assert method.recognise is not None
        values.update(method.recognise(role, *inspect(file.path)))
    return Setting(
        dataset=dataset, num_classes=10, shape=SHAPES[dataset], sigma=0.25, params={**values, **params},
        weights=weights or {}, random_weights=weights is None, seed=0, device="cpu",
    )  # fmt: skip


def saved(path: Path, state: Mapping[str, Tensor], role: str = "network") -> WeightsFile:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return WeightsFile(role=role, path=path, sha256="", name=path.name)


def images(dataset: str, count: int = 6) -> Tensor:
    return torch.randn(count, *SHAPES[dataset], generator=torch.Generator().manual_seed(0))


SMALL: list[tuple[Method, str, dict[str, Scalar]]] = [
    (GAUSSIAN, "digits", {}),
    (CONSISTENCY, "digits", {}),
    (GAUSSIAN, "cifar10", {"arch": "cifar_resnet20"}),
    (DENOISED, "cifar10", {"classifier": "akamaster_resnet20"}),
    (DENOISED, "digits", {}),
    (SMOOTHADV, "digits", {}),
    (RRCM, "digits", {}),
    (RRCM, "cifar10", {"size": "S"}),
]


@pytest.mark.parametrize(("method", "dataset", "params"), SMALL)
def test_a_method_answers_with_hard_labels_and_keeps_its_hands_off(
    method: Method, dataset: str, params: dict[str, Scalar]
) -> None:
    before = torch.random.get_rng_state()
    classifier = method.build(setting(method, dataset, **params))
    labels = classifier.predict(images(dataset), NoNoise())
    assert labels.shape == (6,)
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= set(range(10))
    assert classifier.num_classes == 10
    assert torch.equal(torch.random.get_rng_state(), before)
    network = classifier.network  # type: ignore[attr-defined]
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(("method", "dataset", "params"), SMALL)
def test_random_weights_are_the_same_for_the_same_seed(method: Method, dataset: str, params: dict[str, Scalar]) -> None:
    drawn = []
    for seed in (0, 0, 1):
        network = method.build(replace(setting(method, dataset, **params), seed=seed)).network  # type: ignore[attr-defined]
        drawn.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("method", "dataset", "params"), SMALL)
def test_without_weights_the_missing_role_is_named(method: Method, dataset: str, params: dict[str, Scalar]) -> None:
    with pytest.raises(WeightsError, match=f"role {method.roles[0].name!r} .* are missing"):
        method.build(replace(setting(method, dataset, **params), random_weights=False))


@pytest.mark.parametrize(
    "method", [*(GAUSSIAN, CONSISTENCY, STABILITY, SMOOTHADV, MACER, SMOOTHMIX, VIT_GAUSSIAN, BOOSTING, DENOISED, RRCM)]
)
def test_a_default_is_among_its_own_choices(method: Method) -> None:
    for param in method.params:
        values = {param.default, *param.by_dataset.values()}
        assert not param.choices or values <= set(param.choices)


def test_the_offered_choices_are_what_can_be_built() -> None:
    offered = {param.name: set(param.choices) for method in (DENOISED, RRCM) for param in method.params}
    assert offered["denoiser"] == set(DENOISERS)
    assert offered["size"] == set(SIZES)


# ---- noise-trained networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["authors", "macer", "bare"])
def test_the_published_containers_give_the_labels_of_the_network_itself(tmp_path: Path, container: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_network("cifar_resnet20", num_classes=10, shape=(3, 32, 32)).eval()
    state = network.state_dict()
    path = tmp_path / "checkpoint.pth.tar"
    if container == "authors":
        torch.save({"epoch": 90, "arch": "cifar_resnet20", "state_dict": {f"1.{k}": v for k, v in state.items()}}, path)
    elif container == "macer":
        torch.save({"net": state, "epoch": 440}, path)
    else:
        torch.save({f"1.module.{k}": v for k, v in state.items()}, path)
    file = WeightsFile(role="network", path=path, sha256="", name=path.name)
    made = setting(GAUSSIAN, "cifar10", {"network": file}, normaliser="none")
    assert made.params["arch"] == "cifar_resnet20"
    x = images("cifar10", 32)
    with torch.no_grad():
        expected = network(x).argmax(1)
    assert len(expected.unique()) > 1
    assert torch.equal(GAUSSIAN.build(made).predict(x, NoNoise()), expected)


@seeded_globals(1)
def test_the_normaliser_moves_labels(tmp_path: Path) -> None:
    network = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8))
    file = saved(tmp_path / "n.safetensors", network.state_dict())
    x = images("digits", 200)
    kinds = ("mean_std", "none")
    labels = [
        GAUSSIAN.build(setting(GAUSSIAN, "digits", {"network": file}, normaliser=kind)).predict(x, NoNoise())
        for kind in kinds
    ]
    # 67 of the 200 with this seed; of 300 random networks, 3 gave nearly all images one class and moved none.
    assert int((labels[0] != labels[1]).sum()) > 20


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(MethodError, match=r"no architecture named 'resnet11'.*Known:"):
        GAUSSIAN.build(setting(GAUSSIAN, "digits", arch="resnet11"))


# ---- rRCM ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned() -> TimeTokenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        encoder = time_token_vit("tiny", image_size=8, in_channels=1)
        net = TimeTokenClassifier(encoder, num_classes=10, final_norm=True)
        for p in net.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    return net.eval()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("projector", [True, False])
def test_a_fine_tuned_file_gives_the_labels_of_its_network_at_the_grids_level(
    tmp_path: Path, tuned: TimeTokenClassifier, prefix: str, *, projector: bool
) -> None:
    state = {prefix + k: v for k, v in tuned.state_dict().items() if projector or "projection_head" not in k}
    made = setting(RRCM, "digits", {"network": saved(tmp_path / "tuned.safetensors", state)})
    assert made.params == {"size": "tiny", "final_norm": True, "grid": 81}
    x = images("digits", 64)
    with torch.no_grad():
        logits = tuned(2 * x - 1, nearest_time(0.5, 81))
        elsewhere = tuned(2 * x - 1, nearest_time(0.5, 21))
    assert len(logits.argmax(1).unique()) > 1
    assert torch.equal(RRCM.build(made).predict(x, NoNoise()), logits.argmax(1))
    assert (logits - elsewhere).abs().max() > 1e-3  # the level does matter to this network


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_pre_trained_encoder_is_refused_as_such(tmp_path: Path, tuned: TimeTokenClassifier, prefix: str) -> None:
    path = tmp_path / "nnet.pth"
    torch.save({prefix + k: v for k, v in tuned.base_model.state_dict().items()}, path)
    file = WeightsFile(role="network", path=path, sha256="", name=path.name)
    with pytest.raises(WeightsError, match=r"'nnet.pth': .*pre-trained, not fine-tuned; fine-tune it first"):
        RRCM.build(setting(RRCM, "digits", {"network": file}))


def test_the_final_norm_moves_labels(tmp_path: Path, tuned: TimeTokenClassifier) -> None:
    file = saved(tmp_path / "t.safetensors", tuned.state_dict())
    x = images("digits", 200)
    with_norm, without = (
        RRCM.build(setting(RRCM, "digits", {"network": file}, final_norm=value)).predict(x, NoNoise())
        for value in (True, False)
    )
    assert not torch.equal(with_norm, without)


def test_a_size_that_has_no_patches_for_these_images_is_refused() -> None:
    with pytest.raises(
        MethodError, match="size 'tiny' is for square images of side 8, got 32x32; set size to one of: S, B"
    ):
        RRCM.build(setting(RRCM, "cifar10", size="tiny"))
    assert RRCM.declines("any", (3, 64, 64), 10) == "its sizes are for square images of side 8 or 32 or 224, got 64x64"
    assert RRCM.declines("cifar10", (3, 32, 32), 10) is None


def test_a_grid_needs_two_levels() -> None:
    with pytest.raises(MethodError, match="at least 2 noise levels, got 1"):
        RRCM.build(setting(RRCM, "digits", grid=1))


def test_final_norm_is_off_where_the_published_fine_tuning_skipped_it() -> None:
    final_norm = next(param for param in RRCM.params if param.name == "final_norm")
    assert [final_norm.default_for(d) for d in ("cifar10", "imagenet", "digits")] == [False, True, True]


# ---- denoised smoothing ----------------------------------------------------------------------------------------------


def test_denoised_declines_grey_images_but_digits() -> None:
    assert DENOISED.declines("folder", (1, 32, 32), 10) == (
        "its denoisers are for 3-channel images, or digits, these have 1 channels; use gaussian"
    )
    assert DENOISED.declines("digits", (1, 8, 8), 10) is None
    assert DENOISED.declines("cifar10", (3, 32, 32), 10) is None


def test_the_denoiser_sees_pixels_and_the_classifier_normalised_ones() -> None:
    made = setting(DENOISED, "cifar10", denoiser="dncnn", classifier="cifar_resnet20", normaliser="half")
    classifier = DENOISED.build(replace(made, tuned=False))  # with its batch norms
    denoiser, _, network = classifier.network  # type: ignore[attr-defined]
    x = images("cifar10", 16)
    with torch.no_grad():
        for norm in (module for module in denoiser.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.weight.fill_(2.0)
        denoiser.dncnn[-1].weight.mul_(100.0)  # a fresh denoiser is the identity, which could stand anywhere
        expected = network(2 * denoiser(x) - 1)
        scale = expected.abs().max()
        assert (classifier.network(x) - expected).abs().max() < 1e-4 * scale  # type: ignore[attr-defined]
        assert (network(denoiser(2 * x - 1)) - expected).abs().max() > 1e-2 * scale


def test_a_classifier_brings_the_normaliser_of_its_family() -> None:
    assert DENOISED.recognise is not None
    with torch.device("meta"):
        families = {
            arch: {
                k: tuple(v.shape)
                for k, v in build_network(arch, num_classes=10, shape=(3, 32, 32)).state_dict().items()
            }
            for arch in ("akamaster_resnet20", "cifar_resnet110")
        }
    for arch, normaliser in (("akamaster_resnet20", "mean_std_imagenet"), ("cifar_resnet110", "mean_std")):
        assert DENOISED.recognise("classifier", families[arch], {}) == {"classifier": arch, "normaliser": normaliser}
        assert DENOISED.recognise("classifier", families[arch], {"normaliser": "half"}) == {"classifier": arch}


def exact_test_images(count: int) -> tuple[Tensor, Tensor]:
    path = SHARED_FOLDER / "data" / "cifar10" / "test_batch_exact_first1017.bin.xz"
    if not path.exists():
        pytest.skip("../shared is absent: it holds CIFAR-10 images and real checkpoints")
    records = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8).reshape(-1, 3073)[:count]
    pixels = torch.from_numpy(records[:, 1:].astype(np.float32) / 255).reshape(-1, 3, 32, 32)
    return pixels, torch.from_numpy(records[:, 0].astype(np.int64))


def checkpoint(role: str, name: str) -> WeightsFile:
    return WeightsFile(role=role, path=SHARED_FOLDER / "data" / "checkpoints" / name, sha256="", name=name)


def accuracy(method: Method, made: Setting, x: Tensor, labels: Tensor) -> float:
    classifier = method.build(made)
    return torch.cat([classifier.predict(part, NoNoise()) for part in x.split(50)]).eq(labels).double().mean().item()


def test_the_real_classifier_has_the_accuracy_its_author_reports() -> None:
    # 943 of the first 1,017 with the right normaliser, 92.7 %; on these 250 a count, not a draw.
    x, labels = exact_test_images(250)
    file = checkpoint("network", "resnet56-4bfd9763.th")
    made = setting(GAUSSIAN, "cifar10", {"network": file})
    assert made.params == {"arch": "akamaster_resnet56", "normaliser": "mean_std_imagenet"}
    assert accuracy(GAUSSIAN, made, x, labels) >= 0.92


def test_a_real_denoiser_restores_the_real_classifier_under_noise() -> None:
    # On the first 1,017 images 25 % without and 82 % with FFDNet. Each threshold is over 5 standard deviations of 150
    # binomial draws away: a false alarm in 10**6 runs, were the noise not fixed.
    x, labels = exact_test_images(150)
    noisy = x + 25 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    roles = {
        "denoiser": checkpoint("denoiser", "ffdnet_color.pth"),
        "classifier": checkpoint("classifier", "cifar10_resnet56-4bfd9763.safetensors"),
    }
    made = replace(setting(DENOISED, "cifar10", roles), sigma=25 / 255)
    assert made.params == {
        "denoiser": "ffdnet",
        "classifier": "akamaster_resnet56",
        "normaliser": "mean_std_imagenet",
    }
    bare = setting(GAUSSIAN, "cifar10", {"network": checkpoint("network", "cifar10_resnet56-4bfd9763.safetensors")})
    assert accuracy(DENOISED, made, noisy, labels) > 0.66
    assert accuracy(GAUSSIAN, bare, noisy, labels) < 0.45


def test_the_real_blind_denoiser_lowers_the_error() -> None:
    x, _ = exact_test_images(20)
    noisy = x + 25 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    roles = {
        "denoiser": checkpoint("denoiser", "dncnn_color_blind.safetensors"),
        "classifier": checkpoint("classifier", "cifar10_resnet20-12fca82f.safetensors"),
    }
    made = setting(DENOISED, "cifar10", roles)
    assert made.params["denoiser"] == "dncnn_blind"
    denoiser = DENOISED.build(made).network[0]  # type: ignore[attr-defined]
    with torch.no_grad():
        error = (denoiser(noisy) - x).square().mean().sqrt().item()
    assert error < 0.5 * 25 / 255
