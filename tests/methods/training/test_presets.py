"""Presets and what they have in common: every setting stands in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.runs.registry import methods
from methods.training.presets import SCOPE, base_values, own_values, read_folder

BASES, ENTRIES = read_folder()


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: "-".join(entry[key] for key in ("method", "stage", "name"))
)
def test_no_preset_repeats_what_its_bases_give(entry: Mapping[str, Any]) -> None:
    base = base_values(BASES, entry)
    own = own_values(entry)
    assert {key for key, value in own.items() if key in base and base[key] == value} == set()
    whole = {**base, **own}
    for sigma, values in entry.get("sigma", {}).items():
        assert {(sigma, key) for key, value in values.items() if whole[key] == value} == set()


def test_every_value_of_a_base_reaches_a_preset() -> None:
    for position, base in enumerate(BASES):
        unused = set(base) - set(SCOPE)
        for entry in ENTRIES:
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


def test_a_later_base_counts_before_an_earlier_one_and_others_not_at_all() -> None:
    entry = {"method": "a", "stage": "train", "dataset": "digits"}
    bases: list[dict[str, Any]] = [
        {"lr": 1.0, "batch": 8},
        {"stage": "train", "dataset": "digits", "lr": 2.0},
        {"stage": "train", "dataset": "cifar10", "lr": 3.0},
        {"method": "b", "lr": 4.0},
    ]
    assert base_values(bases, entry) == {"lr": 2.0, "batch": 8}
