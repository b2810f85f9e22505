"""Certificates of images as `certify` and stored runs give them, and their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, overload

from bench.api.images import UNKNOWN
from bench.report.accuracy import promise
from bench.types import ABSTAIN, Counts, Row, RunSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCertificate:
    """What is promised of one image: the smoothed label is constant within the open l2 ball of that radius."""

    index: int  # among those given, from 0; of a stored run, in its dataset
    label: int  # the certified class; -1 where it abstains
    radius: float  # l2, pixels in [0, 1]; 0.0 where it abstains
    p_lower: float  # lower confidence bound on the class's probability
    selection: Counts  # votes of the n0 copies that chose the class
    estimation: Counts  # votes of the n copies that the bound is from
    target: int | None  # the true class, where it was given
    fingerprint: str  # sha256 of the pixels: what the noise is keyed by
    seconds: float  # its share of the forward passes

    @property
    def abstained(self) -> bool:
        """Whether nothing is promised."""
        return self.label == ABSTAIN

    @property
    def correct(self) -> bool | None:
        """Whether the certified class is the true one; None where that was not given."""
        return None if self.target is None else self.label == self.target


@dataclass(frozen=True, slots=True)
class Certificates(Sequence[ImageCertificate]):
    """Certificates in the order of the images, and what they were made with."""

    items: tuple[ImageCertificate, ...]
    spec: RunSpec  # sigma, n0, n, alpha, certifier, seed, precision

    @overload
    def __getitem__(self, index: int) -> ImageCertificate: ...
    @overload
    def __getitem__(self, index: slice) -> Certificates: ...
    def __getitem__(self, index: int | slice) -> ImageCertificate | Certificates:
        return self.items[index] if isinstance(index, int) else Certificates(self.items[index], self.spec)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[ImageCertificate]:
        return iter(self.items)

    @property
    def label(self) -> list[int]:
        """The certified class of each image; -1 where it abstains."""
        return [item.label for item in self.items]

    @property
    def radius(self) -> list[float]:
        """The certified l2 radius of each image, pixels in [0, 1]; 0.0 where it abstains."""
        return [item.radius for item in self.items]

    def certified_accuracy(self, radius: float = 0.0) -> float:
        """Fraction of the images whose certified class is the true one, with a radius of at least that.

        Units: l2, pixels in [0, 1]. Abstentions count as wrong at every radius (Cohen et al. 2019, Section 4).
        Raises: ValueError where an image came without its true class.
        """
        if not self.items or any(item.target is None for item in self.items):
            raise ValueError("no accuracy without true classes; give a loader of (x, y)")
        return sum(bool(item.correct) and item.radius >= radius for item in self.items) / len(self.items)

    def to_pandas(self) -> pd.DataFrame:
        """One row an image: the fields of `ImageCertificate`, votes as {class: votes}, abstained and correct.

        `attrs` has sigma, n0, n, alpha, certifier, seed and precision.
        """
        import pandas as pd

        names = [own.name for own in fields(ImageCertificate)]
        rows = [
            {name: dict(held.votes) if isinstance(held := getattr(item, name), Counts) else held for name in names}
            for item in self.items
        ]
        frame = pd.DataFrame(rows, columns=names)
        frame["target"] = pd.array([item.target for item in self.items], dtype="Int64")
        frame["abstained"] = [item.abstained for item in self.items]
        frame["correct"] = pd.array([item.correct for item in self.items], dtype="boolean")
        frame.attrs = {
            name: getattr(self.spec, name) for name in ("sigma", "n0", "n", "alpha", "certifier", "seed", "precision")
        }
        return frame


def certificate_of(spec: RunSpec, row: Row, bound: str = "pa", alpha: float | None = None) -> ImageCertificate:
    """The certificate that a row's votes give.

    Raises: ReportError for a bound or alpha that they do not allow.
    """
    made = promise(spec, row, bound, alpha)
    return ImageCertificate(
        index=row.index,
        label=made.label,
        radius=made.radius,
        p_lower=made.p_lower,
        selection=row.selection,
        estimation=row.estimation,
        target=None if row.label == UNKNOWN else row.label,
        fingerprint=row.fingerprint,
        seconds=row.seconds,
    )
