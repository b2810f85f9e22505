"""Linear layers in 8-bit floating point: half the bytes and twice the peak of bf16, where a device has it.

Numbers are e4m3; each token has a scale of its own, so that no copy's answer depends on the others of its batch, and
each output channel too. A scale for a whole tensor, as is usual, would make a vote depend on its company.
Source: Micikevicius et al. 2022, Section 3 (e4m3); scales by row, as torch's scaled product takes them.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from bench.errors import DeviceError, MethodError

LARGEST = 448.0  # of e4m3
TINY = 1e-12  # a scale of zeros
WIDE = 128  # inputs; narrower layers are not worth the rounding
STEP = 16  # both sides of a weight are multiples of it
CLOSE = 0.01  # relative, of the product that a device makes and the same numbers in float32


class Float8Linear(nn.Module):
    """A linear layer whose product is of 8-bit numbers; its result is bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        values, scale = rounded(linear.weight.detach().float())
        self.register_buffer("values", values)  # (out, in)
        self.register_buffer("scale", scale.T.contiguous())  # (1, out)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., in) -> (..., out)."""
        return self.rows(x, 0, self.out_features)

    def rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """The outputs `first` to `last` alone.

        Shapes: (..., in) -> (..., last - first).
        """
        tokens, scale = rounded(x.reshape(-1, self.in_features).float())
        bias = None if self.bias is None else self.bias[first:last]
        y = _product(tokens, self.values[first:last], scale, self.scale[:, first:last].contiguous(), bias)
        return y.reshape(*x.shape[:-1], last - first)


def to_float8(network: nn.Module, device: str) -> None:
    """Replace the wide linear layers of a network, in place; those that are replaced already stay.

    Raises: DeviceError where the device has no such product, MethodError where the network has no such layer.
    """
    wide = [
        (name, module)
        for name, module in network.named_modules()
        if type(module) is nn.Linear
        and module.in_features >= WIDE
        and module.in_features % STEP == module.out_features % STEP == 0
    ]
    if not wide and not any(isinstance(module, Float8Linear) for module in network.modules()):
        raise MethodError(
            "precision fp8 is for wide linear layers, as transformers have them, and this network has none; use bf16"
        )
    if reason := lacking(device):
        raise DeviceError(f"precision fp8: {reason}; use bf16, or a GPU of compute capability 8.9 or newer")
    for name, linear in wide:
        network.set_submodule(name, Float8Linear(linear).train(linear.training))


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a float32 matrix as e4m3 numbers (R, C), and the scales (R, 1) float32 that give them back."""
    scale = x.abs().amax(dim=1, keepdim=True).clamp_min(TINY) / LARGEST
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


@cache
def lacking(device: str) -> str:
    """Why a device cannot do it; empty where it can. Tried once in a process."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(64, 64, generator=generator).to(device) for _ in range(2))
    with torch.inference_mode():
        (a, scale_a), (b, scale_b) = rounded(x), rounded(weight)
        try:
            found = _product(a, b, scale_a, scale_b.T.contiguous(), None).float()
        except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
            return (str(error).splitlines() or ["no such product"])[0]
        expected = (a.float() * scale_a) @ (b.float() * scale_b).T
        off = float((found - expected).abs().max() / expected.abs().max())
    return "" if off <= CLOSE else f"its product is {off:.2g} off"


def _product(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch._scaled_mm(a, b.T, scale_a=scale_a, scale_b=scale_b, bias=bias, out_dtype=torch.bfloat16)
    return y
