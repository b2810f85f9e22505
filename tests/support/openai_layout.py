"""Tensor names and shapes of OpenAI's diffusion UNets, counted out block by block, to test the converters on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def openai_layout(
    *, width: int, mult: tuple[float, ...], layers: int, attention: tuple[int, ...], updown: bool, out: int = 6
) -> Shapes:
    """`attention` is at those downsampling factors; `updown` resamples in residual blocks."""
    shapes: Shapes = {}
    emb = 4 * width

    def affine(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def residual(name: str, before: int, after: int) -> None:
        affine(f"{name}.in_layers.0", before)
        affine(f"{name}.in_layers.2", after, before, 3, 3)
        affine(f"{name}.emb_layers.1", 2 * after, emb)
        affine(f"{name}.out_layers.0", after)
        affine(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            affine(f"{name}.skip_connection", after, before, 1, 1)

    def attend(name: str, channels: int) -> None:
        affine(f"{name}.norm", channels)
        affine(f"{name}.qkv", 3 * channels, channels, 1)
        affine(f"{name}.proj_out", channels, channels, 1)

    affine("time_embed.0", emb, width)
    affine("time_embed.2", emb, emb)
    now = int(mult[0] * width)
    affine("input_blocks.0.0", now, 3, 3, 3)
    skips, k = [now], 0
    for level, factor in enumerate(mult):
        for _ in range(layers):
            k += 1
            residual(f"input_blocks.{k}.0", now, int(factor * width))
            now = int(factor * width)
            if 2**level in attention:
                attend(f"input_blocks.{k}.1", now)
            skips.append(now)
        if level < len(mult) - 1:
            k += 1
            if updown:
                residual(f"input_blocks.{k}.0", now, now)
            else:
                affine(f"input_blocks.{k}.0.op", now, now, 3, 3)
            skips.append(now)
    residual("middle_block.0", now, now)
    attend("middle_block.1", now)
    residual("middle_block.2", now, now)
    k = -1
    for level, factor in reversed(list(enumerate(mult))):
        for j in range(layers + 1):
            k += 1
            residual(f"output_blocks.{k}.0", now + skips.pop(), int(factor * width))
            now, part = int(factor * width), 1
            if 2**level in attention:
                attend(f"output_blocks.{k}.1", now)
                part = 2
            if level and j == layers:
                if updown:
                    residual(f"output_blocks.{k}.{part}", now, now)
                else:
                    affine(f"output_blocks.{k}.{part}.conv", now, now, 3, 3)
    affine("out.0", now)
    affine("out.2", out, now, 3, 3)
    return shapes


ADM_256 = openai_layout(width=256, mult=(1, 1, 2, 2, 4, 4), layers=2, attention=(8, 16, 32), updown=True)
CIFAR10_50M = openai_layout(width=128, mult=(1, 2, 2, 2), layers=3, attention=(2, 4), updown=False)
GUIDED_SMALL = openai_layout(width=64, mult=(1, 2, 2), layers=1, attention=(2, 4), updown=True)
IMPROVED_SMALL = openai_layout(width=64, mult=(1, 2, 2), layers=2, attention=(2, 4), updown=False)


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Weights by the rule of the golden numbers: element i of the j-th tensor by name is s * sin(0.7 i + 0.3 j)."""
    state = {}
    for j, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        scale = 0.7 / math.sqrt(math.prod(shape[1:])) if len(shape) >= 2 else 0.05
        w = scale * torch.sin(0.7 * torch.arange(math.prod(shape), dtype=torch.float64) + 0.3 * j)
        if len(shape) == 1 and name.endswith("weight"):
            w = 1 + w
        state[name] = w.reshape(shape).float()
    return state


def hollow(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of those shapes that hold one number each, and cost as much in a file of torch's."""
    return {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
