"""Weights stored in half precision: the matrices and kernels of a file; a network that reads it computes as before."""

from __future__ import annotations

import json

from bench.types.errors import WeightsError

KEY = "stored"  # of a safetensors header


def halved(content: bytes) -> bytes:
    """A safetensors file with its float32 tensors of two or more axes as float16, and the same words in its header.

    Biases, scales and running statistics stay: they are few, and a variance may be too small for half precision.
    Raises: WeightsError for a number that half precision does not hold.
    """
    import torch
    from safetensors.torch import load, save

    length = int.from_bytes(content[:8], "little")
    words = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    tensors = load(content)
    for name, tensor in tensors.items():
        if tensor.dtype is torch.float32 and tensor.ndim > 1:
            half = tensor.half()
            if not bool(torch.isfinite(half).all()):
                raise WeightsError(f"{name!r} holds a number that half precision does not; leave half out")
            tensors[name] = half
    return canonical(save(tensors, metadata={**words, KEY: "float16"}))


def canonical(content: bytes) -> bytes:
    """The same safetensors file with a sorted header: safetensors itself writes metadata in another order each time."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
