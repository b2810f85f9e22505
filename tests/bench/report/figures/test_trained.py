"""Figures over settings of training: which runs are compared, by what their weights say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_runs import run

from bench.report.figures.trained import FIGURES, by_number, training_drawings
from bench.report.grouping import groups
from bench.report.training_records import SIDECAR, list_text, read_records, settings_of
from bench.types.errors import ReportError

FIRST = {
    "batch": 64,
    "size": "tiny",
    "tau": 0.2,
    "consistency_ema": 0.0,
    "objective": "rrcm",
    "t_max": 80.0,
    "pairing": "adjacent",
    "levels": "",
    "keep_every": 0,
    "workers": 0,
    "steps": 400,
}


def trained(settings: dict[str, Any], parents: dict[str, str], *, done: int = 400, seed: int = 0) -> dict[str, Any]:
    more = {"parents": parents, "data": {"fingerprint": "f"}, "steps": done, "of_steps": 400, "seed": seed}
    return {"numbers": 1000, "training": {"settings": settings, **more}}


def made(*changes: dict[str, Any], done: int = 400, seed: int = 0) -> tuple[list[Any], dict[str, Any]]:
    """A fine-tuned run for each pre-training that differs so from the first."""
    runs, records = [], {}
    for k, change in enumerate(changes):
        own = {key: value for key, value in change.items() if key not in ("done", "seed")}
        records[f"p{k}"] = trained({**FIRST, **own}, {}, done=change.get("done", done), seed=change.get("seed", seed))
        records[f"t{k}"] = trained({"batch": 64, "size": own.get("size", "tiny")}, {"init": f"p{k}"})
        runs.append(run([1000, 900, 0], weights={"network": f"t{k}"}))
    return runs, records


def panels(name: str, runs: list[Any], records: dict[str, Any]) -> list[str]:
    """The legends of the figure's first axes."""
    drawn = training_drawings([name], groups(runs, "pa"), records)
    figure = drawn[0].draw()
    return [text.get_text() for axis in figure.axes if (legend := axis.get_legend()) for text in legend.get_texts()]


def test_runs_are_compared_that_differ_in_the_settings_of_the_figure_alone() -> None:
    runs, records = made({}, {"batch": 128}, {"tau": 0.5}, {"batch": 32, "seed": 1}, {"batch": 256, "tau": 0.5})
    found = training_drawings(["4"], groups(runs, "pa"), records)
    labels = [[text.get_text() for text in each.draw().axes[0].get_legend().get_texts()] for each in found]
    # The fourth has another seed, and tau 0.5 is a figure of its own.
    assert sorted(labels) == [["batch=64", "batch=128"], ["batch=64", "batch=256"]]
    assert len({each.name for each in found}) == 2
    with pytest.raises(ReportError, match=r"alike but for t_max.*--trained"):
        training_drawings(["11"], groups(runs, "pa"), records)


def test_how_steps_are_executed_is_no_difference() -> None:
    runs, records = made({"keep_every": 50, "workers": 3}, {"batch": 128})
    assert panels("4", runs, records)[:2] == ["batch=64", "batch=128"]


def test_a_budget_is_of_the_steps_that_were_done() -> None:
    runs, records = made({}, {"done": 100}, {"done": 200})
    assert panels("budget", runs, records)[:3] == ["steps=100", "steps=200", "steps=400"]


def test_the_trajectory_is_one_panel_of_all_its_settings() -> None:
    runs, records = made({}, {"t_max": 1.0}, {"pairing": "initial", "levels": "0.5"})
    assert panels("11", runs, records) == [
        "t_max=1, pairing=adjacent",
        "t_max=80, pairing=adjacent",
        "t_max=80, pairing=initial, levels=0.5",
    ]


def test_weights_without_a_record_or_a_parent_are_in_no_figure() -> None:
    runs, records = made({}, {"batch": 128})
    del records["p1"]
    assert settings_of(runs[1], records) is None
    with pytest.raises(ReportError, match="--trained"):
        training_drawings(["4"], groups(runs, "pa"), records)


def test_a_list_of_records_is_read_as_it_was_written(tmp_path: Path) -> None:
    _, records = made({}, {"batch": 128})
    (tmp_path / SIDECAR).write_text(list_text(records))
    assert read_records([tmp_path]) == records
    (tmp_path / "run").mkdir()
    assert read_records([tmp_path / "run"]) == records  # a run's own folder lies in it


@pytest.mark.parametrize("text", ["[", "{}", json.dumps({"format": 1, "weights": {"a": {"numbers": 1}}}), "3"])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SIDECAR).write_text(text)
    with pytest.raises(ReportError, match=r"training\.json"):
        read_records([tmp_path])


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("3", "size"),
        ("4", "batch"),
        ("budget", "steps"),
        ("9", "objective"),
        ("10", "consistency_ema"),
        ("11", "t_max"),
    ],
)
def test_a_figure_without_its_runs_says_how_to_make_them(name: str, setting: str) -> None:
    with pytest.raises(ReportError, match=rf"alike but for {setting}.*--set {setting}=\.\.\..*--trained") as caught:
        training_drawings([name], (), {})
    assert "\n" not in str(caught.value)


def test_sizes_stand_over_their_numbers_and_the_bars_are_named() -> None:
    runs, records = made({"size": "nano"}, {"size": "tiny"})
    records["t1"]["numbers"] = 123_456
    [drawing] = training_drawings(["3"], groups(runs, "pa"), records)
    figure = drawing.draw()
    figure.canvas.draw()
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["0.001", "0.123"]
    assert "95 % Wilson" in figure.get_suptitle()


def test_figures_go_by_their_numbers() -> None:
    assert by_number(["1", "accuracy", "9", "6", "budget"]) == (["9", "budget"], ["latency", "accuracy", "schedule"])
    with pytest.raises(ReportError, match="rrcm-bench generate"):
        by_number(["8"])
    assert {"3", "4", "9", "10", "11"} <= set(FIGURES)
