"""Both stages of one image by the slow way: a draw of each, apart; what the batcher's rows are compared with."""

from __future__ import annotations

from bench.smoothing.noise import ESTIMATE, SELECT, NoiseKey
from bench.smoothing.voting import draw
from bench.types import BaseClassifier, Counts


def both_stages(
    classifier: BaseClassifier, x, *, seed: int, fingerprint: str, sigma: float, n0: int, n: int, batch: int
) -> tuple[Counts, Counts]:
    selection, estimation = (
        draw(classifier, x, key=NoiseKey(seed, fingerprint, sigma, stage), n=copies, batch=batch)
        for stage, copies in ((SELECT, n0), (ESTIMATE, n))
    )
    return selection, estimation
