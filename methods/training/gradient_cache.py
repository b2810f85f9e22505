"""Large contrastive batches in little memory: an encoder that is run chunk by chunk, and again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(encode: Callable[..., Tensor], inputs: Sequence[Tensor], rows: int) -> Tensor:
    """Features of all rows, `rows` of them at a time; 0, or enough for all: in one pass.

    Where gradients are wanted, a chunk keeps its inputs alone. The loss then sees the features of the whole batch, and
    its backward pass computes one chunk after the other again, from the last, with the random numbers of the first
    time. That is GradCache, whose cached gradients autograd holds. The last chunk keeps what its backward pass needs,
    which that frees before the next chunk is computed again: no more memory, and one forward pass less. Exact, but for
    rounding, for an encoder whose rows do not see each other: no batch norm.
    Shapes: inputs (B, ...) each, cut alike; result (B, ...).
    Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, Section 3.
    Differs: by torch's checkpoints in place of two passes written out, so that any loss and any number of processes do.
    """
    if rows <= 0 or len(inputs[0]) <= rows:
        return encode(*inputs)
    *cached, last = zip(*(torch.split(each, rows) for each in inputs), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([encode(*part) for part in (*cached, last)])
    return torch.cat([*(checkpoint(encode, *part, use_reentrant=False) for part in cached), encode(*last)])
