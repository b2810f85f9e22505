"""Subsets name the images that they say, the same images get the same words, and fingerprints tell images apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.subset import parse_subset, pixel_fingerprint, subset_fingerprint, take
from bench.testing import ToyImages
from bench.types.errors import DataError


@pytest.mark.parametrize(
    ("words", "length", "canonical", "indices"),
    [
        ("skip:20", 100, "skip:20", (0, 20, 40, 60, 80)),
        ("skip:20", 101, "skip:20", (0, 20, 40, 60, 80, 100)),
        ("skip:020+07", 50, "skip:20+7", (7, 27, 47)),
        ("skip:20+0", 50, "skip:20", (0, 20, 40)),
        ("first:3", 10, "first:3", (0, 1, 2)),
        ("3:6", 10, "3:6", (3, 4, 5)),
        (" all ", 3, "all", (0, 1, 2)),
        ("7:8", 8, "7:8", (7,)),
    ],
)
def test_words_name_these_images(words: str, length: int, canonical: str, indices: tuple[int, ...]) -> None:
    assert parse_subset(words, length) == (canonical, indices)


@pytest.mark.parametrize("words", ["all", "skip:1", "skip:1+0", "first:12", "0:12"])
def test_all_images_are_the_same_subset_however_spelled(words: str) -> None:
    assert parse_subset(words, 12) == ("all", tuple(range(12)))


def test_the_first_images_are_the_same_subset_however_spelled() -> None:
    assert parse_subset("0:5", 12) == parse_subset("first:5", 12)


@given(length=st.integers(1, 300), step=st.integers(1, 40), offset=st.integers(0, 39))
@settings(max_examples=60, deadline=None)
def test_the_offsets_of_a_step_share_out_the_dataset(length: int, step: int, offset: int) -> None:
    wanted = [i for i in range(length) if i % step == offset % step]
    if not wanted:
        with pytest.raises(DataError, match="holds no image"):
            parse_subset(f"skip:{step}+{offset % step}", length)
        return
    words, indices = parse_subset(f"skip:{step}+{offset % step}", length)
    assert list(indices) == wanted
    assert parse_subset(words, length) == (words, indices)  # canonical words are a fixed point


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "is not understood; expected 'skip:K'"),
        ("skip", "is not understood"),
        ("skip:-1", "is not understood"),
        ("first:1e3", "is not understood"),
        ("first:" + "9" * 5000, "is not understood"),
        ("first:٣", "is not understood"),
        ("-1:3", "is not understood"),
        ("skip:0", "a step of at least 1"),
        ("skip:5+5", "an offset below it"),
        ("skip:50+30", "holds no image of the 10"),
        ("first:0", "holds no image"),
        ("5:5", "holds no image"),
        ("6:5", "holds no image"),
        ("first:11", "asks for index 10, the dataset has 10 images: 0 to 9"),
        ("8:12", "asks for index 11, the dataset has 10 images"),
        ("file:nowhere/list.txt", "no such file or directory; expected one index a line"),
    ],
)
def test_other_words_are_refused_in_one_line(words: str, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("+", r"\+")) as caught:
        parse_subset(words, 10)
    assert "\n" not in str(caught.value)


def test_a_file_keeps_its_order_and_is_named_by_its_indices_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("# the hard ones\n7\n3 # a cat\n\n 5\n")
    other.write_text("7\n3\n5")
    words, indices = parse_subset(f"file:{one}", 10)
    assert indices == (7, 3, 5)
    assert words == "file:" + hashlib.sha256(b"7\n3\n5").hexdigest()[:12]
    assert parse_subset(f"file:{other}", 10) == (words, indices)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1\n2\n1\n", "line 3: index 1 stands in line 1 too"),
        (b"1\n10\n", "line 2: index 10 is outside the dataset's 10 images"),
        (b"1\nseven\n", "line 2: expected an index from 0 on, got 'seven'"),
        (b"-1\n", "line 1: expected an index from 0 on, got '-1'"),
        (b"# nothing\n", "holds no index"),
        (b"\xff\xfe", "it is not utf-8 text"),
    ],
)
def test_a_bad_file_is_refused_with_the_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text)
    with pytest.raises(DataError, match=message):
        parse_subset(f"file:{path}", 10)


def test_a_limit_takes_the_first_images_of_the_subset() -> None:
    assert take((7, 3, 5), 2) == (7, 3)
    assert take((7, 3, 5), None) == take((7, 3, 5), 9) == (7, 3, 5)
    with pytest.raises(DataError, match="at least 1 image, got 0"):
        take((7, 3, 5), 0)


def test_the_fingerprint_of_pixels_sees_shape_order_and_the_last_bit() -> None:
    pixels = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    known = pixel_fingerprint(pixels)
    slow = hashlib.sha256(b"2x3x4\n" + b"".join(np.float32(v).tobytes() for v in pixels.flat)).hexdigest()
    assert known == slow
    assert pixel_fingerprint(np.asfortranarray(pixels)) == known
    assert pixel_fingerprint(pixels.astype(">f4").astype(np.float32)) == known
    assert pixel_fingerprint(pixels.reshape(3, 2, 4)) != known
    moved = pixels.copy()
    moved[1, 2, 3] = np.nextafter(moved[1, 2, 3], np.float32(0))
    assert pixel_fingerprint(moved) != known


def test_pixels_of_another_precision_have_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="float32, got float64"):
        pixel_fingerprint(np.zeros((1, 2, 2)))  # type: ignore[arg-type]


def test_the_fingerprint_of_a_subset_sees_index_order_label_and_image() -> None:
    toys = ToyImages(8, (1, 4, 4), seed=3)
    known = subset_fingerprint(toys, (1, 2, 5))
    assert subset_fingerprint(ToyImages(8, (1, 4, 4), seed=3), (1, 2, 5)) == known
    others = [
        subset_fingerprint(toys, (2, 1, 5)),
        subset_fingerprint(toys, (1, 2)),
        subset_fingerprint(ToyImages(8, (1, 4, 4), seed=4), (1, 2, 5)),
        subset_fingerprint(ToyImages(8, (1, 4, 4), seed=3, rule=lambda pixels: int(pixels.mean() <= 0.5)), (1, 2, 5)),
    ]
    assert len({known, *others}) == 5
