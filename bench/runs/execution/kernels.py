"""By which kernels the networks of a classifier run, as their parts say it: for records, and for what builds on it."""

from __future__ import annotations

from bench.runs.built_weights import networks
from bench.types import BaseClassifier

FUSED = "fused kernels"


def runs_fused(classifier: BaseClassifier) -> bool:
    """Whether a network of it says, by an attribute `fused` that is True, that its kernels are fused by hand."""
    return any(getattr(part, "fused", False) is True for net in networks(classifier) for part in net.modules())


def kernels(classifier: BaseClassifier) -> tuple[str, ...]:
    """What its networks say of their kernels, by an attribute `kernels` of any part: a text, with what was measured."""
    said = (getattr(part, "kernels", None) for net in networks(classifier) for part in net.modules())
    found = dict.fromkeys(text for text in said if isinstance(text, str))
    return (*((FUSED,) if runs_fused(classifier) else ()), *found)
