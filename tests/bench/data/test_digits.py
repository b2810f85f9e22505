"""The digits are the known ones, split as stated."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.digits import DIGITS
from bench.types.errors import DataError


def test_pixels_are_sixteenths_and_labels_follow_the_source() -> None:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    train, test = DIGITS.open(None, None, "train"), DIGITS.open(None, 8, "test")
    assert (len(train), len(test)) == (1297, 500)
    for dataset, first in ((train, 0), (test, 1297)):
        for index in (0, 1, 250, 499):
            image = dataset[index]
            assert image.pixels.dtype == np.float32
            assert image.pixels.shape == dataset.shape == DIGITS.shape
            assert np.array_equal(image.pixels.ravel() * 16, values[first + index])
            assert image.label == dataset.label(index) == labels[first + index]


def test_no_test_image_is_among_the_training_images() -> None:
    train, test = DIGITS.open(None, None, "train"), DIGITS.open(None, None, "test")
    seen = {train.digest(index) for index in range(len(train))}
    assert len(seen) == 1297
    assert not seen & {test.digest(index) for index in range(len(test))}


@pytest.mark.parametrize(("size", "split"), [(32, "test"), (None, "val")])
def test_another_size_or_split_is_refused(size: int | None, split: str) -> None:
    with pytest.raises(DataError, match="digits"):
        DIGITS.open(None, size, split)


@pytest.mark.parametrize("index", [-1, 500])
def test_no_image_lies_outside(index: int) -> None:
    with pytest.raises(DataError, match="images 0 to 499, got index"):
        DIGITS.open(None, None, "test")[index]
