"""Batches of a loader compared to the bit."""

from __future__ import annotations

import torch

from methods.training.loader import Batch


def same(left: list[Batch], right: list[Batch]) -> bool:
    return all(
        torch.equal(a.labels, b.labels) and all(map(torch.equal, a.views, b.views))
        for a, b in zip(left, right, strict=True)
    )
