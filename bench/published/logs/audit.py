"""What is odd about published logs, found from their rows alone, and what they would read at the stated alpha.

A log's rows are let go as soon as it has been read through: an audit may be of thousands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench.published.logs.infer_sampling import Radii, beyond, on_grid
from bench.published.logs.layouts import other_norm, second_bound
from bench.published.logs.records import Log, Precision, printed_radii
from bench.published.logs.sampling import FIELD_SIGMAS, Reading, infer
from bench.published.logs.scores import Score, rounded_up, score
from bench.published.logs.subsets import Datasets, Subset, facts_of, radii_of, sigma_of, subset_of

STATED_ALPHA = 0.001  # what the field's papers say they used
_DOUBTFUL = 1e-4  # a path is believed unless radii say otherwise with less chance of being wrong than this


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a reader of a log should know."""

    kind: str  # alpha, sampling, incomplete, subset, order, rounding, correct, repeated, duplicate, ...
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One log and what was found in it."""

    log: Log  # without its rows where it is one of many
    images: int  # rows that it had
    sigma: float | None  # by its path, or by its radii where these tell
    sigma_in_path: bool
    subset: Subset
    reading: Reading
    printed: Score
    rebounded: Score | None  # at the stated alpha, where the log was made at a larger one
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best of several logs on the same images, at each radius: how published rows are made."""

    subset: Subset
    logs: int
    radii: tuple[float, ...]
    printed: tuple[float, ...]  # fractions
    rebounded: tuple[float, ...] | None  # at the stated alpha; None where no log needs it
    untold: int  # logs whose alpha is not known: they count there as printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """An audit of some logs."""

    alpha: float  # the stated one
    logs: tuple[Audited, ...]
    best: tuple[Best, ...]
    damaged: Mapping[Path, str]
    others: Mapping[Path, str]  # files in the folders that are no logs, and why


def audit(
    logs: Iterable[Log],
    datasets: Datasets,
    *,
    alpha: float = STATED_ALPHA,
    damaged: Mapping[Path, str] | None = None,
    others: Mapping[Path, str] | None = None,
) -> Audit:
    """Findings of each log, and of all of them together. `datasets`: what is known of each, by name."""
    twins, labels = _Twins({}), _Labels({})
    made = []
    for log in logs:
        each = audit_one(log, datasets, alpha)
        more = (*twins.find(log), *labels.find(log, each.subset))
        made.append(replace(each, log=replace(log, rows=()), findings=(*each.findings, *more)))
    return Audit(alpha=alpha, logs=tuple(made), best=_best(made), damaged=damaged or {}, others=others or {})


def reading_of(log: Log) -> tuple[float | None, Reading]:
    """The noise level of a log and what its radii say: at the path's sigma first, then at any that fits."""
    stated = sigma_of(log.path)
    if column := second_bound(log.layout):
        words = f"its column {column!r} tells of a bound on the runner-up too; the grid of one bound does not judge it"
        return stated, Reading(sampling=None, fits=(), ranges=(), radii=0, reason=words)
    reading = infer(log.rows, stated)
    if stated is None:
        return (reading.sampling.sigma if reading.sampling else None), reading
    return stated, reading


def audit_one(log: Log, datasets: Datasets, alpha: float = STATED_ALPHA) -> Audited:
    """Findings of one log by itself."""
    subset = subset_of(log, datasets)
    sigma, reading = reading_of(log)
    radii = radii_of(datasets, subset.dataset)
    sampling = reading.sampling
    stricter = sampling is not None and sampling.alpha > alpha * (1 + 1e-9)
    findings = (
        *_unit(log, sigma),
        *_norm(log, reading),
        *_sampling(log, sigma, reading, alpha),
        *_images(log, subset, datasets),
        *_columns(log),
        *_rounding(log, radii),
        *_piles(log, reading),
    )
    return Audited(
        log=log,
        images=len(log.rows),
        sigma=sigma,
        sigma_in_path=sigma_of(log.path) is not None,
        subset=subset,
        reading=reading,
        printed=score(log.rows, radii, sampling),
        rebounded=score(log.rows, radii, sampling, alpha) if stricter else None,
        findings=findings,
    )


