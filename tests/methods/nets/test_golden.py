"""The published architectures, against outputs of the authors' own networks for a filling that anyone can redo.

Filling: element i of the j-th tensor by name is s * sin(0.7 i + 0.3 j), in float64, cast; see `load_weights`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from places import GOLDEN_FILES
from torch import Tensor, nn

from methods.nets.architectures import build_network
from methods.nets.denoisers import build_denoiser
from methods.nets.vit import TimeTokenViT, karras_grid, nearest_time, time_embedding, time_token_vit
from methods.training.rng import seeded_globals

NETWORKS: dict[str, dict[str, Any]] = {r["name"]: r for r in json.loads((GOLDEN_FILES / "networks.json").read_text())}
VIT: dict[str, Any] = json.loads((GOLDEN_FILES / "time_token.json").read_text())


def load_weights(network: nn.Module, scale: Callable[[Tensor], float]) -> nn.Module:
    state = network.state_dict()
    for j, name in enumerate(sorted(state)):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        w = scale(tensor) * torch.sin(0.7 * torch.arange(tensor.numel(), dtype=torch.float64) + 0.3 * j)
        if name.endswith("running_var"):
            w = 1 + w.abs()
        elif tensor.ndim == 1 and name.endswith("weight"):
            w = 1 + w
        tensor.copy_(w.reshape(tensor.shape))
    return network.eval()


def wave(*shape: int) -> Tensor:
    return torch.sin(0.013 * torch.arange(math.prod(shape), dtype=torch.float64)).float().reshape(shape)


def make(name: str) -> nn.Module:
    if "resnet" in name:
        return build_network(name, num_classes=10, shape=(3, 32, 32))
    return build_denoiser(name, in_channels=3, sigma=0.25)


@pytest.mark.parametrize("name", NETWORKS)
@seeded_globals(1)
def test_a_network_has_the_tensors_of_the_published_one(name: str) -> None:
    record = NETWORKS[name]
    network = make(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    listing = "\n".join(f"{key} {shapes[key]}" for key in sorted(shapes))
    assert sum(p.numel() for p in network.parameters()) == record["n_params"]
    assert len(shapes) == record["n_tensors"]
    assert hashlib.sha256(listing.encode()).hexdigest() == record["key_shape_sha256"]


@pytest.mark.parametrize("name", NETWORKS)
@seeded_globals(1)
def test_a_network_computes_what_the_published_one_computes(name: str) -> None:
    record = NETWORKS[name]
    network = load_weights(make(name), lambda w: 0.7 / math.sqrt(w[0].numel()) if w.ndim >= 2 else 0.05)
    with torch.no_grad():
        y = network(wave(2, 3, 32, 32)).double()
    assert list(y.shape) == record["output_shape"]
    assert y.norm().item() == pytest.approx(record["output_l2"], rel=1e-4)
    expected = torch.tensor(record["output_at_index"], dtype=torch.float64)
    assert (y.flatten()[record["output_index"]] - expected).abs().max() <= 1e-4 * expected.abs().max()


@seeded_globals(1)
def test_the_time_token_vit_computes_what_the_published_one_computes() -> None:
    record = VIT["vectors"]
    vit = load_weights(TimeTokenViT(**record["config"]), lambda _: 0.05)
    assert isinstance(vit, TimeTokenViT)
    t = torch.tensor(record["sigmas"])
    with torch.no_grad():
        projection, cls = vit(wave(3, 3, 32, 32), t)
        before_norm = vit.features(wave(3, 3, 32, 32), t, final_norm=False)
    assert projection[:, :8] == pytest.approx(torch.tensor(record["projector_first8"]), abs=5e-6)
    assert cls[:, :8] == pytest.approx(torch.tensor(record["cls_post_norm_first8"]), abs=5e-6)
    assert before_norm[:, :8] == pytest.approx(torch.tensor(record["cls_pre_norm_first8"]), abs=5e-6)
    assert cls.norm(dim=1).tolist() == pytest.approx(record["norms"]["cls"], rel=1e-6)
    assert projection.norm(dim=1).tolist() == pytest.approx(record["norms"]["proj"], rel=1e-5)


@seeded_globals(1)
def test_the_time_token_vit_has_the_published_tensor_names() -> None:
    assert sorted(TimeTokenViT(**VIT["vectors"]["config"]).state_dict()) == VIT["vectors"]["sorted_keys"]


@pytest.mark.parametrize(("size", "tensors"), [("S", 85), ("B", 151), ("B-Deep", 283)])
def test_each_size_has_the_published_number_of_tensors(size: str, tensors: int) -> None:
    with torch.device("meta"):
        assert len(time_token_vit(size, image_size=224, in_channels=3).state_dict()) == tensors


@pytest.mark.parametrize(
    ("record", "size", "side", "hidden"),
    [
        ("imagenet_S_H2048", "S", 224, None),
        ("imagenet_B_H2048", "B", 224, None),
        ("imagenet_B_H4096", "B", 224, 4096),
        ("imagenet_Deep_H2048", "B-Deep", 224, None),
        ("imagenet_Deep_H4096", "B-Deep", 224, 4096),
        ("cifar_B_H2048", "B", 32, None),
    ],
)
def test_each_size_has_the_parameters_of_table_3(record: str, size: str, side: int, hidden: int | None) -> None:
    with torch.device("meta"):  # 177M parameters, none of them allocated
        vit = time_token_vit(size, image_size=side, in_channels=3, hidden_dim=hidden)
    assert sum(p.numel() for p in vit.parameters()) == VIT["param_counts"][record]


@pytest.mark.parametrize("n", [21, 41, 81])
def test_the_noise_grid_is_that_of_karras(n: int) -> None:
    assert karras_grid(n) == pytest.approx(VIT[f"grid_{n}"], rel=1e-12)


@pytest.mark.parametrize("n", [21, 41, 81])
def test_conditioning_rounds_to_the_nearest_level(n: int) -> None:
    for sigma, (index, level) in VIT["nearest"][str(n)].items():
        assert nearest_time(float(sigma), n) == pytest.approx(level, rel=1e-12)
        assert karras_grid(n).index(nearest_time(float(sigma), n)) == index


def test_the_time_embedding_has_its_cosines_first() -> None:
    record = VIT["embedding"]
    value = time_embedding(torch.tensor(record["t"]), 8)
    assert value == pytest.approx(torch.tensor(record["value"]), abs=2e-6)


@seeded_globals(1)
def test_the_network_scales_its_input_and_its_time_as_published() -> None:
    vit = TimeTokenViT(**VIT["vectors"]["config"], projector=False).eval()
    seen: dict[str, Tensor] = {}
    vit.patch_embed.register_forward_pre_hook(lambda _, args: seen.update(image=args[0]))
    vit.blocks[0].register_forward_pre_hook(lambda _, args: seen.update(tokens=args[0]))
    for t, c_in in VIT["c_in"].items():
        with torch.no_grad():
            vit.features(torch.ones(1, 3, 32, 32), float(t), final_norm=True)
        assert seen["image"].mean().item() == pytest.approx(c_in, rel=1e-6)
        time = time_embedding(torch.tensor([VIT["time_input"][t]], dtype=torch.float64), 64)[0]
        assert seen["tokens"][0, 1] - vit.pos_embed[0, 1].detach() == pytest.approx(time, abs=1e-5)
