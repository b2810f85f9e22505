"""Generated images as one picture: a grid of samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.report.figures.canvas import blank
from bench.types.errors import ReportError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    Pixels = np.ndarray[Any, np.dtype[np.float32]]  # (N, C, H, W)

MOST = 400  # images of a grid; more would be too small to see


def mosaic(images: Pixels) -> Any:
    """The images side by side in rows, as near to a square as they go, a white line between them.

    Shapes: (N, C, H, W) -> (rows * (H + 1) - 1, columns * (W + 1) - 1, C).
    Raises: ReportError for none, or more than can be seen.
    """
    import numpy as np

    count, channels, height, width = images.shape
    if not 1 <= count <= MOST:
        raise ReportError(f"expected 1 to {MOST} images for a grid, got {count}")
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.float32)
    for k, image in enumerate(images):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet


def mosaic_figure(images: Pixels, title: str) -> Figure:
    """The grid as a figure; pixels as they are, none smoothed."""
    sheet = mosaic(images)
    figure = blank(4.8, 5.2)
    axis = figure.subplots()
    shown = sheet if sheet.shape[2] == 3 else sheet[:, :, 0]
    axis.imshow(shown.clip(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()
    figure.suptitle(title, fontsize=8.5, parse_math=False)
    return figure
