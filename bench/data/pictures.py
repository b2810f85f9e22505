"""Images stored as files of their own or inside a tar, decoded when asked for; knows no dataset's layout."""

from __future__ import annotations

import hashlib
import io
import operator
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from bench.data import fast_jpeg
from bench.data.centre_crops import CentreCrop
from bench.data.subset import pixel_fingerprint
from bench.types import Image
from bench.types.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Whatever a suffix says; others that Pillow knows start programs (EPS), or are not images of pixels.
LARGEST = 1_000_000_000  # bytes of one image
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")


class Encoded(Protocol):
    """The bytes of one image, wherever they lie, and its class; its text is a place that an error can name."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # a record, so that `replace` gives it another label

    @property
    def label(self) -> int:
        """The true class."""

    def read(self) -> bytes:
        """The bytes as stored.

        Raises: DataError if they are not there any more.
        """

    def opened(self) -> Path | io.BytesIO:
        """What holds the header, without more reading than it takes."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The images of a split, and the classes that their labels count."""

    stored: Sequence[Encoded]
    names: tuple[str, ...]  # by label; empty where only numbers are known
    sorted: bool = False  # the names stand in text order, because nothing says in which order they should
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the bytes of one image lie, and its class."""

    label: int
    path: Path
    name: str = ""  # inside the tar that `path` is; empty for a file of its own
    offset: int = 0
    size: int | None = None  # bytes; None: to the end of the file

    def opened(self) -> Path | io.BytesIO:
        """The file itself, or the bytes out of the tar."""
        return io.BytesIO(self.read()) if self.name else self.path

    def read(self) -> bytes:
        """The stored bytes.

        Raises: DataError if they are not there any more.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                # No more than there is: a read makes room for all that it is asked for, which takes five times as long.
                left = max(os.fstat(file.fileno()).st_size - self.offset, 0)
                data = file.read(min(LARGEST + 1 if self.size is None else self.size, left))
        except OSError as error:
            raise DataError(f"{self} cannot be read: {error.strerror}; was it moved?") from None
        if len(data) > LARGEST:
            raise DataError(f"{self} has more than {LARGEST:,} bytes; expected an image")
        if self.size is not None and len(data) < self.size:
            raise DataError(f"{self} is cut off: {len(data)} of {self.size} bytes; fetch the tar again")
        return data

    def __str__(self) -> str:
        return repr(f"{self.path}:{self.name}" if self.name else str(self.path))


