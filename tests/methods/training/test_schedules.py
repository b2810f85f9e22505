"""The schedules, against the published runs' numbers and their own formulas at the ends."""

from __future__ import annotations

import pytest
import torch

from methods.nets.vit import TimeTokenClassifier, TimeTokenViT
from methods.training import schedules
from methods.training.rrcm import layer_groups
from methods.training.schedules import ema_rate, num_scales, step_decay, warmup_cosine

# (step, total) -> points of the grid, as the authors' schedule gives them
AS_CODED = {
    300_000: {0: 21, 1: 41, 129_203: 41, 129_204: 81, 258_406: 81, 300_000: 81},
    600_000: {0: 21, 1: 41, 129_204: 41, 258_406: 41, 258_407: 81, 600_000: 81},
}
EMA = {
    5: {0: 0.99, 0.01: 0.9902486726834838, 0.25: 0.9955065426173506, 1: 0.9997674815516991},
    10: {0: 0.99, 0.05: 0.9924357370563678, 0.5: 0.9997691087447345, 1: 0.9998991011221997},
    15: {0: 0.99, 0.1: 0.9963078454654042, 0.75: 0.9998997460285354, 1: 0.9998999939431359},
}


@pytest.mark.parametrize("total", AS_CODED)
def test_the_number_of_scales_is_that_of_the_published_runs(total: int) -> None:
    assert {step: num_scales(step, total) for step in AS_CODED[total]} == AS_CODED[total]


def test_the_ict_schedule_gives_three_equal_shares() -> None:
    points = [num_scales(step, 3000, form="ict") for step in range(3000)]
    assert [points.count(n) for n in (21, 41, 81)] == [1000, 1000, 1000]
    assert points == sorted(points)


@pytest.mark.parametrize("m", EMA)
def test_the_ema_rate_is_that_of_the_published_runs(m: int) -> None:
    for share, expected in EMA[m].items():
        assert ema_rate(round(share * 100_000), 100_000, m=m) == pytest.approx(expected, rel=1e-12)


def test_the_ema_rate_stays_between_its_ends() -> None:
    rates = [ema_rate(step, 100) for step in range(150)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.99)
    assert rates[-1] < 0.9999


def test_the_learning_rate_warms_up_and_ends_at_nothing() -> None:
    factors = [warmup_cosine(epoch, warmup=5, total=150) for epoch in range(151)]
    assert factors[:6] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert warmup_cosine(77.5, warmup=5, total=150) == pytest.approx(0.5)
    assert factors[150] == pytest.approx(0.0, abs=1e-12)


def test_the_cosine_is_torch_s_own() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 40)
    for step in range(40):
        assert warmup_cosine(step, warmup=0, total=40) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        scheduler.step()


def test_the_step_decay_drops_at_each_multiple() -> None:
    factors = [step_decay(epoch, every=30) for epoch in (0, 29, 30, 59, 60, 89)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(("warmup", "total"), [(5, 150), (10, 100), (300, 3200)])
def test_the_cosine_is_timm_s_to_its_last_bits(warmup: int, total: int) -> None:
    from timm.scheduler import CosineLRScheduler

    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = CosineLRScheduler(optimiser, total - warmup, warmup_t=warmup, warmup_prefix=True)
    for epoch in range(total + 1):
        scheduler.step(epoch)
        ours = warmup_cosine(epoch, warmup=warmup, total=total)
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-15)


def test_the_lowest_layer_learns_at_the_decay_to_the_thirteenth() -> None:
    with torch.device("meta"):
        vit = TimeTokenViT(
            image_size=8, patch_size=4, in_channels=1, embed_dim=4, depth=12, num_heads=2, hidden_dim=4, output_dim=4
        )
        model = TimeTokenClassifier(vit, num_classes=3, final_norm=True)
    model.base_model.patch_embed.requires_grad_(False)
    groups = layer_groups(model, 0.65, 0.01)
    names = {id(p): name for name, p in model.named_parameters()}
    scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert list(scales) == [name for name in names.values() if "patch_embed" not in name], "the order of a checkpoint"
    assert {group["weight_decay"] for group in groups} == {0.01}
    expected = {
        "base_model.pos_embed": 0.65**13,
        "base_model.cls_token": 0.65**13,
        "base_model.blocks.0.norm1.weight": 0.65**12,
        "base_model.blocks.11.mlp.fc2.bias": 0.65,
        "base_model.norm.weight": 1.0,
        "linear_head.weight": 1.0,
    }
    assert {name: scales[name] for name in expected} == expected
    assert [group.keys() for group in layer_groups(model, 1.0, 0.01)] == [{"params"}]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'linear'"):
        schedules.num_scales(0, 10, form="linear")
