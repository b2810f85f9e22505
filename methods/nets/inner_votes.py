"""Votes inside one sample: several answers of a random classifier to the same noisy copy become one label.

They are part of the base classifier, not draws of the certifier: n stays the number of noisy copies, for answers to one
copy share its noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 64  # copies times votes of one pass: fewer leave a GPU idle, and more are bounded by the batch alone


def votes_together(copies: int, votes: int) -> int:
    """How many votes share a forward pass: memory is that of one vote of the batch, or of `ROWS` rows."""
    return max(1, min(votes, ROWS // max(1, copies)))


def first_seen_mode(votes: Tensor, num_classes: int) -> Tensor:
    """The most frequent class of each copy; of equally frequent ones, the one that was voted for first.

    Shapes: votes (M, B) int64 in the order of voting; result (B,) int64.
    """
    ballots = votes.T  # (B, M)
    counts = torch.zeros(len(ballots), num_classes, dtype=torch.int64, device=votes.device)
    counts.scatter_add_(1, ballots, torch.ones_like(ballots))
    order = torch.arange(ballots.shape[1], device=votes.device)
    # Distinct scores, for argmax of equal ones is the first on some devices only: support, then earliness.
    scores = counts.gather(1, ballots) * ballots.shape[1] - order
    return ballots.gather(1, scores.argmax(dim=1, keepdim=True)).squeeze(1)
