"""Every two methods at one noise level, paired image by image: which are told apart, at which radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from bench.report import units
from bench.report.accuracy import digest, name
from bench.report.grouping import BOUND_WORDS, Group, groups, variants
from bench.report.hypothesis_tests import LEVEL, holm, mcnemar
from bench.report.method_titles import printed
from bench.report.per_image import common, discordance, of_run
from bench.report.tables.table import Cell, Column, Line, Table, slug
from bench.runs.store import Run
from bench.types import RunSpec
from bench.types.errors import ReportError

NAME = "pairs"


def pair_tables(runs: Sequence[Run], bound: str = "pa", alpha: float | None = None) -> tuple[Table, ...]:
    """One table for all runs that differ in method, noise level and subset alone; pairs are of the images they share.

    Runs whose images may stop are left out, and the notes say so. Holm corrects over all tests of a table; a radius at
    which neither certifies an image is no test.
    Raises: ReportError as `groups`, and where no two runs have a noise level and an image in common.
    """
    left_out = tuple(f"! {name(run)} is left out: its images may stop before n" for run in runs if run.spec.stops)
    kinds: dict[tuple[object, ...], list[Group]] = {}
    for group in groups([run for run in runs if not run.spec.stops], bound, alpha):
        spec = group.runs[0].spec
        kind = (spec.dataset, spec.split, spec.shape, spec.preprocessing, spec.n, spec.certifier, spec.precision)
        kinds.setdefault((*kind, group.alpha, group.radii), []).append(group)
    made = [table for kind in kinds.values() if (table := _table(kind, left_out))]
    if not made:
        raise ReportError(
            f"table {NAME} needs two runs of other methods at one noise level on common images, found none among "
            f"{len(runs)}; certify both on one --subset"
        )
    return tuple(made)


def _table(kind: Sequence[Group], left_out: Sequence[str]) -> Table | None:
    first = kind[0]
    titled = _titled(kind)
    verdicts = {digest(run): of_run(run, first.radii, first.bound, first.alpha) for _, run in titled}
    counted = []
    for (title, run), (other, against) in combinations(titled, 2):
        if run.spec.sigma != against.spec.sigma or _on_any_images(run) == _on_any_images(against):
            continue  # of another noise level, or the same votes twice
        if shared := common(verdicts[digest(run)], verdicts[digest(against)]):
            tests = [
                discordance(verdicts[digest(run)], verdicts[digest(against)], shared, k)
                for k in range(len(first.radii))
            ]
            counted.append((title, other, run, against, len(shared), tests))
    if not counted:
        return None
    # Holm's family: the tests that could come out otherwise.
    real = [(i, k) for i, (*_, tests) in enumerate(counted) for k, one in enumerate(tests) if one.neither < one.images]
    p_values = holm([mcnemar(counted[i][-1][k]) for i, k in real])
    found = {place for place, p in zip(real, p_values, strict=True) if p <= LEVEL}
    rows: list[Line] = []
    for i, (title, other, run, against, images, tests) in enumerate(counted):
        origin = f"{run.spec.digest()} {against.spec.digest()}"
        sigma = units.noise_level(run.spec.sigma)
        words = [
            Cell(value=text, unit="text", source="measured", origin=origin, printed=printed(text, of.spec.method))
            for text, of in ((title, run), (other, against))
        ]
        words.append(Cell(value=sigma, unit="text", source="measured", origin=origin))
        differences = (
            Cell(
                value=one.difference if (i, k) in real else None,
                unit="fraction",
                source="measured",
                origin=origin,
                images=images,
                bold=(i, k) in found,
            )
            for k, one in enumerate(tests)
        )
        rows.append((*words, Cell(value=images, unit="count", source="measured", origin=origin), *differences))
    pairs = {frozenset(pair[:2]) for pair in counted}
    apart = {frozenset(counted[i][:2]) for i, _ in found}
    level = [" and ".join(sorted(pair)) for pair in pairs - apart]
    spec = first.runs[0].spec
    return Table(
        name=f"{NAME}-{slug(first.dataset)}",
        title=f"{first.dataset}: differences of certified accuracy, a - b (points), on the images that both have",
        caption=(
            f"{spec.dataset} {spec.split}; N={units.count(spec.n)}; alpha={units.level(first.alpha)}; "
            f"{BOUND_WORDS[first.bound]}; certifier {spec.certifier}; preprocessing {spec.preprocessing}; "
            f"precision {spec.precision}"
        ),
        # No radius: a difference is no accuracy, and has no best.
        columns=(
            *(Column("a", "a"), Column("b", "b"), Column("sigma", "sigma"), Column("images", "images")),
            *(Column(f"r={text}", f"r={text}") for text in units.grid(first.radii)),
        ),
        rows=tuple(rows),
        notes=(
            f"bold: significant at {LEVEL:g} by exact McNemar tests, Holm over the table's {len(real)}: {len(found)}",
            f"told apart at some radius and noise level: {len(apart)} of {len(pairs)} pairs of methods"
            + (f"; not told apart: {', '.join(sorted(level))}" if level else ""),
            *left_out,
            *dict.fromkeys(note for group in kind for note in group.notes),
        ),
    )


def _titled(kind: Sequence[Group]) -> list[tuple[str, Run]]:
    """The runs with their methods' titles; the digest tells trainings apart that no title does."""
    found = [(variant.title, run) for group in kind for variant in variants(group) for run in variant.runs]
    seen = [(title, run.spec.sigma) for title, run in found]
    return [
        (f"{title} [{digest(run)}]" if seen.count((title, run.spec.sigma)) > 1 else title, run) for title, run in found
    ]


def _on_any_images(run: Run) -> RunSpec:
    """What decides an image's votes, without which images; no level does."""
    return replace(run.spec, subset="", subset_fingerprint="", images=0, alpha=0.0)
