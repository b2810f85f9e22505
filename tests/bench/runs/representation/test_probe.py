"""Probes of an encoder whose features are known: the pixels themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.runs import registry
from bench.runs.representation import probe as module
from bench.runs.representation.linear_probe import ProbeSettings, fit_head
from bench.runs.representation.probe import HEAD, PARTIAL, RECORD, Probe, folder_of, measure
from bench.types.errors import StoreError


class Pixels:
    """Pixels as features; counts the images that went through."""

    title, layer, sha256 = "pixels", "all pixels", "ab" * 32
    cleanest, noisiest = 0.0, 2.0

    def __init__(self) -> None:
        self.seen = 0

    def features(self, x: Tensor, sigma: float) -> Tensor:
        self.seen += len(x)
        return x.flatten(1)


def asked(encoder: Pixels, **changes: object) -> Probe:
    train, test = (registry.open_dataset("digits", None, None, split) for split in ("train", "test"))
    made = Probe(
        method="pixels", encoder=encoder, train=train, test=test, dataset="digits", subset="skip:5",
        indices=tuple(range(0, 500, 5)), sigmas=(0.0, 0.5), settings=ProbeSettings(epochs=10, entropy=0.0), seed=0,
        device="cpu",
    )  # fmt: skip
    return replace(made, **changes)


def run(probe: Probe, out: Path) -> dict:
    return measure(probe, out, training=None, tell=lambda _text: None)


def test_the_distance_along_the_trajectory_is_that_of_the_noise(tmp_path: Path) -> None:
    # The ends are x + 2 eps and x. Over 100 images and 64 pixels, eps has second moments 1 and x at most 0.25: with
    # covariance 4 I + S against S, the distance is sum((sqrt(4 + s) - sqrt(s))^2), between 64 * 1.4^2 and 64 * 4,
    # and (m2 - m1)^2 adds 64 * 4 / 100 on average.
    record = run(asked(Pixels()), tmp_path)
    assert 64 * 1.9 < record["rfd"] < 64 * 4.2


def test_order_and_batch_move_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(asked(Pixels()), tmp_path / "a")
    monkeypatch.setattr(module, "BATCH", 7)
    parts = run(asked(Pixels()), tmp_path / "b")
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["rfd"] == pytest.approx(whole["rfd"], rel=1e-6)
    assert whole["accuracy"]["0"] > 0.75 > whole["accuracy"]["0.5"]


def test_a_probe_goes_on_after_the_last_number_that_was_written(tmp_path: Path) -> None:
    whole = run(asked(Pixels()), tmp_path / "a")

    class Stops(Pixels):
        def features(self, x: Tensor, sigma: float) -> Tensor:
            if sigma == 0.5:
                raise KeyboardInterrupt
            return super().features(x, sigma)

    with pytest.raises(KeyboardInterrupt):
        run(asked(Stops()), tmp_path / "b")
    folder = folder_of(asked(Pixels()), tmp_path / "b")
    assert {path.name for path in folder.iterdir()} == {HEAD, PARTIAL}
    encoder = Pixels()
    went_on = run(asked(encoder), tmp_path / "b")
    assert encoder.seen == 300  # the noisy images, and both ends of the trajectory: the head was there
    for key in ("accuracy", "rfd", "digest"):
        assert went_on[key] == whole[key]
    assert {path.name for path in folder.iterdir()} == {HEAD, RECORD}
    again = Pixels()
    assert run(asked(again), tmp_path / "b") == went_on
    assert again.seen == 0


@pytest.mark.parametrize("change", [{"seed": 1}, {"sigmas": (0.0,)}, {"settings": ProbeSettings(epochs=11)}])
def test_other_numbers_have_another_folder(tmp_path: Path, change: dict[str, object]) -> None:
    assert folder_of(asked(Pixels(), **change), tmp_path) != folder_of(asked(Pixels()), tmp_path)


@pytest.mark.parametrize("text", ["{}", "[", json.dumps({"digest": "other", "accuracy": {}})])
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, text: str) -> None:
    folder = folder_of(asked(Pixels()), tmp_path)
    folder.mkdir()
    (folder / RECORD).write_text(text)
    with pytest.raises(StoreError, match="delete it"):
        run(asked(Pixels()), tmp_path)


def test_the_layer_separates_what_a_plane_separates() -> None:
    rows = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    labels = (rows[:, 0] > 0).long()
    rows[:, 0] += 0.5 * (2 * labels - 1)
    head = fit_head(rows, labels, 2, ProbeSettings(), seed=0)
    assert bool((head.predict(rows) == labels).all())
