"""The condition under which a random base classifier is certified: its own noise is fresh, and independent of all else.

Scores below are sums of products of standard normals, divided by the root of their number: N(0, 1) if independent. The
noise is keyed, so that a test either always passes or never; drawn anew, |score| < 6 would fail once in 10^9.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from both_stages import both_stages
from diffusion_settings import (
    SIGMA,
    NoNoise,
    Watched,
    copies_of_digits,
    own_noise,
    setting,
    smoothing_noise,
    with_weights,
)
from torch import Tensor

from bench.smoothing.noise import ESTIMATE, SELECT, NoiseKey
from bench.smoothing.voting import draw
from bench.testing.conformance import check_method
from bench.types import Method, Scalar
from methods.dds import DDS
from methods.densepure import DENSEPURE
from methods.diffsmooth import DIFFSMOOTH
from methods.diffusion import denoising
from methods.diffusion.schedules import Subsequence
from methods.diffusion.unets import UNet

COPIES, VOTES, STEPS = 40, 5, 4

ALL: list[tuple[Method, dict[str, Scalar]]] = [
    (DDS, {}),
    (DDS, {"noise": "grid"}),
    (DENSEPURE, {"steps": 3, "votes": 4}),
    (DENSEPURE, {"steps": 1, "votes": 1}),
    (DIFFSMOOTH, {"local_noises": 4}),
    (DIFFSMOOTH, {"local_noises": 4, "local": "fresh", "vote": "hard"}),
]


def score(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one * other).double().sum() / one.numel() ** 0.5)


def reverse_noise(monkeypatch: pytest.MonkeyPatch, first: int, copies: int) -> Tensor:
    """What DensePure's sampler is given: (votes, steps - 1, copies, C, H, W)."""
    passes: list[Tensor] = []

    def watch(unet: UNet, sub: Subsequence, x_t: Tensor, randn: Callable[[], Tensor]) -> Tensor:
        used = torch.stack([randn() for _ in sub.times[1:]])  # (steps - 1, votes of this pass * copies, C, H, W)
        passes.append(used.unflatten(1, (-1, copies)).transpose(0, 1))
        return x_t.clamp(-1, 1)

    monkeypatch.setattr(denoising, "reverse", watch)
    classifier = DENSEPURE.build(setting(DENSEPURE, steps=STEPS, votes=VOTES))
    classifier.predict(copies_of_digits(first, copies), own_noise(first, copies))
    return torch.cat(passes)


def test_densepures_noise_is_independent_of_the_smoothing_noise_and_of_other_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    xi, eps = reverse_noise(monkeypatch, 0, COPIES), smoothing_noise(0, COPIES)
    assert xi.shape == (VOTES, STEPS - 1, COPIES, 1, 8, 8)
    assert abs(float(xi.var()) - 1) < 0.05
    for vote in range(VOTES):
        for step in range(STEPS - 1):
            here = xi[vote, step]
            assert abs(score(here, eps)) < 6  # a sample's own smoothing noise
            for shift in (1, 7):  # another sample's smoothing noise, and its reverse noise
                assert abs(score(here, eps.roll(shift, 0))) < 6
                assert abs(score(here, here.roll(shift, 0))) < 6


def test_densepures_votes_and_steps_have_noise_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = reverse_noise(monkeypatch, 0, COPIES).flatten(0, 1)  # (votes * (steps - 1), ...)
    for i in range(len(rows)):
        for j in range(i):
            assert abs(score(rows[i], rows[j])) < 6


def test_the_batch_does_not_move_which_noise_a_sample_a_vote_and_a_step_get(monkeypatch: pytest.MonkeyPatch) -> None:
    # 40 copies take one vote a pass, 10 take all five: the same noise all the same.
    whole = reverse_noise(monkeypatch, 0, COPIES)
    parts = torch.cat([reverse_noise(monkeypatch, first, 10) for first in range(0, COPIES, 10)], dim=2)
    assert torch.equal(whole, parts)


def test_fresh_local_noise_is_independent_of_all_else() -> None:
    noise = Watched(own_noise(0, COPIES))
    DIFFSMOOTH.build(setting(DIFFSMOOTH, local="fresh", local_noises=3)).predict(copies_of_digits(0, COPIES), noise)
    eps = smoothing_noise(0, COPIES)
    assert len(noise.drawn) == 3
    for i, local in enumerate(noise.drawn):
        assert abs(score(local, eps)) < 6
        assert abs(score(local, local.roll(1, 0))) < 6
        assert all(abs(score(local, other)) < 6 for other in noise.drawn[:i])


