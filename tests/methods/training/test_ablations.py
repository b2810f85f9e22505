"""rRCM's ablations and MoCo v3 with noise: what they compare and refuse, and that they repeat to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from interrupted import whole_and_parts
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from bench.types import TrainRequest
from bench.types.errors import UsageError
from methods.nets.karras_grid import karras_grid
from methods.training import rrcm
from methods.training.levels import MOCO_LEVELS, compared, moco_levels
from methods.training.loop import METRICS
from methods.training.moco import moco_loss
from methods.training.presets import resolve_settings
from methods.training.settings import Pretrain
from methods.training.sharding import Share, use_share

SHORT = {"steps": "3", "batch": "32", "warmup_steps": "1"}


def request(out: Path, **changes: str) -> TrainRequest:
    return TrainRequest(
        method="rrcm", stage="pretrain", dataset="digits", data_root=None, preset="", sigma=None, init=None, out=out,
        overrides={**SHORT, **changes}, device="cpu", seed=0, resume=False, dry_run=False,
    )  # fmt: skip


def settings(**changes: str) -> Pretrain:
    return resolve_settings(Pretrain, request(Path(), **changes))[1]


def test_the_defaults_are_neighbours_on_the_paper_s_grid() -> None:
    grid = karras_grid(41)
    for step in (1, 2):
        noisy, cleaner, clean = compared(settings(scales_last="40"), 0, step)
        assert clean == grid[-1] == pytest.approx(0.002)
        assert grid[grid.index(noisy) + 1] == cleaner


def test_initial_pairs_are_the_same_levels_with_the_cleanest() -> None:
    for step in range(3):
        noisy, cleaner, clean = compared(settings(pairing="initial"), 0, step)
        assert noisy == compared(settings(), 0, step)[0]
        assert cleaner == clean


def test_levels_are_drawn_evenly_from_those_given() -> None:
    chosen, one = settings(pairing="initial", levels="0.5, 1 2"), settings(pairing="initial", levels="2")
    drawn = [compared(chosen, 0, step)[0] for step in range(600)]
    assert set(drawn) == {0.5, 1.0, 2.0}
    # 600 draws at 1/3: seven standard deviations, one false alarm in 10**11
    assert all(abs(drawn.count(level) - 200) < 81 for level in set(drawn))
    assert {compared(one, 0, step)[0] for step in range(5)} == {2.0}


def test_a_grid_from_one_is_the_paper_s_formula_at_t_one() -> None:
    one = karras_grid(3, 1.0)
    assert one == pytest.approx((1.0, ((1 + 0.002 ** (1 / 7)) / 2) ** 7, 0.002))
    chosen = settings(t_max="1")
    assert max(compared(chosen, 0, step)[0] for step in range(50)) <= 1.0


def identity(x: Tensor, t: float) -> Tensor:
    assert t == 0.002
    return x.flatten(1)


def test_moco_is_the_contrast_of_two_views_under_one_noise_in_both_directions() -> None:
    chosen = settings(objective="moco", tau="0.2")
    views = torch.randn(2, 6, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    seen: list[Tensor] = []

    def target(x: Tensor, t: float) -> Tensor:
        seen.append(x)
        return identity(x, t)

    parts = moco_loss(identity, target, views, chosen, seed=0, step=1, first=0)
    b, a = seen  # the views as they were noisy
    assert torch.allclose(a - views[0], b - views[1], atol=1e-12), "one noise for both"
    spread = ((a - views[0]).flatten(1).square().mean(dim=1).sqrt() / moco_levels(a, chosen, 0, 1).flatten()).tolist()
    assert spread == pytest.approx([1.0] * 6, rel=0.9)  # 16 pixels each

    def slow(f: Tensor, g: Tensor) -> float:
        f, g = (z.flatten(1) / z.flatten(1).norm(dim=1, keepdim=True) for z in (f, g))
        total = 0.0
        for j in range(6):
            scores = [float(f[j] @ g[k]) / 0.2 for k in range(6)]
            total += torch.logsumexp(torch.tensor(scores, dtype=torch.float64), 0).item() - scores[j]
        return total / 6

    assert float(parts["loss"]) == pytest.approx(slow(a, b) + slow(b, a), rel=1e-12)


def test_moco_s_levels_are_uniform_over_the_four_and_go_by_share() -> None:
    like = torch.zeros(4000, 1, 1, 1)
    drawn = moco_levels(like, settings(objective="moco"), 0, 0).flatten()
    # 4 000 draws at 1/4: eight standard deviations
    assert all(abs(int((drawn == level).sum()) - 1000) < 220 for level in torch.tensor(MOCO_LEVELS))
    assert MOCO_LEVELS == (0.002, 0.5, 1.0, 2.0)
    assert set(moco_levels(like, settings(objective="moco", levels="1"), 0, 0).flatten().tolist()) == {1.0}
    parts = []
    for index in range(2):
        share = Share(index, 2)
        with use_share(share):
            parts.append((share.slots(4000), moco_levels(like[:2000], settings(objective="moco"), 0, 0).flatten()))
    for slots, part in parts:
        assert torch.equal(drawn[slots], part)


ABLATIONS: dict[str, dict[str, str]] = {
    "t_max": {"t_max": "1"},
    "pairing": {"pairing": "initial", "levels": "0.5 1 2"},
    "ema": {"consistency_ema": "0.9"},
    "moco": {"objective": "moco"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_trains_repeats_and_resumes_to_the_last_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, **ABLATIONS[name])
    whole, parts = whole_and_parts(rrcm.pretrain, asked, tmp_path, monkeypatch)
    assert parts["sha256"] == whole["sha256"]
    plain = rrcm.pretrain(request(tmp_path / "plain"))
    assert plain["sha256"] != whole["sha256"]


def test_the_consistency_target_begins_as_the_network_and_follows_it_slowly(tmp_path: Path) -> None:
    told: dict[str, list[dict[str, Any]]] = {}
    for rate in ("0", "0.99"):
        out = tmp_path / rate
        rrcm.pretrain(request(out, consistency_ema=rate, steps="1", lr="0"))
        told[rate] = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    assert told["0"][0]["consistency"] == told["0.99"][0]["consistency"]


def test_moco_s_encoder_is_fine_tuned_as_rrcm_s(tmp_path: Path) -> None:
    report = rrcm.pretrain(request(tmp_path / "moco", objective="moco"))
    with safe_open(report["weights"], "pt") as opened:
        assert opened.metadata()["objective"] == "moco"
    asked = TrainRequest(
        method="rrcm", stage="finetune", dataset="digits", data_root=None, preset="", sigma=0.25,
        init=Path(report["weights"]), out=tmp_path / "tuned", overrides={"steps": "2", "batch": "32", "lr": "0"},
        device="cpu", seed=0, resume=False, dry_run=False,
    )  # fmt: skip
    tuned = rrcm.finetune(asked)
    assert tuned["steps"] == 2
    tensors, before = load_file(tuned["weights"]), load_file(report["weights"])
    assert torch.equal(tensors["base_model.blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])


REFUSED = [
    ({"levels": "0.5"}, "give --set pairing=initial too"),
    ({"levels": "half", "pairing": "initial"}, "levels must be numbers from 0.002 to 80"),
    ({"levels": "0 1", "pairing": "initial"}, "got '0 1'"),
    ({"levels": "2", "pairing": "initial", "t_max": "1"}, "levels must be at most t_max=1, got 2"),
    ({"t_max": "0.001"}, "t_max must be above 0.002"),
    ({"t_max": "90"}, "at most 80, got 90.0"),
    ({"consistency_ema": "1"}, "a rate below 1"),
    ({"tau": "0"}, "tau must be positive"),
    ({"objective": "moco", "pairing": "initial"}, "leave pairing out"),
    ({"objective": "moco", "t_max": "1"}, "leave t_max out"),
    ({"objective": "moco", "contrastive": "one_sided"}, "leave contrastive out"),
    ({"objective": "byol"}, "one of rrcm, moco, got 'byol'"),
    ({"pairing": "far"}, "one of adjacent, initial, got 'far'"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_an_ablation_that_contradicts_itself_is_refused(changes: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        rrcm.pretrain(request(tmp_path / "run", **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
