"""A tuned network is the same function, to rounding; the plain one stays to be compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.smoothing.noise import ESTIMATE, NoiseKey
from bench.smoothing.voting import draw
from bench.types import NOT_FINITE, BaseClassifier, Setting
from bench.types.errors import MethodError
from methods.diffusion.unets import build_unet
from methods.nets.architectures import build_network
from methods.nets.blocks import ExactLinear
from methods.nets.denoisers import build_denoiser
from methods.nets.hard_labels import HardLabels, mark_nonfinite
from methods.nets.inference import optimise
from methods.nets.inference.optimise import (
    DirectLinear,
    cast_weights,
    channels_last,
    choose_linear_kernel,
    fold,
    optimise_for_inference,
)
from methods.nets.normalisers import Normaliser
from methods.nets.vit import AtNoiseLevel, TimeTokenClassifier, time_token_vit
from methods.noise_trained import GAUSSIAN
from methods.rrcm import RRCM
from methods.training.rng import seeded_globals


def worn(network: nn.Module) -> nn.Module:
    """With statistics and gains as training leaves them: nothing that folding forgets would go unseen."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.2, 0.6),
                (module.bias.data, -1, 1),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return network.eval().requires_grad_(False)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    **{
        arch: (lambda arch=arch, shape=shape: build_network(arch, num_classes=10, shape=shape), shape)
        for arch, shape in {
            "digits_resnet": (1, 8, 8),
            "cifar_small_resnet": (3, 32, 32),
            "cifar_resnet20": (3, 32, 32),
            "akamaster_resnet20": (3, 32, 32),
            "resnet50": (3, 64, 64),
        }.items()
    },
    "dncnn": (lambda: build_denoiser("dncnn", in_channels=3, sigma=0.25), (3, 16, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
@seeded_globals(1)
def test_tuning_changes_no_more_than_rounding(name: str) -> None:
    make, shape = NETWORKS[name]
    network = nn.Sequential(Normaliser("half", "any"), worn(make())).eval()
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(x)
        optimise_for_inference(network, "cpu", "fp32")
        after = network(x)
    assert norms(network) == 0
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    assert not any(module.training for module in network.modules())


class Forked(nn.Module):
    """A convolution that a norm and a sum read, and a norm that two convolutions feed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.shared = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.norm(y) + y + self.shared(self.b(x)) + self.shared(self.b(2 * x))


class Untraceable(nn.Module):
    """Its way depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) if x.mean() > 0 else x


@pytest.mark.parametrize("make", [Forked, Untraceable])
@seeded_globals(1)
def test_a_norm_that_cannot_be_folded_is_left_alone(make: Callable[[], nn.Module]) -> None:
    network = worn(make())
    x = torch.rand(2, 3, 8, 8)
    before, count = network(x), norms(network)
    assert fold(network) == 0
    assert norms(network) == count
    assert torch.equal(network(x), before)


@seeded_globals(1)
def test_a_norm_in_training_is_left_alone() -> None:
    assert fold(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()) == 0


def test_a_network_without_numbers_keeps_what_its_cost_is_counted_from() -> None:
    with torch.device("meta"):
        network = build_network("cifar_resnet20", num_classes=10, shape=(3, 32, 32)).eval()
    before = norms(network)
    optimise_for_inference(network, "meta", "fp32")
    assert norms(network) == before > 0


def test_a_gpu_reads_channels_last_where_its_tensor_cores_work() -> None:
    asked = [("cpu", "fp32"), ("cpu", "bf16"), ("cuda:0", "fp32"), ("cuda:0", "tf32"), ("cuda:0", "bf16")]
    assert [channels_last(*pair) for pair in asked] == [True, True, False, True, True]


@seeded_globals(1)
def test_the_other_product_is_taken_where_it_is_faster_and_for_wide_layers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no such product")
    network = nn.Sequential(nn.Linear(256, 64), nn.GELU(), nn.Linear(64, 10)).eval().requires_grad_(False)
    x = torch.randn(3, 5, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(x)
        monkeypatch.setattr(optimise, "faster_product", lambda: False)
        choose_linear_kernel(network)
        assert not any(isinstance(module, DirectLinear) for module in network)
        monkeypatch.setattr(optimise, "faster_product", lambda: True)
        choose_linear_kernel(network)
        assert [type(module) for module in network] == [DirectLinear, nn.GELU, nn.Linear]
        assert (network(x) - before).abs().max() <= 1e-5 * before.abs().max()
        with torch.autocast("cpu", torch.bfloat16):
            assert network(x).dtype == torch.bfloat16
    assert network[0](x.requires_grad_()).requires_grad


def test_the_products_are_compared_before_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimise, "_product", lambda x, weight, bias: nn.functional.linear(x, weight, bias) + 0.1)
    assert optimise.faster_product.__wrapped__() is False


def setting(dataset: str, shape: tuple[int, int, int], **params: object) -> Setting:
    return Setting(
        dataset=dataset, num_classes=10, shape=shape, sigma=0.5, params=params, weights={}, random_weights=True,
        seed=0, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "made"),
    [
        (GAUSSIAN, setting("digits", (1, 8, 8), arch="digits_resnet", normaliser="mean_std")),
        (RRCM, setting("digits", (1, 8, 8), size="tiny", final_norm=True, grid=81)),
    ],
)
def test_the_plain_classifier_votes_as_the_tuned_one(method, made: Setting) -> None:
    tuned, plain = method.build(made), method.build(replace(made, tuned=False))
    x, key = torch.rand(made.shape, generator=torch.Generator().manual_seed(2)), NoiseKey(0, "x", 0.5, ESTIMATE)
    votes = [draw(classifier, x, key=key, n=2000, batch=500) for classifier in (tuned, plain)]
    assert votes[0] == votes[1]
    if method is GAUSSIAN:
        assert norms(tuned.network) == 0 < norms(plain.network)
    else:
        assert plain.network.classifier.base_model.whole is not tuned.network.classifier.base_model.whole


