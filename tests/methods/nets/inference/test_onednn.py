"""Blocks whose sums are done by oneDNN give the votes of those that torch runs one operation after the other."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from methods.nets.architectures import build_network
from methods.nets.cifar_resnet import BasicBlock
from methods.nets.inference import onednn
from methods.nets.inference.onednn import FusedBlock, fuse_blocks, fused_convolutions
from methods.nets.inference.optimise import cast_weights, fold, optimise_for_inference
from methods.training.rng import seeded_globals

SHAPES = {"digits_resnet": (1, 8, 8), "cifar_resnet20": (3, 32, 32), "akamaster_resnet20": (3, 32, 32)}


@pytest.fixture
def there() -> None:
    if not fused_convolutions(torch.float32):
        pytest.skip("this machine has no such operators of oneDNN, or they round otherwise")


@pytest.fixture
def forgetful() -> Iterator[None]:
    fused_convolutions.cache_clear()
    yield
    fused_convolutions.cache_clear()


def pair(arch: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """A network of that type with its norms folded, and the same one fused."""
    with seeded_globals(1):
        network = build_network(arch, num_classes=10, shape=SHAPES[arch]).eval().requires_grad_(False)
    fold(network)
    if dtype != torch.float32:
        cast_weights(network, dtype)
    network.to(memory_format=torch.channels_last)
    fused = copy.deepcopy(network)
    assert fuse_blocks(fused, dtype) == sum(isinstance(module, BasicBlock) for module in network.modules())
    return network, fused


def copies(arch: str, count: int) -> Tensor:
    return torch.randn(count, *SHAPES[arch], generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("arch", SHAPES)
def test_in_float32_the_logits_are_the_same_bits_in_any_batch(arch: str, there: None) -> None:
    network, fused = pair(arch)
    for count in (1, 2, 5, 64):
        x = copies(arch, count)
        given = x.clone()
        with torch.inference_mode():
            assert torch.equal(fused(x), network(x))
        assert torch.equal(x, given)


@pytest.mark.parametrize("arch", SHAPES)
def test_in_bf16_they_are_no_further_from_float32(arch: str, there: None) -> None:
    if not fused_convolutions(torch.bfloat16):
        pytest.skip("this machine has no such operators of oneDNN in bf16")
    exact, _ = pair(arch)
    network, fused = pair(arch, torch.bfloat16)
    x = copies(arch, 256)
    with torch.inference_mode():
        expected = exact(x)
        with torch.autocast("cpu", torch.bfloat16):
            plain, ours = ((way(x).float() - expected).square().mean().sqrt() for way in (network, fused))
    assert 0 < ours < 1.1 * plain


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("arch", SHAPES)
def test_in_half_precision_a_copy_has_the_same_logits_alone_and_among_others(
    arch: str, dtype: torch.dtype, there: None
) -> None:
    if not fused_convolutions(dtype):
        pytest.skip("this machine has no such operators of oneDNN in this type")
    _, fused = pair(arch, dtype)
    x = copies(arch, 5)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        together = fused(x)
        assert all(torch.equal(fused(x[k : k + 1]), together[k : k + 1]) for k in range(5))


def test_a_block_whose_input_others_may_read_stays_as_it_is(there: None) -> None:
    with seeded_globals(1):
        block = BasicBlock(16, 16, 1, "projection").eval().requires_grad_(False)
    block.bn1 = block.bn2 = nn.Identity()  # type: ignore[assignment]
    network = nn.Sequential(block.eval())
    x = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    given = x.clone()
    optimise_for_inference(network, "cpu", "fp32")
    with torch.inference_mode():
        network(x)
    assert torch.equal(x, given)


def test_other_arithmetic_and_gradients_go_the_way_of_torch(there: None) -> None:
    network, fused = pair("digits_resnet")
    x = copies("digits_resnet", 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fused(x), network(x))
    grads = []
    for way in (network, fused):
        leaf = x.clone().requires_grad_()
        way(leaf).square().sum().backward()
        assert leaf.grad is not None
        grads.append(leaf.grad)
    assert torch.equal(grads[0], grads[1])


def test_a_network_that_is_fused_stays_as_it_is(there: None) -> None:
    network, fused = pair("digits_resnet")
    x = copies("digits_resnet", 4)
    assert fuse_blocks(fused, torch.float32) == 0
    with torch.inference_mode():
        assert torch.equal(fused(x), network(x))


def test_a_block_with_a_norm_stays_as_it_is(there: None) -> None:
    with seeded_globals(1):
        network = build_network("digits_resnet", num_classes=10, shape=SHAPES["digits_resnet"]).eval()
    assert fuse_blocks(network, torch.float32) == 0
    assert not any(isinstance(module, FusedBlock) for module in network.modules())


def test_operators_that_are_a_bit_off_or_not_there_are_not_used(
    forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onednn._convolved

    def off(x: Tensor, conv: nn.Conv2d) -> Tensor:
        y = right(x, conv)
        return torch.nextafter(y, y + 1)

    def missing(x: Tensor, conv: nn.Conv2d) -> Tensor:
        raise AttributeError

    for wrong in (off, missing):
        monkeypatch.setattr(onednn, "_convolved", wrong)
        fused_convolutions.cache_clear()
        assert not fused_convolutions(torch.float32)
