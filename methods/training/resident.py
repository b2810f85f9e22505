"""Small colour images that are held on the device whole, and their batches, made for many steps at a time.

What a step then costs the processor is a share of one pass over some thousand pictures: no picture is decoded, drawn
for or sent on its own, and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from methods.training.block_draws import draw_views
from methods.training.device_views import make_even_views
from methods.training.views import recipe

if TYPE_CHECKING:
    from methods.training.loader import BatchLoader

PICTURES = 4096  # whose views are made together, as far as whole batches go
STEPS = 64  # and never of more steps
PART = 5000  # images that are sent together


def block_steps(batch: int) -> int:
    """Steps whose batches are made together; a block begins at a multiple of them, wherever a run goes on."""
    return max(1, min(STEPS, PICTURES // batch))


def resident_batches(loader: BatchLoader, step: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Views and labels of the whole batch of each step from one on, as the loader's workers and device make them."""
    dataset: Any = loader.dataset
    pictures, labels = _resident(dataset, loader.count, loader.device)
    H, W = pictures.shape[2:]
    made, batch = recipe(loader.augment, H), loader.batch
    assert made is not None  # noqa: S101 - the loader asks for those augmentations alone
    length = block_steps(batch)
    while True:
        steps = range(step // length * length, (step // length + 1) * length)
        draws = torch.from_numpy(draw_views(loader.augment, H, (H, W), loader.seed, steps, batch))
        chosen = torch.cat([loader.indices(each, loader.device) for each in steps])
        views = [unit(view) for view in make_even_views(pictures[chosen], draws, H, bicubic=made.bicubic)]
        classes = labels[chosen]
        for each in range(step - steps.start, length):
            part = slice(each * batch, (each + 1) * batch)
            yield tuple(view[part] for view in views), classes[part]
        step = steps.stop


@lru_cache(maxsize=1)
def _resident(dataset: Any, count: int, device: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) uint8 and labels (N,) on the device."""
    pictures, labels = [], []
    for first in range(0, count, PART):
        pixels, classes = dataset.block(first, min(PART, count - first))
        # Rounded there: bytes over 255 are whole again.
        pictures.append(torch.from_numpy(pixels).to(device).mul_(255).round_().to(torch.uint8))
        labels.append(torch.from_numpy(classes).to(device))
    return torch.cat(pictures), torch.cat(labels)


def unit(view: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; other pixels as they are."""
    if view.dtype != torch.uint8:
        return view
    # By a tensor: CUDA multiplies by the inverse of a number, which is another pixel in the last bit.
    return view.float() / torch.full((), 255.0, device=view.device)
