"""The plain certification loop that every published script has, to be compared with; no result comes from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.smoothing.noise import MethodNoise
from bench.types import BaseClassifier

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def plain_counts(
    classifier: BaseClassifier, x: Tensor, *, sigma: float, n: int, batch: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Votes on n noisy copies: the image repeated, torch's own noise, a pass, labels counted one by one on the host.

    The noise is keyed by nothing: its votes depend on the batch and on what ran before.
    Source: Cohen et al. 2019, Section 3.2.2, procedure SAMPLEUNDERNOISE, in the form of their public code.
    """
    import numpy as np
    import torch

    counts = np.zeros(classifier.num_classes, dtype=np.int64)
    with torch.no_grad():
        while n > 0:
            now = min(batch, n)
            n -= now
            copies = x.repeat((now, 1, 1, 1))
            noise = torch.randn_like(copies) * sigma
            labels = classifier.predict(copies + noise, MethodNoise(0, 0, now, str(x.device)))
            for label in labels.cpu().numpy():
                counts[label] += 1
    return counts
