"""Weights in half precision: the same network but for the rounding of its matrices, and few votes that differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from places import PROJECT
from safetensors.torch import save

from bench.types.errors import WeightsError
from bench.weights.half import halved
from bench.weights.resolve import load_tensors
from methods.nets.architectures import build_network
from methods.training.rng import seeded_globals

FILE = PROJECT / "methods" / "pretrained" / "digits" / "gaussian-0.50.safetensors"


def test_matrices_are_rounded_and_all_else_stays(tmp_path: Path) -> None:
    content = halved(FILE.read_bytes())
    assert content == halved(FILE.read_bytes())
    (tmp_path / "half.safetensors").write_bytes(content)
    before, said = load_tensors(FILE)
    after, words = load_tensors(tmp_path / "half.safetensors")
    assert len(content) < 0.6 * FILE.stat().st_size
    assert {key: value for key, value in words.items() if key != "stored"} == said
    for name, tensor in before.items():
        if tensor.ndim > 1:
            assert after[name].dtype is torch.float16
            assert torch.equal(after[name], tensor.half())
        else:
            assert torch.equal(after[name], tensor)
            assert after[name].dtype is tensor.dtype


def test_votes_hardly_mind(tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(halved(FILE.read_bytes()))
    x = torch.rand((2000, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    labels = []
    for path in (FILE, tmp_path / "half.safetensors"):
        with seeded_globals(1):
            network = build_network("digits_resnet", num_classes=10, shape=(1, 8, 8))
        network.load_state_dict(load_tensors(path)[0])
        assert all(parameter.dtype is torch.float32 for parameter in network.parameters())
        with torch.inference_mode():
            labels.append(network.eval()(x).argmax(dim=1))
    assert int((labels[0] != labels[1]).sum()) <= 10  # of 2000


def test_a_number_beyond_half_precision_is_refused() -> None:
    with pytest.raises(WeightsError, match="'w' holds a number"):
        halved(save({"w": torch.full((2, 2), 1e6)}))
