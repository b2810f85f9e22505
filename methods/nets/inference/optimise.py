"""Optimisations of a trained network that leave its function as it was, up to rounding."""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from methods.nets.blocks import ExactLinear
from methods.nets.inference.attention import choose_attention
from methods.nets.inference.onednn import fuse_blocks
from methods.nets.inference.probe import fastest

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # what autocast computes in
GAIN = 1.5  # a product of its own must be faster than torch's by this: a busy machine must not decide
CLOSE = 1e-5  # relative, of the two products
WIDE = 128  # linear layers of fewer inputs are not worth a kernel of their own


def optimise_for_inference(network: nn.Module, device: str, precision: str) -> None:
    """Fold batch norms, cast weights, lay out convolutions as they are read, choose faster kernels; in place.

    A network on "meta" has no numbers to fold and stays as it is: what it costs is counted as its authors wrote it.
    """
    if device == "meta":
        return
    fold(network)
    if precision in HALVES:
        keep_logits(network)
        if fused_kernels(device):
            fuse(network, HALVES[precision])
        cast_weights(network, HALVES[precision])
    if _convolutional(network) and channels_last(device, precision):
        network.to(memory_format=torch.channels_last)
    if device == "cpu":
        fuse_blocks(network, HALVES.get(precision, torch.float32))
        choose_linear_kernel(network)
    else:
        choose_attention(network, device, HALVES.get(precision, torch.float32))


def keep_logits(network: nn.Module) -> None:
    """Let the linear layers that make the logits compute in float32, in place: they are small, and logits would tie.

    Their exact class: one that is derived may compute otherwise.
    """
    for name in _heads(network):
        linear = network.get_submodule(name)
        if type(linear) is nn.Linear:
            kept = ExactLinear(linear.in_features, linear.out_features, device="meta").train(linear.training)
            kept.weight, kept.bias = linear.weight, linear.bias
            network.set_submodule(name, kept)


def _heads(network: nn.Module) -> list[str]:
    """Names of a classifier's last layers: as timm says of its networks, else the last linear layer that it holds.

    None of what is one linear layer itself, and has no parent that could hold another.
    """
    modules, told = dict(network.named_modules()), []
    for name, module in modules.items():
        said = getattr(module, "pretrained_cfg", None)
        heads = said.get("classifier") if isinstance(said, dict) else None
        names = [heads] if isinstance(heads, str) else heads or ()  # several of distilled networks
        told += [f"{name}.{head}".removeprefix(".") for head in names]
    if told:
        return [name for name in told if name in modules]
    return [name for name, module in modules.items() if name and isinstance(module, nn.Linear)][-1:]


def optimise_denoiser(network: nn.Module, device: str, precision: str) -> None:
    """Cast a denoiser's weights to the type they are read in, and lay it out for a GPU's tensor cores; in place.

    On a CPU it keeps the layout it was built with, which was measured for each.
    """
    if device == "meta" or precision not in HALVES:
        return
    cast_weights(network, HALVES[precision])
    if device != "cpu":
        network.to(memory_format=torch.channels_last)
        if isinstance(network, Fusible) and fused_kernels(device):
            network.fuse(HALVES[precision])


def fuse(network: nn.Module, dtype: torch.dtype) -> bool:
    """Let a network run by fused kernels where its form is known to them, in place; whether it is.

    Weights of a residual network are rounded here, from what they are; biases stay float32.
    """
    from methods.nets.inference.fused.resnet import fuse_resnet
    from methods.nets.inference.fused.vit import fuse_vit

    return fuse_vit(network, dtype) or fuse_resnet(network, dtype)


@cache
def fused_kernels(device: str) -> bool:
    """Whether the kernels of `fused` run on a device and are right there; tried once in a process."""
    if not device.startswith("cuda") or find_spec("triton") is None:
        return False
    from methods.nets.inference.fused.probe import works

    return works(device)


