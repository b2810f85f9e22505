"""Rows of the paper's tables are timed with the paper's networks, with or without weights of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.runs.registry import method
from bench.timing.latency.request import Item, LatencyRequest, paper_items, prepare
from bench.timing.latency.session import count_item
from bench.types.errors import UsageError, WeightsError

PAPER = {
    "gaussian": ("arch", "cifar_resnet110"),
    "dds": ("denoiser", "improved_cifar10"),
    "diffsmooth": ("denoiser", "improved_cifar10"),
    "rrcm": ("size", "B"),
}


def test_a_published_row_is_the_papers_network_whatever_weights_are_known() -> None:
    # The catalogue has small networks of all four, which a plain request takes.
    request = LatencyRequest(dataset="cifar10")
    for item in paper_items(2):
        key, expected = PAPER[item.method]
        spec, setting = prepare(request, item, method(item.method))
        own, _ = prepare(request, Item(method=item.method, title="", n=10), method(item.method))
        assert (spec.params[key], setting.random_weights) == (expected, True)
        assert "random" not in own.weights.values()
        assert own.params[key] != expected


def test_weights_of_another_network_than_the_rows_are_refused() -> None:
    gaussian = next(item for item in paper_items(2) if item.method == "gaussian")
    given = LatencyRequest(dataset="cifar10", weights=("network=small/cifar10/gaussian/0.50/11700-steps",))
    said = "Gaussian is arch cifar_resnet110, the weights .* are of cifar_small_resnet; leave them out"
    with pytest.raises(WeightsError, match=said):
        prepare(given, gaussian, method("gaussian"))
    with pytest.raises(
        UsageError, match="Gaussian is arch cifar_resnet110, got --set arch=cifar_resnet20; leave it out"
    ):
        prepare(LatencyRequest(dataset="cifar10", params=("arch=cifar_resnet20",)), gaussian, method("gaussian"))


def test_weights_that_are_given_to_one_row_leave_the_others_random() -> None:
    methods = {item.method: method(item.method) for item in paper_items(2)}
    given = LatencyRequest(dataset="cifar10", weights=("gaussian.network=small/cifar10/gaussian/0.50/11700-steps",))
    for item in paper_items(2):
        if item.method != "gaussian":
            assert prepare(given, item, methods[item.method], methods)[1].random_weights


def test_what_is_projected_alone_needs_no_weights(tmp_path: Path) -> None:
    words = ["latency", "--methods", "gaussian,rrcm", "--dataset", "imagenet", "--gpu", "h200", "--json"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "latency.jsonl")])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)["rows"]
    assert [row["record"] for row in rows] == [None, None]
    assert all(row["projection"]["seconds"] > 0 for row in rows)


def test_an_item_is_counted_without_weights() -> None:
    item = Item(method="gaussian", title="gaussian", n=1000)
    counted = count_item(LatencyRequest(dataset="imagenet"), item, {"gaussian": method("gaussian")})
    assert counted.work.total_flops == pytest.approx(8.18e9, rel=0.01)  # ResNet-50 at 224: 4.09 GMAC
    with pytest.raises(WeightsError, match="random-weights"):
        prepare(LatencyRequest(dataset="imagenet"), item, method("gaussian"))
