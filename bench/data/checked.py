"""A dataset from outside, held to what it promises: each image is checked as it is read, before anything sees it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench.data.centre_crops import CentreCrop
from bench.data.subset import pixel_fingerprint
from bench.types import Dataset, Image
from bench.types.errors import DataError

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True, eq=False)
class CheckedDataset:
    """Another dataset's images under the name that runs know it by, none of which can be other than it says."""

    source: Dataset
    name: str  # "cifar10"; of a stranger's file with the hash of its code: "mine@3f2a..."
    # Of the images of a run, label and digest when it was planned; others are not compared.
    planned: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    fingerprints: bool = True  # whether each is compared with the pixels
    split: str = field(init=False)
    shape: tuple[int, int, int] = field(init=False)
    num_classes: int = field(init=False)
    class_names: tuple[str, ...] = field(init=False)
    notes: tuple[str, ...] = field(init=False)
    preprocessing: str = field(init=False)
    class_order: str = field(init=False)  # "" where there was nothing to choose
    crop: CentreCrop | None = field(init=False)  # of images that are cut from larger pictures

    def __post_init__(self) -> None:
        source = self.source
        self.split, self.preprocessing = self._text("split"), self._text("preprocessing")
        crop = getattr(source, "crop", None) if hasattr(source, "decoded") else None
        self.crop = crop if isinstance(crop, CentreCrop) else None
        self.class_order = str(getattr(source, "class_order", ""))  # of images that have only one, not said
        self.class_names, self.notes = tuple(map(str, source.class_names)), tuple(map(str, source.notes))
        sides: Any = source.shape
        shape = tuple(map(_whole, sides)) if isinstance(sides, tuple | list) else ()
        if len(shape) != 3 or any(side is None or side < 1 for side in shape):
            raise DataError(f"dataset {self.name}: expected a shape (C, H, W) of whole numbers, got {sides!r}")
        self.shape = (int(sides[0]), int(sides[1]), int(sides[2]))
        classes = _whole(source.num_classes)
        if classes is None or classes < 1:
            raise DataError(f"dataset {self.name}: expected num_classes of at least 1, got {source.num_classes!r}")
        self.num_classes = classes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image:
        image = self.source[index]
        pixels = self._pixels(index, getattr(image, "pixels", image))
        if _whole(image.index) != index:
            raise self._error(index, f"it calls itself image {image.index!r}; expected the index that was asked for")
        label = self._label(index, image.label)
        if self.fingerprints and image.fingerprint != pixel_fingerprint(pixels):
            # The noise is keyed by it: two images of one fingerprint would share theirs.
            raise self._error(
                index, "its fingerprint is not that of its pixels; expected bench.data.subset.pixel_fingerprint(pixels)"
            )
        if index in self.planned:
            now = label, self.digest(index)
            if now != self.planned[index] or self.label(index) != label:
                raise self._error(
                    index,
                    f"its label or file changed since the run was planned (label {self.planned[index][0]}, "
                    f"digest {self.planned[index][1][:10]}; now {label}, {now[1][:10]}); give the same images, or plan "
                    "a new run",
                )
        return replace(image, index=index, pixels=pixels, label=label)

    def decoded(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The whole picture, (H, W, C); where the dataset has no other, the image's own pixels."""
        import numpy as np

        whole = getattr(self.source, "decoded", None)
        if whole is None:
            pixels = self._pixels(index, self.source[index].pixels).transpose(1, 2, 0)
            stored: np.ndarray[Any, np.dtype[np.uint8]] = np.rint(pixels * 255).astype(np.uint8)
            return stored
        found = whole(index)
        right = isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.ndim == 3
        if not right or found.shape[2] != self.shape[0] or (self.crop is None and found.shape[:2] != self.shape[1:]):
            raise self._error(index, f"expected a picture (H, W, {self.shape[0]}) of bytes, got {type(found).__name__}")
        return np.ascontiguousarray(found)

    def label(self, index: int) -> int:
        """The true class, without decoding the image."""
        return self._label(index, self.source.label(index))

    def digest(self, index: int) -> str:
        """sha256 of the image as stored, without decoding it."""
        found: Any = self.source.digest(index)
        if not isinstance(found, str) or not found.isalnum():
            raise self._error(index, f"expected the sha256 of its file in hex as its digest, got {found!r}")
        return found

    def _pixels(self, index: int, pixels: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        import numpy as np

        pixels = np.asarray(pixels) if isinstance(pixels, np.ndarray) else pixels  # of a masked array, what it masks
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.float32 or pixels.shape != self.shape:
            came = (
                f"{pixels.dtype} of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            )
            raise self._error(index, f"expected pixels as a float32 array of shape {self.shape}, got {came}")
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # false for NaN too, which both carry on
            came = f"{low:g} to {high:g}" if np.isfinite(pixels).all() else "values that are not finite"
            raise self._error(index, f"expected pixels within [0, 1], got {came}; sigma and radius are in that unit")
        # torch takes neither views that run backwards nor, without a warning, arrays that cannot be written to.
        return np.require(pixels, requirements=["C", "W"])

    def _label(self, index: int, label: Any) -> int:
        found = _whole(label)
        if found is None or not 0 <= found < self.num_classes:
            raise self._error(
                index, f"expected a label from 0 to {self.num_classes - 1}, a whole number, got {label!r}"
            )
        return found

    def _text(self, name: str) -> str:
        found: Any = getattr(self.source, name)
        if not isinstance(found, str) or not found.isprintable():
            raise DataError(f"dataset {self.name}: expected text as its {name}, got {found!r}")
        return found

    def _error(self, index: int, what: str) -> DataError:
        return DataError(f"dataset {self.name}, image {index}: {what}")


def _whole(value: Any) -> int | None:
    """The value as an int; None for what is no whole number, as 3.0 and True."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
