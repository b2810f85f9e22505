"""What a job would take, from a short probe; it stores nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.certification.curtailment import curtail, expected_copies
from bench.certification.operating_characteristic import simulate
from bench.certification.stopping_rule import BETA, design_of, is_sequential, register
from bench.runs.batch_size import auto_batch
from bench.runs.certify import Job, build, open_dataset
from bench.runs.execution.environment import ready_process
from bench.smoothing.noise import SELECT, NoiseKey
from bench.smoothing.voting import draw
from bench.timing.flops import total
from bench.types import BaseClassifier, Counts, Dataset, RunSpec
from bench.types.classifier import calls_of
from bench.types.errors import SpecError

if TYPE_CHECKING:
    import numpy as np

PILOT_IMAGES, PILOT_COPIES, PILOT_DRAWS = 64, 128, 16
PILOT_LEAST_IMAGES, PILOT_LEAST_COPIES = 8, 8  # fewer tell nothing
PILOT_PROBES = 10  # times the probe's seconds, at most
FIXED_N0 = 100  # what a fixed n is compared with where the job itself selects no class


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a job takes, from a short probe."""

    passes: int  # forward passes of the base classifier, all images; expected ones where images may stop
    flops: int | None  # of one pass, 2 x MAC with attention; None where torch cannot count it
    seconds: float  # of the whole job on this device, extrapolated from the probe
    calls: Mapping[str, int] = field(default_factory=dict)  # network -> its own passes in one; empty where not told
    fixed: int = 0  # passes with n samples an image, whatever the job's certifier
    # Expected passes of the sequential certifier; None for no radii, random networks, or one too slow for a pilot.
    sequential: int | None = None
    pilot: int = 0  # images that the expectations are from


def probe(
    job: Job, device: str, batch: int | None, seconds: float = 2.0, radii: Sequence[float] = (), mode: str = "table"
) -> Cost:
    """What the job would cost on this device: a warm-up batch, then batches for about `seconds`.

    With `radii`, or those of its own, it also draws a few copies of some images for what the sequential certifier would
    take there. Error: of the choice of images; those decide by chance, and the hardest twentieth takes half.
    """
    import torch

    spec = job.spec
    ready_process(spec.precision)  # as the run will
    dataset = open_dataset(job)
    classifier = build(job, device, dataset)
    copies = batch or auto_batch(job.spec, classifier, device)
    x = torch.from_numpy(dataset[job.indices[0]].pixels).to(device)
    key = NoiseKey(spec.seed, "probe", spec.sigma, SELECT)
    draw(classifier, x, key=key, n=copies, batch=copies, precision=spec.precision)
    started, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds or done == 0:
        draw(classifier, x, key=key, n=copies, batch=copies, precision=spec.precision, first=done)
        done += copies
    elapsed = time.perf_counter() - started
    test = _test(spec, radii, mode)
    found: list[tuple[int, Counts]] = []
    # Votes of random networks say nothing of trained ones, and a slow network's pilot would take longer than its worth.
    affordable = int(PILOT_PROBES * seconds * done / elapsed) // PILOT_LEAST_COPIES
    images = min(PILOT_IMAGES, spec.images, affordable)
    if test is not None and not spec.random_weights and images >= min(PILOT_LEAST_IMAGES, spec.images):
        # As long as the probe, or at least enough to tell easy images from hard ones.
        each = min(PILOT_COPIES, max(PILOT_LEAST_COPIES, int(2 * seconds * done / elapsed) // images))
        found = _pilot(job, classifier, dataset, device, copies, images, each)
    fixed = spec.images * ((spec.n0 or FIXED_N0) + spec.n)
    sequential = round(spec.images * _sequential(test, found)) if test is not None and found else None
    passes = fixed
    if is_sequential(spec.certifier):
        passes = sequential or fixed
    elif spec.stops and found:
        passes = round(spec.images * _early(spec, found))
    return Cost(
        passes=passes,
        flops=_flops(dataset, job, device),
        seconds=passes * elapsed / done,
        calls=calls_of(classifier),
        fixed=fixed,
        sequential=sequential,
        pilot=len(found),
    )


def _test(spec: RunSpec, radii: Sequence[float], mode: str) -> RunSpec | None:
    """The sequential spec that fills the same table; None without radii, or where n is too small for one."""
    if is_sequential(spec.certifier):
        return spec
    grid, mode = spec.radii or tuple(radii), spec.mode or mode
    if not grid:
        return None
    try:
        made = register("sequential", sigma=spec.sigma, radii=grid, n=spec.n, alpha=spec.alpha, beta=BETA, mode=mode)
    except SpecError:
        return None
    n0 = spec.n0 if mode == "deploy" else 0
    return replace(
        spec,
        certifier="sequential",
        n0=n0,
        radii=made.radii,
        looks=made.looks,
        alphas=made.alphas,
        beta=made.beta,
        mode=mode,
    )


def _pilot(
    job: Job, classifier: BaseClassifier, dataset: Dataset, device: str, batch: int, images: int, each: int
) -> list[tuple[int, Counts]]:
    """True label and votes on some copies of images spread over the job's; noise that no certificate uses."""
    import torch

    found = []
    for k in range(images):
        image = dataset[job.indices[k * len(job.indices) // images]]
        key = NoiseKey(job.spec.seed, image.fingerprint, job.spec.sigma, "pilot")
        x = torch.from_numpy(image.pixels).to(device)
        votes = draw(classifier, x, key=key, n=each, batch=batch, precision=job.spec.precision)
        found.append((image.label, votes))
    return found


def _sequential(test: RunSpec, found: Sequence[tuple[int, Counts]]) -> float:
    """Mean samples an image: simulated at probabilities that the pilot's votes leave possible."""
    import numpy as np

    generator = np.random.default_rng(0)  # a plan for the same votes says the same
    design = design_of(test)
    taken = [
        simulate(design, p, generator).n
        for label, votes in found
        for p in _possible(votes, label if test.mode == "table" else votes.ranked()[0][0], generator)
    ]
    return test.n0 + sum(taken) / len(taken)


def _early(spec: RunSpec, found: Sequence[tuple[int, Counts]]) -> float:
    """Mean samples an image of a fixed n that may stop early."""
    import numpy as np

    generator = np.random.default_rng(0)
    fixed = curtail(spec.sigma, spec.radii, spec.n, spec.alpha)
    taken = []
    for label, votes in found:
        selected = votes.ranked()[0][0]
        if spec.mode == "table" and selected != label:
            taken.append(float(spec.looks[0]))
        else:
            p = float(np.mean(list(_possible(votes, selected, generator))))
            taken.append(expected_copies(fixed, p, block=spec.looks[0]))
    return spec.n0 + sum(taken) / len(taken)


def _possible(votes: Counts, label: int, generator: np.random.Generator) -> Iterator[float]:
    # Jeffreys' posterior: 128 votes out of 128 still leave open 0.99, which takes many samples at large radii.
    for _ in range(PILOT_DRAWS):
        yield float(generator.beta(votes[label] + 0.5, votes.n - votes[label] + 0.5))


def _flops(dataset: Dataset, job: Job, device: str) -> int | None:
    """Floating-point operations of one copy, 2 x MAC: counted by shapes alone where the method can be built so."""
    exact = replace(job, spec=replace(job.spec, precision="fp32"))
    found = total(lambda: build(job, "meta", dataset), job.spec.shape, "meta")
    return found or total(lambda: build(exact, device, dataset), job.spec.shape, device)