def _unit(log: Log, sigma: float | None) -> list[Finding]:
    words = beyond(Radii.of(log.rows), sigma if sigma is not None else max(FIELD_SIGMAS))
    return [Finding("unit", words)] if words else []


def _norm(log: Log, reading: Reading) -> list[Finding]:
    """Whether a column or the path tells of radii that are not l2."""
    where = "column" if (word := other_norm(log.layout)) else "path"
    word = word or other_norm(log.path.parts)
    if not word:
        return []
    grid = f"; yet they lie on the grid of l2 radii, {reading.reason}" if reading.sampling else ""
    return [Finding("norm", f"its {where} says {word!r}: its radii may not be l2, as all tables here are{grid}")]


def _sampling(log: Log, sigma: float | None, reading: Reading, alpha: float) -> list[Finding]:
    found = reading.sampling
    if found is None:
        words = reading.reason
        if reading.fits:
            words += ": " + "; ".join(f"N={s.n}, alpha={s.alpha:g}, sigma={s.sigma:g}" for s in reading.fits[:4])
        if reading.ranges:
            words += ": " + "; ".join(f"alpha={a:g} would need N={low} to {high}" for a, low, high in reading.ranges)
        findings = [Finding("sampling", f"N and alpha unknown: {words}")]
        if sigma is not None and not second_bound(log.layout):
            other = infer(log.rows)
            if other.sampling is not None and other.sampling.sigma != sigma and (other.chance or 1.0) < _DOUBTFUL:
                words = f"its path says sigma {sigma:g}, its radii are those of sigma {other.sampling.sigma:g}"
                findings.append(Finding("sigma", words))
        return findings
    if abs(found.alpha / alpha - 1) > 1e-9:
        radii = Radii.of(log.rows)
        words = f"{reading.reason}; on that of alpha={alpha:g}, {on_grid(radii, replace(found, alpha=alpha))}"
        return [Finding("alpha", f"alpha={found.alpha:g}, not {alpha:g}: {words} of {len(radii)}")]
    return []


def _images(log: Log, subset: Subset, datasets: Datasets) -> list[Finding]:
    findings = []
    if subset.contrary:
        findings.append(Finding("dataset", subset.contrary))
    have = len(log.rows) - subset.repeated
    if subset.expected is not None and have < subset.expected:
        last = max(row.index for row in log.rows if row.index is not None)
        first = min(row.index for row in log.rows if row.index is not None)
        findings.append(
            Finding("incomplete", f"{have} of the {subset.expected} images of {subset.words}, index {first} to {last}")
        )
    if subset.repeated:
        findings.append(Finding("repeated", f"{subset.repeated} rows are of an image that came before"))
    if subset.unusual:
        findings.append(Finding("subset", f"{subset.words}: not the images of the field's tables on {subset.dataset}"))
    facts = facts_of(datasets, subset.dataset)
    if facts is None:
        return findings
    by_class = facts.order == "class-sorted"
    if subset.order and subset.order != facts.order:
        why = " (file-name order?)" if by_class else ""
        findings.append(Finding("order", f"{subset.order}{why}: the field's {subset.dataset} is {facts.order}"))
    labels = [row.label for row in log.rows if row.label is not None]
    tenth = (datasets[subset.dataset].num_classes or 0) // 10
    if by_class and len(labels) >= 100 and max(labels) < tenth:
        findings.append(
            Finding(
                "subset", f"labels 0 to {max(labels)} only: the first images of a class-sorted folder, not a sample"
            )
        )
    return findings


def _columns(log: Log) -> list[Finding]:
    findings = []
    if log.correct_column == "cumulative":
        findings.append(Finding("correct", "its column `correct` is a running total; right is label == predict here"))
    elif log.contradicted:
        findings.append(
            Finding("correct", f"its column `correct` is not label == predict in {log.contradicted} rows; that counts")
        )
    if all(row.label is None for row in log.rows):
        findings.append(Finding("labels", "radii only: which images, their labels and its abstentions are not known"))
    if "radius proved" in log.layout:
        findings.append(
            Finding("radius", "adaptive: one radius was tried, larger ones read 0 and smaller ones too low")
        )
    if log.unpromised:
        words = f"{log.unpromised} rows name a class at radius -1 or nan: they count as abstentions, so as wrong"
        findings.append(Finding("abstentions", words))
    if log.after:
        words = "; ".join(log.after[:3]) + ("; ..." if len(log.after) > 3 else "")
        findings.append(Finding("summary", f"{len(log.after)} lines after the rows are read past: {words[:200]}"))
    if log.torn:
        findings.append(Finding("torn", log.torn))
    return findings


