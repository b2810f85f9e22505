"""A few of the digits to train on: what holds of a stage holds of 320 images, at a quarter of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from bench.data.arrays import ArrayDataset
from bench.data.class_order import open_source
from bench.data.digits import open_digits
from methods.training import run_stage

COUNTS = {"train": 320, "test": 100}


@cache
def first(split: str) -> ArrayDataset:
    whole, count = open_digits(None, None, split), COUNTS[split]
    return replace(
        whole, values=whole.values[:count], labels=whole.labels[:count], length=count, covered=(range(count),)
    )


@contextmanager
def few_digits() -> Iterator[None]:
    """Every stage trains on the first of them, and is tested on the first of the others."""

    def opened(source: Any, root: Any, size: Any, split: str, *choices: Any) -> Any:
        return first(split) if source.name == "digits" else open_source(source, root, size, split, *choices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_stage, "open_source", opened)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_digits() -> Iterator[None]:
    with few_digits():
        yield
