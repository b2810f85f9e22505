"""Loading of a pre-trained encoder for fine-tuning, with a refusal of any other network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bench.types.errors import WeightsError
from bench.weights.checkpoints import load_tensors, sha256_of_network
from bench.weights.wrappers import strip_prefixes
from methods.nets.load_weights import load_state

PROJECTOR = "projection_head."


def load_encoder(encoder: nn.Module, path: Path, size: str) -> str:
    """Fill the encoder from a pre-training checkpoint, its projector left out; the file's sha256.

    Raises: WeightsError for a fine-tuned network, or one of another size.
    """
    tensors, _ = load_tensors(path)
    state = {name: value for name, value in strip_prefixes(tensors).items() if not name.startswith(PROJECTOR)}
    if any(name.startswith("base_model.") for name in state):
        raise WeightsError(
            f"weights {str(path)!r}: expected a pre-trained encoder, got a fine-tuned network; "
            "give the file that rrcm pretrain left"
        )
    load_state(
        encoder,
        state,
        str(path),
        lambda name, expected, came: (
            f"expected an encoder of size {size!r} with {name!r} of shape {expected}, got {came}; "
            "give the size it was pre-trained with (--set size=...), or other weights"
        ),
    )
    return sha256_of_network(path)
