"""Another kernel for attention is taken where it is there, right and faster, and only there."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from bench.runs.execution.kernels import kernels
from methods.nets.architectures import build_network
from methods.nets.hard_labels import HardLabels
from methods.nets.inference import attention
from methods.nets.inference.attention import MemoryEfficientAttention, choose_attention, faster_attention
from methods.nets.inference.optimise import optimise_for_inference
from methods.nets.inference.probe import fastest
from methods.nets.vit import time_token_vit
from methods.training.rng import seeded_globals


def right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """xformers' layout: (B, T, heads, width)."""
    return scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


def wrong(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return right(q, k, v) + 0.1


def broken(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    raise NotImplementedError("no operator found for this device")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """xformers with that kernel, next to torch's own taking twice as long as a call of `right`."""

    def install(kernel: Callable[..., Tensor] | None, slower: float = 2.0) -> None:
        for name in ("xformers", "xformers.ops"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        if kernel is not None:
            sys.modules["xformers.ops"].memory_efficient_attention = kernel
        seconds = {True: 1.0, False: slower}
        monkeypatch.setattr(attention, "fastest", lambda work, _device: seconds[work.func is kernel])
        faster_attention.cache_clear()

    yield install
    faster_attention.cache_clear()


@seeded_globals(1)
@pytest.mark.parametrize(
    ("kernel", "slower", "taken"),
    [(right, 2.0, True), (right, 1.05, False), (wrong, 2.0, False), (broken, 2.0, False), (None, 2.0, False)],
    ids=["faster", "no faster", "wrong", "not on this device", "without the kernel"],
)
def test_it_is_compared_before_it_is_taken(installed, kernel, slower: float, *, taken: bool) -> None:
    installed(kernel, slower)
    found, said = faster_attention("cpu", torch.float32)
    assert (found is not None) == taken
    network = time_token_vit("tiny", image_size=8, in_channels=1, projector=False).eval()
    assert (choose_attention(network, "cpu", torch.float32) > 0) == taken
    # What a record of it holds: by how much, and whether it was used.
    told = (said,) if said else ()
    assert kernels(HardLabels(network, num_classes=10, device="cpu", optimise_for=None)) == told
    assert (f"is {slower:.2f} times as fast" in said) == (kernel is right)
    assert ("not used" in said) == (kernel is not None and not taken)


@seeded_globals(1)
def test_where_it_is_not_installed_networks_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)  # as an import that fails
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    faster_attention.cache_clear()
    network = time_token_vit("tiny", image_size=8, in_channels=1, projector=False).eval()
    assert choose_attention(network, "cpu", torch.float32) == 0
    faster_attention.cache_clear()


@seeded_globals(1)
def test_both_kernels_are_timed() -> None:
    q = torch.rand(1, 2, 1, 4)

    def slow(*_: Tensor) -> None:
        time.sleep(0.002)

    assert fastest(partial(slow, q, q, q), "cpu") > fastest(partial(attention._own, q, q, q), "cpu")


@seeded_globals(1)
def test_a_transformer_answers_as_before(installed) -> None:
    installed(right)
    cases = [
        (time_token_vit("tiny", image_size=8, in_channels=1, projector=False), (torch.rand(5, 1, 8, 8), 1.0), 2),
        (build_network("vit_base_patch16_224", num_classes=10, shape=(3, 32, 32)), (torch.rand(2, 3, 32, 32),), 12),
    ]
    for network, words, blocks in cases:
        network.eval().requires_grad_(False)
        made = copy.deepcopy(network)
        assert choose_attention(made, "cpu", torch.float32) == blocks
        assert sum(isinstance(module, MemoryEfficientAttention) for module in made.modules()) == blocks
        with torch.inference_mode():
            if len(words) == 2:
                found, expected = (net.features(*words, final_norm=True) for net in (made, network))
            else:
                found, expected = (net(*words) for net in (made, network))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@seeded_globals(1)
def test_a_cpu_is_never_asked(installed) -> None:
    installed(right)
    network = time_token_vit("tiny", image_size=8, in_channels=1, projector=False).eval().requires_grad_(False)
    optimise_for_inference(network, "cpu", "fp32")
    assert not any(isinstance(module, MemoryEfficientAttention) for module in network.modules())


@seeded_globals(1)
def test_attention_in_training_is_left_alone(installed) -> None:
    installed(right)
    network = time_token_vit("tiny", image_size=8, in_channels=1, projector=False)
    assert choose_attention(network.train(), "cpu", torch.float32) == 0
    layer = MemoryEfficientAttention(network.eval().blocks[0].attn, right)
    with pytest.raises(NotImplementedError, match="with a mask"):
        layer(torch.rand(1, 3, 64), is_causal=True)
