"""A look before a long run: does the network see these images as it was trained to?

Few checkpoints say how their pixels were normalised, and the wrong guess costs accuracy without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from bench.runs import registry
from bench.runs.certify import ImageCertifier, Job, build
from bench.smoothing.noise import NoiseKey
from bench.smoothing.voting import draw
from bench.types import BaseClassifier, Param, Scalar
from bench.types.classifier import adjusted
from bench.types.errors import BenchError

IMAGES, COPIES = 32, 2
SECONDS = 20.0  # of looking at one choice: a method that takes minutes a copy is not looked at for hours
STAGE = "preflight"  # noise of its own: a look must not be a draw of the certificate's
# Better by this share of copies, another choice is no accident: 13 of 64, beyond 3 standard deviations of a difference.
BETTER = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """Noisy accuracy on a few images, and what is odd about it."""

    accuracy: float  # of single noisy copies, not of the smoothed classifier
    copies: int
    warnings: tuple[str, ...]


def look(job: Job, worker: ImageCertifier) -> Look:
    """Noisy accuracy of the job's network on a few images of all classes; of alternatives where no checkpoint tells.

    Warns where it is near chance, and where another choice of an inferred setting is right far more often. Others are
    tried only where the first look was over in time: on few copies, or hours later, they would tell nothing.
    """
    indices = spread(job.indices, worker.dataset.label)
    accuracy, copies = _accuracy(job, worker, worker.classifier, indices)
    warnings = []
    chance = 1 / worker.dataset.num_classes
    limit = chance + 3 * (chance * (1 - chance) / copies) ** 0.5
    others = _others(job, worker, indices) if copies == COPIES * len(indices) else []
    best = max(others, key=lambda other: other[1], default=None)
    fits = f"; with --set {best[0]} it is {100 * best[1]:.0f} %" if best and best[1] > accuracy + BETTER else ""
    seen = f"{job.spec.method} is right on {100 * accuracy:.0f} % of {copies} noisy copies at sigma {job.spec.sigma:g}"
    if accuracy <= limit:
        odd = f"near chance ({100 * chance:.1f} %): other weights, labels or normaliser than it was trained with"
        warnings.append(f"{seen}, {odd}{fits}")
    elif fits:
        warnings.append(f"{seen}{fits}: was it trained so?")
    return Look(accuracy, copies, tuple(warnings))


def spread(indices: Sequence[int], label: Callable[[int], int]) -> list[int]:
    """IMAGES of a subset or all of it, from anywhere in it, as evenly over the classes as they are there.

    The first ones are of one class where a dataset lists class by class, and tell nothing of the order of classes.
    """
    import numpy as np

    by_class: dict[int, list[int]] = {}
    for at in np.random.default_rng(0).permutation(len(indices)):
        by_class.setdefault(label(indices[at]), []).append(indices[at])
    rounds = chain.from_iterable(zip_longest(*by_class.values()))
    return [index for index in rounds if index is not None][:IMAGES]


def _others(job: Job, worker: ImageCertifier, indices: Sequence[int]) -> list[tuple[str, float]]:
    """("key=value", noisy accuracy) of every other choice of the settings that no checkpoint tells."""
    found = []
    for param in registry.method(job.method).params:
        if not param.inferred:
            continue
        tried = {_behind(job, param, job.spec.params[param.name])}
        for choice in param.choices:
            try:
                behind = _behind(job, param, choice)
                if behind in tried:
                    continue
                tried.add(behind)
                other = _with(job, worker, param.name, choice)
            except BenchError:  # a choice that this network does not have
                continue
            found.append((f"{param.name}={choice}", _accuracy(job, worker, other, indices)[0]))
    return found


def _behind(job: Job, param: Param, choice: Scalar) -> str:
    """The text of what a choice stands for: two names of the same numbers are tried once."""
    if param.meaning is None:
        return str(choice)
    return param.meaning({**job.spec.params, param.name: choice}, job.spec.dataset)


def _with(job: Job, worker: ImageCertifier, name: str, choice: str) -> BaseClassifier:
    """The worker's classifier under another choice: its own networks where it can, which may fill the device, else new.

    Raises: BenchError for a choice that it does not have.
    """
    if (other := adjusted(worker.classifier, name, choice)) is not None:
        return other
    spec = replace(job.spec, params={**job.spec.params, name: choice})
    return build(replace(job, spec=spec), worker.device, worker.dataset)


def _accuracy(
    job: Job, worker: ImageCertifier, classifier: BaseClassifier, indices: Sequence[int]
) -> tuple[float, int]:
    import torch

    right = copies = 0
    until = time.monotonic() + SECONDS
    for index in indices:
        if copies and time.monotonic() > until:
            break
        image = worker.dataset[index]
        key = NoiseKey(job.spec.seed, image.fingerprint, job.spec.sigma, STAGE)
        x = torch.from_numpy(image.pixels).to(worker.device)
        votes = draw(classifier, x, key=key, n=COPIES, batch=COPIES, precision=job.spec.precision)
        right, copies = right + votes[image.label], copies + COPIES
    return right / copies, copies
