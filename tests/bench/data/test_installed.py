"""A dataset's facts stand on its source, and a stranger's counts as much as a built-in one's."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import published_logs as made
import pytest

from bench.data import installed
from bench.data.installed import installed_dataset, installed_datasets, natural_radii
from bench.published.logs.reading import read_log
from bench.published.logs.subsets import subset_of
from bench.runs import registry
from bench.types import RADII, DatasetSource
from bench.types.errors import DataError, MethodError
from methods.nets.scales import read, scale_of
from methods.noise_trained import crop_side

SOURCE = """
from bench.types import DatasetSource, PublishedLogs

TILES = DatasetSource(
    name="tiles", title="", cite="", default_subset="all", open=lambda root, size, split: None, num_classes=4,
    crop=96, images={"test": 40}, radii=[0, 0.1, 0.3], statistics=((0.5, 0.25, 0.125), (0.2, 0.2, 0.1)),
    logs=PublishedLogs(names="tiles", others="tiles[-_]?c(?![a-z0-9])", called="the tiles' test set",
                       subsets=("skip:2",), order="class-sorted", class_size=10),
)
ODD = 3
"""
POINTS = "[rrcm_bench.datasets]\ntiles = tiles_of_a_stranger:TILES\ngone = tiles_of_a_stranger:GONE\n"


@pytest.fixture
def tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an installer leaves of a package with a dataset, and with one that is broken."""
    (tmp_path / "tiles_of_a_stranger.py").write_text(SOURCE)
    info = tmp_path / "tiles-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiles\nVersion: 1\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    for memory in (installed._points, registry._points):
        memory.cache_clear()
    yield
    for memory in (installed._points, registry._points):
        memory.cache_clear()


def source(**facts: object) -> DatasetSource:
    return DatasetSource(name="x", title="", cite="", default_subset="all", open=lambda: None, **facts)  # type: ignore[arg-type]


def test_a_source_that_states_no_fact_has_the_usual_ones() -> None:
    plain = source()
    assert (plain.radii, plain.crop, plain.statistics, plain.logs, dict(plain.images)) == (RADII, None, None, None, {})
    assert RADII == (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2)


@pytest.mark.parametrize("radii", [(), (0.5, 0.25), (0, 0), (-0.5, 1), (0, float("nan")), (0, float("inf")), ("0",)])
def test_radii_that_no_table_can_have_are_refused(radii: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="ascending"):
        source(radii=radii)


def test_the_natural_radii_are_those_of_the_published_tables() -> None:
    assert natural_radii("imagenet") == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    assert natural_radii("cifar10") == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert natural_radii("somebody's folder")[-1] == 2.0


def test_tables_on_an_installed_dataset_are_printed_at_its_own_radii(tiles: None) -> None:
    assert natural_radii("tiles") == (0, 0.1, 0.3)
    assert natural_radii("tiles@0123456789") == (0, 0.1, 0.3)  # of a stranger's file that gives itself its name
    assert natural_radii("not-installed") == RADII
    assert registry.dataset("tiles") is installed_dataset("tiles")


def test_photographs_are_cropped_as_their_dataset_says(tiles: None) -> None:
    sides = {"tiles": 96, "folder": 224, "imagenet": 224, "digits": None, "nobody's": None}
    assert {name: crop_side(name) for name in sides} == sides


def test_a_run_is_known_by_the_numbers_of_a_stranger_s_statistics(tiles: None) -> None:
    numbers = "0.5,0.25,0.125/0.2,0.2,0.1"
    assert read("mean_std", "tiles", "tiles") == read("mean_std", "digits", "tiles") == numbers
    assert read("mean", "tiles", "tiles") == "0.5,0.25,0.125/1,1,1"
    assert scale_of("mean_std", "tiles") == scale_of(numbers, "")
    assert read("mean_std", "tiles", "digits") == "mean_std_digits"
    with pytest.raises(MethodError, match="known for cifar10, imagenet, digits"):
        read("mean_std", "tiles", "nobody's")


def test_a_log_is_told_by_what_the_dataset_says_of_its_logs(tiles: None, tmp_path: Path) -> None:
    def subset(name: str, index: int = 0) -> tuple[str, str, bool, str]:
        rows = [(index + 2 * k, k // 5, k // 5, 0.3, 1.0) for k in range(20)]
        text = made.cohen([row if row[0] < 40 else (row[0], 9, 9, 0.3, 1.0) for row in rows])
        found = subset_of(read_log(made.put(tmp_path / name / "noise_0.50", text)), installed_datasets())
        return found.dataset, found.words, found.unusual, re.sub(r"\d+", "N", found.contrary)

    assert subset("tiles") == ("tiles", "skip:2", False, "")
    assert subset("old_tiles", index=1) == ("tiles", "skip:2+1", True, "")
    assert subset("tiles", index=2) == ("", "skip:2", False, "index N is beyond the N images of tiles's test set")
    other = "its path names 'tiles-c', which has other images than the tiles' test set"
    assert subset("tiles-c")[::3] == ("", other)


def test_a_broken_dataset_hinders_no_other(tiles: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = installed_datasets()
    assert {"tiles", "digits", "cifar10", "imagenet"} <= found.keys()
    assert "gone" not in found
    assert "'gone' (tiles_of_a_stranger:GONE) cannot be imported" in caplog.text
