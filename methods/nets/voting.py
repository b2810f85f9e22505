"""Several answers to one noisy copy made one label: of an ensemble's networks, or of one that is random.

They are part of the base classifier, not draws of the certifier: n stays the number of noisy copies, for answers to one
copy share its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bench.types import Noise
from methods.nets.hard_labels import checked_labels, refuse_at_once, refuse_nonfinite
from methods.nets.inference.optimise import optimise_for_inference

AGGREGATES = ("logits", "softmax", "votes")
ROWS = 64  # copies times votes of one pass: fewer leave a GPU idle, and more are bounded by the batch alone


class Ensemble:
    """The class that the members' summed answers favour; a deterministic function of the noisy pixels.

    With K-consensus, the first K members answer alone where they agree; elsewhere all do. Ties go to the lowest class.
    Source: Horvath et al. 2022, Section 4 (aggregation) and Section 5 (K-consensus).
    Differs: votes that tie were broken at random, which a certified function must not do by a generator of its own.
    Raises: ValueError unless there are members, and consensus is 0 (off) or 2 to their number.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        *,
        num_classes: int,
        device: str,
        aggregate: str,
        consensus: int,
        optimise_for: str | None = "fp32",
    ) -> None:
        if not members:
            raise ValueError("an ensemble needs at least 1 member, got none")
        if aggregate not in AGGREGATES:
            raise ValueError(f"aggregate must be one of {AGGREGATES!r}, got {aggregate!r}")
        if consensus != 0 and not 2 <= consensus <= len(members):
            raise ValueError(f"consensus must be 0 (off) or 2 to {len(members)}, got {consensus}")
        self.num_classes = num_classes
        self.network = nn.ModuleList(members).to(device).eval().requires_grad_(False)
        if optimise_for is not None:
            for member in self.network:
                optimise_for_inference(member, device, optimise_for)
        self.aggregate = aggregate
        self.consensus = consensus
        self.calls = {"classifier": len(members)}  # at most, where a consensus may end it
        # Without a consensus, predict draws nothing from its noise and never waits for the device.
        self.replayable = consensus in (0, len(members))

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies; deterministic, so `noise` is not drawn from.

        Shapes: x (B, C, H, W) float32; result (B,) int64.
        Raises: as `checked_labels`.
        """
        del noise
        share = _SHARES[self.aggregate]
        with torch.no_grad():
            if self.consensus in (0, len(self.network)):
                answers = []
                for member in self.network:
                    answers.append(member(x))
                    refuse_at_once(answers[-1])
                return checked_labels(
                    torch.stack([share(logits) for logits in answers]).sum(dim=0).argmax(dim=1), *answers
                )
            first = [_answer(member, x) for member in self.network[: self.consensus]]
            favoured = torch.stack([logits.argmax(dim=1) for logits in first])
            labels = favoured[0]
            # It waits for the device whatever is done: how many copies are left is needed to go on. So it may as well
            # refuse each answer at once, as `_answer` does.
            left = (favoured != labels).any(dim=0).nonzero().squeeze(1)
            if len(left):
                rest = [_answer(member, x[left]) for member in self.network[self.consensus :]]
                answers = [logits[left] for logits in first] + rest
                labels[left] = torch.stack([share(logits) for logits in answers]).sum(dim=0).argmax(dim=1)
            return labels


def _answer(member: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = member(x)
    refuse_nonfinite(logits)
    return logits


def _softmax(logits: Tensor) -> Tensor:
    return logits.float().softmax(dim=1)  # half precision would tie what differs


def _vote(logits: Tensor) -> Tensor:
    # Compared, not one_hot, which looks at its largest class first: a wait, except on devices that torch names.
    classes = torch.arange(logits.shape[1], device=logits.device)
    return (logits.argmax(dim=1, keepdim=True) == classes).long()


_SHARES: dict[str, Callable[[Tensor], Tensor]] = {"logits": Tensor.float, "softmax": _softmax, "votes": _vote}


def votes_together(copies: int, votes: int) -> int:
    """Number of votes that share a forward pass: memory is that of one vote of the batch, or of `ROWS` rows."""
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
