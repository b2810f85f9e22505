"""Loading of a pre-trained encoder for fine-tuning, with a refusal of any other network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bench.types.errors import WeightsError
from bench.weights.checkpoints import load_tensors, sha256_of_network
from bench.weights.wrappers import strip_prefixes

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
    wanted = encoder.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        came = tuple(state[name].shape) if name in state else "none"
        expected = tuple(wanted[name].shape) if name in wanted else "none"
        if came != expected:
            raise WeightsError(
                f"weights {str(path)!r}: expected an encoder of size {size!r} with {name!r} of shape {expected}, "
                f"got {came}; "
                "give the size it was pre-trained with (--set size=...), or other weights"
            )
    encoder.load_state_dict(state)
    return sha256_of_network(path)
