"""An image folder's labels are its sorted class folders, and nothing in it is left out silently."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.folder import FOLDER
from bench.data.subset import subset_fingerprint
from bench.errors import DataError

HISTOLOGY = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "histology_nct_crc"


def fill(root: Path, classes: str = "ab", count: int = 2, size: tuple[int, int] = (6, 6)) -> Path:
    for shade, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, (shade * 40, number * 20, 255)).save(root / name / f"{number}.png")
    return root


def test_labels_follow_the_sorted_class_folders(tmp_path: Path) -> None:
    dataset = FOLDER.open(fill(tmp_path, "cab"), None, "test")
    assert dataset.class_names == ("a", "b", "c")
    assert [dataset.label(index) for index in range(6)] == [0, 0, 1, 1, 2, 2]
    assert dataset.shape == (3, 6, 6)
    assert dataset.preprocessing == "none"
    # "b" was written third: shade 2. Its second image has green 20.
    assert np.allclose(dataset[3].pixels[:, 0, 0] * 255, (80, 20, 255))


def test_sizes_that_differ_need_a_size(tmp_path: Path) -> None:
    fill(tmp_path)
    Image.new("RGB", (9, 6)).save(tmp_path / "b" / "wide.png")
    with pytest.raises(DataError, match=r"a/0.png' is 6x6, '.*b/wide.png' is 9x6; give a size"):
        FOLDER.open(tmp_path, None, "test")
    dataset = FOLDER.open(tmp_path, 4, "test")
    assert dataset.preprocessing == "resize4-crop4"
    assert {dataset[index].pixels.shape for index in range(5)} == {(3, 4, 4)}


def test_splits_are_told_from_classes(tmp_path: Path) -> None:
    fill(tmp_path / "three" / "train", count=3)
    fill(tmp_path / "three" / "val")
    three = tmp_path / "three"
    assert [len(FOLDER.open(three, None, split)) for split in ("train", "val", "test")] == [6, 4, 4]
    fill(three / "test", count=1)
    assert len(FOLDER.open(three, None, "test")) == 2
    # A class may be named like a split: it holds images, not folders.
    plain = tmp_path / "plain"
    fill(plain, "ab")
    shutil.copytree(plain / "a", plain / "test")
    assert FOLDER.open(plain, None, "test").class_names == ("a", "b", "test")
    with pytest.raises(DataError, match="has no split 'train'"):
        FOLDER.open(plain, None, "train")


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train", "abc")
    fill(tmp_path / "test", "ac")
    with pytest.raises(DataError, match="differ in class 'b'"):
        FOLDER.open(tmp_path, None, "test")


def test_nothing_is_left_out_silently(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".hidden").mkdir()
    dataset = FOLDER.open(tmp_path, None, "test")
    assert len(dataset) == 4
    assert "1 files are no images" in dataset.notes[0]
    (tmp_path / "a" / "more").mkdir()
    with pytest.raises(DataError, match="holds the folder 'more'"):
        FOLDER.open(tmp_path, None, "test")
    (tmp_path / "a" / "more").rmdir()
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="c' has no image"):
        FOLDER.open(tmp_path, None, "test")


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "b" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"b/1.png' cannot be decoded: no known image format"):
        FOLDER.open(tmp_path, None, "test")
    dataset = FOLDER.open(tmp_path, 4, "test")  # with a size, images are opened when asked for
    with pytest.raises(DataError, match=r"b/1.png' cannot be decoded"):
        dataset[3]


def test_a_missing_or_empty_root_is_refused(tmp_path: Path) -> None:
    for root, message in (
        (None, "needs --data-root"),
        (tmp_path / "absent", "is no folder"),
        (tmp_path, "has 0 class folders"),
    ):
        with pytest.raises(DataError, match=message):
            FOLDER.open(root, None, "test")
    with pytest.raises(DataError, match="at least 1 pixel"):
        FOLDER.open(tmp_path, 0, "test")


def test_the_fingerprint_of_a_subset_sees_the_file(tmp_path: Path) -> None:
    dataset = FOLDER.open(fill(tmp_path), None, "test")
    before = subset_fingerprint(dataset, range(4))
    Image.new("RGB", (6, 6), (1, 2, 3)).save(tmp_path / "b" / "1.png")
    assert subset_fingerprint(dataset, range(4)) != before


def test_real_histology_patches_are_nine_classes_in_224() -> None:
    if not HISTOLOGY.is_dir():
        pytest.skip("../shared is absent: no histology patches to read")
    dataset = FOLDER.open(HISTOLOGY, None, "test")
    assert dataset.class_names == ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
    assert (len(dataset), dataset.shape) == (27, (3, 224, 224))
    images = [dataset[index] for index in range(27)]
    assert len({image.fingerprint for image in images}) == 27
    # The files carry their tissue in their own names too.
    tissues = [stored.path.name.partition("-")[0] for stored in dataset.stored]
    assert tissues == [dataset.class_names[image.label] for image in images]
