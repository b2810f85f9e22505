"""`rrcm-bench logs`: published certification logs, audited and imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import listing, print_json, remark, stdout
from bench.cli.paths import at_home
from bench.report import units

if TYPE_CHECKING:
    from rich.text import Text

    from bench.published.logs.audit import Audit, Audited, Best
    from bench.published.logs.scores import Score
    from bench.report.formats.terminal import TerminalTable

PATHS = Annotated[
    list[Path], typer.Argument(help="Logs, or folders of them, however deep.", show_default=False, callback=at_home)
]
FAILED = 3  # the exit code of what ran, but not for all that was asked

RADIUS = Annotated[
    float | None,
    typer.Option(help="l2 radius of logs that say only whether one radius was proved.", show_default="none"),
]


def audit(
    paths: PATHS,
    alpha: Annotated[float, typer.Option(help="The failure probability that the papers state.")] = 0.001,
    radius: RADIUS = None,
    json: options.Json = False,
) -> None:
    """Find what is odd about published logs: N and alpha, missing images, unusual subsets, rounding, doubles."""
    from bench.data.installed import installed_datasets
    from bench.published.logs.audit import audit as audit_logs
    from bench.published.logs.reading import each_log
    from bench.types.errors import DataError, UsageError

    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    damaged: dict[Path, str] = {}
    others: dict[Path, str] = {}
    logs = each_log(paths, _radius(radius), damaged, others)
    found = audit_logs(logs, installed_datasets(), alpha=alpha, damaged=damaged, others=others)
    if not found.logs and not damaged:
        raise DataError(f"no certification log in {', '.join(map(str, paths))} ({len(others)} other files)")
    if json:
        print_json(record(found))
        return
    console = stdout()
    for each in tables(found):
        console.print(each)


def import_(
    paths: PATHS,
    method: Annotated[
        str | None,
        typer.Option(help="Name of the method in reports: no log says it.", show_default="each PATH's own name"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset of the images.", show_default="told by path or labels")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="l2 noise level in [0, 1] pixels.", show_default="told by path or radii")
    ] = None,
    n: Annotated[int | None, typer.Option(help="Samples of the estimate.", show_default="told by the radii")] = None,
    alpha: Annotated[float | None, typer.Option(help="Failure probability.", show_default="told by the radii")] = None,
    radius: RADIUS = None,
    out: Annotated[Path, typer.Option(help="Folder of imported logs.", callback=at_home)] = Path("results/imported"),
    json: options.Json = False,
) -> None:
    """Store published logs, marked as imported; those that cannot be are named, with exit code 3."""
    from bench.data.installed import installed_datasets
    from bench.published.logs.importing import Stated, import_logs
    from bench.types.errors import DataError, UsageError
    from bench.types.printable import printable

    if n is not None and not 0 < n <= 10**9:
        raise UsageError(f"--n must lie in [1, 1e9], got {n}; the field uses 100 to 1 000 000")
    if alpha is not None and not 0 < alpha < 0.5:
        raise UsageError(f"--alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    stated = Stated(method=method, dataset=dataset, sigma=sigma, n=n, alpha=alpha)
    refused: dict[Path, str] = {}
    others: dict[Path, str] = {}
    within = _radius(radius)
    written = list(import_logs(paths, stated, out, installed_datasets(), refused=refused, others=others, radius=within))
    if not written and len(refused) == 1:
        raise DataError(next(iter(refused.values())))
    if not written and not refused:
        raise DataError(
            f"no certification log in {', '.join(map(repr, map(str, paths)))} ({len(others)} other files); give logs, "
            "or their folder"
        )
    for file, reason in others.items():
        remark(printable(f"left out {file}: {reason}"))
    for reason in refused.values():
        remark(printable(f"not imported: {reason}"))
    if json:
        print_json(
            {
                "imported": [{"path": str(folder), "digest": o.digest(), "source": o.source} for folder, o in written],
                "refused": {str(path): reason for path, reason in refused.items()},
            }
        )
    for folder, o in () if json else written:
        by = "radii" if o.sampling_by == "radii" else "words given"
        words = f"{o.source}: {o.rows} images, {o.dataset} {o.subset}, sigma {o.sigma:g}, N={o.n}, alpha={o.alpha:g}"
        print(printable(f"{words} (by the {by})  -> {folder}"))
        for finding in o.findings:
            remark(printable(f"! {o.source}: {finding}"))
    if not written:
        raise DataError(f"none of {len(refused)} logs is imported, for the reasons above; mend what they name")
    if refused:
        remark(f"{len(written)} of {len(written) + len(refused)} logs are imported")
        raise typer.Exit(FAILED)


def _radius(radius: float | None) -> float | None:
    from bench.types.errors import UsageError

    if radius is not None and not 0 < radius < 1e6:
        raise UsageError(f"--radius must be above 0, an l2 length of pixels in [0, 1], got {radius!r}")
    return radius


def record(found: Audit) -> dict[str, Any]:
    """An audit as plain values; accuracies are fractions of the images that a log has."""
    return {
        "alpha_stated": found.alpha,
        "logs": [_log(each) for each in found.logs],
        "best": [
            {
                "dataset": best.subset.dataset,
                "split": best.subset.split,
                "subset": best.subset.words,
                "order": best.subset.order,
                "logs": best.logs,
                "logs_of_unknown_alpha": best.untold,
                "radii": list(best.radii),
                "printed": list(best.printed),
                "at_stated_alpha": None if best.rebounded is None else list(best.rebounded),
            }
            for best in found.best
        ],
        "damaged": {str(path): text for path, text in found.damaged.items()},
        "no_logs": {str(path): text for path, text in found.others.items()},
    }


def tables(found: Audit) -> Iterator[TerminalTable | Text]:
    """Accuracies for each set of radii, then the best of several, then the findings."""
    from rich.text import Text

    from bench.types.printable import printable

    name = _names([each.log.path for each in found.logs])
    for radii in dict.fromkeys(each.printed.radii for each in found.logs):
        yield _accuracies(found, [each for each in found.logs if each.printed.radii == radii], name)
    for radii in dict.fromkeys(best.radii for best in found.best):
        yield _bests(found, [best for best in found.best if best.radii == radii], radii)
    if any(each.findings for each in found.logs):
        yield _findings(found, name)
    for text in found.damaged.values():
        yield Text(printable(f"! damaged: {text}"))
    if found.others:
        reasons = sorted(set(found.others.values()))
        yield Text(printable(f"{len(found.others)} other files left out: {'; '.join(reasons)}"))


def _log(each: Audited) -> dict[str, Any]:
    sampling = each.reading.sampling
    return {
        "path": str(each.log.path),
        "sha256": each.log.sha256,
        "layout": list(each.log.layout),
        "header": each.log.header,
        "images": each.images,
        "images_expected": each.subset.expected,
        "dataset": each.subset.dataset or None,
        "split": each.subset.split,
        "subset": each.subset.words,
        "order": each.subset.order or None,
        "sigma": each.sigma,
        "n": sampling.n if sampling else None,
        "alpha": sampling.alpha if sampling else None,
        "grounds": each.reading.reason,
        "chance": each.reading.chance,
        "also_fits": [{"n": s.n, "alpha": s.alpha, "sigma": s.sigma} for s in each.reading.fits if s != sampling],
        "correct_column": each.log.correct_column,
        "printed": _score(each.printed),
        "at_stated_alpha": _score(each.rebounded) if each.rebounded else None,
        "findings": [{"kind": finding.kind, "text": finding.text} for finding in each.findings],
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "radii": list(score.radii),
        "certified": list(score.certified),
        "least": list(score.least),
        "most": list(score.most),
        "accuracy": list(score.fractions),
        "abstained": score.abstained,
        "acr": score.acr,
    }


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Paths without the folders that all of them share."""
    if len(paths) < 2:
        return {path: path.name for path in paths}
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return {path: os.path.relpath(path.absolute(), shared) for path in paths}


