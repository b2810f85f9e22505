"""Run folders: run.json says what and how, rows*.jsonl hold the votes, one line an image, only ever appended to.

A folder outlives kill -9 at any moment: run.json appears whole or not at all, a torn last line is not a row, and each
process writes a file of its own. It holds no radius: those are computed from votes on reading.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.stopping import fits
from bench.types import Execution, Row, RunSpec

FORMAT = 1
SEQUENTIAL = "sequential"  # the certifier whose n is registered, once
RUN_FILE = "run.json"
# What a second look at the same noise may change, and how many of its images are taken.
_REGISTERED = ("n", "looks", "alpha", "alphas", "beta", "radii", "mode", "n0", "images", "subset", "subset_fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder as read."""

    path: Path
    spec: RunSpec
    rows: tuple[Row, ...]  # by index, one an image
    environment: Mapping[str, Any]
    execution: Mapping[str, Any]
    conflicts: int = (
        0  # rows of one image that disagree (ties that fell otherwise on another device); the first is kept
    )

    @property
    def done(self) -> bool:
        """Whether every image of the spec has its row."""
        return len(self.rows) == self.spec.images


class RowWriter:
    """An open rows file that belongs to one process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"rows-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl"
        self._file: TextIOWrapper | None = None

    def append(self, row: Row) -> None:
        """Add one row; it is in the operating system's hands when this returns, so kill -9 cannot take it."""
        if self._file is None:  # opened late: a process that adds nothing leaves no file
            self._file = self._path.open("a", encoding="utf-8")
        self._file.write(json.dumps(row.as_json(), separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Hand the last bytes to the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def folder_name(spec: RunSpec) -> str:
    """The name of a run's folder: for people the first words, for machines the digest."""
    method = "".join(c if c.isalnum() or c in "-_." else "-" for c in spec.method.rpartition(":")[2] or spec.method)
    return f"{spec.dataset}-{method}-s{spec.sigma:g}-{spec.digest()[:10]}"


def open_run(out: Path, spec: RunSpec, execution: Execution, environment: Mapping[str, Any]) -> Run:
    """The run's folder under `out`, made if it is not there, with the rows that it has.

    Raises: StoreError if the folder holds another spec, or cannot be written, or if the spec looks again at samples on
    which another sequential run under `out` has spent its alpha.
    """
    folder = out / folder_name(spec)
    if not (folder / RUN_FILE).exists():
        _refuse_extension(out, spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RUN_FILE).exists():
            record = {
                "format": FORMAT,
                "digest": spec.digest(),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "spec": spec.as_json(),
                "execution": asdict(execution),
                "environment": dict(environment),
            }
            _create(folder / RUN_FILE, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r}: {error.strerror}; give --out another folder") from error
    run = read_run(folder)
    if run.spec.digest() != spec.digest():
        differing = differences(run.spec, spec)
        raise StoreError(
            f"run {str(folder)!r} was made with {differing[0]}; this spec has {differing[1]}. "
            "Give --out another folder, or resume with the same spec"
        )
    return run


def read_run(folder: Path) -> Run:
    """A run folder, with whatever rows it has.

    Raises: StoreError if run.json is missing, of another format, or a row that is not the last of its file is damaged.
    """
    path = folder / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"no {RUN_FILE} in {str(folder)!r}; expected a run folder made by `rrcm-bench run`") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} cannot be read: {error}; delete the folder and run again") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise StoreError(f"{str(path)!r} has format {found!r}, expected {FORMAT}; use the version that wrote it")
    try:
        spec = RunSpec.from_json(record["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{str(path)!r} holds no complete spec: {error!r}; delete the folder and run again") from error
    if spec.digest() != record["digest"]:
        raise StoreError(
            f"{str(path)!r} was edited: its spec does not have the digest {record['digest'][:10]} it claims"
        )
    rows, conflicts = _merge(_read_rows(folder), spec, folder)
    return Run(
        path=folder,
        spec=spec,
        rows=rows,
        environment=record.get("environment", {}),
        execution=record.get("execution", {}),
        conflicts=conflicts,
    )


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """All runs in the given folders: each a run folder, or a folder of run folders. Sorted by dataset, method, sigma.

    Raises: StoreError for a folder that is not there.
    """
    folders: list[Path] = []
    for path in paths:
        if (path / RUN_FILE).is_file():
            folders.append(path)
        elif path.is_dir():
            folders += sorted(p.parent for p in path.glob(f"*/{RUN_FILE}"))
        else:
            raise StoreError(f"no folder {str(path)!r}; expected a run folder or a folder of runs")
    runs = [read_run(folder) for folder in dict.fromkeys(folders)]
    return sorted(runs, key=lambda r: (r.spec.dataset, r.spec.method, r.spec.sigma, r.spec.digest()))


def differences(old: RunSpec, new: RunSpec) -> tuple[str, str]:
    """The fields in which two specs differ, as `key=value` words of each."""
    a, b = old.as_json(), new.as_json()
    keys = [k for k in {**a, **b} if a.get(k) != b.get(k)]
    return ", ".join(f"{k}={a.get(k)!r}" for k in keys), ", ".join(f"{k}={b.get(k)!r}" for k in keys)


def _refuse_extension(out: Path, spec: RunSpec) -> None:
    """Refuse a sequential spec that differs from a run with rows by nothing but when it looks and what it spends.

    Other radii are no extension: the bounds of all looks hold at once, whichever of them are read. More or fewer of the
    same subset's images are none either, but do not hide one. What was looked at under another folder is not known.
    Raises: StoreError.
    """
    if spec.certifier != SEQUENTIAL or not out.is_dir():
        return
    for folder in sorted(out.glob(f"{folder_name(spec).rpartition('-')[0]}-*")):
        if not (folder / RUN_FILE).is_file():
            continue
        there = read_run(folder)
        kept = {name: getattr(there.spec, name) for name in _REGISTERED}
        same_images = there.spec.subset.partition(",")[0] == spec.subset.partition(",")[0]  # but for a limit
        other_looks = (there.spec.looks, there.spec.alpha) != (spec.looks, spec.alpha)
        if there.rows and same_images and other_looks and replace(spec, **kept) == there.spec:
            alpha = ", alpha={:g}" if there.spec.alpha != spec.alpha else ""
            old, new = (f"n={one.n}" + alpha.format(one.alpha) for one in (there.spec, spec))
            raise StoreError(
                f"run {str(folder)!r} registered {old} on these images and this noise, and has spent its alpha on "
                f"{len(there.rows)} of them; {new} cannot be looked at afterwards. Resume with {old}, or draw afresh "
                "by another --seed and report that run alone"
            )


def _create(path: Path, text: str) -> None:
    """Write a file whole or not at all; of two writers the first wins."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}")
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, path)  # fails where another was first
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            temporary.replace(path)
            return
    temporary.unlink()


def _read_rows(folder: Path) -> Iterable[Row]:
    for path in sorted(folder.glob("rows*.jsonl")):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        lines = text.split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn, or nothing
            try:
                yield Row.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{str(path)!r} line {number} is not a row ({error}); expected one JSON object an image; "
                    "delete that line to have its image certified again"
                ) from error


def _merge(rows: Iterable[Row], spec: RunSpec, folder: Path) -> tuple[tuple[Row, ...], int]:
    merged: dict[int, Row] = {}
    conflicts = 0
    for row in rows:
        if not fits(spec, row):
            registered = f" and {len(spec.looks)} looks" if spec.stops else ""
            raise StoreError(
                f"{str(folder)!r} holds a row of image {row.index} with n0={row.selection.n}, n={row.estimation.n}; "
                f"its spec has n0={spec.n0}, n={spec.n}{registered}"
            )
        first = merged.setdefault(row.index, row)
        if (first.label, first.fingerprint) != (row.label, row.fingerprint):
            raise StoreError(f"{str(folder)!r} holds two different images with index {row.index}; were two runs mixed?")
        conflicts += not first.same_votes(row)
    return tuple(merged[i] for i in sorted(merged)), conflicts
