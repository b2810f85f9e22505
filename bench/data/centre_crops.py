"""Centre crops of photographs as the field's codes make them: to the byte, each under the name that a spec has.

Source: Cohen et al. 2019 (resize256-crop224); Dhariwal & Nichol 2021, whose code rRCM's follows (short224-box-bicubic);
Wu et al. 2023, DMAE (bicubic256-crop224); Xiao et al. 2023, DensePure (bicubic256-crop256).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from bench.types.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_NAMED = re.compile(r"(?:(resize|bicubic)([0-9]{1,5})-crop([0-9]{1,5})|short([0-9]{1,5})-box-bicubic)")


@dataclass(frozen=True, slots=True)
class CentreCrop:
    """Short side to a length, then the centre square."""

    kind: Literal["resize", "bicubic", "box-bicubic"]  # bilinear; bicubic; halved by means of 2x2, then bicubic
    short: int  # pixels, of the short side after resizing
    side: int  # pixels, of the square

    @property
    def name(self) -> str:
        """The word for it in specs and on the command line: "resize256-crop224"."""
        return (
            f"short{self.side}-box-bicubic"
            if self.kind == "box-bicubic"
            else f"{self.kind}{self.short}-crop{self.side}"
        )

    def of_side(self, side: int) -> CentreCrop:
        """The same way to another side; what is cropped as it was resized stays so."""
        return replace(self, side=side, short=side if self.kind == "box-bicubic" else self.short)

    def of(self, picture: Picture) -> Picture:
        """The crop of an 8-bit picture."""
        return (
            _halved_and_cropped(picture, self.side)
            if self.kind == "box-bicubic"
            else _resized_and_cropped(self, picture)
        )


def named_crop(name: str, known: tuple[str, ...]) -> CentreCrop:
    """The centre crop of that name.

    Raises: DataError for a name that is not among those known.
    """
    match = _NAMED.fullmatch(name)
    if match is None or name not in known:
        raise DataError(f"no preprocessing {name!r}; expected one of {', '.join(known)}")
    if match[4]:
        return CentreCrop("box-bicubic", int(match[4]), int(match[4]))
    return CentreCrop("bicubic" if match[1] == "bicubic" else "resize", int(match[2]), int(match[3]))


def _resized_and_cropped(crop: CentreCrop, picture: Picture) -> Picture:
    """As torchvision's Resize and CenterCrop do it on PIL images, antialiased."""
    import PIL.Image

    width, height = picture.size
    short, side = crop.short, crop.side
    if min(width, height) != short:
        # The long side is cut, not rounded, as torchvision does.
        size = (int(short * width / height), short) if height <= width else (short, int(short * height / width))
        way = PIL.Image.Resampling.BICUBIC if crop.kind == "bicubic" else PIL.Image.Resampling.BILINEAR
        picture = picture.resize(size, way)
    top, left = round((picture.height - side) / 2.0), round((picture.width - side) / 2.0)
    return picture.crop((left, top, left + side, top + side))


def _halved_and_cropped(picture: Picture, side: int) -> Picture:
    """As the code of Dhariwal & Nichol 2021 does it: while at least twice too large, both sides halved."""
    import PIL.Image

    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), PIL.Image.Resampling.BOX)
    scale = side / min(picture.size)
    picture = picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), PIL.Image.Resampling.BICUBIC
    )
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))
