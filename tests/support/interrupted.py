"""Stages that are interrupted and resumed, for the tests that compare them with uninterrupted ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.types import TrainRequest
from methods.training import run_stage as around
from methods.training.loop import Intervals, run

Stage = Callable[[TrainRequest], Mapping[str, Any]]


def whole_and_parts(
    train: Stage, asked: TrainRequest, folder: Path, monkeypatch: pytest.MonkeyPatch, *, stop_after: int = 2
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Reports of a run in one go, and of one that is interrupted after a few steps and then resumed."""
    whole = train(dataclasses.replace(asked, out=folder / "whole"))
    parts = dataclasses.replace(asked, out=folder / "parts")

    def cut_short(task: Any, out: Path, resume: bool) -> float:
        return run(task, out, resume=resume, intervals=Intervals(stop_after=stop_after))

    with monkeypatch.context() as patch:
        patch.setattr(around, "run", cut_short)
        with pytest.raises(KeyboardInterrupt):
            train(parts)
    return whole, train(dataclasses.replace(parts, resume=True))
