"""The UNets, against outputs of the authors' own networks on weights that a rule fills."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from typing import Any

import pytest
import torch
from openai_layout import ADM_256, CIFAR10_50M, GUIDED_SMALL, IMPROVED_SMALL, filled
from places import GOLDEN_FILES
from torch import Tensor

from bench.types.errors import MethodError
from methods.diffusion.conversion import rename_openai
from methods.diffusion.schedules import schedule
from methods.diffusion.unets import UNETS, UNet, build_unet, unet_arch
from methods.training.rng import seeded_globals

GOLDEN: dict[str, dict[str, Any]] = {
    record["name"]: record for record in json.loads((GOLDEN_FILES / "diffusion.json").read_text())["networks"]
}
SMALL = ("guided_diffusion small", "improved_diffusion small")
LAYOUTS = dict(zip(GOLDEN, (GUIDED_SMALL, IMPROVED_SMALL, CIFAR10_50M), strict=True))
PUBLISHED = {
    "out_channels": 6,
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 32,
    "norm_eps": 1e-5,
    "attention_head_dim": 32,
    "block_out_channels": (64, 128, 128),
}


def small(name: str) -> UNet:
    if name.startswith("guided"):
        config = {
            **PUBLISHED,
            "layers_per_block": 1,
            "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "downsample_type": "resnet",
            "upsample_type": "resnet",
        }
        return UNet(config, schedule=schedule("linear-1000"), learned_sigma=True)
    config = {
        **PUBLISHED,
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    }
    return UNet(config, schedule=schedule("cosine-4000"), learned_sigma=True)


def output(unet: UNet, record: dict[str, Any]) -> Tensor:
    shape = (record["output_shape"][0], 3, 32, 32)
    x = torch.sin(0.013 * torch.arange(math.prod(shape), dtype=torch.float64)).float().reshape(shape)
    levels = torch.tensor(record["args"][0]) / unet.schedule.time_scale  # the record has the scaled time
    with torch.no_grad():
        return unet.eval()(x, levels).double()


def error(y: Tensor, record: dict[str, Any]) -> float:
    expected = torch.tensor(record["output_at_index"], dtype=torch.float64)
    return ((y.flatten()[record["output_index"]] - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_layout_has_the_tensors_of_the_published_network(name: str) -> None:
    shapes, record = LAYOUTS[name], GOLDEN[name]
    listing = "\n".join(f"{key} {shapes[key]}" for key in sorted(shapes))
    assert hashlib.sha256(listing.encode()).hexdigest() == record["key_shape_sha256"]
    assert len(shapes) == record["n_tensors"]
    assert sum(math.prod(shape) for shape in shapes.values()) == record["n_params"]


@pytest.mark.parametrize("name", SMALL)
@seeded_globals(1)
def test_a_converted_network_computes_what_the_published_one_computes(name: str) -> None:
    unet, record = small(name), GOLDEN[name]
    layers = 1 if name.startswith("guided") else 2
    unet.load_state_dict(rename_openai(filled(LAYOUTS[name]), layers=layers, head_channels=32))
    assert sum(p.numel() for p in unet.parameters()) == record["n_params"]
    y = output(unet, record)
    assert list(y.shape) == record["output_shape"]
    assert y.norm().item() == pytest.approx(record["output_l2"], rel=1e-4)
    assert error(y, record) <= 1e-4


@pytest.mark.parametrize("name", SMALL)
@seeded_globals(1)
def test_attention_cut_in_three_as_it_stands_computes_something_else(name: str) -> None:
    unet, record, state = small(name), GOLDEN[name], filled(LAYOUTS[name])
    tensors = rename_openai(state, layers=1 if name.startswith("guided") else 2, head_channels=32)
    rows = state["middle_block.1.qkv.weight"].squeeze(-1)
    assert not torch.equal(tensors["mid_block.attentions.0.to_q.weight"], rows[:128])
    # one head of all channels: its order is the plain one
    plain = rename_openai(state, layers=1 if name.startswith("guided") else 2, head_channels=128)
    assert torch.equal(plain["mid_block.attentions.0.to_k.weight"], rows[128:256])
    unet.load_state_dict(plain)
    assert error(output(unet, record), record) > 1e-2


@pytest.mark.parametrize(("arch", "layout"), [("adm_256", ADM_256), ("improved_cifar10", CIFAR10_50M)])
def test_a_published_size_has_the_published_parameters(arch: str, layout: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        unet = build_unet(arch, shape=(3, 32, 32))
    assert sum(p.numel() for p in unet.parameters()) == UNETS[arch].parameters
    assert len(layout) == {"adm_256": 566, "improved_cifar10": 446}[arch]
    assert sum(math.prod(shape) for shape in layout.values()) == UNETS[arch].parameters
    assert unet_arch(layout) == arch


@pytest.mark.parametrize("arch", UNETS)
def test_a_network_is_told_by_its_tensors(arch: str) -> None:
    record = UNETS[arch]
    with torch.device("meta"):
        unet = build_unet(arch, shape=(record.channels, 32, 32))
    state = unet.state_dict()
    assert sum(p.numel() for p in unet.parameters()) == record.parameters
    assert unet_arch({name: tuple(tensor.shape) for name, tensor in state.items()}) == arch
    assert not any(name.startswith("_") or "network" in name for name in state)


def test_other_tensors_are_no_network_of_ours() -> None:
    assert unet_arch({}) is None
    assert unet_arch({"conv_in.weight": (), "conv_out.weight": ()}) is None
    assert unet_arch(GUIDED_SMALL) is None
    assert unet_arch(IMPROVED_SMALL) is None


@pytest.mark.parametrize(("arch", "side", "megabytes"), [("digits_unet", 8, 3), ("cifar10_small_unet", 32, 12)])
@seeded_globals(1)
def test_our_own_networks_are_small_and_predict_noise_and_variance(arch: str, side: int, megabytes: int) -> None:
    record = UNETS[arch]
    unet = build_unet(arch, shape=(record.channels, side, side)).eval()
    assert 4 * record.parameters < megabytes * 1e6
    x = torch.randn(3, record.channels, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = unet(x, 100)
        assert y.shape == (3, 2 * record.channels, side, side)
        assert unet(x, torch.tensor([100, 100, 100])) == pytest.approx(y, abs=1e-6)
        assert (unet(x, torch.tensor([100, 100, 7]))[:2] - y[:2]).abs().max() < 1e-5
        assert (unet(x, torch.tensor([100, 100, 7]))[2] - y[2]).abs().max() > 1e-5


@seeded_globals(1)
def test_patches_are_put_back_where_they_were() -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8)).eval()
    spot = torch.zeros(1, 1, 8, 8)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.zero_()
        # conv_out's bias is all that is left: channel k of a patch, and of eps or v, has its own
        unet.state_dict()["conv_out.bias"].copy_(torch.arange(8.0))
        y = unet(spot, 0)
    assert y[0, 0, :2, :2].tolist() == [[0, 1], [2, 3]]
    assert y[0, 1, 6:, 4:6].tolist() == [[4, 5], [6, 7]]


@seeded_globals(1)
def test_a_copy_of_a_network_has_weights_of_its_own() -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8)).eval()
    twin = copy.deepcopy(unet)
    with torch.no_grad():
        x = torch.ones(1, 1, 8, 8)
        before = unet(x, 3)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(unet(x, 3), before)
        assert twin(x, 3).abs().max() == 0


@seeded_globals(1)
def test_half_precision_and_training_mode_reach_every_part() -> None:
    unet = build_unet("digits_unet", shape=(1, 8, 8))
    assert unet.to(torch.bfloat16)(torch.ones(2, 1, 8, 8, dtype=torch.bfloat16), 5).dtype == torch.bfloat16
    unet.eval()
    assert not any(part.training for part in unet.modules())


@pytest.mark.parametrize(
    ("arch", "shape", "words"),
    [
        ("adm_265", (3, 256, 256), r"Did you mean 'adm_256'\?"),
        ("adm_256", (3, 48, 48), "sides divisible by 32, got 48x48"),
        ("adm_256", (1, 64, 64), "images of 3 channels, got 1"),
        ("digits_unet", (1, 10, 8), "sides divisible by 4, got 10x8"),
        ("digits_unet", (3, 32, 32), "images of 1 channel"),
    ],
)
def test_what_a_network_cannot_take_is_refused(arch: str, shape: tuple[int, int, int], words: str) -> None:
    with pytest.raises(MethodError, match=words):
        build_unet(arch, shape=shape)
