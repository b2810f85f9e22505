"""Encoders that are run in chunks: the gradients of the whole batch, the same random numbers, and less that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from torch import Tensor, nn
from two_processes import first_gradients

from methods.training.gradient_cache import in_chunks
from methods.training.rng import seeded_globals


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 64), nn.GELU(), nn.Dropout(0.5), nn.Linear(64, 4)).double()


def similarity(features: Tensor) -> Tensor:
    """A loss in which every row meets every other."""
    return torch.logsumexp(features @ features.T, dim=1).mean()


def gradients(net: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


@pytest.mark.parametrize("rows", [1, 3, 4, 12, 0])
def test_chunks_change_neither_the_loss_nor_a_gradient(rows: int) -> None:
    with seeded_globals("chunks"):
        net, x = encoder().eval(), torch.randn(12, 6, dtype=torch.float64)
    whole, parts = similarity(net(x)), similarity(in_chunks(net, (x,), rows))
    assert float(parts.detach()) == pytest.approx(float(whole.detach()), rel=1e-14)
    for ours, theirs in zip(gradients(net, parts), gradients(net, whole), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_dropout_is_the_same_when_a_chunk_is_computed_again() -> None:
    with seeded_globals("dropout"):
        net, x = encoder().train(), torch.randn(12, 6, dtype=torch.float64)
        state = torch.get_rng_state()
        cached = similarity(in_chunks(net, (x,), 4))
        torch.rand(100)  # what is drawn between the two passes must not matter
        ours = gradients(net, cached)
        torch.set_rng_state(state)
        plain = similarity(torch.cat([net(part) for part in x.split(4)]))
        theirs = gradients(net, plain)
    assert float(cached.detach()) == float(plain.detach())
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(ours, theirs, strict=True))


def test_the_last_chunk_is_not_computed_again() -> None:
    with seeded_globals("again"):
        net, x = encoder().eval(), torch.randn(12, 6, dtype=torch.float64)
    passes: list[int] = []

    def encode(rows: Tensor) -> Tensor:
        passes.append(len(rows))
        out: Tensor = net(rows)
        return out

    gradients(net, similarity(in_chunks(encode, (x,), 5)))
    assert passes == [5, 5, 2, 5, 5]


def test_what_is_kept_of_a_chunk_is_its_input() -> None:
    with seeded_globals("kept"):
        net, x = encoder().eval(), torch.randn(12, 6, dtype=torch.float64)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        in_chunks(net, (x,), 0)
        whole, kept[:] = sum(kept), []
        in_chunks(net, (x,), 3)
    assert sum(kept) < whole / 2


def test_checkpointed_blocks_have_the_gradients_of_the_others(tmp_path: Path) -> None:
    plain = first_gradients(tmp_path / "plain")
    kept = first_gradients(tmp_path / "kept", checkpoint="true")
    both = first_gradients(tmp_path / "both", checkpoint="true", micro_batch="8")
    assert plain.keys() == kept.keys() == both.keys()
    for key in plain:
        assert torch.equal(plain[key], kept[key])
        assert float((plain[key] - both[key]).norm()) <= 1e-5 * float(plain[key].norm())
