"""Loading of a pre-trained encoder for fine-tuning, with a refusal of any other network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bench.types.errors import WeightsError
from bench.weights.checkpoints import load_tensors, sha256_of_network
from bench.weights.wrappers import strip_prefixes
from methods.nets.load_weights import load_state
from methods.nets.scales import scale_of

PROJECTOR = "projection_head."


def load_encoder(encoder: nn.Module, path: Path, size: str, *, projector: bool = False) -> tuple[str, int | None]:
    """Fill the encoder from a pre-training checkpoint, its projector left out unless the encoder has one.

    The file's sha256, and the points of the noise grid at the end of its training; None where it does not say.
    Raises: WeightsError for a fine-tuned network, one of another size, or of other pixels or levels than can be.
    """
    tensors, meta = load_tensors(path)
    bare = strip_prefixes(tensors)
    state = {name: value for name, value in bare.items() if projector or not name.startswith(PROJECTOR)}
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
    scale = str(meta.get("normaliser", "half"))
    if scale != "half" and {value for part in scale_of(scale, "any") for value in part} != {0.5}:
        raise WeightsError(
            f"weights {str(path)!r}: expected an encoder of pixels in [-1, 1] (normaliser half), got {scale!r}; "
            "give the file that rrcm pretrain left"
        )
    levels = meta.get("levels")
    if levels is None:
        return sha256_of_network(path), None
    if not str(levels).isdigit() or int(str(levels)) < 2:
        raise WeightsError(f"weights {str(path)!r}: expected levels of at least 2, got {levels!r}; train it again")
    return sha256_of_network(path), int(str(levels))
