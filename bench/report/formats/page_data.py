"""What the page lets a reader explore: every image's votes and certificate, as plain values; no layout.

All figures that the page computes while it is read come from these and from the intervals listed here: it holds the
certificates at full precision and rounds only what it prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.published.tables import PublishedTable
from bench.report import units
from bench.report.accuracy import curve, digest, name, promise
from bench.report.figures.method_looks import EMPHASISED, looks
from bench.report.figures.own_latency import commonest, device_of
from bench.report.formats.page_summary import summary
from bench.report.formats.thumbnails import Thumbnails, thumbnails
from bench.report.grouping import Group, Variant, groups, variants
from bench.report.method_titles import printed
from bench.report.statistics import CONFIDENCE, wilson
from bench.report.tables.latency import Seconds, seconds_of
from bench.runs.store import Run
from bench.types import Row
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from bench.timing.records import LatencyRecord

_CLASSES = 4  # votes shown by class; the rest are one number: a page of 500 images x 10 methods stays small
_FEW = 300  # images, below which an interval is wider than most differences between methods


@dataclass(frozen=True, slots=True)
class Provenance:
    """One run, as far as a number of the page depends on it."""

    digest: str
    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageData:
    """The parts of the page that answer a reader."""

    record: Mapping[str, Any]  # what its script reads
    provenance: tuple[Provenance, ...]
    doubts: tuple[str, ...]
    summary: tuple[tuple[str, tuple[str, ...]], ...] = ()  # sentences by the title of their group


def page_data(
    runs: Sequence[Run],
    *,
    bound: str = "pa",
    alpha: float | None = None,
    published: PublishedTable | None = None,
    roots: Mapping[str, Any] | None = None,
    latencies: Sequence[LatencyRecord] = (),
) -> PageData:
    """The runs as the page explores them; one that cannot be certified as asked is named among the doubts, not shown.

    `roots`: folder of each dataset by name; one that cannot be opened shows no pictures, and the page says why.
    `latencies`: records of `rrcm-bench latency`; a group that any of them fits shows their seconds alone.
    Raises: ReportError for a bad alpha or bound, or images that contradict each other.
    """
    started = [run for run in runs if run.rows]
    shown, doubts = [], [f"{name(run)} has no certified image yet" for run in runs if not run.rows]
    for run in started:
        try:
            curve(run, bound, alpha)
        except ReportError as error:
            doubts.append(f"left out of the interactive parts: {error}")
        else:
            shown.append(run)
    # The page opens on the group with most to compare.
    made, found = [], sorted(groups(shown, bound, alpha), key=lambda group: -len(group.runs))
    for group in found:
        pictures = thumbnails(group.runs, (roots or {}).get(group.dataset))
        if pictures.missing:
            doubts.append(f"{group.dataset}: no pictures: {pictures.missing}")
        seconds = {digest(run): one for run in group.runs if (one := seconds_of(run, latencies))}
        made.append(_group(group, pictures, seconds))
        doubts += _doubts(group, timed=bool(seconds))
    if len(made) > 1:
        doubts.append(
            "the groups below differ in images, pixels, N or alpha: no number of one compares with one of another"
        )
    return PageData(
        record={
            "confidence": units.percent(CONFIDENCE, 0),
            "groups": made,
            "published": None if published is None else _published(published),
        },
        provenance=tuple(_provenance(variant, run) for g in found for variant in variants(g) for run in variant.runs),
        doubts=tuple(dict.fromkeys(doubts)),
        summary=tuple((own["title"], said) for group, own in zip(found, made, strict=True) if (said := summary(group))),
    )


def _group(group: Group, pictures: Thumbnails, seconds: Mapping[str, Seconds]) -> dict[str, Any]:
    labels = {row.index: row.label for run in group.runs for row in run.rows}
    position = {index: k for k, index in enumerate(sorted(labels))}
    spec = group.runs[0].spec
    # Of one device: seconds of two compare devices.
    device = commonest(_timed_on(run, seconds) for run in group.runs if not seconds or digest(run) in seconds)
    return {
        "title": (
            f"{spec.dataset}, {units.count(len(labels))} images, N{'<=' if spec.stops else '='}{units.count(spec.n)}, "
            f"alpha={units.level(group.alpha)}, bound {group.bound}"
        ),
        "caption": group.caption(),
        "dataset": spec.dataset,
        "n": spec.n,
        # Images that may stop have verdicts at the radii alone: between them counts are known from below.
        "stops": spec.stops,
        "radii": [[radius, text] for radius, text in zip(group.radii, units.grid(group.radii), strict=True)],
        "images": [[index, labels[index]] for index in sorted(labels)],
        "classes": list(pictures.classes),
        "pictures": [pictures.by_index.get(index, "") for index in sorted(labels)] if pictures.by_index else [],
        # One list a number of images: of how many that are certified, which interval.
        "intervals": {
            str(size): [[round(end, 6) for end in wilson(k, size)] for k in range(size + 1)]
            for size in sorted({len(run.rows) for run in group.runs})
        },
        "runs": [
            _run(group, variant, run, position, _appearance(group, variant)) | _seconds(run, seconds, device)
            for variant in sorted(variants(group), key=lambda each: each.runs[0].spec.method != EMPHASISED)
            for run in variant.runs
        ],
    }


def _appearance(group: Group, variant: Variant) -> dict[str, Any]:
    """The colour and marker of every figure; of a method's variants all but the first are hollow."""
    method = variant.runs[0].spec.method
    look = looks(run.spec.method for run in group.runs)[method]
    first = next(each for each in variants(group) if each.runs[0].spec.method == method)
    return {
        "colour": look.colour,
        "symbol": look.symbol + ("" if first.title == variant.title else "-open"),
        "emphasised": method == EMPHASISED,
    }


