"""Linear layers in 8-bit floating point: what they round, and that no copy's answer depends on its company."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bench.errors import DeviceError, MethodError
from methods.nets import float8
from methods.nets.architectures import build_network
from methods.nets.float8 import LARGEST, Float8Linear, lacking, rounded, to_float8
from methods.nets.tuning import tune
from methods.nets.vit import TimeTokenClassifier, TimeTokenViT
from methods.training.keys import borrowed

pytestmark = pytest.mark.skipif(bool(lacking("cpu")), reason="this torch has no 8-bit product on a CPU")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(bias: bool = True) -> nn.Linear:
    made = nn.Linear(256, 96, bias=bias).requires_grad_(False)
    made.weight.copy_(drawn(96, 256, seed=1) * torch.logspace(-3, 1, 96)[:, None])
    return made


def e4m3(x: Tensor) -> Tensor:
    """The nearest number of 4 exponent and 3 mantissa bits, ties to even: by its definition."""
    step = 2.0 ** (torch.floor(torch.log2(x.abs().clamp_min(2.0**-6))) - 3)
    return (x / step).round() * step


def test_rows_are_rounded_to_e4m3_and_reach_its_largest_number() -> None:
    x = drawn(50, 256) * torch.logspace(-6, 6, 50)[:, None]
    values, scale = rounded(x)
    assert torch.equal(values.float(), e4m3(x / scale))
    assert torch.equal(values.float().abs().amax(dim=1), torch.full((50,), LARGEST))
    # Three bits of mantissa: half a step is a sixteenth, of numbers that are not tiny beside their row's largest.
    wide = x.abs() > 2.0**-6 * scale
    assert (((values.float() * scale - x) / x).abs()[wide] <= 1 / 16 + 1e-6).all()
    assert rounded(torch.zeros(2, 16))[0].float().count_nonzero() == 0


@pytest.mark.parametrize("bias", [True, False])
@borrowed(1)
def test_the_layer_is_the_product_of_the_rounded_numbers(bias: bool) -> None:
    plain, x = layer(bias), drawn(3, 7, 256)
    made = Float8Linear(plain)
    (a, scale_a), (b, scale_b) = rounded(x.reshape(-1, 256)), rounded(plain.weight)
    expected = (e4m3(a.float()) * scale_a) @ (b.float() * scale_b).T + (plain.bias if bias else 0)
    found = made(x)
    assert found.dtype == torch.bfloat16
    assert found.shape == (3, 7, 96)
    # bf16 keeps 8 bits, of the product and of the bias.
    torch.testing.assert_close(found.float().reshape(-1, 96), expected, rtol=2**-7, atol=2**-7 * 0.1)
    assert torch.equal(made.rows(x, 32, 64), found[..., 32:64])


@borrowed(1)
def test_no_token_is_rounded_by_the_scale_of_another() -> None:
    made, x = Float8Linear(layer()), drawn(8, 5, 256)
    alone = torch.cat([made(x[i : i + 1]) for i in range(8)])
    assert torch.equal(made(x), alone)
    loud = x.clone()
    loud[3] *= 1e4
    assert torch.equal(made(loud)[[0, 1, 2, 4, 5, 6, 7]], alone[[0, 1, 2, 4, 5, 6, 7]])


def vit() -> TimeTokenClassifier:
    encoder = TimeTokenViT(
        image_size=16, patch_size=4, in_channels=3, embed_dim=128, depth=3, num_heads=4, hidden_dim=8, output_dim=8,
        projector=False,
    )  # fmt: skip
    made = TimeTokenClassifier(encoder, num_classes=10, final_norm=True).eval().requires_grad_(False)
    made.linear_head.weight.copy_(drawn(10, 128, seed=2))
    return made


@borrowed(1)
def test_a_transformers_layers_are_replaced_but_for_its_head_and_its_answers_stay_near() -> None:
    plain, made = vit(), vit()
    made.load_state_dict(plain.state_dict())
    tune(made, "cpu", "fp8")
    replaced = {name for name, module in made.named_modules() if isinstance(module, Float8Linear)}
    parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert replaced == {f"base_model.blocks.{i}.{part}" for i in range(3) for part in parts}
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        exact = plain(x, 1.0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = made(x, 1.0)
            half = plain(x, 1.0)
    assert found.dtype == torch.float32
    off, by_half = ((logits - exact).norm() / exact.norm() for logits in (found, half))
    assert by_half < off < 0.15
    again = copy.deepcopy(made)
    tune(again, "cpu", "fp8")  # as a classifier behind another normaliser is
    assert {name for name, module in again.named_modules() if isinstance(module, Float8Linear)} == replaced


@borrowed(1)
def test_a_network_without_wide_linear_layers_is_refused() -> None:
    with pytest.raises(MethodError, match=r"fp8 is for wide linear layers.*this network has none; use bf16"):
        tune(build_network("digits_resnet", num_classes=10, shape=(1, 8, 8)).eval(), "cpu", "fp8")


@borrowed(1)
def test_a_device_without_such_products_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> Tensor:
        raise RuntimeError("not on this device\nand more")

    network = nn.Sequential(layer())
    monkeypatch.setattr(float8, "_product", absent)
    lacking.cache_clear()
    try:
        with pytest.raises(DeviceError, match="precision fp8: not on this device; use bf16, or a GPU"):
            to_float8(network, "cpu")
        monkeypatch.setattr(float8, "_product", lambda a, *_: torch.ones(len(a), 64))
        lacking.cache_clear()
        assert "off" in lacking("cpu")
    finally:
        lacking.cache_clear()
    assert type(network[0]) is nn.Linear


@pytest.mark.gpu
def test_a_gpu_makes_the_same_product() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if reason := lacking("cuda:0"):
        pytest.skip(f"no 8-bit product on this GPU: {reason}")
    made, x = Float8Linear(layer()), drawn(3, 7, 256)
    expected, found = made(x), made.cuda()(x.cuda()).cpu()
    torch.testing.assert_close(found.float(), expected.float(), rtol=2**-6, atol=1e-3)
    alone = torch.cat([made(x[i : i + 1].cuda()) for i in range(3)]).cpu()
    torch.testing.assert_close(alone.float(), found.float(), rtol=2**-6, atol=1e-3)
