"""The grid of generated images, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest

from bench.report.figures.generated import mosaic
from bench.types.errors import ReportError


def test_each_image_stands_whole_at_its_place() -> None:
    images = np.stack([np.full((1, 2, 3), k / 10, np.float32) for k in range(5)])
    sheet = mosaic(images)
    assert sheet.shape == (2 * 3 - 1, 3 * 4 - 1, 1)
    for k in range(5):
        top, left = k // 3 * 3, k % 3 * 4
        assert np.all(sheet[top : top + 2, left : left + 3] == np.float32(k / 10))
    assert np.all(sheet[2] == 1)


def test_a_grid_of_none_or_too_many_is_refused() -> None:
    with pytest.raises(ReportError, match="1 to 400"):
        mosaic(np.zeros((401, 1, 2, 2), np.float32))
