"""Histology patches by class folder: the two public folders, what is refused, and a few real patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from places import SHARED_FOLDER
from report_runs import run

from bench.data.kathercolon import CLASSES, FOLDERS, KATHERCOLON, open_kathercolon
from bench.published.tables import load
from bench.report.build import build
from bench.types import Dataset
from bench.types.errors import DataError

PATCHES = SHARED_FOLDER / "data" / "histology_nct_crc"


def fill(top: Path, classes: tuple[str, ...] = CLASSES, side: int = 224) -> Path:
    for k, name in enumerate(classes):
        (top / name).mkdir(parents=True)
        for number, suffix in enumerate(("tif", "png")[: 1 + k % 2]):
            PIL.Image.new("RGB", (side, side), (20 * k, 0, number)).save(top / name / f"{name}-{number}.{suffix}")
    return top


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kather")
    fill(root / FOLDERS["train"])
    fill(root / FOLDERS["test"])
    (root / FOLDERS["test"] / "ADI" / "ADI-9.png").write_bytes(
        (root / FOLDERS["test"] / "TUM" / "TUM-0.tif").read_bytes()
    )
    return root


def labels(found: Dataset) -> list[int]:
    return [found.label(index) for index in range(len(found))]


def test_each_split_is_its_own_folder_in_the_order_of_classes_and_names(root: Path) -> None:
    train, test = (open_kathercolon(root, None, split) for split in ("train", "test"))
    assert labels(train) == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8]
    assert labels(test) == [0, *labels(train)]
    assert train.class_names == CLASSES
    first, third = test[0], train[2]
    assert first.pixels.shape == (3, 224, 224) == KATHERCOLON.shape
    assert third.pixels[:, 5, 5] == pytest.approx(np.array([20, 0, 1]) / 255)
    assert test.notes == ("14 of the 7,180 test images",)


def test_a_folder_of_classes_is_the_split_of_its_name_or_else_a_test_split(root: Path, tmp_path: Path) -> None:
    for split, name in FOLDERS.items():
        assert len(open_kathercolon(root / name, None, split)) == len(open_kathercolon(root, None, split))
        other = next(s for s in FOLDERS if s != split)
        with pytest.raises(DataError, match=f"no '{other}' split of kathercolon"):
            open_kathercolon(root / name, None, other)
    elsewhere = fill(tmp_path / "patches")
    assert len(open_kathercolon(elsewhere, None, "test")) == 13
    with pytest.raises(DataError, match="no 'train' split"):
        open_kathercolon(elsewhere, None, "train")  # test images are no training images


def test_what_is_not_kathercolon_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    small, eight = fill(tmp_path / "small", side=32), fill(tmp_path / "eight", CLASSES[:8])
    fill(tmp_path / "ten", (*CLASSES, "XXX"))
    for path, size, split, words in (
        (None, None, "test", "needs --data-root"),
        (tmp_path / "absent", None, "test", "is no folder"),
        (root, 112, "test", "got size 112"),
        (root, None, "val", "splits 'train' and 'test'"),
        (small, None, "test", "is 32x32, expected 224x224"),
        (eight, None, "test", "differs in the class folder 'TUM'"),
        (tmp_path / "ten", None, "test", "differs in the class folder 'XXX'"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            open_kathercolon(path, size, split)
        assert "\n" not in str(caught.value)


def test_real_patches_open_whatever_their_format() -> None:
    if not PATCHES.is_dir():
        pytest.skip(f"no {PATCHES}")
    found = open_kathercolon(PATCHES, None, "test")
    assert len(found) == 27
    assert sorted(set(labels(found))) == list(range(9))
    kinds = {Path(str(found.stored[k]).strip("'")).suffix for k in range(27)}
    assert kinds == {".tif", ".jpg", ".png"}
    pixels = np.stack([found[k].pixels for k in range(27)])
    assert pixels.shape == (27, 3, 224, 224)
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert len({found[k].fingerprint for k in range(27)}) == 27


def test_measured_rows_stand_in_the_rebuttals_table() -> None:
    published = load("rebuttal1")
    own = run(
        [1000, 900, 500], dataset="kathercolon", shape=(3, 224, 224), subset="all", method="rrcm",
        params={"size": "B"}, sigma=0.25, folder="k",
    )  # fmt: skip
    first = build([own], table="rebuttal1").tables[0]
    assert [row[0].source for row in first.rows] == ["measured", "quoted", "quoted"]
    assert tuple(c.radius for c in first.columns if c.radius is not None) == published.radii == KATHERCOLON.radii
