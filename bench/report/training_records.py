"""Training records of weights, by sha256: from the files themselves, or from a list kept beside runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.runs.store import Run
from bench.types.errors import ReportError

SIDECAR = "training.json"  # in a folder of runs: rows outlive the weights that they were drawn with
FORMAT = 1
_RECORD = "training"  # key of a header under which trained files keep their record
# Settings of how steps are executed, or what is kept of them: none changes what was trained.
_EXECUTION = frozenset(
    ("workers", "threads", "accumulate", "compile", "checkpoint", "keep_every", "micro_batch", "augment_on", "sync_bn")
)

Records = Mapping[str, Mapping[str, Any]]  # sha256 -> {"numbers": ..., "training": {...}}


def read_records(runs: Sequence[Path], trained: Sequence[Path] = ()) -> dict[str, Mapping[str, Any]]:
    """All that is known: of weights files in the folders of `trained`, and of lists in those of `runs`.

    Raises: ReportError for a list that cannot be read, or a folder without weights.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for folder in dict.fromkeys((*runs, *(path.parent for path in runs))):
        if (folder / SIDECAR).is_file():
            found |= _listed(folder / SIDECAR)
    for folder in trained:
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.safetensors"))
        if not files:
            raise ReportError(f"--trained {str(folder)!r}: expected weights (.safetensors) there, found none")
        for file in files:
            found |= _of_file(file)
    return found


def list_text(records: Records) -> str:
    """The list of records as it is kept."""
    return json.dumps({"format": FORMAT, "weights": records}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def settings_of(run: Run, records: Records) -> dict[str, Any] | None:
    """Settings that a run's network and the one that it was fine-tuned from were trained with; None where unknown.

    Those of the first training go by their own names, "batch", those of the fine-tuning as "tuned batch". "steps" are
    those done, which for weights kept on the way are fewer than "of_steps".
    """
    own = [record for sha256 in run.spec.weights.values() if (record := records.get(sha256.partition("#")[0]))]
    if len(own) != 1:
        return None
    last = own[0]["training"]
    first = records.get(last["parents"].get("init", ""))
    if last["parents"].get("init") and first is None:
        return None
    if first is None:
        return {**_plain(last), "numbers": own[0]["numbers"]}
    return {
        **{f"tuned {key}": value for key, value in _plain(last).items()},
        **_plain(first["training"]),
        "numbers": own[0]["numbers"],
    }


def with_training(runs: Sequence[Run], records: Records) -> list[Run]:
    """The runs, each with the settings that its weights were trained with, where they are known."""
    return [replace(run, training=settings_of(run, records)) for run in runs]


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in record["settings"].items() if key not in _EXECUTION}
    more = {key: record[key] for key in ("steps", "of_steps", "seed")}
    return {**settings, **more, "images": record["data"]["fingerprint"]}


def _of_file(file: Path) -> dict[str, Mapping[str, Any]]:
    """The record of a file; nothing where it holds none."""
    from bench.weights.checkpoints import inspect, sha256_of_network

    shapes, meta = inspect(file)
    try:
        training = json.loads(str(meta[_RECORD]))
        whole = _is_record(training)
    except (KeyError, ValueError, RecursionError):
        return {}
    numbers = sum(math.prod(shape) for shape in shapes.values())
    return {sha256_of_network(file): {"numbers": numbers, "training": training}} if whole else {}


def _listed(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        document = json.loads(path.read_bytes())
        weights = document["weights"]
        fits = document["format"] == FORMAT and all(
            isinstance(each["numbers"], int) and _is_record(each["training"]) for each in weights.values()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        raise ReportError(
            f"{str(path)!r} is no list of trained weights: {problem!r}; make it by --trained"
        ) from problem
    if not fits:
        raise ReportError(f"{str(path)!r} is no list of trained weights of format {FORMAT}; make it by --trained")
    return dict(weights)


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), dict) for key in ("settings", "data", "parents"))
        and all(isinstance(value.get(key), int) for key in ("steps", "of_steps", "seed"))
        and isinstance(value["data"].get("fingerprint"), str)
    )