def test_fixed_local_noise_is_one_for_all_samples_and_keyed_by_the_seed() -> None:
    from dataclasses import replace

    made = setting(DIFFSMOOTH)
    first, again, other = (DIFFSMOOTH.build(replace(made, seed=seed)).fixed for seed in (0, 0, 1))  # type: ignore[attr-defined]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    eps = smoothing_noise(0, len(first))
    assert abs(score(first, eps)) < 6


def test_the_grids_noise_is_the_certifiers_and_an_independent_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[tuple[Tensor, float]] = []

    def watch(unet: UNet, x_t: Tensor, t: int) -> Tensor:
        states.append((x_t, float(unet.schedule.alphas_bar[t])))
        return x_t.clamp(-1, 1)

    monkeypatch.setattr(denoising, "one_shot", watch)
    x, eps = copies_of_digits(0, 200), smoothing_noise(0, 200)
    # cosine-1000: the first level with no less noise is up to 0.3 % above, too little to see; a coarse sigma is not
    classifier = DDS.build(setting(DDS, noise="grid"))
    classifier.top_up = 0.3  # type: ignore[attr-defined]
    classifier.predict(x, own_noise(0, 200))
    state, abar = states[0]
    added = (state / abar**0.5 + 1) / 2 - x
    assert abs(float(added.std()) - 0.3) < 0.3 * 0.05  # 12 800 values: 8 standard deviations
    assert abs(score(added / 0.3, eps)) < 6
    assert abs(score(added / 0.3, (added / 0.3).roll(1, 0))) < 6


@pytest.mark.parametrize(("method", "params"), ALL)
def test_splitting_a_batch_moves_no_vote(method: Method, params: dict[str, Scalar], tmp_path: Path) -> None:
    classifier = method.build(with_weights(setting(method, **params), tmp_path))
    n = 96  # more than share a pass, and halves that do not
    whole = classifier.predict(copies_of_digits(0, n), own_noise(0, n))
    assert len(whole.unique()) > 2
    for cuts in ((0, 48, n), (0, 5, 70, n)):
        parts = [classifier.predict(copies_of_digits(a, b - a), own_noise(a, b - a)) for a, b in pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(("method", "params"), ALL)
def test_the_harness_counts_the_same_votes_in_any_batch(
    method: Method, params: dict[str, Scalar], tmp_path: Path
) -> None:
    classifier = method.build(with_weights(setting(method, **params), tmp_path))
    x = copies_of_digits(3, 1, sigma=0.0)[0]
    seen = [
        both_stages(classifier, x, seed=0, fingerprint="f", sigma=SIGMA, n0=9, n=70, batch=batch)
        for batch in (70, 32, 9)
    ]
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][1].votes) > 1


@pytest.mark.parametrize("method", [DENSEPURE, DIFFSMOOTH])
def test_selection_and_estimation_have_different_inner_noise(method: Method, tmp_path: Path) -> None:
    params = {"local": "fresh"} if method is DIFFSMOOTH else {}
    noises = []

    class Spy:
        num_classes = 10

        def predict(self, x: Tensor, noise: object) -> Tensor:
            watched = Watched(noise)  # type: ignore[arg-type]
            labels = method.build(setting(method, **params)).predict(x, watched)
            noises.append(watched.drawn[0])
            return labels

    x = torch.zeros(1, 8, 8)
    for stage in (SELECT, ESTIMATE):
        draw(Spy(), x, key=NoiseKey(0, "f", SIGMA, stage), n=20, batch=20)
    assert abs(score(noises[0], noises[1])) < 6


@pytest.mark.parametrize(("method", "params"), ALL)
def test_every_claim_of_the_protocol_holds(method: Method, params: dict[str, Scalar], tmp_path: Path) -> None:
    made = with_weights(setting(method, **params), tmp_path)
    findings = check_method(method.build(made), (1, 8, 8), build=lambda: method.build(made))
    assert [finding for finding in findings if not finding.ok] == []


@pytest.mark.parametrize(
    ("method", "params"), [(DDS, {}), (DIFFSMOOTH, {"local": "fixed"}), (DENSEPURE, {"steps": 1, "votes": 1})]
)
def test_a_deterministic_base_classifier_draws_nothing(method: Method, params: dict[str, Scalar]) -> None:
    labels = method.build(setting(method, **params)).predict(copies_of_digits(0, 4), NoNoise())
    assert labels.shape == (4,)
