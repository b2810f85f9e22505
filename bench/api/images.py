"""Images from what a notebook has: one, a batch, or a loader of batches; pixels are checked, and none is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

from bench.data.subset import pixel_fingerprint
from bench.types import Image
from bench.types.errors import DataError

if TYPE_CHECKING:
    import numpy as np

UNKNOWN = -1  # the label of an image whose class was not given
EXPECTED = (
    "expected pixels (C, H, W), a batch (B, C, H, W), or a loader of batches, with labels (x, y) or without; "
    "float, within [0, 1]"
)


@dataclass(slots=True, eq=False)
class Images:
    """A pass over what was given; each image is made as it is asked for."""

    given: Any
    shape: tuple[int, int, int] | None = field(init=False, default=None)  # (C, H, W) of all, once the first was seen

    def __len__(self) -> int:
        """How many there are, 0 where only the end of a loader tells."""
        if hasattr(self.given, "ndim"):
            return len(self.given) if self.given.ndim == 4 else 1
        data = getattr(self.given, "dataset", None)  # of a DataLoader, which may sample fewer
        sampler: Any = getattr(self.given, "sampler", data)
        return len(sampler) if hasattr(sampler, "__len__") and not getattr(self.given, "drop_last", False) else 0

    def __iter__(self) -> Iterator[Image]:
        """The images in order, numbered from 0.

        Raises: DataError for what is no image.
        """
        index = 0
        for x, y in self._batches():
            labels: Iterable[int] = repeat(UNKNOWN) if y is None else map(int, y)
            if y is not None and len(y) != len(x):
                raise DataError(f"a batch of {len(x)} images with {len(y)} labels; expected one each")
            for pixels, label in zip(x, labels, strict=False):
                yield Image(index, pixels, label, pixel_fingerprint(pixels))
                index += 1

    def _batches(self) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], Any]]:
        if hasattr(self.given, "ndim"):
            yield self._checked(self.given, "x"), None
            return
        iterable = hasattr(self.given, "__iter__") or hasattr(
            self.given, "__getitem__"
        )  # a torch Dataset has the latter
        if not iterable or isinstance(self.given, str | bytes | dict):
            raise DataError(f"{EXPECTED}; got {type(self.given).__name__}")
        for number, item in enumerate(self.given):
            x, y = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
            if isinstance(x, tuple | list) and len(x) == 1:
                x = x[0]
            yield self._checked(x, f"batch {number}"), _labels(y)

    def _checked(self, x: Any, where: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(B, C, H, W) float32 within [0, 1]."""
        import numpy as np

        if not hasattr(x, "ndim") or x.ndim not in (3, 4):
            came = f"an array of {x.ndim} axes" if hasattr(x, "ndim") else type(x).__name__
            raise DataError(f"{where}: {EXPECTED}; got {came}")
        # A copy where it was on another device, or not writable: torch takes neither.
        x = x.detach().cpu() if hasattr(x, "detach") else x
        pixels = np.asarray(x.float() if hasattr(x, "is_floating_point") and x.is_floating_point() else x)
        if pixels.dtype.kind != "f":
            raise DataError(f"{where}: {EXPECTED}; got {pixels.dtype}: divide by 255, if they are bytes")
        pixels = np.require(pixels, np.float32, ["C", "W"])
        pixels = pixels[None] if pixels.ndim == 3 else pixels
        shape = (int(pixels.shape[1]), int(pixels.shape[2]), int(pixels.shape[3]))
        if self.shape not in (None, shape) or not pixels.size:
            raise DataError(f"{where}: expected images of one shape, {self.shape or 'not empty'}, got {shape}")
        self.shape = shape
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise DataError(
                f"{where}: expected pixels within [0, 1], got {low:g} to {high:g}; sigma and radius are in that unit: "
                "let the model normalise"
            )
        return pixels


def _labels(y: Any) -> Any:
    """Labels of a batch as a list; None where there are none."""
    if y is None:
        return None
    found = y.tolist() if hasattr(y, "tolist") else y
    found = found if isinstance(found, list | tuple) else [found]
    if not all(isinstance(label, int) and not isinstance(label, bool) for label in found):
        raise DataError(f"expected labels as whole numbers, one an image, got {str(found)[:60]}")
    return found
