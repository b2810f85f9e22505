"""The fused kernels beside torch's own operations, on small tensors: whether they run on a device, and are right."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor, nn

from bench.types.errors import first_line
from methods.nets.inference.fused import groups, maps, reference, tokens

CLOSE = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}  # relative to the largest value: two roundings of it
SIDES = (6, 34)  # of the maps that are normalised: one chunk of pixels, and two, the second of which is not full
# Copies, kernel, stride, channels in and out, height, width: maps smaller than the kernel, and programs of which the
# last has few pixels, or one holds all.
CONVOLUTIONS = (
    (3, 3, 1, 16, 32, 7, 6),
    (3, 3, 2, 32, 16, 7, 6),
    (3, 1, 2, 64, 64, 7, 6),
    (9, 3, 2, 16, 16, 8, 8),
    (33, 3, 2, 32, 64, 2, 2),
    (33, 1, 2, 32, 64, 2, 2),
    (129, 3, 1, 64, 64, 1, 1),
)


def works(device: str) -> bool:
    """Whether all of them compile for the device and are right; says why not.

    triton needs a C compiler at first use, and not every device is one of its own.
    """
    try:
        off = {name: error for name, error in errors(device, torch.bfloat16).items() if error > CLOSE[torch.bfloat16]}
    except (RuntimeError, OSError, ImportError, triton.TritonError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
    else:
        if not off:
            return True
        reason = ", ".join(f"{name} is {error:.2g} off" for name, error in off.items())
    logging.getLogger(__name__).warning("! fused kernels are not used on %s, passes are slower: %s", device, reason)
    return False


def errors(device: str, dtype: torch.dtype, sides: tuple[int, ...] = SIDES) -> dict[str, float]:
    """How far each kernel is off its reference, as a share of the largest value."""
    drawn = partial(_drawn, torch.Generator().manual_seed(0), device)
    with torch.inference_mode():
        pairs = (*_tokens(drawn, dtype), *_maps(drawn, dtype), *_groups(drawn, dtype, sides))
        found = {}
        for name, made, expected in pairs:
            off = float((made.float() - expected.float()).abs().max() / expected.float().abs().max())
            found[name] = off if off == off else float("inf")
    return found


Pairs = Iterator[tuple[str, Tensor, Tensor]]


def _drawn(generator: torch.Generator, device: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Normals; of a half precision, as a map whose channels lie fastest last where there are four dimensions."""
    made = torch.randn(*shape, generator=generator).to(device)
    if dtype is None:
        return made
    return made.to(dtype).contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.contiguous_format)


def _tokens(drawn: partial[Tensor], dtype: torch.dtype) -> Pairs:
    x, shift, scale = drawn(2, 3, 8, 8), drawn(1, 3, 1, 1), drawn(1, 3, 1, 1).abs() + 1
    one = drawn(1)
    cuts: tuple[tuple[str, Tensor, Tensor, dict[str, Any]], ...] = (
        ("patches", shift, scale, {"side": 4, "gain": 1.5}),
        ("framed patches", shift, scale, {"side": 2, "before": 4, "after": 3, "width": 16}),
        ("plain patches", one, one, {"side": 1, "width": 16}),
        ("split patches", shift, scale, {"side": 1, "width": 16, "split": True}),
    )
    for name, off, by, words in cuts:
        made, expected = (way.patches(x, off, by, dtype, **words) for way in (tokens, reference))
        yield name, made, expected
    yield "what is left of split patches", made[..., 3:6], expected[..., 3:6]
    norm = nn.LayerNorm(96, device=x.device).requires_grad_(False)
    norm.weight.copy_(drawn(96))
    norm.bias.copy_(drawn(96))
    stream, branch = drawn(2, 5, 96), drawn(2, 5, 96, dtype=dtype)
    expected_stream = stream.clone()
    for added in (branch, None):
        y = tokens.add_norm(stream, added, norm, dtype)
        yield f"norm {added is not None}", y, reference.add_norm(expected_stream, added, norm, dtype)
    yield "stream", stream, expected_stream
    table, patched = drawn(7, 96), drawn(2, 5, 96, dtype=dtype)
    made, expected = (way.assemble_norm(table, patched, norm, dtype) for way in (tokens, reference))
    yield "tokens", made[0], expected[0]
    yield "tokens norm", made[1], expected[1]
    x = drawn(3, 1000, dtype=dtype) * 4
    yield "gelu", tokens.gelu_(x.clone()), reference.gelu_(x)


def _maps(drawn: partial[Tensor], dtype: torch.dtype) -> Pairs:
    y, other, bias = drawn(2, 48, 5, 6, dtype=dtype), drawn(2, 48, 5, 6, dtype=dtype), drawn(48)
    for relu, added in ((True, other), (False, None)):
        made, expected = (way.finish(y.clone(), bias, added, relu=relu) for way in (maps, reference))
        yield f"finish {relu}", made, expected
    y, bias = drawn(2, 64, 7, 8, dtype=dtype), drawn(64)
    yield "pool", maps.finish_pool(y, bias), reference.finish_pool(y, bias)
    for B, kernel, stride, C, outputs, H, W in CONVOLUTIONS:
        x, bias = drawn(B, C, H, W, dtype=dtype), drawn(outputs)
        weight = drawn(kernel * kernel, C, outputs, dtype=dtype) / 10
        other = drawn(B, outputs, (H - 1) // stride + 1, (W - 1) // stride + 1, dtype=dtype)
        for added in (other, None):
            words = {"kernel": kernel, "stride": stride, "relu": added is None}
            made, expected = (way.convolve(x, weight, bias, added, **words) for way in (maps, reference))
            yield f"convolution {kernel} {stride} of {H}x{W} {added is not None}", made, expected
    if x.is_cuda:
        x, other, bias = drawn(2, 64, 7, 6, dtype=dtype), drawn(2, 64, 4, 3, dtype=dtype), drawn(64, dtype=dtype)
        weight = drawn(64, 64, 3, 3, dtype=dtype) / 10
        try:
            made = [maps.whole(x, weight, bias, added, 2, 1) for added in (other, None)]
        except RuntimeError:  # and where it is needed, something else is used
            return
        yield "whole, added", made[0], reference.whole(x, weight, bias, other, 2, 1)
        yield "whole", made[1], reference.whole(x, weight, bias, None, 2, 1)


def _groups(drawn: partial[Tensor], dtype: torch.dtype, sides: tuple[int, ...]) -> Pairs:
    norm = nn.GroupNorm(4, 96, device=drawn(1).device).requires_grad_(False)
    norm.weight.copy_(drawn(96))
    norm.bias.copy_(drawn(96))
    for side in sides:
        x = drawn(2, 96, side, side, dtype=dtype) + 3
        before, film = drawn(2, 96), drawn(1, 192, dtype=dtype)
        norms: tuple[tuple[str, dict[str, Any]], ...] = (
            ("group norm", {"silu": False}),
            ("moved", {"silu": True, "before": before}),
            ("filmed", {"silu": True, "before": before[0], "film": film}),
        )
        for name, words in norms:
            yield f"{name} {side}", groups.group_norm(x, norm, **words), reference.group_norm(x, norm, **words)
    for resample in ("double", "halve"):
        made, expected = (way.group_norm(x, norm, silu=True, resample=resample) for way in (groups, reference))
        yield f"norm, {resample}", made, expected
    yield "double", groups.doubled(x), reference.doubled(x)
    yield "halve", groups.halved(x), reference.halved(x)
