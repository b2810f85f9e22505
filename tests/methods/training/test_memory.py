"""Bytes of training: the formula against what autograd keeps, and the paper's batch on eight GPUs of 80 GB."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from torch import nn
from two_processes import first_gradients, request

from bench.types.errors import UsageError
from methods.nets.vit import TimeTokenViT, time_token_vit
from methods.training import memory, rrcm
from methods.training.memory import contrastive_bytes, counted, encoder_bytes, fitting, held, projector_bytes
from methods.training.rng import seeded_globals

ROWS = 12
CARD = 80e9


def small(dim: int, depth: int, heads: int, side: int, patch: int) -> TimeTokenViT:
    with seeded_globals("small"):
        return TimeTokenViT(
            image_size=side, patch_size=patch, in_channels=3, embed_dim=dim, depth=depth, num_heads=heads,
            hidden_dim=96, output_dim=32,
        )  # fmt: skip


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shape", [(64, 2, 4, 8, 4), (96, 4, 6, 32, 8), (128, 3, 4, 16, 4)])
def test_the_formula_is_what_autograd_keeps(shape: tuple[int, int, int, int, int], half: bool) -> None:
    encoder = small(*shape)
    x, t = torch.zeros(ROWS, 3, shape[3], shape[3]), torch.ones(ROWS, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half), counted(encoder.parameters()) as kept:
        features = encoder.features(x, t, final_norm=True)
        alone = kept[-1]
        assert encoder.projection_head is not None
        encoder.projection_head(features)
    assert encoder_bytes(encoder, ROWS, half=half) == pytest.approx(alone, rel=0.03)
    both = encoder_bytes(encoder, ROWS, half=half) + projector_bytes(encoder.projection_head, ROWS, half=half)
    assert both == pytest.approx(kept[-1], rel=0.03)


def test_checkpoints_keep_little_of_a_deep_encoder_and_chunks_of_any() -> None:
    encoder = small(64, 12, 4, 16, 4)
    whole = encoder_bytes(encoder, ROWS, half=False)
    assert encoder_bytes(encoder, ROWS, half=False, checkpoint=True) < whole / 3

    def kept(micro_batch: int) -> int:
        return sum(contrastive_bytes(encoder, 64, 512, views=3, micro_batch=micro_batch, half=True, checkpoint=False))

    assert kept(8) < kept(16) < kept(64) == kept(0)


def test_weights_gradients_and_moments_are_those_of_torch() -> None:
    with seeded_globals("held"):
        net, frozen = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1)), nn.Linear(8, 8).requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    weights, gradients, moments = held([net, frozen], optimiser, 1)
    assert weights == sum(p.nbytes for module in (net, frozen) for p in module.parameters())
    assert gradients == sum(p.grad.nbytes for p in net.parameters() if p.grad is not None)
    assert moments == sum(t.nbytes for state in optimiser.state.values() for t in state.values() if t.ndim)


@pytest.mark.parametrize(("size", "hidden"), [("B", 4096), ("B-Deep", 2048)])
def test_the_paper_s_batch_fits_eight_cards_in_chunks_alone(size: str, hidden: int) -> None:
    with torch.device("meta"):
        encoder = time_token_vit(size, image_size=224, in_channels=3, hidden_dim=hidden)
    optimiser = torch.optim.AdamW(encoder.parameters())
    fixed = sum(held([encoder, encoder], optimiser, 8))
    # Three views, as many noisy ones, and the noise of the whole batch.
    pixels = 4 * 3 * 224**2 * (6 * 512 + 4096)

    def total(micro_batch: int) -> int:
        kept = contrastive_bytes(encoder, 512, 4096, views=3, micro_batch=micro_batch, half=True, checkpoint=False)
        return fixed + pixels + sum(kept)

    assert total(128) < 0.8 * CARD
    assert total(0) > CARD


@pytest.mark.parametrize(
    ("images", "room", "expected"),
    [(512, 520, 0), (512, 519, 256), (512, 70, 32), (512, 5, 1), (96, 103, 64), (96, 104, 0), (1, 0, 0), (2, 0, 1)],
)
def test_the_largest_power_of_two_that_fits_is_taken_and_none_where_all_do(
    images: int, room: int, expected: int
) -> None:
    """Of a process that takes 8 bytes, and one more for each image at once."""
    assert fitting(lambda micro: 8 + (micro or images), images, room) == expected


def test_automatic_micro_batches_go_by_the_memory_and_change_no_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"batch": "32", "micro_batch": "auto", "steps": "2"}

    def chosen(card: float, **more: str) -> int:
        monkeypatch.setattr(memory, "CARD", card)
        values = {**changes, **more}
        made = rrcm.pretrain(request(tmp_path / "dry", None, values, stage="pretrain", sigma=None, dry_run=True))
        told.append(made["memory"][0]["total"])
        return int(made["settings"]["micro_batch"])

    told: list[int] = []  # bytes of the one process
    assert chosen(1e10) == 0
    # The estimate that is printed is the one that was chosen by.
    assert chosen(told[0] / memory.FILLED) == 0
    assert 1 < chosen((told[0] - 1) / memory.FILLED) < 32
    assert told[2] < told[1] == told[0]
    assert chosen(1e3) == 1
    assert chosen(1e3, objective="moco") == 0  # has no micro-batches
    monkeypatch.setattr(memory, "CARD", 1e10)
    whole = first_gradients(tmp_path / "whole", micro_batch="auto")
    monkeypatch.setattr(memory, "CARD", 1e3)
    single = first_gradients(tmp_path / "single", micro_batch="auto")
    for key, gradient in whole.items():
        assert float((gradient - single[key]).norm()) <= 1e-5 * float(gradient.norm())


def test_a_word_in_place_of_a_number_is_the_only_one(tmp_path: Path) -> None:
    asked = request(tmp_path / "run", None, {"micro_batch": "most"}, stage="pretrain", sigma=None)
    with pytest.raises(UsageError, match="micro_batch must be a whole number or auto, got 'most'"):
        rrcm.pretrain(asked)