def _rounding(log: Log, radii: Sequence[float]) -> list[Finding]:
    close = rounded_up(log.rows, radii)
    if not close:
        return []
    words = ", ".join(f"{count} at r={r:g}" for r, count in close.items())
    digits = Precision.of(printed_radii(log.rows)).significant
    return [Finding("rounding", f"printed with {digits} digits: may have been rounded up to the radius: {words}")]


def _piles(log: Log, reading: Reading) -> list[Finding]:
    """Radii that far too many images share, below the largest: ends of other grids in the same file."""
    radii = printed_radii(log.rows)
    precision = Precision.of(radii)
    texts = list(radii)
    spreads = [precision.spread(text) for text in texts]
    density = [times / max(high - low, 1e-12) for times, (low, high) in zip(radii.values(), spreads, strict=True)]
    grid_end = 0
    if reading.sampling is not None:  # the first points of its own grid are far apart, each with many images
        import numpy as np

        third = float(reading.sampling.radius(np.array([reading.sampling.n - 3]))[0])
        grid_end = sum(high >= third for _, high in spreads)
    piles = []
    for k in range(max(grid_end, 3), len(texts)):
        around = [*density[max(0, k - 5) : k], *density[k + 1 : k + 6]]
        if radii[texts[k]] >= 10 and len(around) >= 5 and density[k] > 8 * median(around):
            piles.append(texts[k])
    if not piles:
        return []
    words = ", ".join(f"{text} ({radii[text]} images)" for text in [texts[0], *piles[:4]])
    return [Finding("mixed", f"several largest radii, {words}: rows of several sigma, N or alpha in one file")]


@dataclass(frozen=True, slots=True)
class _Twins:
    """Logs with the same rows, whatever their times and their file."""

    first: dict[str, Path]

    def find(self, log: Log) -> list[Finding]:
        text = "\n".join(f"{r.index} {r.label} {r.predict} {r.correct} {r.radius}" for r in log.rows)
        first = self.first.setdefault(hashlib.sha256(text.encode()).hexdigest(), log.path)
        return [] if first is log.path else [Finding("duplicate", f"the same rows as {first}")]


@dataclass(frozen=True, slots=True)
class _Labels:
    """Logs that have other labels at the same indices than the first log on that dataset."""

    known: dict[tuple[str, str], dict[int, tuple[int, Path]]]

    def find(self, log: Log, subset: Subset) -> list[Finding]:
        if not subset.dataset:
            return []
        known = self.known.setdefault((subset.dataset, subset.split), {})
        other = []
        for row in log.rows:
            if row.index is not None and row.label is not None:
                label, path = known.setdefault(row.index, (row.label, log.path))
                if label != row.label:
                    other.append((row.index, row.label, label, path))
        if not other:
            return []
        index, label, before, path = other[0]
        words = f"index {index} has label {label}, in {path} label {before}; {len(other)} such: other images"
        return [Finding("images", words)]


def _best(logs: Sequence[Audited]) -> tuple[Best, ...]:
    groups: dict[tuple[str, str, str, str], list[Audited]] = {}
    for each in logs:
        s = each.subset
        groups.setdefault((s.dataset, s.split, s.words, s.order), []).append(each)
    made = []
    for members in groups.values():
        if len(members) < 2:
            continue
        printed = [each.printed.fractions for each in members]
        strict = [(each.rebounded or each.printed).fractions for each in members]
        changed = any(each.rebounded for each in members)
        made.append(
            Best(
                subset=members[0].subset,
                logs=len(members),
                radii=members[0].printed.radii,
                printed=tuple(map(max, zip(*printed, strict=True))),
                rebounded=tuple(map(max, zip(*strict, strict=True))) if changed else None,
                untold=sum(each.reading.sampling is None for each in members),
            )
        )
    return tuple(made)
