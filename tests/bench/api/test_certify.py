"""`certify` and `predict` from Python count the votes that the command line counts, on whatever form images come in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import rrcm_bench
from bench.runs.certify import build, open_dataset
from bench.runs.request import RunRequest, plan
from bench.types import ABSTAIN
from bench.types.errors import BenchError, MethodError
from methods.training.rng import seeded_globals

SHAPE = (1, 4, 4)


def half_space(x: torch.Tensor) -> torch.Tensor:
    """Logits of the side of a plane: the radius of an image is its distance."""
    score = x.flatten(1).sum(1) / 4 - 2
    return torch.stack([-score, score], 1)


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


@seeded_globals(1)
def test_the_votes_of_the_command_line_are_counted_on_the_same_images(cli, tmp_path: Path) -> None:
    words = ("--methods", "gaussian", "--dataset", "digits", "--sigma", "0.5", "--n", "300", "--limit", "4")
    assert cli("run", *words, "--out", "runs").code == 0
    (run,) = rrcm_bench.load_runs("runs")
    (job,) = plan(RunRequest(methods=("gaussian",), dataset="digits", sigmas=(0.5,), n=300, limit=4))
    dataset = open_dataset(job)
    network = build(job, "cpu", dataset).network  # type: ignore[attr-defined]  # a plain module: pixels to logits
    pixels = torch.stack([torch.from_numpy(dataset[index].pixels) for index in job.indices])
    labels = torch.tensor([dataset.label(index) for index in job.indices])
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=3)
    made = rrcm_bench.certify(network, loader, sigma=0.5, n=300, batch=70)
    stored, ours = run.certificates(), made
    assert [c.fingerprint for c in ours] == [c.fingerprint for c in stored]
    assert [c.selection for c in ours] == [c.selection for c in stored]
    assert [c.estimation for c in ours] == [c.estimation for c in stored]
    assert (ours.label, ours.radius) == (stored.label, stored.radius)
    assert [c.target for c in ours] == [c.target for c in stored] == labels.tolist()
    assert made.certified_accuracy(0.25) == stored.certified_accuracy(0.25)
    # ... and of a built method, one image by itself
    (alone,) = rrcm_bench.certify(build(job, "cpu", dataset), pixels[2], sigma=0.5, n=300)
    assert (alone.selection, alone.estimation) == (stored[2].selection, stored[2].estimation)


def test_radii_are_those_of_the_half_space() -> None:
    x = images(20)
    made = rrcm_bench.certify(half_space, x, sigma=0.5, n=20_000, alpha=1e-9)
    distance = (x.flatten(1).sum(1) / 4 - 2).tolist()
    for certificate, exact in zip(made, distance, strict=True):
        assert certificate.radius <= abs(exact)  # fails for one of 20 in 5 * 10**7 seeds
        assert certificate.label in (ABSTAIN, int(exact > 0))
        assert certificate.radius > abs(exact) - 0.1


@pytest.mark.parametrize(
    "given",
    [
        images(),
        images().numpy(),
        images().double(),
        DataLoader(TensorDataset(images()), batch_size=2),
        list(images()),
        TensorDataset(images(), torch.arange(3)),
        [(images()[:1], [0]), (images()[1:], torch.tensor([1, 2]))],
    ],
    ids=["batch", "numpy", "double", "loader", "list", "dataset", "pairs"],
)
@seeded_globals(1)  # a DataLoader draws a seed for workers that it does not have
def test_no_form_of_the_images_moves_a_vote(given: object) -> None:
    expected = rrcm_bench.certify(half_space, images(), n=100, batch=7)
    found = rrcm_bench.certify(half_space, given, n=100, batch=64)
    assert [c.estimation for c in found] == [c.estimation for c in expected]
    assert [c.index for c in found] == [0, 1, 2]


def test_numbers_of_copies_may_be_written_as_powers_of_ten() -> None:
    made = rrcm_bench.certify(half_space, images(), n=1e3, n0=1e2)  # type: ignore[arg-type]
    assert (made.spec.n, type(made.spec.n), made.spec.n0) == (1000, int, 100)
    assert made.radius == rrcm_bench.certify(half_space, images(), n=1000).radius
    for n in (100.5, float("nan"), float("inf"), "100", None, True):
        with pytest.raises(BenchError, match="n must be a whole number"):
            rrcm_bench.certify(half_space, images(), n=n)  # type: ignore[arg-type]
        with pytest.raises(BenchError, match="n must be a whole number"):
            rrcm_bench.predict(half_space, images(), n=n)  # type: ignore[arg-type]


def test_labels_in_place_of_logits_give_the_same_certificates() -> None:
    logits = rrcm_bench.certify(half_space, images(), n=100)
    labels = rrcm_bench.certify(lambda x: half_space(x).argmax(1).int() * 5000, images(), n=100)
    assert labels.radius == logits.radius
    assert labels.label == [5000 * label if label > 0 else label for label in logits.label]


def test_a_sequential_certificate_is_a_radius_of_the_grid() -> None:
    x = torch.stack([torch.ones(SHAPE), torch.full(SHAPE, 0.6)])
    made = rrcm_bench.certify(half_space, x, n=10_000, certifier="sequential", radii=(0.0, 0.25, 0.5, 3.0))
    assert made.radius == [0.5, 0.25]  # the distances are 2 and 0.4; 3.0 lies beyond what 10 000 copies can show
    assert made[0].estimation.n < 10_000


def test_predictions_are_those_of_the_first_copies_of_the_certificate() -> None:
    made = rrcm_bench.predict(half_space, images(), n=100)
    certified = rrcm_bench.certify(half_space, images(), n=100)
    assert [p.counts for p in made] == [c.estimation for c in certified]
    on_the_plane = rrcm_bench.predict(half_space, torch.full(SHAPE, 0.5), n=100)
    assert on_the_plane.label == [ABSTAIN]
    frame = made.to_pandas()
    assert list(frame.label) == made.label
    assert frame.attrs["n"] == 100


def test_a_frame_has_a_row_an_image_and_says_what_it_was_made_with() -> None:
    made = rrcm_bench.certify(half_space, [(images(), torch.tensor([0, 1, 0]))], n=100, n0=10, sigma=0.25)
    frame = made.to_pandas()
    assert list(frame.label) == made.label
    assert list(frame.target) == [0, 1, 0]
    assert list(frame.correct) == [c.correct for c in made]
    assert [sum(votes.values()) for votes in frame.selection] == [10] * 3
    assert [sum(votes.values()) for votes in frame.estimation] == [100] * 3
    assert (frame.attrs["sigma"], frame.attrs["n"]) == (0.25, 100)
    assert rrcm_bench.certify(half_space, images(), n=100).to_pandas().target.isna().all()


class InTraining(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return half_space(x)


@pytest.mark.parametrize(
    ("model", "x", "said"),
    [
        (half_space, images() * 255, r"within \[0, 1\]"),
        (half_space, images().byte(), "divide by 255"),
        (half_space, images() - 0.1, r"within \[0, 1\]"),
        (half_space, images() * float("nan"), r"within \[0, 1\]"),
        (half_space, images()[0, 0], "an array of 2 axes"),
        (half_space, [images(), images()[..., :2]], "images of one shape"),
        (half_space, [], "no image"),
        (half_space, 3, "got int"),
        (half_space, "images", "got str"),
        (half_space, [(images(), [0, 1])], "3 images with 2 labels"),
        (half_space, [(images(), [0.5, 1.0, 1.0])], "labels as whole numbers"),
        (lambda x: x, images(), r"logits \(B, K\) or labels"),
        (lambda x: x.flatten(1).mean(1), images(), "whole numbers"),
        (lambda x: x.flatten(1)[:, :1], images(), "one logit"),
        (lambda x: half_space(x) * math.nan, images(), "finite"),
        (lambda x: half_space(x).argmax(1) - 1, images(), "outside"),
        (InTraining(), images(), r"model.eval\(\)"),
        ("model", images(), "expected a callable"),
    ],
)
def test_what_cannot_be_certified_is_refused_in_one_line(model: object, x: object, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        rrcm_bench.certify(model, x, n=100)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"sigma": 0.0}, {"n": 5}, {"alpha": 0.7}, {"n0": 0}, {"certifier": "exact"}, {"precision": "fp8"}, {"batch": 0},
     {"device": "cuda:99"}],
)  # fmt: skip
def test_numbers_that_can_certify_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BenchError):
        rrcm_bench.certify(half_space, images(), **{"n": 100, **changes})  # type: ignore[arg-type]


def test_a_model_on_another_device_than_asked_for_is_refused() -> None:
    with pytest.raises(MethodError, match="the model is on meta"):
        rrcm_bench.certify(torch.nn.Linear(4, 2, device="meta").eval(), images(), device="cpu")


def test_settings_of_the_process_are_left_as_they_were() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    x = images()
    kept = x.clone()
    rrcm_bench.certify(half_space, x, n=100, precision="tf32")
    assert before == (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    assert torch.equal(x, kept)


def test_pixels_that_cannot_be_written_to_are_taken() -> None:
    x = np.broadcast_to(np.float32(0.9), (2, *SHAPE))
    assert rrcm_bench.certify(half_space, x, n=100).label == [1, 1]
