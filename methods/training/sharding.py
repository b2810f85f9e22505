"""Parts of a step's batch, for processes and micro-batches, and the one that is being computed; draws nothing.

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
        """The rows of a draw for the whole batch that belong to this share.

        Shapes: drawn (copies * batch, ...), copy by copy; result (copies * batch / of, ...).
        """
        if self.of == 1:
            return drawn
        batch = len(drawn) // copies
        slots = self.slots(batch).to(drawn.device, non_blocking=True)
        return drawn.reshape(copies, batch, *drawn.shape[1:])[:, slots].flatten(0, 1)


_WHOLE = Share()
_current: ContextVar[Share] = ContextVar("share", default=_WHOLE)


def current_share() -> Share:
    """The share whose loss is being computed; outside of a loss, the whole batch."""
    return _current.get()


@contextmanager
def use_share(share: Share) -> Iterator[None]:
    """Make a share the current one, so that draws inside keep what belongs to it."""
    # A context variable, not an argument: the losses of all methods draw, and are written for a whole batch.
    token = _current.set(share)
    try:
        yield
    finally:
        _current.reset(token)
