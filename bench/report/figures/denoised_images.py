"""What a denoiser makes of a noisy image, as strips of pixels; the noise is the certifier's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from bench.report import units
from bench.report.figures.accuracy import blank
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.philox import normals
from bench.types import BaseClassifier, Denoising, Image
from bench.types.errors import MethodError, ReportError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

    Pixels = np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W)

MOST = 8  # images of a figure; more would be too small to see
SEEN = 2  # pictures before those of the denoisers: clean and noisy
_OUTSIDE, _DIM = 0.2, 0.25  # how far a denoiser's pixels may lie outside of [0, 1], or stay below 1, as a picture does


@dataclass(frozen=True, slots=True)
class Strip:
    """One image: clean, noisy, and by each denoiser."""

    title: str
    pictures: tuple[tuple[str, Pixels], ...]  # (what it is, pixels)


def denoised_strip(
    image: Image, classifiers: Mapping[str, BaseClassifier], *, sigma: float, seed: int, device: str = "cpu"
) -> Strip:
    """One image as the certifier's first noisy copy of it, and as each denoiser hands it on.

    Classifiers that show no pixels are left out.
    Raises: MethodError for denoised pixels of another shape, or that are no numbers.
    """
    import torch

    key = NoiseKey(seed, image.fingerprint, sigma, ESTIMATE)
    clean = torch.from_numpy(image.pixels).to(device)
    noisy = clean + sigma * normals(key.philox("smoothing"), 0, 0, 1, tuple(clean.shape), device)
    pictures: list[tuple[str, Pixels]] = [
        ("clean", image.pixels),
        (f"sigma {units.noise_level(sigma)}", _array(noisy[0])),
    ]
    for title, classifier in classifiers.items():
        if not isinstance(classifier, Denoising):
            continue
        with torch.inference_mode():
            made = classifier.denoised(noisy, MethodNoise(key.philox("method"), 0, 1, device))
        if made.shape != noisy.shape or not bool(torch.isfinite(made).all()):
            raise MethodError(
                f"{title}: denoised must return finite pixels of shape {tuple(noisy.shape)}, got {tuple(made.shape)}; "
                "give back what the classifier sees, before its normaliser"
            )
        pictures.append((title, _array(made[0])))
    return Strip(f"image {image.index}", tuple(pictures))


def shown_ranges(strips: Sequence[Strip]) -> dict[str, tuple[float, float]]:
    """Denoisers whose pixels, over all strips, lie otherwise than in [0, 1], and from where to where they do.

    One trained through its classifier, by the stability objective, need not give back the image that people see:
    clipped to [0, 1] it may be black, though the classifier reads it.
    """
    found = {}
    for k, (what, _) in enumerate(strips[0].pictures):
        if k < SEEN:
            continue
        low = min(float(strip.pictures[k][1].min()) for strip in strips)
        high = max(float(strip.pictures[k][1].max()) for strip in strips)
        if high > low and (low < -_OUTSIDE or high > 1 + _OUTSIDE or high < 1 - _DIM):
            found[what] = (low, high)
    return found


def strip_figure(strips: Sequence[Strip], title: str) -> Figure:
    """The strips below each other: one row an image, one column what was made of it.

    Shown clipped to [0, 1]; a denoiser's column that lies otherwise by its own range, which stands below its name.

    Raises: ReportError for no strip, too many, or strips of other columns.
    """
    columns = {tuple(what for what, _ in strip.pictures) for strip in strips}
    if not 0 < len(strips) <= MOST or len(columns) != 1:
        raise ReportError(
            f"expected 1 to {MOST} strips with the same columns, got {len(strips)} with {len(columns)} kinds; "
            "choose fewer images, and the same denoisers for each"
        )
    (names,) = columns
    own = shown_ranges(strips)
    figure = blank(max(4.0, 1.15 * len(names) + 0.6), 1.15 * len(strips) + 0.9)
    axes = figure.subplots(len(strips), len(names), squeeze=False)
    for k, (line, strip) in enumerate(zip(axes, strips, strict=True)):
        for axis, (what, pixels) in zip(line, strip.pictures, strict=True):
            low, high = own.get(what, (0.0, 1.0))
            shown = ((pixels - low) / (high - low)).clip(0, 1).transpose(1, 2, 0)
            # "nearest": a smoothed pixel would be one that no network has seen.
            axis.imshow(
                shown if shown.shape[2] == 3 else shown[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest"
            )
            axis.set_xticks([])
            axis.set_yticks([])
            if k == 0:
                span = f"\n{low:.2f} to {high:.2f}" if what in own else ""
                axis.set_title(_folded(what) + span, fontsize=8, parse_math=False)
        line[0].set_ylabel(strip.title, fontsize=8)
    how = ", or by the range below a name" if own else ""
    figure.suptitle(f"{title}\nshown clipped to [0, 1]{how}", fontsize=9, parse_math=False)
    return figure


def _array(pixels: Tensor) -> Pixels:
    return cast("Pixels", pixels.float().cpu().numpy())


def _folded(words: str) -> str:
    """At most 16 letters a line: a column is no wider."""
    from textwrap import wrap

    return "\n".join(wrap(words, 16))
