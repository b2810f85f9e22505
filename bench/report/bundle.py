"""Files beside the runs of an archive: report, environments, weights' names and hashes, how to cite and check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report.accuracy import name
from bench.report.build import build, write
from bench.runs.archive import run_files
from bench.runs.store import Run
from bench.weights.resolve import catalogue

_README = """# Certified runs

Votes of every image, with what they were drawn with, by rrcm-bench {version}. `report.md` and `report.html` are
computed from them.

    rrcm-bench runs import FILE --out results/runs
    rrcm-bench verify results/runs/RUN     # its seals, and some of its rows drawn again
    rrcm-bench report --runs results/runs

`manifest.json` has the sha256 of every file, `weights.json` of the weights, which are not here, `environment.json` the
machines and versions. Runs:

{runs}
"""
_CITATION = """cff-version: 1.2.0
type: dataset
title: "Certified runs of {methods} on {datasets}"
message: "Cite the authors of the methods and of the data too."
authors:
  - name: "The authors of this archive: write your names here"
identifiers:
{identifiers}
references:
  - type: software
    title: rrcm-bench
    version: "{version}"
    authors:
      - name: rrcm-bench contributors
"""


def bundle(runs: Sequence[Run]) -> dict[str, bytes]:
    """Everything of an archive of runs but its manifest.

    Raises: StoreError for a run that was edited; ReportError for runs without rows.
    """
    ordered = sorted(runs, key=lambda run: run.spec.digest())
    files = run_files(ordered)
    with TemporaryDirectory() as place:
        for path in write(build(ordered), Path(place), ["md", "html"]):
            files[path.name] = path.read_bytes()
    files["environment.json"] = _json({run.spec.digest(): dict(run.environment) for run in ordered})
    files["weights.json"] = _json({run.spec.digest(): _weights(run) for run in ordered})
    version = str(ordered[0].environment.get("packages", {}).get("rrcm-bench", "unknown"))
    listed = "\n".join(f"- {name(run)}, {run.spec.dataset}, {len(run.rows)} images" for run in ordered)
    files["README.md"] = _README.format(version=version, runs=listed).encode()
    cited = _CITATION.format(
        methods=", ".join(sorted({_plain(run.spec.method) for run in ordered})),
        datasets=", ".join(sorted({_plain(run.spec.dataset) for run in ordered})),
        identifiers="\n".join(
            f"  - type: other\n    value: {run.spec.digest()}\n    description: run" for run in ordered
        ),
        version=_plain(version),
    )
    files["CITATION.cff"] = cited.encode()
    return files


def _weights(run: Run) -> dict[str, dict[str, object]]:
    known = catalogue()
    return {
        role: {
            "sha256": sha256,
            "names": sorted(
                {each.name for each in known if sha256.partition("#")[0] in (each.sha256, *each.also) and sha256}
            ),
        }
        for role, sha256 in sorted(run.spec.weights.items())
    }


def _plain(text: str) -> str:
    """Text that YAML takes between quotation marks as it is."""
    return "".join(letter if letter.isprintable() and letter not in '"\\' else "-" for letter in text)


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