# ---- logits that are not numbers -------------------------------------------------------------------------------------


def test_copies_whose_logits_are_no_numbers_are_marked_without_a_wait() -> None:
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [0.0, float("-inf")], [3.0, 1.0]])
    assert mark_nonfinite(logits, logits.argmax(dim=1)).tolist() == [1, NOT_FINITE, NOT_FINITE, 0]


def test_the_certifier_refuses_an_image_of_which_a_copy_was_marked() -> None:
    def predict(x: Tensor, noise: object) -> Tensor:
        return torch.arange(len(x)).remainder(2).masked_fill(torch.arange(len(x)) % 4 == 3, NOT_FINITE)

    marking: BaseClassifier = SimpleNamespace(num_classes=2, predict=predict)  # type: ignore[assignment]
    with pytest.raises(MethodError, match="finite numbers, got nan or inf for 25 of 100 copies; use precision fp32"):
        draw(marking, torch.zeros(1, 2, 2), key=NoiseKey(0, "x", 0.5, ESTIMATE), n=100, batch=40)


def test_on_a_cpu_they_are_refused_at_once() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) / 0

    with pytest.raises(MethodError, match="for 2 of 2 copies"):
        HardLabels(Broken(), num_classes=4, device="cpu").predict(torch.ones(2, 1, 2, 2), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["digits_resnet", "vit", "digits_unet"])
@seeded_globals(1)
def test_weights_held_in_half_are_those_that_autocast_makes(name: str) -> None:
    if name == "vit":
        encoder = time_token_vit("tiny", image_size=8, in_channels=1, projector=False)
        network: nn.Module = TimeTokenClassifier(encoder, num_classes=10, final_norm=True)
        network.linear_head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
        words: tuple = (1.0,)
    elif name == "digits_unet":
        network, words = build_unet("digits_unet", shape=(1, 8, 8)), (100,)
    else:
        network, words = build_network(name, num_classes=10, shape=(1, 8, 8)), ()
    network.eval().requires_grad_(False)
    held = copy.deepcopy(network)
    cast_weights(held, torch.bfloat16)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(held(x, *words), network(x, *words))
    kept = {p.dtype for m in held.modules() if type(m) in (nn.Linear, nn.Conv2d) for p in m.parameters()}
    assert kept == {torch.bfloat16}
    # Norms, embeddings and the head whose logits would tie stay as they were.
    assert any(p.dtype == torch.float32 for p in held.parameters())


@seeded_globals(1)
def test_weights_are_held_in_half_for_a_run_in_half_alone() -> None:
    for precision, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        network = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).eval()
        optimise_for_inference(network, "cpu", precision)
        assert {m.weight.dtype for m in network.modules() if isinstance(m, nn.Conv2d)} == {dtype}


@pytest.mark.parametrize("arch", ["cifar_small_resnet", "timm:resnet10t", "cifar_small_vit"])
@seeded_globals(1)
def test_logits_of_a_network_in_half_precision_are_not_rounded(arch: str) -> None:
    network = build_network(arch, num_classes=10, shape=(3, 32, 32)).eval().requires_grad_(False)
    heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
    kept = heads[-1].weight.clone()
    with_head = nn.Sequential(network)
    optimise_for_inference(with_head, "cpu", "bf16")
    linear = [module for module in with_head.modules() if isinstance(module, nn.Linear)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = with_head(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(linear[-1].weight, kept)
    assert all(module.weight.dtype == torch.bfloat16 for module in linear[:-1])
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@seeded_globals(1)
def test_both_heads_of_a_distilled_network_are_kept() -> None:
    network = nn.Sequential(build_network("timm:deit_tiny_distilled_patch16_224", num_classes=10, shape=(3, 224, 224)))
    optimise_for_inference(network.eval(), "cpu", "bf16")
    kept = {name for name, module in network.named_modules() if isinstance(module, ExactLinear)}
    assert kept == {"0.head", "0.head_dist"}


@seeded_globals(1)
def test_a_network_whose_logits_are_exact_by_itself_has_no_other_layer_kept() -> None:
    encoder = time_token_vit("tiny", image_size=8, in_channels=1, projector=False)
    network = AtNoiseLevel(TimeTokenClassifier(encoder, num_classes=10, final_norm=True), 1.0).eval()
    optimise_for_inference(network, "cpu", "bf16")
    exact = [name for name, module in network.named_modules() if isinstance(module, ExactLinear)]
    assert exact == ["classifier.linear_head"]
    assert network.get_submodule("classifier.base_model.blocks.0.mlp.fc2").weight.dtype == torch.bfloat16
