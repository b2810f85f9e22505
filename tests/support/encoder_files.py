"""Files of networks with random weights: a pre-trained encoder, and a generator that is conditioned on it."""

from __future__ import annotations

from pathlib import Path

from bench.weights.checkpoints import sha256_of_network
from methods.diffusion.conditioned import ConditionedUNet
from methods.nets.sizes import SIZES
from methods.nets.vit import time_token_vit
from methods.training.export import export
from methods.training.rng import seeded_globals

DIGITS = (1, 8, 8)


def encoder_file(path: Path, seed: int = 0) -> Path:
    with seeded_globals("encoder", seed):
        network = time_token_vit("tiny", image_size=8, in_channels=1)
    export(path, network.state_dict(), {"size": "tiny", "normaliser": "half", "levels": "81"})
    return path


def generator_file(path: Path, encoder: Path) -> Path:
    with seeded_globals("generator", 0):
        network = ConditionedUNet("digits_unet", shape=DIGITS, features=SIZES["tiny"].output_dim)
    network.std.fill_(0.01)  # random features differ little
    meta = {"arch": "digits_unet", "prediction": "eps", "condition": "rrcm"}
    export(path, network.state_dict(), {**meta, "condition_sha256": sha256_of_network(encoder)})
    return path
