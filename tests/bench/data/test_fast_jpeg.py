"""JPEGs without Pillow around the decoder: its pixels to the bit, and what is left to it."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from bench.data import fast_jpeg
from bench.data.pictures import PictureDataset, Stored
from bench.types.errors import DataError

SIDES = [(500, 375), (37, 53), (16, 17), (333, 2), (1, 1)]


def encoded(side: tuple[int, int], mode: str = "RGB", kind: str = "JPEG", **options: object) -> bytes:
    small = np.random.default_rng(side).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(small).resize(side, Image.Resampling.BICUBIC).convert(mode).save(held, kind, **options)
    return held.getvalue()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("progressive", [True, False])
def test_pixels_are_pillows_to_the_bit(side: tuple[int, int], progressive: bool) -> None:
    pytest.importorskip("simplejpeg")
    for quality in (10, 75, 92, 100):
        common = {"quality": quality, "progressive": progressive}
        contents = [encoded(side, subsampling=subsampling, **common) for subsampling in (0, 1, 2)]
        for content in (*contents, encoded(side, "L", **common)):
            theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            ours = fast_jpeg.rgb(content)
            assert ours is not None
            assert np.array_equal(ours, theirs)


def test_what_is_no_plain_jpeg_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded((60, 40))
    damaged = whole[:400] + bytes(200) + whole[600:]
    for content in (encoded((60, 40), "CMYK"), encoded((60, 40), kind="PNG"), whole[:-200], damaged, whole[:20], b""):
        assert fast_jpeg.rgb(content) is None
    monkeypatch.setattr(fast_jpeg, "_LARGEST", 60 * 40 - 1)
    assert fast_jpeg.rgb(whole) is None
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert fast_jpeg.rgb(whole) is None


def test_a_damaged_file_is_still_told_by_name(tmp_path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded((60, 40))[:-200])
    dataset = PictureDataset(
        name="one", split="train", stored=(Stored(0, path),), class_names=("a",), crop=None, side=(40, 60),
        preprocessing="none",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"cut\.jpg.* cannot be decoded"):
        dataset.decoded(0)