def _accuracies(found: Audit, logs: Sequence[Audited], name: dict[Path, str]) -> TerminalTable:
    from bench.types.printable import printable

    radii = logs[0].printed.radii
    rows = []
    for each in logs:
        sampling, expected = each.reading.sampling, each.subset.expected
        short = expected is not None and expected != each.images
        strict = each.rebounded.fractions if each.rebounded else None
        again = f"\n{units.level(found.alpha)}" if strict else ""
        rows.append(
            (
                printable(name[each.log.path]),
                f"{each.images}" + (f" of {expected}" if short else ""),
                "?" if each.sigma is None else units.noise_level(each.sigma),
                units.count(sampling.n) if sampling else "?",
                units.level(sampling.alpha) + again if sampling else "?",
                *(
                    _pair(value, None if strict is None else strict[k])
                    for k, value in enumerate(each.printed.fractions)
                ),
            )
        )
    return listing(
        "certified accuracy (%) at l2 radius r, as printed",
        ("log", "images", "sigma", "N", "alpha", *(f"r={text}" for text in units.grid(radii))),
        rows,
        words=1,
        caption=f"second line: the same counts of votes at alpha={units.level(found.alpha)}, where the log's is larger",
    )


def _bests(found: Audit, bests: Sequence[Best], radii: Sequence[float]) -> TerminalTable:
    rows = []
    for best in bests:
        s = best.subset
        rows.append(
            (
                " ".join(filter(None, (s.dataset, s.split, s.words, s.order))),
                f"{best.logs}" + (f", alpha of {best.untold} unknown" if best.untold and best.rebounded else ""),
                "printed" + (f"\n{units.level(found.alpha)}" if best.rebounded else ""),
                *(
                    _pair(value, None if best.rebounded is None else best.rebounded[k])
                    for k, value in enumerate(best.printed)
                ),
            )
        )
    return listing(
        "best of all logs on the same images at each radius (%), as published rows are made",
        ("images", "logs", "alpha", *(f"r={text}" for text in units.grid(radii))),
        rows,
        words=1,
        caption="a best is chosen on these same images, so it is too high; a log of unknown alpha counts as printed",
    )


def _findings(found: Audit, name: dict[Path, str]) -> TerminalTable:
    from bench.types.printable import printable

    rows = (
        ("" if k else printable(name[each.log.path]), finding.kind, printable(finding.text))
        for each in found.logs
        for k, finding in enumerate(each.findings)
    )
    return listing("findings", ("log", "kind", "finding"), rows)


def _pair(value: float, strict: float | None) -> str:
    first = units.points(value)
    return first if strict is None else f"{first}\n{units.points(strict)}"
