"""Mutants of what commands have stored: runs, imported logs, latencies, training runs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.changes import changed, dumped, nested, pick, torn
from tests.fuzz.commands import RUN, TRAIN, Mutant


def canonical(document: Any) -> str:
    """The sha256 that a record claims of a part of itself."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def json_changed(rng: Random, content: bytes, *, part: str = "") -> bytes:
    """JSON of one document with something changed; mostly its digest is then that of its `part`."""
    kind = rng.random()
    if kind < 0.25:
        return torn(rng, content)
    if kind < 0.3:
        old = pick(rng, *re.findall(rb":\s*[^,{}\[\]]+", content))
        return content.replace(old, b": " + nested(rng).encode(), 1)
    document = json.loads(content)
    for _ in range(pick(rng, 1, 1, 2)):
        document = changed(rng, document)
    if part and rng.random() < 0.7 and isinstance(document, dict) and isinstance(document.get(part), dict):
        held = document[part]
        document["digest"] = canonical({k: held[k] for k in held if part != "origin" or k != "source"} if held else {})
    return dumped(document)


def line_changed(rng: Random, content: bytes) -> bytes:
    """JSON lines with one line, or their order, changed; a key that only newer versions write may go."""
    lines = content.split(b"\n")[:-1]
    at = rng.randrange(len(lines))
    match rng.randrange(8):
        case 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 1:
            rows = b"", b"null", b"[]", b"1", b'"a"', b"{}", nested(rng).encode(), b"\xff\xfe", lines[at][:-5]
            lines[at] = pick(rng, *rows)
        case 2:
            return torn(rng, content)
        case _:
            if rng.random() < 0.5:
                lines[at] = unsealed(lines[at])
            lines[at] = json_changed(rng, lines[at])
    return b"\n".join(lines) + b"\n"


OLD = "index fingerprint label selection estimation seconds looks stopped predict radius correct".split()


def unsealed(line: bytes) -> bytes:
    """A row as versions wrote it that had no checksum; other records as they are."""
    document = json.loads(line)
    return dumped({k: v for k, v in document.items() if k in OLD}) if "fingerprint" in document else line


def reading(rng: Random, run: str) -> tuple[str, ...]:
    """A command that reads runs."""
    method = "consistency" if run == "other" else "gaussian"
    again = ("run", "--methods", method, *RUN[3:-1], run, "--subset", "first:4")
    shown = pick(
        rng, (), ("--json",), ("--latex",), ("--csv",), ("--markdown",), ("--bound", "both", "--alpha", "0.01")
    )
    listed = ("runs", "--runs", run, *pick(rng, (), ("--json",)))
    return pick(rng, listed, ("report", "--runs", run, *shown), ("report", "--runs", run, "--runs", "other"), again)


def run_files(rng: Random, folder: Path) -> Mutant:
    """run.json."""
    run = pick(rng, "plain", "plain", "sequential", "early", "other")
    path = next(folder.glob(f"{run}/*/run.json"))
    path.write_bytes(json_changed(rng, path.read_bytes(), part="spec"))
    if rng.random() < 0.1:
        here, there = path.parent.relative_to(folder), next(folder.glob("other/*")).relative_to(folder)
        return Mutant(("compare", str(here), str(there)))
    if rng.random() < 0.03:
        return Mutant(("report", "--runs", run, "--html", "--out", "made"))
    return Mutant(reading(rng, run))


def row_files(rng: Random, folder: Path) -> Mutant:
    """Rows of votes."""
    run = pick(rng, "plain", "sequential", "early")
    path = next(folder.glob(f"{run}/*/rows*.jsonl"))
    path.write_bytes(line_changed(rng, path.read_bytes()))
    return Mutant(reading(rng, run))


def imports(rng: Random, folder: Path) -> Mutant:
    """Imported logs."""
    (record,) = folder.glob("imported/*/imported.json")
    rows = record.with_name("rows.jsonl")
    if rng.random() < 0.5:
        record.write_bytes(json_changed(rng, record.read_bytes(), part="origin"))
    else:
        rows.write_bytes(line_changed(rng, rows.read_bytes()))
        if rng.random() < 0.8:
            told = json.loads(record.read_bytes())
            record.write_bytes(dumped({**told, "rows_sha256": hashlib.sha256(rows.read_bytes()).hexdigest()}))
    shown = pick(rng, (), ("--json",), ("--csv",), ("--alpha", "0.0005"), ("--runs", "plain"))
    return Mutant(("report", "--runs", "imported", *shown))


def latencies(rng: Random, folder: Path) -> Mutant:
    """Latency records."""
    path = folder / "latency.jsonl"
    path.write_bytes(line_changed(rng, path.read_bytes()))
    shown = pick(rng, (), ("--json",), ("--csv",), ("--latex",))
    return Mutant(("report", "--runs", "plain", "--latency", "latency.jsonl", *shown))


def training(rng: Random, folder: Path) -> Mutant:
    """Checkpoints and metrics of a training run that is resumed."""
    name = pick(rng, "checkpoint.pt", "checkpoint.pt", "metrics.jsonl")
    path = folder / "trained" / name
    if name == "checkpoint.pt" and rng.random() < 0.5:
        import torch

        content = torch.load(path, weights_only=True)
        held = pick(rng, content, content["modules"], content["optimiser"])
        key = pick(rng, *held)
        if rng.random() < 0.3:
            del held[key]
        else:
            odd = None, "x", -1, 10**30, 0.5, [], {}, {"a": torch.zeros(1)}, float("nan"), "{"
            held[key] = pick(rng, *odd)
        torch.save(content, path)
    else:
        change = line_changed if name == "metrics.jsonl" and rng.random() < 0.5 else torn
        path.write_bytes(change(rng, path.read_bytes()))
    for made in (folder / "trained").glob("*.safetensors"):
        made.unlink()
    return Mutant((*TRAIN, "--out", "trained"))
