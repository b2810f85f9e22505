"""`rrcm-bench weights show`: what a file of weights says of its making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import pairs, print_json, stdout
from bench.cli.paths import at_home

RECORD = "training"  # key of a header under which trained files keep their record
COUNTER = ".num_batches_tracked"  # of batch norms, which are among what a file says beside its tensors
NOT_RECORDED = "not recorded"


def weights_show(
    path: Annotated[Path, typer.Argument(help="The file: safetensors, or .pth; FILE#KEY.", callback=at_home)],
    json: options.Json = False,
) -> None:
    """Show how a file of weights was made: its settings, steps, images, code and parents."""
    from bench.weights.checkpoints import load_tensors, sha256_of_network

    tensors, meta = load_tensors(path)
    record: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256_of_network(path),
        "tensors": len(tensors),
        "numbers": sum(tensor.numel() for tensor in tensors.values()),
        "says": {key: meta[key] for key in sorted(meta) if key != RECORD and not key.endswith(COUNTER)},
        "training": made(meta),
    }
    if json:
        print_json(record)
        return
    screen = stdout()
    words = {key: record[key] for key in ("path", "sha256", "tensors", "numbers")}
    screen.print(pairs("file", words))
    screen.print(pairs("says", record["says"] or {"": NOT_RECORDED}))
    training = record["training"]
    if training is None:
        screen.print(pairs("training", {"": NOT_RECORDED}))
        return
    groups = ("settings", "changed", "data", "parents")
    screen.print(pairs("training", {k: _told(v) for k, v in training.items() if k not in groups}))
    for group in groups:
        inner = training.get(group)
        title = "changed from the preset" if group == "changed" else group
        shown = {k: _change(v) if group == "changed" else _told(v) for k, v in (inner or {}).items()}
        screen.print(pairs(title, shown or {"": NOT_RECORDED if inner is None else "none"}))


def made(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record in a header; None where there is none that can be read: a stranger's file may hold anything there."""
    try:
        found = json.loads(str(meta[RECORD]), parse_constant=str)
    except (KeyError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    groups = ("settings", "changed", "data", "parents")
    return found if all(isinstance(found.get(group, {}), dict) for group in groups) else None


def _told(value: object) -> str:
    return NOT_RECORDED if value is None else str(value)


def _change(value: object) -> str:
    if isinstance(value, list) and len(value) == 2:
        return f"{value[0]} -> {value[1]}"
    return str(value)
