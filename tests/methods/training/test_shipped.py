"""The digits weights that ship with the package: they say what they are, fit their networks, and see through noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import methods
from bench.data.digits import DIGITS
from methods.nets.architectures import build_network
from methods.nets.normalisers import Normaliser
from methods.nets.vit import TimeTokenClassifier, nearest_time, time_token_vit
from methods.training.rng import seeded_globals
from methods.training.run_stage import Logits, noisy_accuracy

FOLDER = Path(methods.__file__).parent / "pretrained" / "digits"
SIGMAS = ("0.25", "0.50", "1.00")
METHODS = ("gaussian", "consistency", "rrcm")
# The lowest of the three methods' accuracies on the 500 test images (mean of 1,000 draws), less three binomial
# standard errors: 0.929, 0.708, 0.384.
LEAST = {"0.25": 0.89, "0.50": 0.64, "1.00": 0.31}


def logits_of(path: Path, sigma: float) -> Logits:
    with safe_open(path, "pt") as opened:
        meta = opened.metadata()
    normalise = Normaliser(meta["normaliser"], "digits", channels=1)
    tensors = load_file(path)
    if meta["method"] != "rrcm":
        network = build_network(meta["arch"], num_classes=10, shape=(1, 8, 8)).eval()
        network.load_state_dict(tensors)
        return lambda x: network(normalise(x))
    encoder = time_token_vit(meta["size"], image_size=8, in_channels=1, projector=False)
    model = TimeTokenClassifier(encoder, num_classes=10, final_norm=meta["final_norm"] == "true").eval()
    model.load_state_dict(tensors)
    return lambda x: model(normalise(x), nearest_time(2 * sigma))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("method", METHODS)
@seeded_globals(1)
def test_shipped_weights_say_what_they_are_and_reach_their_accuracy(method: str, sigma: str) -> None:
    path = FOLDER / f"{method}-{sigma}.safetensors"
    assert path.stat().st_size < 2_000_000
    with safe_open(path, "pt") as opened:
        meta = opened.metadata()
    stage = "finetune" if method == "rrcm" else "train"
    expected = {"method": method, "stage": stage, "dataset": "digits", "preset": "digits", "sigma": str(float(sigma))}
    assert expected.items() <= meta.items()
    test = DIGITS.open(None, None, "test")
    with torch.inference_mode():
        share = noisy_accuracy(
            logits_of(path, float(sigma)), test, range(len(test)), sigma=float(sigma), seed=1, device="cpu"
        )
    assert share > LEAST[sigma]


def test_no_two_shipped_files_are_the_same_network() -> None:
    contents = [(FOLDER / f"{method}-{sigma}.safetensors").read_bytes() for method in METHODS for sigma in SIGMAS]
    assert len(set(contents)) == len(METHODS) * len(SIGMAS)
