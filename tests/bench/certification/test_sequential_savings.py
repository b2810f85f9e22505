"""What the sequential certifier saves, and costs, on the images of published logs: exact expectations, no sampling."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm

from bench.certification.bounds import lower_bound
from bench.certification.curtailment import curtail, expected_copies
from bench.certification.operating_characteristic import operating
from bench.certification.sequential import design

N, ALPHA = 100_000, 0.001
# The radii of the rRCM paper's Tables 1 and 2, as far as each sigma reaches.
IMAGENET = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
CIFAR10 = (0.0, 0.25, 0.5, 0.75, 1.0)
# Cohen et al. 2019: their logs of networks trained and certified at one sigma. The paper says alpha = 0.001; the radii
# themselves lie on the grid of 0.01 in all but the last, and a probability must be read back by what was used.
LOGS = [
    ("imagenet/resnet50/noise_0.25/test/sigma_0.25", 0.25, IMAGENET[:2], 0.01),
    ("imagenet/resnet50/noise_0.50/test/sigma_0.50", 0.5, IMAGENET[:4], 0.01),
    ("imagenet/resnet50/noise_1.00/test/sigma_1.00", 1.0, IMAGENET, 0.01),
    ("cifar10/resnet110/noise_0.25/test/sigma_0.25", 0.25, CIFAR10[:4], 0.01),
    ("cifar10/resnet110/noise_0.50/test/sigma_0.50", 0.5, CIFAR10, 0.01),
    ("cifar10/resnet110/noise_1.00/test/sigma_1.00", 1.0, CIFAR10, 0.001),
]


@dataclass(frozen=True, slots=True)
class Compared:
    """One log: the mean samples of both procedures, and each cell of the table."""

    name: str
    sequential: float  # mean samples an image
    curtailed: float
    cells: tuple[tuple[float, float], ...]  # a radius: expected certified accuracy by fixed n, and sequentially


def probabilities(path: Path, sigma: float, logged_alpha: float) -> Iterator[float]:
    """The true class's probability of each image, as far as a log tells."""
    generator = np.random.default_rng(0)
    for line in path.read_text().splitlines()[1:]:
        _, _, predicted, radius, correct, _ = line.split("\t")
        certified = norm.cdf(float(radius) / sigma)
        if int(predicted) == -1:
            yield generator.uniform(0, 0.5)
        elif int(correct):
            successes = bisect_left(range(N), certified, key=lambda k: lower_bound(k, N, logged_alpha))
            yield successes / N
        else:  # another class has at least `certified`
            yield generator.uniform(0, 1 - certified)


def rounded(p: float) -> float:
    """To 0.02 standard deviations: fewer distinct images, and both procedures see the same."""
    return float(norm.cdf(round(np.clip(norm.ppf(p), -4, 4.5) * 50) / 50))


def compare(path: Path, name: str, sigma: float, radii: tuple[float, ...], logged_alpha: float) -> Compared:
    plan = design(sigma, radii, N, ALPHA)
    fixed = curtail(sigma, radii, N, ALPHA)
    images = Counter(map(rounded, probabilities(path, sigma, logged_alpha)))
    total = sum(images.values())
    sequential = curtailed = 0.0
    cells = np.zeros((len(radii), 2))
    for p, count in images.items():
        known = operating(plan, p)
        sequential += count / total * known.samples
        curtailed += count / total * expected_copies(fixed, p, block=1000)
        cells[:, 0] += count / total * binom.sf(np.array(fixed.need) - 1, N, p)
        cells[:, 1] += count / total * np.array(known.accept)
    return Compared(name, sequential, curtailed, tuple((a, b) for a, b in cells.tolist()))


@pytest.fixture(scope="module")
def compared(shared: Path) -> list[Compared]:
    root = shared / "logs" / "locuslab__smoothing" / "data" / "certify"
    if not root.is_dir():
        pytest.skip("../shared/logs/locuslab__smoothing is absent")
    return [compare(root / log[0], *log) for log in LOGS]


def test_ten_times_fewer_samples_fill_the_published_tables(compared: list[Compared]) -> None:
    mean = sum(log.sequential for log in compared) / len(compared)
    assert N / mean >= 10, [(log.name, N / log.sequential) for log in compared]


def test_no_published_cell_moves_by_more_than_a_fifth_of_a_point(compared: list[Compared]) -> None:
    for log in compared:
        for fixed, sequential in log.cells:
            assert abs(sequential - fixed) <= 0.002, log


def test_exact_curtailment_saves_little_on_the_same_images(compared: list[Compared]) -> None:
    mean = sum(log.curtailed for log in compared) / len(compared)
    assert 1.1 < N / mean < 1.5
