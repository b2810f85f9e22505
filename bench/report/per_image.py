"""What each method says of each image, by the image's identity: the ground on which two of them are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.report.accuracy import certified_accuracy, name
from bench.report.hypothesis_tests import Discordance
from bench.runs.store import Run
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from bench.published.logs.store import Imported


@dataclass(frozen=True, slots=True)
class Verdict:
    """One image under one method."""

    certified: tuple[bool, ...]  # right class and a radius of at least r, by radius
    radius: float  # l2; 0 where it abstains or the class is wrong
    label: int


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All images of a run or a log."""

    radii: tuple[float, ...]
    by_image: Mapping[str, Verdict]
    space: tuple[object, ...]  # what makes two keys of one image equal: only within it may two be paired


def of_run(run: Run, radii: Sequence[float], bound: str = "pa", alpha: float | None = None) -> Verdicts:
    """By the fingerprint of the pixels.

    Each image is scored as a run of itself, so that whatever rules the certifier has hold here too.
    Raises: ReportError as `certified_accuracy`, or for two rows of one fingerprint under two labels.
    """
    found: dict[str, Verdict] = {}
    for row in run.rows:
        one = certified_accuracy(replace(run, rows=(row,)), radii, bound, alpha)
        new = Verdict(tuple(k == 1 for k in one.certified), one.acr, row.label)
        if found.setdefault(row.fingerprint, new).label != row.label:
            raise ReportError(
                f"{name(run)} has one image ({row.fingerprint[:10]}) under two labels, {new.label} and "
                f"{found[row.fingerprint].label}; expected one; mend the dataset and certify again"
            )
    spec = run.spec
    return Verdicts(tuple(radii), found, (spec.shape, spec.preprocessing))


def of_log(log: Imported, radii: Sequence[float]) -> Verdicts:
    """By the index and label that the log printed: good within logs of one dataset, subset and order.

    No image where the log printed no index: nothing then says which images two logs share.
    """
    from bench.published.logs.scores import score  # numpy, which a report without logs can do without

    origin = log.origin
    found: dict[str, Verdict] = {}
    for row in log.rows if all(r.index is not None and r.label is not None for r in log.rows) else ():
        one = score((row,), radii, origin.sampling)
        found[f"{row.index}:{row.label}"] = Verdict(tuple(k == 1 for k in one.certified), one.acr, row.label or 0)
    return Verdicts(tuple(radii), found, (origin.dataset, origin.split, origin.subset, origin.order))


def common(a: Verdicts, b: Verdicts) -> tuple[str, ...]:
    """The images that both have judged, in one order; none where their keys do not mean the same."""
    return tuple(sorted(a.by_image.keys() & b.by_image.keys())) if a.space == b.space else ()


def discordance(a: Verdicts, b: Verdicts, shared: Sequence[str], k: int) -> Discordance:
    """Their verdicts on some common images, at the k-th radius."""
    one, other = ([each.by_image[key].certified[k] for key in shared] for each in (a, b))
    return Discordance.of(one, other)
