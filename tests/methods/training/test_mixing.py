"""CutMix's boxes and shares are timm's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from methods.training.augment import mix
from methods.training.rng import generator

MEAN, ABOVE_HALF = 0.324, 0.18  # of the pasted share, by timm: uniform share, uniform centre, what is outside cut off


def pasted(seed: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Where the other image is, (H, W)."""
    x = torch.stack([torch.zeros(1, height, width), torch.ones(1, height, width)])
    mixed, p = mix(x, torch.tensor([0, 1]), generator("cpu", seed), num_classes=2, mixup=0.0, cutmix=1.0)
    assert float(p[0, 1]) == pytest.approx(float(mixed[0].mean()), abs=1e-6)
    return mixed[0, 0]


def test_the_pasted_share_is_distributed_as_timms() -> None:
    shares = np.array([float(pasted(seed).mean()) for seed in range(4000)])
    # The standard error of the mean is 0.004; the seeds are fixed.
    assert shares.mean() == pytest.approx(MEAN, abs=0.02)
    assert (shares > 0.5).mean() == pytest.approx(ABOVE_HALF, abs=0.03)


def test_boxes_are_timms_for_the_same_centre_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.data.mixup import rand_bbox

    for seed in range(200):
        _, a, b, row, column = torch.rand(5, generator=generator("cpu", seed)).tolist()
        if a + b > 1:
            continue  # the share takes another draw
        share, height, width = a / (a + b), 33, 20
        centres = iter([int(row * height), int(column * width)])
        monkeypatch.setattr(np.random, "randint", lambda *_words, own=centres, **_more: next(own))
        top, bottom, left, right = rand_bbox((2, 1, height, width), share)
        expected = torch.zeros(height, width)
        expected[top:bottom, left:right] = 1
        assert torch.equal(pasted(seed, height, width), expected), math.sqrt(1 - share)
