"""Fused passes are the same function: their kernels to rounding, and the networks around them to that of float32."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from methods.training.rng import seeded_globals

pytest.importorskip("triton", reason="no triton here")

from methods.diffusion import fused as fused_unet
from methods.diffusion.architectures import UNETS
from methods.diffusion.schedules import schedule
from methods.diffusion.unets import UNet
from methods.nets.architectures import build_network
from methods.nets.inference import optimise
from methods.nets.inference.fused import reference, resnet, vit
from methods.nets.inference.fused.probe import CLOSE, errors
from methods.nets.inference.fused.resnet import FusedResNet, fuse_resnet
from methods.nets.inference.fused.vit import FusedTimeTokenViT, fuse_vit
from methods.nets.inference.optimise import cast_weights, fold, optimise_for_inference
from methods.nets.normalisers import Normaliser
from methods.nets.vit import AtNoiseLevel, TimeTokenClassifier, time_token_vit

RESNETS = {
    "digits_resnet": ((1, 8, 8), "mean_std", "digits"),
    "cifar_small_resnet": ((3, 32, 32), "none", "cifar10"),
    "cifar_resnet8": ((3, 32, 32), "mean", "cifar10"),
    "akamaster_resnet8": ((3, 32, 32), "mean_std_imagenet", "cifar10"),
    "resnet50": ((3, 32, 31), "mean_std", "imagenet"),
}
CHANNELS = {"norm_num_groups": 8, "block_out_channels": (16, 32), "sample_size": 8, "in_channels": 3, "out_channels": 6}
CONFIGS = {
    "published": {
        **UNETS["adm_256"].config,
        **CHANNELS,
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "attn_norm_num_groups": 8,
    },
    "small": {
        **UNETS["cifar10_small_unet"].config,
        **CHANNELS,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
    },
}


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' references in their place: they are compared with those elsewhere, and need no GPU."""
    for module in (vit, resnet, fused_unet):
        for name in vars(reference).keys() & vars(module).keys():
            if callable(getattr(module, name)) and getattr(module, name).__module__.startswith(
                "methods.nets.inference.fused."
            ):
                monkeypatch.setattr(module, name, getattr(reference, name))


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """With parameters and statistics as training leaves them: nothing that is forgotten would go unseen."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 5)
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def residual(arch: str) -> tuple[nn.Module, Tensor]:
    shape, kind, dataset = RESNETS[arch]
    network = stirred(build_network(arch, num_classes=10, shape=shape))
    return nn.Sequential(Normaliser(kind, dataset, channels=shape[0]), network).eval(), drawn(3, *shape)


def time_token() -> tuple[nn.Module, Tensor]:
    encoder = time_token_vit("tiny", image_size=8, in_channels=1, projector=False)
    return AtNoiseLevel(stirred(TimeTokenClassifier(encoder, num_classes=10, final_norm=True)), 1.5).eval(), drawn(
        3, 1, 8, 8
    )


def unet(name: str) -> tuple[UNet, Tensor]:
    network = UNet(CONFIGS[name], schedule=schedule("linear-1000"), learned_sigma=True)
    return stirred(network).to(memory_format=torch.channels_last), drawn(2, 3, 16, 16)


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())


INTERPRETED = """
import numpy, torch
from triton.runtime import interpreter
spans = []
def bounded(made, mask_at):
    def access(builder, pointers, *rest):
        read = numpy.asarray(pointers.data).astype(numpy.uint64)[numpy.asarray(rest[mask_at].data).astype(bool)]
        assert sum((low <= read) & (read < high) for low, high in spans).all()
        return made(builder, pointers, *rest)
    return access
def arguments(executor, args, kwargs, made=interpreter.GridExecutor._init_args_hst):
    there = made(executor, args, kwargs)
    tensors = [t for t in there[0] if isinstance(t, torch.Tensor)]
    assert tensors
    ends = {t.data_ptr(): t.data_ptr() + t.numel() * t.element_size() for t in tensors}
    spans[:] = ends.items()
    return there
