"""Decoding refuses what it cannot show exactly."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.pictures import Stored, decode, picture_size, to_pixels
from bench.types.errors import DataError


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), values.tobytes())


def saved(path: Path, image: Image.Image) -> Stored:
    image.save(path)
    return Stored(0, path)


def test_grey_and_cmyk_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = picture(6, 5, "L")
    shown = to_pixels(decode(saved(tmp_path / "grey.png", grey)))
    assert shown.shape == (3, 5, 6)
    assert all(np.array_equal(channel * np.float32(255), np.asarray(grey)) for channel in shown)
    assert to_pixels(decode(saved(tmp_path / "cmyk.tif", picture(6, 5, "CMYK")))).shape == (3, 5, 6)
    opaque = picture(6, 5, "RGBA")
    kept = to_pixels(decode(saved(tmp_path / "alpha.png", opaque)))
    assert np.array_equal(kept, to_pixels(opaque.convert("RGB")))


def test_more_than_8_bits_a_channel_are_refused(tmp_path: Path) -> None:
    deep = Image.fromarray(np.arange(30, dtype=np.uint16).reshape(5, 6) * 2000)
    with pytest.raises(DataError, match=r"has mode 'I;16'; expected 8 bits a channel"):
        decode(saved(tmp_path / "deep.png", deep))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    picture(64, 64).save(whole)
    path = tmp_path / f"cut.{suffix}"
    for end in (0, 3, 20, whole.stat().st_size // 2):
        path.write_bytes(whole.read_bytes()[:end])
        with pytest.raises(DataError, match=rf"cut\.{suffix}' cannot be decoded") as caught:
            decode(Stored(0, path))
        assert "\n" not in str(caught.value)
        assert "0x" not in str(caught.value)  # no address in memory


def test_an_image_inside_a_larger_file_is_read_in_place(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture(7, 5).save(buffer, "PNG")
    data = buffer.getvalue()
    (tmp_path / "many").write_bytes(b"before" + data + b"after")
    stored = Stored(3, tmp_path / "many", "a.png", 6, len(data))
    assert stored.read() == data
    assert picture_size(stored) == (5, 7)
    assert np.array_equal(to_pixels(decode(stored)), to_pixels(picture(7, 5)))
    with pytest.raises(DataError, match=r"many:a.png' is cut off"):
        Stored(3, tmp_path / "many", "a.png", 60, len(data)).read()
