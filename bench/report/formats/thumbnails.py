"""Small pictures of certified images for the page, each checked to be the image that was certified."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.class_order import open_source
from bench.data.installed import installed_dataset
from bench.runs.store import Run
from bench.types import Dataset
from bench.types.errors import BenchError
from bench.types.plugins import plugin_errors

if TYPE_CHECKING:
    import numpy as np

_EXACT = 32  # longest side that is shown pixel by pixel, as PNG
_LARGEST = 4096  # side that is opened for a picture at all
_SIDE = 64  # of larger images, as JPEG: 500 of them take 1 MB, as PNG they would take 6


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Pictures of a data set's images, or why there are none."""

    by_index: Mapping[int, str] = field(default_factory=dict)  # data URIs
    classes: tuple[str, ...] = ()
    missing: str = ""


def thumbnails(runs: Sequence[Run], root: Path | None = None) -> Thumbnails:
    """A picture of each image that these runs of one data set certified.

    What opens from `root`, or by itself, is shown; nothing is fetched that the user has not allowed to be fetched, and
    an image with another fingerprint is left out. The spec is of a file that anyone may have written: its data set must
    be an installed one, for no code runs because a run names it.
    """
    spec = runs[0].spec
    prints = {row.index: row.fingerprint for run in runs for row in run.rows}
    source = installed_dataset(spec.dataset)
    if source is None:
        return Thumbnails(missing=f"no installed data set is named {spec.dataset!r}")
    if spec.shape[1] > _LARGEST:
        return Thumbnails(missing=f"images of {spec.shape[1]} pixels a side are too large for it")
    try:
        with plugin_errors():
            made_by = spec.preprocessing if spec.preprocessing in source.preprocessings else None
            dataset = open_source(source, root, spec.shape[1], spec.split, spec.class_order or None, made_by)
            # A picture is a pleasure, no result: it is not worth a page without tables.
            there = range(len(dataset))
            made = {i: _picture(dataset, i, known) if i in there else "" for i, known in sorted(prints.items())}
            classes = tuple(dataset.class_names)
    except (BenchError, ImportError):
        # The reason would name a folder of this machine, and a page is made to be handed on.
        return Thumbnails(missing="the data set does not open here by itself; its images are at hand where it was run")
    known = {index: uri for index, uri in made.items() if uri}
    wrong = len(made) - len(known)
    words = (
        f"{wrong} of {len(made)} images here are not those that were certified (other fingerprints)" if wrong else ""
    )
    return Thumbnails(known, classes, words)


def data_uri(pixels: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    """Pixels as a picture that a page can hold: small ones exactly, larger ones shrunk and compressed.

    Shapes: pixels (C, H, W) in [0, 1], C 1 or 3.
    """
    import numpy as np
    from PIL import Image

    levels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(levels if levels.shape[2] == 3 else levels[:, :, 0])
    out = io.BytesIO()
    exact = max(picture.size) <= _EXACT
    if exact:
        picture.save(out, "PNG", optimize=True)
    else:
        picture.thumbnail((_SIDE, _SIDE))
        picture.save(out, "JPEG", quality=85)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _picture(dataset: Dataset, index: int, fingerprint: str) -> str:
    image = dataset[index]
    return data_uri(image.pixels) if image.fingerprint == fingerprint else ""