@dataclass(slots=True, kw_only=True, eq=False)
class PictureDataset:
    """Labelled image files in a fixed order, as RGB."""

    name: str
    split: str
    stored: Sequence[Encoded]
    class_names: tuple[str, ...]
    crop: CentreCrop | None  # None: the images are taken as they are
    side: tuple[int, int]  # (H, W), of the centre crop where there is one
    preprocessing: str
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know of the files
    class_order: str = ""  # the word for it, where it was to be chosen
    shape: tuple[int, int, int] = field(init=False)
    num_classes: int = field(init=False)

    def __post_init__(self) -> None:
        self.shape = (3, *self.side)
        self.num_classes = len(self.class_names)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> Image:
        stored = self._at(index)
        picture = decode(stored)
        if self.crop is not None:
            picture = self.crop.of(picture)
        self._check_side(stored, picture.height, picture.width)
        pixels = to_pixels(picture)
        return Image(operator.index(index), pixels, stored.label, pixel_fingerprint(pixels))

    def decoded(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The whole picture of the file, (H, W, 3): what views for training are cut from."""
        stored = self._at(index)
        values = fast_jpeg.rgb(stored.read())
        if values is None:
            values = np.asarray(decode(stored), dtype=np.uint8)
        if self.crop is None:
            self._check_side(stored, values.shape[0], values.shape[1])
        return values

    def label(self, index: int) -> int:
        """The true class, from the layout."""
        return self._at(index).label

    def digest(self, index: int) -> str:
        """sha256 of the image file's bytes."""
        return hashlib.sha256(self._at(index).read()).hexdigest()

    def _check_side(self, stored: Encoded, height: int, width: int) -> None:
        if (height, width) != self.side:
            raise DataError(
                f"{stored} is {width}x{height}, the others are {self.side[1]}x{self.side[0]}; "
                "give images of one size, or of one kind of preprocessing"
            )

    def _at(self, index: int) -> Encoded:
        index = operator.index(index)
        if not 0 <= index < len(self.stored):
            raise DataError(f"{self.name} {self.split} has images 0 to {len(self.stored) - 1}, got index {index}")
        return self.stored[index]


def decode(stored: Encoded) -> Picture:
    """The image as 8-bit RGB: grey becomes three equal channels, transparency is dropped, no rotation by metadata.

    Raises: DataError if the file is corrupt, or has more than 8 bits a channel.
    """
    # torchvision's JPEG decoder gave the same bytes a quarter sooner, and is deprecated from version 0.29 on.
    with _opened(stored, io.BytesIO(stored.read())) as picture:
        picture.load()
        if picture.mode == "RGB":
            return picture  # closing it closes the file alone
        if not _deep(picture.mode):
            return picture.convert("RGB")
        mode = picture.mode
    raise DataError(f"{stored} has mode {mode!r}; expected 8 bits a channel: convert it first")


def picture_size(stored: Encoded) -> tuple[int, int]:
    """(H, W) from the header alone.

    Raises: DataError if there is no image header.
    """
    with _opened(stored, stored.opened()) as picture:
        return picture.height, picture.width


@contextmanager
def _opened(stored: Encoded, source: Path | io.BytesIO) -> Iterator[Picture]:
    import PIL.Image

    try:
        # Pillow warns of odd metadata, of which real ImageNet files are full; damaged pixels are errors.
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(source, formats=_FORMATS) as picture:
            yield picture
    except (*_CORRUPT, PIL.Image.DecompressionBombError) as error:
        raise DataError(f"{stored} cannot be decoded: {_one_line(error)}; fetch it again") from None


def to_pixels(picture: Picture) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(C, H, W) float32 in [0, 1] of an 8-bit RGB image."""
    values = np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
    return np.ascontiguousarray(values, dtype=np.float32) / np.float32(255)


def class_files(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> tuple[list[Path], list[Path]]:
    """Image files directly in a class folder, by name, and the other files there; hidden ones are left out.

    Raises: DataError for a folder inside: its images would be missed silently; for what has an image's name and is no
    file (a pipe, a link that leads nowhere), and for a folder that cannot be read.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in visible(folder):
        if path.is_dir():
            raise DataError(
                f"class folder {str(folder)!r} holds the folder {path.name!r}; expected image files directly"
            )
        if path.suffix.lower() not in suffixes:
            others.append(path)
            continue
        if not path.is_file():
            raise DataError(f"{str(path)!r} is no regular file; expected an image: remove it")
        images.append(path)
    return images, others


def visible_folders(root: Path) -> list[Path]:
    """Folders directly in `root`, by name; hidden ones are left out.

    Raises: DataError for a folder that cannot be read.
    """
    return [path for path in visible(root) if path.is_dir()]


def visible(folder: Path) -> list[Path]:
    """All that is directly in a folder, by name; hidden ones are left out.

    Raises: DataError for a folder that cannot be read.
    """
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{str(folder)!r} cannot be read: {error.strerror}; check who may read it") from None


def _deep(mode: str) -> bool:
    return mode == "F" or mode.startswith("I")


def _one_line(error: Exception) -> str:
    if "cannot identify image" in str(error):  # the rest of Pillow's sentence is an address in memory
        return "no known image format"
    return " ".join(str(error).split()) or type(error).__name__


# What Pillow's readers raise on damaged files: no image at all, cut off, a wrong field, a broken PNG chunk.
_CORRUPT = (OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, TypeError, OverflowError)
