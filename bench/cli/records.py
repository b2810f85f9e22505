"""Runs in the words of `--json` and of one-line summaries."""

from __future__ import annotations

from typing import Any

from bench.report.accuracy import certified_accuracy, natural_radii
from bench.report.units import percent
from bench.store import Run


def run_record(run: Run) -> dict[str, Any]:
    """A run as `--json` gives it; accuracies are fractions of the images that have a row."""
    spec = run.spec
    score = certified_accuracy(run, natural_radii(spec.dataset)) if run.rows else None
    return {
        "digest": spec.digest(),
        "path": str(run.path),
        "method": spec.method,
        "dataset": spec.dataset,
        "sigma": spec.sigma,
        "n0": spec.n0,
        "n": spec.n,
        "alpha": spec.alpha,
        "subset": spec.subset,
        "precision": spec.precision,
        "random_weights": spec.random_weights,
        "images": len(run.rows),
        "images_planned": spec.images,
        "abstained": score.abstained if score else 0,
        "accuracy": {str(r): a for r, a in zip(score.radii, score.fractions, strict=True)} if score else {},
        "acr": score.acr if score else None,
        "samples": sum(row.selection.n + row.estimation.n for row in run.rows),
        "seconds": sum(row.seconds for row in run.rows),
    }


def headline(run: Run) -> str:
    """Certified accuracy at the first radii, and abstention, in one line."""
    score = certified_accuracy(run, natural_radii(run.spec.dataset)[:3])
    cells = [f"r={r:.2f} {percent(a)}" for r, a in zip(score.radii, score.fractions, strict=True)]
    return "  ".join([*cells, f"abstain {percent(score.abstention)}"])
