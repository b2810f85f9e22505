"""Generation from features: what the sampler depends on, and which files it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoder_files import DIGITS, encoder_file, generator_file

from bench.types import GenerateRequest, RepresentRequest, TrainRequest
from bench.types.errors import UsageError, WeightsError
from bench.weights.checkpoints import load_tensors
from methods.diffusion.conditioned import ConditionedUNet, generate
from methods.representation import represent
from methods.training.diffusion import diffusion
from methods.training.rng import seeded_globals


def request(folder: Path, **changes: object) -> GenerateRequest:
    encoder = encoder_file(folder / "encoder.safetensors")
    weights = generator_file(folder / "generator.safetensors", encoder)
    words = {"weights": weights, "encoder": encoder, "shape": DIGITS, "steps": 3, "seed": 0, "device": "cpu"}
    return GenerateRequest(**{**words, **changes})  # type: ignore[arg-type]


def test_an_image_is_the_same_whatever_is_sampled_with_it(tmp_path: Path) -> None:
    sampler = generate(request(tmp_path))
    together, alone = sampler.sample(None, 0.0, 0, 3), sampler.sample(None, 0.0, 2, 1)
    assert together.shape == (3, *DIGITS)
    assert 0 <= float(together.min()) <= float(together.max()) <= 1
    torch.testing.assert_close(together[2:], alone, rtol=0, atol=1e-5)
    assert not torch.equal(together[0], together[1])


def test_what_is_sampled_follows_from_the_features_of_the_condition(tmp_path: Path) -> None:
    sampler = generate(request(tmp_path))
    image = torch.rand(1, *DIGITS, generator=torch.Generator().manual_seed(0))
    clean, other = sampler.sample(image, 0.0, 0, 1), sampler.sample(1 - image, 0.0, 0, 1)
    assert not torch.equal(clean, other)
    assert torch.equal(clean, sampler.sample(image, 0.0, 0, 1))
    # A condition of pure noise holds nothing of the image: pixels of a half are the zero of the network's own.
    torch.testing.assert_close(sampler.sample(torch.full_like(image, 0.5), 40.0, 0, 1), sampler.sample(None, 0.0, 0, 1))


def test_another_encoder_than_that_of_the_training_is_refused(tmp_path: Path) -> None:
    other = encoder_file(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(WeightsError, match="give that one"):
        generate(request(tmp_path, encoder=other))
    with pytest.raises(WeightsError, match="condition=rrcm"):
        generate(request(tmp_path, weights=other))
    with pytest.raises(UsageError, match="--steps 0"):
        generate(request(tmp_path, steps=0))


def test_features_are_normalised_by_those_of_the_training_images() -> None:
    with seeded_globals("generator", 1):
        network = ConditionedUNet("digits_unet", shape=DIGITS, features=4)
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 5
    rows[:, 3] = 7.0
    network.normalise_by(rows.split(20))
    seen = (rows - network.mean) / network.std
    torch.testing.assert_close(seen[:, :3].mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[:, :3].std(0), torch.ones(3), rtol=1e-5, atol=0)
    assert bool(torch.isfinite(seen).all())


def train(folder: Path, **overrides: str) -> TrainRequest:
    short = {"steps": "2", "batch": "8", "warmup_steps": "0", "ema": "0", "largest_sigma": "0", "condition": "rrcm"}
    return TrainRequest(
        method="dds", stage="diffusion", dataset="digits", data_root=None, preset="", sigma=None, init=None,
        out=folder / "out", overrides={**short, **overrides}, device="cpu", seed=0, resume=False, dry_run=False,
    )  # fmt: skip


def test_training_moves_the_condition_and_not_the_encoder(tmp_path: Path) -> None:
    encoder = encoder_file(tmp_path / "encoder.safetensors")
    one, two = (
        load_tensors(
            Path(str(diffusion(train(tmp_path / steps, condition_weights=str(encoder), steps=steps))["weights"]))
        )
        for steps in ("1", "4")
    )
    moved = {name for name, value in two[0].items() if not torch.equal(value, one[0][name])}
    assert {"condition.weight", "condition.bias"} <= moved
    assert not {"mean", "std"} & moved
    sha256 = represent(RepresentRequest(weights=encoder, shape=DIGITS, device="cpu")).sha256
    assert two[1]["condition_sha256"] == sha256
    weights = tmp_path / "4" / "out" / "dds-diffusion.safetensors"
    made = generate(GenerateRequest(weights=weights, encoder=encoder, shape=DIGITS, steps=2, seed=0, device="cpu"))
    assert bool(torch.isfinite(made.sample(None, 0.0, 0, 2)).all())


@pytest.mark.parametrize(
    ("words", "said"),
    [({"condition_weights": ""}, "both or neither"), ({"largest_sigma": "1"}, "largest_sigma=0")],
)
def test_contradictions_are_refused(tmp_path: Path, words: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        diffusion(train(tmp_path, **{"condition_weights": "x", **words}))


def test_a_file_of_another_network_is_no_encoder(tmp_path: Path) -> None:
    files = request(tmp_path)
    with pytest.raises(WeightsError, match="none of its sizes"):
        represent(RepresentRequest(weights=files.weights, shape=DIGITS, device="cpu"))
    with pytest.raises(WeightsError, match="side 8"):
        represent(RepresentRequest(weights=files.encoder, shape=(3, 32, 32), device="cpu"))
