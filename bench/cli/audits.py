"""An audit of published logs in the words of `--json` and as tables for a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.output import results
from bench.published.logs.audit import Audit, Audited, Best
from bench.published.logs.scores import Score
from bench.report import units
from bench.types.printable import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


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


def tables(found: Audit) -> Iterator[Table | Text]:
    """Accuracies for each set of radii, then the best of several, then the findings."""
    from rich.text import Text

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


def _accuracies(found: Audit, logs: Sequence[Audited], name: dict[Path, str]) -> Table:
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
    return results(
        "certified accuracy (%) at l2 radius r, as printed",
        ("log", "images", "sigma", "N", "alpha", *(f"r={text}" for text in units.grid(radii))),
        rows,
        words=1,
        caption=_plain(
            f"second line: the same counts of votes at alpha={units.level(found.alpha)}, where the log's is larger"
        ),
        whole=True,
    )


def _bests(found: Audit, bests: Sequence[Best], radii: Sequence[float]) -> Table:
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
    return results(
        "best of all logs on the same images at each radius (%), as published rows are made",
        ("images", "logs", "alpha", *(f"r={text}" for text in units.grid(radii))),
        rows,
        words=1,
        caption=_plain(
            "a best is chosen on these same images, so it is too high; a log of unknown alpha counts as printed"
        ),
        whole=True,
    )


def _findings(found: Audit, name: dict[Path, str]) -> Table:
    rows = (
        ("" if k else printable(name[each.log.path]), finding.kind, printable(finding.text))
        for each in found.logs
        for k, finding in enumerate(each.findings)
    )
    return results("findings", ("log", "kind", "finding"), rows)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text)


def _pair(value: float, strict: float | None) -> str:
    first = units.points(value)
    return first if strict is None else f"{first}\n{units.points(strict)}"