interpreter.GridExecutor._init_args_hst = arguments
Builder = interpreter.InterpreterBuilder
Builder.create_masked_load = bounded(Builder.create_masked_load, 0)
Builder.create_masked_store = bounded(Builder.create_masked_store, 1)
from methods.nets.inference.fused import groups
from methods.nets.inference.fused.probe import CLOSE, errors
groups.CHUNK = 32
# In fp16: triton's interpreter has no product of bf16.
off = {name: error for name, error in errors("cpu", torch.float16, (4, 6)).items() if not error <= CLOSE[torch.float16]}
assert not off, off
"""


def test_the_kernels_compute_what_their_references_do() -> None:
    # By triton's interpreter, which runs a kernel's operations in numpy: the algorithm, not the GPU's arithmetic.
    # What a program reads and writes must lie inside the tensors that it was given.
    words = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], check=True, timeout=240, env=words)


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from methods.nets.inference.fused.maps import _convolve, _finish
from methods.nets.inference.fused.tokens import _add_norm
POINTERS = {"x": "*bf16", "y": "*bf16", "weight": "*bf16", "other": "*bf16", "branch": "*bf16", "out": "*bf16"}
POINTERS |= {"bias": "*fp32", "stream": "*fp32", "kept": "*fp32", "eps": "fp32"}
NORM = {"added": True, "assembled": False, "block": 1024}
FINISH = {"biased": True, "added": True, "relu": True, "block_r": 16, "block_c": 256}
CONVOLVE = {"kernel": 3, "stride": 1, "inputs": 16, "outputs": 16, "added": True, "relu": True, "block": 128}
for kernel, constants, words in (
    (_add_norm, NORM, ("st.global.v4", "ld.global.v4")),
    (_finish, FINISH, ("st.global.v4", "ld.global.v4")),
    (_convolve, CONVOLVE, ("wgmma.mma_async",)),
):
    types = {**POINTERS, "weight": "*fp32"} if kernel is _add_norm else POINTERS
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in kernel.arg_names}
    whole = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(signature) if signature[n][0] == "*" or n in "CD"}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=whole)
    made = triton.compile(source, GPUTarget("cuda", 90, 32), {"num_warps": 4})
    assert all(word in made.asm["ptx"] for word in words), (kernel, words)
    assert made.asm["cubin"]
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here_and_read_16_bytes_at_a_time(tmp_path: Path) -> None:
    words = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=120, env=words)


@pytest.mark.parametrize(("arch", "direct"), [*((arch, True) for arch in RESNETS), ("cifar_resnet8", False)])
@seeded_globals(1)
def test_a_fused_residual_network_is_the_same_function(arch: str, direct: bool, by_torch: None) -> None:
    network, x = residual(arch)
    with torch.inference_mode():
        expected = network(x)
        fold(network)
        kept = copy.deepcopy(network)
        assert fuse_resnet(network, torch.float32, direct=direct)
        assert apart(network(x), expected) < 2e-5
        assert torch.equal(kept(x), kept(x))  # and the other one's weights are its own


@seeded_globals(1)
def test_fusing_leaves_the_weights_that_it_was_made_from(by_torch: None) -> None:
    network, x = residual("cifar_resnet8")
    fold(network)
    plain = nn.Sequential(network[0], network[1])
    with torch.inference_mode():
        expected = plain(x)
        assert fuse_resnet(network, torch.float32)
        assert torch.equal(plain(x), expected)


@seeded_globals(1)
def test_a_fused_vit_is_the_same_function(by_torch: None) -> None:
    network, x = time_token()
    with torch.inference_mode():
        expected = network(x)
        assert fuse_vit(network, torch.float32)
        assert apart(network(x), expected) < 2e-5


@seeded_globals(1)
def test_the_first_convolution_of_one_channel_is_rounded_at_its_end_alone(by_torch: None) -> None:
    network, x = residual("digits_resnet")
    fold(network)
    normaliser, small = network
    with torch.inference_mode():
        expected = nn.functional.relu(small.conv1(normaliser(x))).bfloat16()
        fused = resnet.fused_resnet(small, normaliser, torch.bfloat16)
        assert fused is not None
        made = fused.stem(x, fused.shift, fused.scale)
        fused.stem.split = False  # the same weights, of which those for what is left then meet zeros
        rounded = fused.stem(x, fused.shift, fused.scale)
    # But where a sum lies within 2^-16 of the middle between two numbers.
    off, off_rounded = (float((part != expected).float().mean()) for part in (made, rounded))
    assert off < 0.005 < 0.05 < off_rounded


@pytest.mark.parametrize("name", CONFIGS)
@seeded_globals(1)
def test_a_fused_unet_is_the_same_function(name: str, by_torch: None) -> None:
    network, x = unet(name)
    with torch.inference_mode():
        expected = network(x, 250.0)
        levels = torch.tensor([250.0, 20.0])
        by_copy = network(x, levels)
        assert network.fuse(torch.float32)
        assert apart(network(x, 250.0), expected) < 2e-5
        assert apart(network(x, levels), by_copy) < 2e-5


@pytest.mark.parametrize("make", [lambda: residual("digits_resnet"), time_token], ids=["resnet", "vit"])
@seeded_globals(1)
def test_networks_are_fused_where_the_kernels_work_in_half_precision_alone(
    make: Callable[[], tuple[nn.Module, Tensor]], by_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = make()
    plain, exact = copy.deepcopy(network), copy.deepcopy(network)
    optimise_for_inference(plain, "cpu", "bf16")
    monkeypatch.setattr(optimise, "fused_kernels", lambda _device: True)
    optimise_for_inference(exact, "cpu", "fp32")
    optimise_for_inference(network, "cpu", "bf16")
    kinds = (FusedResNet, FusedTimeTokenViT)
    assert any(isinstance(module, kinds) for module in network.modules())
    assert not any(isinstance(module, kinds) for other in (plain, exact) for module in other.modules())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert apart(network(x), plain(x)) < 0.03


def test_no_cpu_has_fused_kernels() -> None:
    assert not optimise.fused_kernels("cpu")


@seeded_globals(1)
def test_what_is_unknown_to_the_kernels_stays_as_it_is() -> None:
    squeezed, _ = residual("resnet50")
    squeezed[1].layer1[0].act1 = nn.SiLU()
    fold(squeezed)
    unfolded, _ = residual("cifar_resnet8")
    padded, _ = unet("small")
    padded.down_blocks[0].downsamplers[0].padding = 0
    assert not fuse_resnet(squeezed, torch.bfloat16)
    assert not fuse_resnet(unfolded, torch.bfloat16)
    assert not fuse_vit(squeezed, torch.bfloat16)
    assert not padded.fuse(torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernels_are_right_on_cuda(dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    assert {name: error for name, error in errors("cuda:0", dtype).items() if not error <= CLOSE[dtype]} == {}
    assert optimise.fused_kernels("cuda:0")


@pytest.mark.gpu
@pytest.mark.parametrize(
    "make", [*(lambda arch=arch: residual(arch) for arch in RESNETS), time_token], ids=[*RESNETS, "vit"]
)
@seeded_globals(1)
def test_a_fused_network_is_no_further_from_float32_on_cuda(make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    network, _ = make()
    x = drawn(64, *make()[1].shape[1:]).to("cuda:0")
    network.to("cuda:0")
    with torch.inference_mode():
        expected = network(x)
        plain, ours = copy.deepcopy(network), network
        fold(plain)
        cast_weights(plain, torch.bfloat16)
        optimise_for_inference(ours, "cuda:0", "bf16")
        with torch.autocast("cuda", torch.bfloat16):
            assert apart(ours(x), expected) < 1.5 * apart(plain(x), expected) + 2.0**-8


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONFIGS)
@seeded_globals(1)
def test_a_fused_unet_is_no_further_from_float32_on_cuda(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    network, x = unet(name)
    network, x = network.to("cuda:0"), x.to("cuda:0")
    with torch.inference_mode():
        expected = network(x, 250.0)
        plain = copy.deepcopy(network)
        cast_weights(plain, torch.bfloat16)
        optimise.optimise_denoiser(network, "cuda:0", "bf16")
        with torch.autocast("cuda", torch.bfloat16):
            assert apart(network(x, 250.0), expected) < 1.5 * apart(plain(x, 250.0), expected) + 2.0**-8
