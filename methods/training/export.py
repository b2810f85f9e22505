"""Export of trained weights: a safetensors file that is complete, finite, and byte for byte the same for a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, isfinite

from bench.types.atomic_file import atomic_write
from bench.types.errors import TrainingError
from bench.weights.half import canonical


def export(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    """Write a safetensors file, whole or not at all; its sha256.

    Raises: TrainingError where a tensor is not finite, or the file cannot be written.
    """
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if not bool(isfinite(tensor).all()):
            raise TrainingError(f"the weights must be finite, got NaN or infinity in {name!r}; lower lr (--set lr=...)")
    content = canonical(save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata=dict(meta)))
    try:
        atomic_write(path, content)
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error}; free some space, then --resume") from error
    return hashlib.sha256(content).hexdigest()
