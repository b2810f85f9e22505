"""Randomness keyed by what it is for: the same words give the same numbers, whatever was drawn before."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*words: int | str | float) -> int:
    """63 bits from the words, e.g. ("noise", seed, step)."""
    text = "\x1f".join(repr(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: str, *words: int | str | float) -> torch.Generator:
    """A fresh generator on a device, seeded by the words."""
    return torch.Generator(device=device).manual_seed(seed_of(*words))


@contextmanager
def seeded_globals(*words: int | str | float) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU), and put them back afterwards.

    For initialisers and image transforms of libraries, which draw from nothing else.
    """
    seed = seed_of(*words)
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the transforms of timm draw from it
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def seeded_layers(rate: float, device: str, *words: int | str | float) -> Iterator[None]:
    """Seed the global generators of the CPU and of a device, and put them back: for layers that drop at a rate."""
    if rate == 0:
        yield
        return
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with seeded_globals(*words), torch.random.fork_rng(devices=cuda):
        if cuda:
            torch.cuda.manual_seed(seed_of(*words))
        yield
