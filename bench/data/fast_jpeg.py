"""JPEGs decoded by libjpeg-turbo without Pillow around it, for training alone; what is certified is read by Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np

_START = b"\xff\xd8\xff"
_LARGEST = 1 << 26  # pixels; Pillow has a word on larger ones


def rgb(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """The pixels that Pillow gives, (H, W, 3), in two thirds of its time.

    None where Pillow is to read, or to say what is wrong: without the extra `jpeg`, for other formats, for JPEGs in
    other colours than YCbCr and grey, and for damaged ones.
    """
    if not content.startswith(_START):
        return None
    try:
        import simplejpeg
    except ImportError:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or height * width > _LARGEST:
            return None
        # Pillow's choices: the accurate transform, and colours that are interpolated.
        found: np.ndarray[Any, np.dtype[np.uint8]] = simplejpeg.decode_jpeg(
            content, "RGB", fastdct=False, fastupsample=False
        )
    except ValueError:
        return None
    return found
