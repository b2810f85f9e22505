"""The part of a step's batch that is at hand: one process's of several, or one micro-batch's; draws nothing.

A loss draws its noise for the whole batch and keeps what belongs to its share, so that neither the number of processes
nor that of micro-batches changes what an image is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Share:
    """One of equal parts of a batch."""

    index: int = 0
    of: int = 1

    def slots(self, batch: int) -> Tensor:
        """Its places in the whole batch, ascending.

        Taken from both ends: a share in reverse is then a share of the batch in reverse, so that mixing images with the
        batch in reverse (mixup) needs no image of another share. True of shares of even length.
        Raises: ValueError where the batch cannot be cut so.
        """
        if batch % self.of:
            raise ValueError(f"a batch of {batch} cannot be cut into {self.of} equal shares")
        half, odd = divmod(batch // self.of, 2)
        front = torch.arange(self.index * half, (self.index + 1) * half)
        middle = torch.arange(self.of * half + self.index, self.of * half + self.index + odd)
        back = torch.arange(batch - (self.index + 1) * half, batch - self.index * half)
        return torch.cat([front, middle, back])

    def whole(self, count: int) -> int:
        """Length of the batch of which `count` images are this share."""
        return count * self.of

    def take(self, drawn: Tensor, copies: int = 1) -> Tensor:
        """What of a draw for the whole batch belongs to this share.

        Shapes: drawn (copies * batch, ...), copy by copy; result (copies * batch / of, ...).
        """
        if self.of == 1:
            return drawn
        batch = len(drawn) // copies
        slots = self.slots(batch).to(drawn.device)
        return drawn.reshape(copies, batch, *drawn.shape[1:])[:, slots].flatten(0, 1)


_WHOLE = Share()
_at_hand: ContextVar[Share] = ContextVar("share", default=_WHOLE)


def at_hand() -> Share:
    """The share that the loss in progress sees; outside of one, the whole batch."""
    return _at_hand.get()


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let draws inside keep what belongs to a share."""
    # Ambient, not an argument: the draws stand in the losses of all methods, which are written for a whole batch.
    token = _at_hand.set(share)
    try:
        yield
    finally:
        _at_hand.reset(token)