@runtime_checkable
class Fusible(Protocol):
    """A denoiser that has a fused form of its own."""

    def fuse(self, dtype: torch.dtype) -> bool:
        """Take it on; whether it could."""


def cast_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of linear layers and convolutions once, as autocast does at every pass: the same numbers.

    The network then runs under autocast of that type only. Exact classes: one that is derived may compute otherwise.
    """
    for module in network.modules():
        if type(module) in (nn.Linear, nn.Conv2d):
            module.to(dtype)


def channels_last(device: str, precision: str) -> bool:
    """Whether convolutions read channels fastest last: on a CPU always, on a GPU where tensor cores do the work."""
    return device == "cpu" or precision != "fp32"


def fold(network: nn.Module) -> int:
    """Merge each batch norm, in eval mode, into the convolution that alone feeds it; how many were.

    Exact up to the rounding of the weights: products are formed in float64. A network that cannot be traced, because
    its way depends on its input, is left alone.
    Source: Jacob et al. 2018, Section 3.2, without the quantisation.
    """
    if not any(_plain(module) for module in network.modules()):
        return 0
    try:
        graph = fx.Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
        return 0
    modules = dict(network.named_modules())
    called = [node for node in graph.nodes if node.op == "call_module"]
    times: dict[int, int] = {}
    for node in called:
        times[id(modules[node.target])] = times.get(id(modules[node.target]), 0) + 1
    folded = 0
    for node in called:
        norm, source = modules[node.target], node.args[0]
        if not _plain(norm) or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        conv = modules[str(source.target)]
        once = times[id(conv)] == times[id(norm)] == 1 and len(source.users) == 1
        # Its exact class: one that is derived from it may do more than convolve.
        if type(conv) is not nn.Conv2d or not once:
            continue
        _merge(conv, norm)
        network.set_submodule(node.target, nn.Identity().eval())
        folded += 1
    return folded


def choose_linear_kernel(network: nn.Module) -> None:
    """Let wide linear layers use oneDNN's product where torch's own is far slower, as on CPUs that are not Intel's."""
    wide = [(name, m) for name, m in network.named_modules() if type(m) is nn.Linear and m.in_features >= WIDE]
    if not wide or not faster_product():
        return
    for name, linear in wide:
        network.set_submodule(name, DirectLinear(linear).train(linear.training))


class DirectLinear(nn.Module):
    """A linear layer by oneDNN's own product; torch's in any other arithmetic than float32, or with gradients."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., in) -> (..., out)."""
        if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        return _product(x, self.weight, self.bias)


@cache
def faster_product() -> bool:
    """Whether oneDNN's float32 product is there, right, and much faster than the one that torch chooses by itself.

    The operator is torch's private one: tried, compared and timed once in a process, in about 50 ms.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(512, 512, generator=generator) for _ in range(2))
    with torch.inference_mode():
        expected = F.linear(x, weight)
        try:
            found = _product(x, weight, None)
        except (RuntimeError, TypeError, NotImplementedError):
            return False
        if not bool((found - expected).abs().max() <= CLOSE * expected.abs().max()):
            return False
        ours, own = partial(_product, x, weight, None), partial(F.linear, x, weight)
        return GAIN * fastest(ours, "cpu") < fastest(own, "cpu")


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _plain(module: nn.Module) -> bool:
    return type(module) is nn.BatchNorm2d and not module.training and module.running_var is not None


def _merge(conv: nn.Conv2d, norm: Any) -> None:
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale = (var + norm.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if norm.affine:
        scale, shift = scale * norm.weight.double(), norm.bias.double()
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.double()
    weight = conv.weight.double() * scale.reshape(-1, 1, 1, 1)
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter((shift + (bias - mean) * scale).to(dtype), requires_grad=False)


def _convolutional(network: nn.Module) -> bool:
    """Whether it is made of convolutions, and not of products behind a first one that cuts patches."""
    wide = sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in network.modules())
    return wide > 1