def _run(
    group: Group, variant: Variant, run: Run, position: Mapping[int, int], appearance: Mapping[str, Any]
) -> dict[str, Any]:
    twins = sum(other.spec.sigma == run.spec.sigma for other in variant.runs) > 1
    title = printed(variant.title, run.spec.method)
    return {
        "id": digest(run),
        "method": f"{title} [{digest(run)}]" if twins else title,
        **appearance,
        "sigma": units.noise_level(run.spec.sigma),
        "expected": run.spec.images,
        "random": run.spec.random_weights,
        "rows": [[position[row.index], *_verdict(group, run, row)] for row in run.rows],
    }


def _seconds(run: Run, known: Mapping[str, Seconds], device: str) -> dict[str, Any]:
    """Its seconds an image and where they come from: a latency record, or only where no run has one, its own rows."""
    if (known and digest(run) not in known) or _timed_on(run, known) != device:
        return {"seconds": None, "timed": ""}
    if not known:
        return {
            "seconds": median(row.seconds for row in run.rows),
            "timed": f"measured here: median over the run's images ({device})",
        }
    found = known[digest(run)]
    return {"seconds": found.value, "timed": f"{found.kind} here by rrcm-bench latency ({device})"}


def _timed_on(run: Run, known: Mapping[str, Seconds]) -> str:
    return known[digest(run)].record.device.name if digest(run) in known else device_of([run])


def _verdict(group: Group, run: Run, row: Row) -> tuple[Any, ...]:
    """Class promised (-1: none), its radius, the bound behind it, most voted classes, and how many votes are left."""
    held = promise(run.spec, row, group.bound, group.alpha)
    top = row.estimation.ranked()[:_CLASSES]
    rest = row.estimation.n - sum(votes for _, votes in top)
    # The bound is printed, never compared; rounded down, it promises no more.
    return held.label, held.radius, int(held.p_lower * 10**6) / 10**6, [n for pair in top for n in pair], rest


def _doubts(group: Group, *, timed: bool) -> list[str]:
    said = []
    images = max(len(run.rows) for run in group.runs)
    if images < _FEW:
        low, high = wilson(images // 2, images)
        said.append(
            f"{group.dataset}: {images} images only; near 50 % an interval is {units.points(high - low)} points wide"
        )
    if group.runs[0].spec.stops:
        said.append(
            f"{group.dataset}: images of these runs could stop before N; between their radii, and as a radius of an "
            "image, the plots show what is proven at least"
        )
    devices = {device_of([run]) for run in group.runs}
    if not timed:
        said.append(
            f"{group.dataset}: seconds are what each run took per image, beside whatever else the machine did "
            f"({', '.join(sorted(filter(None, devices))) or 'device not recorded'}); they are no latency measurement"
            + (", and those of one device alone are drawn" if len(devices) > 1 else "")
        )
    for run in group.runs:
        if not run.done:
            said.append(f"{name(run)} is incomplete: {len(run.rows)} of {run.spec.images} images")
        if run.conflicts:
            said.append(f"{name(run)}: {run.conflicts} images were certified twice with other votes; the first counts")
        if run.spec.random_weights:
            said.append(f"{name(run)} has random weights: never trained, its accuracies mean nothing")
    return [*said, *group.notes]


def _provenance(variant: Variant, run: Run) -> Provenance:
    spec, known = run.spec, run.environment
    packages = known.get("packages", {})
    facts = {
        "folder": run.path.name,  # where it lay is nobody's business but its owner's
        "method": spec.method,
        "parameters": ", ".join(f"{key}={value}" for key, value in sorted(spec.params.items())) or "none",
        "weights": ", ".join(f"{role} sha256 {sha256}" for role, sha256 in sorted(spec.weights.items())) or "none",
        "images": (
            f"{spec.dataset} {spec.split}, subset {spec.subset}, {len(run.rows)} of {spec.images}, "
            f"fingerprint {spec.subset_fingerprint}"
        ),
        **({"class order": spec.class_order} if spec.class_order else {}),
        "pixels": f"{'x'.join(map(str, spec.shape))} in [0, 1], preprocessing {spec.preprocessing}",
        "certificate": (
            f"{spec.certifier}, sigma {units.noise_level(spec.sigma)}, n0={units.count(spec.n0)}, "
            f"N={units.count(spec.n)}, alpha={units.level(spec.alpha)}, seed {spec.seed}, noise {spec.noise}"
        ),
        "arithmetic": f"precision {spec.precision} on {device_of([run]) or 'a device that was not recorded'}",
        "software": ", ".join(f"{key} {value}" for key, value in sorted(packages.items())) or "not recorded",
        "commit": str(known.get("git_commit", "not recorded")),
    }
    return Provenance(digest(run), f"{variant.title}, sigma {units.noise_level(spec.sigma)}", tuple(facts.items()))


def _published(published: PublishedTable) -> dict[str, Any]:
    texts = units.grid(published.radii)
    drawn_as = looks(row.method for row in published.rows)
    return {
        "title": published.title,
        "source": published.source,
        "dataset": published.dataset,
        "hardware": published.hardware,
        "radii": [[radius, text] for radius, text in zip(published.radii, texts, strict=True)],
        "rows": [
            {
                "method": row.title,
                "colour": drawn_as[row.method].colour,
                "symbol": f"{drawn_as[row.method].symbol}-open",
                "emphasised": row.method == EMPHASISED,
                "values": list(row.values),
                "seconds": row.latency_s,
                "millions": row.params_millions,
                "n": row.n,
            }
            for row in published.rows
        ],
    }
