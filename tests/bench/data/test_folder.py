"""An image folder's labels are its sorted class folders, and nothing in it is left out silently."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import SHARED_FOLDER

from bench.data.class_order import file_word, read_class_order
from bench.data.folder import FOLDER
from bench.data.subset import subset_fingerprint
from bench.types.errors import DataError

HISTOLOGY = SHARED_FOLDER / "data" / "histology_nct_crc"


def load_weights(
    root: Path, classes: str | tuple[str, ...] = "ab", count: int = 2, size: tuple[int, int] = (6, 6)
) -> Path:
    for shade, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, (shade * 40, number * 20, 255)).save(root / name / f"{number}.png")
    return root


def test_labels_follow_the_sorted_class_folders(tmp_path: Path) -> None:
    dataset = FOLDER.open(load_weights(tmp_path, "cab"), None, "test")
    assert dataset.class_names == ("a", "b", "c")
    assert [dataset.label(index) for index in range(6)] == [0, 0, 1, 1, 2, 2]
    assert dataset.shape == (3, 6, 6)
    assert dataset.preprocessing == "none"
    # "b" was written third: shade 2. Its second image has green 20.
    assert np.allclose(dataset[3].pixels[:, 0, 0] * 255, (80, 20, 255))


def test_sizes_that_differ_need_a_size(tmp_path: Path) -> None:
    load_weights(tmp_path)
    Image.new("RGB", (9, 6)).save(tmp_path / "b" / "wide.png")
    with pytest.raises(DataError, match=r"a/0.png' is 6x6, '.*b/wide.png' is 9x6; give --size K"):
        FOLDER.open(tmp_path, None, "test")
    dataset = FOLDER.open(tmp_path, 4, "test")
    assert dataset.preprocessing == "resize4-crop4"
    assert {dataset[index].pixels.shape for index in range(5)} == {(3, 4, 4)}


@pytest.mark.parametrize(
    ("names", "text", "natural"),
    [
        (("class1", "class10", "class2"), [0, 1, 2], [0, 2, 1]),
        (("0", "1", "10", "2"), [0, 1, 2, 3], [0, 1, 3, 2]),
        (("Banana", "apple"), [0, 1], [1, 0]),
    ],
)
def test_an_order_of_classes_that_is_to_be_chosen_is_asked_for(
    tmp_path: Path, names: tuple[str, ...], text: list[int], natural: list[int]
) -> None:
    load_weights(tmp_path, names, count=1)
    with pytest.raises(DataError, match="give --class-order text, natural, or a file"):
        FOLDER.open(tmp_path, None, "test")
    # The order of images stays; their labels are another's.
    for order, labels, word in (("text", text, "text"), ("natural", natural, "natural")):
        dataset = FOLDER.open(tmp_path, None, "test", order)
        assert [dataset.label(index) for index in range(len(names))] == labels
        assert dataset.class_order == word
        assert [dataset.class_names[label] for label in labels] == sorted(names)


@pytest.mark.parametrize("names", [("001", "002", "010"), ("a", "b"), ("n01440764", "n01443537"), ("é", "ü")])
def test_where_both_orders_agree_nothing_is_asked_and_nothing_recorded(tmp_path: Path, names: tuple[str, ...]) -> None:
    load_weights(tmp_path, names, count=1)
    for order in (None, "natural", "text", names):
        dataset = FOLDER.open(tmp_path, None, "test", order)
        assert (dataset.class_names, dataset.class_order) == (names, "")


@pytest.mark.parametrize("names", [("1", "01"), ("Cat", "cat")])
def test_classes_that_natural_order_cannot_tell_apart_have_none(tmp_path: Path, names: tuple[str, ...]) -> None:
    load_weights(tmp_path, names, count=1)
    for order in (None, "natural"):
        with pytest.raises(DataError, match="give --class-order text, or a file"):
            FOLDER.open(tmp_path, None, "test", order)
    assert FOLDER.open(tmp_path, None, "test", "text").class_names == tuple(sorted(names))


def test_the_natural_order_is_that_of_timm(tmp_path: Path) -> None:
    # As timm.data.readers.reader_image_folder.find_images_and_targets numbers these folders (timm 1.0).
    names = ("9", "10", "a-2b9", "a-2b10", "x2", "X3", "x10", "zoo", "Ünder")
    load_weights(tmp_path, names[::-1], count=1)
    assert FOLDER.open(tmp_path, None, "test", "natural").class_names == names


def test_a_file_gives_the_order_and_classes_that_are_not_here(tmp_path: Path) -> None:
    load_weights(tmp_path / "data", ("x1", "x10", "x2"), count=1)
    (tmp_path / "order.txt").write_text("x2\nelse\nx10\nx1\n", encoding="utf-8")
    order = read_class_order(str(tmp_path / "order.txt"))
    dataset = FOLDER.open(tmp_path / "data", None, "test", order)
    assert [dataset.label(index) for index in range(3)] == [3, 2, 0]
    assert (dataset.num_classes, dataset.class_order) == (4, file_word(order))
    assert "1 of 4 classes of --class-order have no image here" in dataset.notes
    with pytest.raises(DataError, match="has the class 'x10', which the file of --class-order does not name"):
        FOLDER.open(tmp_path / "data", None, "test", ("x1", "x2"))
    for text, message in (("a\na\n", "names 'a' twice"), ("a\n", "names 1 classes")):
        (tmp_path / "order.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_class_order(str(tmp_path / "order.txt"))
    with pytest.raises(DataError, match="is no file; expected natural, text, or a file"):
        read_class_order("Natural")


def test_a_side_that_would_enlarge_a_picture_is_not_taken(tmp_path: Path) -> None:
    load_weights(tmp_path / "small", size=(6, 6))
    load_weights(tmp_path / "large", size=(9, 12))
    load_weights(tmp_path / "mixed", size=(9, 12))
    Image.new("RGB", (8, 20)).save(tmp_path / "mixed" / "b" / "narrow.png")
    assert FOLDER.side is not None
    assert [FOLDER.side(tmp_path / name, "test", 9) for name in ("small", "large", "mixed")] == [None, 9, None]


def test_splits_are_told_from_classes(tmp_path: Path) -> None:
    load_weights(tmp_path / "three" / "train", count=3)
    load_weights(tmp_path / "three" / "val")
    three = tmp_path / "three"
    assert [len(FOLDER.open(three, None, split)) for split in ("train", "val", "test")] == [6, 4, 4]
    load_weights(three / "test", count=1)
    assert len(FOLDER.open(three, None, "test")) == 2
    # A class may be named like a split: it holds images, not folders.
    plain = tmp_path / "plain"
    load_weights(plain, "ab")
    shutil.copytree(plain / "a", plain / "test")
    assert FOLDER.open(plain, None, "test").class_names == ("a", "b", "test")
    with pytest.raises(DataError, match="has no split 'train'"):
        FOLDER.open(plain, None, "train")


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    load_weights(tmp_path / "train", "abc")
    load_weights(tmp_path / "test", "ac")
    with pytest.raises(DataError, match="differ in class 'b'"):
        FOLDER.open(tmp_path, None, "test")


def test_nothing_is_left_out_silently(tmp_path: Path) -> None:
    load_weights(tmp_path)
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
    load_weights(tmp_path)
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
    dataset = FOLDER.open(load_weights(tmp_path), None, "test")
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
