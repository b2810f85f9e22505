"""Presets and what they have in common: every setting stands in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.runs.registry import methods
from methods.training.presets import SCOPE, base_values, below, own_values, presets, read_folder

BASES, ENTRIES = read_folder()


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: "-".join(entry[key] for key in ("method", "stage", "name"))
)
def test_no_preset_repeats_what_its_bases_give(entry: Mapping[str, Any]) -> None:
    base, by_sigma = below(BASES, ENTRIES, entry)
    own = own_values(entry)
    assert {key for key, value in own.items() if key in base and base[key] == value} == set()
    whole = {**base, **own}
    for sigma, values in entry.get("sigma", {}).items():
        level = {**whole, **by_sigma.get(sigma, {})}
        assert {(sigma, key) for key, value in values.items() if level[key] == value} == set()


def test_every_value_of_a_base_reaches_a_preset() -> None:
    for position, base in enumerate(BASES):
        unused = set(base) - set(SCOPE)
        for entry in (entry for entry in ENTRIES if "loss" not in entry):
            stated_later = {*base_values(BASES[position + 1 :], entry), *own_values(entry)}
            if base_values([base], entry):
                unused &= stated_later
        assert unused == set(), {key: base.get(key) for key in SCOPE}


def test_bases_and_presets_belong_to_stages_of_methods() -> None:
    stages = {(name, stage) for name, method in methods().items() for stage in method.train}
    assert {(entry["method"], entry["stage"]) for entry in ENTRIES} <= stages
    for base in BASES:
        assert set(base) & set(SCOPE) != {"method"}, "a base of a method names its stage"
        assert any(base_values([base], entry) for entry in ENTRIES)


def test_members_are_trained_by_the_preset_of_their_loss() -> None:
    found = {preset.name: preset for preset in presets("boosting", "train")}
    consistency = {preset.name: preset for preset in presets("consistency", "train")}["cifar10"]
    assert found["cifar10-consistency"].values == {**consistency.values, "members": 10, "loss": "consistency"}
    assert found["cifar10-consistency"].sigma == consistency.sigma == {"0.25": {"lbd": 20.0}}
    small = {preset.name: preset for preset in presets("gaussian", "train")}["cifar10-small"]
    assert found["cifar10-small"].values == {**small.values, "members": 5, "loss": "gaussian"}


COPIES = {"denoised": 1, "vit_gaussian": 1, "boosting": 1, "gaussian": 1, "stability": 2}  # of an image in a step
FAMILY = [
    ("gaussian", "train", "cifar10-small"),
    ("consistency", "train", "cifar10-small"),
    ("stability", "train", "cifar10-small"),
    ("smoothadv", "train", "cifar10-small"),
    ("macer", "train", "cifar10-small"),
    ("smoothmix", "train", "cifar10-small"),
    ("boosting", "train", "cifar10-small"),
    ("vit_gaussian", "train", "cifar10-small"),
    ("denoised", "classifier", "cifar10-small"),
    ("denoised", "denoiser", "cifar10-small"),
    ("dds", "diffusion", "cifar10-small-long"),
    ("dds", "finetune", "cifar10-small"),
    ("dmae", "finetune", "cifar10-small"),
    ("rrcm", "pretrain", "cifar10-small"),
    ("rrcm", "pretrain", "cifar10-small-moco"),
    ("rrcm", "finetune", "cifar10-small"),
]


@pytest.mark.parametrize(("method", "stage", "name"), FAMILY)
def test_the_small_family_has_one_budget_of_steps_and_of_copies(method: str, stage: str, name: str) -> None:
    values = next(preset for preset in presets(method, stage) if preset.name == name).values
    steps = values.get("steps") or values["epochs"] * (50_000 // values["batch"])
    assert steps == pytest.approx(11_700, rel=0.002)
    finetuned = (method, stage) == ("rrcm", "finetune")
    copies = 2 if finetuned else COPIES.get(method, values.get("copies", 1))
    assert values["batch"] * copies == 128


def test_a_later_base_counts_before_an_earlier_one_and_others_not_at_all() -> None:
    entry = {"method": "a", "stage": "train", "dataset": "digits"}
    bases: list[dict[str, Any]] = [
        {"lr": 1.0, "batch": 8},
        {"stage": "train", "dataset": "digits", "lr": 2.0},
        {"stage": "train", "dataset": "cifar10", "lr": 3.0},
        {"method": "b", "lr": 4.0},
    ]
    assert base_values(bases, entry) == {"lr": 2.0, "batch": 8}
