"""Runs in the words of `--json` and of one-line summaries."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.report.accuracy import certified_accuracy, table_radii
from bench.report.units import percent
from bench.runs.store import Run


def run_record(run: Run) -> dict[str, Any]:
    """A run as `--json` gives it; accuracies are fractions of the images that have a row."""
    spec = run.spec
    score = certified_accuracy(run, table_radii(run)) if run.rows else None
    record = {
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
        "abstained": score.abstained if score else 0,  # null where a run that stops cannot tell
        "accuracy": {str(r): a for r, a in zip(score.radii, score.fractions, strict=True)} if score else {},
        "acr": None if score is None or score.acr_at_least else score.acr,
        "samples": sum(row.samples for row in run.rows),
        "seconds": sum(row.seconds for row in run.rows),
        "certifier": spec.certifier,
    }
    if spec.stops:
        # Between its radii such a run says nothing, so that its average radius is known from below alone.
        record |= {
            "radii": list(spec.radii),
            "mode": spec.mode,
            "acr_at_least": score.acr if score else None,
            "stopped": dict(Counter(row.stopped or "decided" for row in run.rows)),
        }
    return record


def headline(run: Run) -> str:
    """Certified accuracy at the first radii, and abstention or the samples taken, in one line."""
    score = certified_accuracy(run, table_radii(run)[:3])
    cells = [f"r={r:.2f} {percent(a)}" for r, a in zip(score.radii, score.fractions, strict=True)]
    if score.abstention is not None:
        cells.append(f"abstain {percent(score.abstention)}")
    if run.spec.stops:
        mean = sum(row.samples for row in run.rows) / len(run.rows)
        cells.append(f"{mean:,.0f} samples an image")
    return "  ".join(cells)
