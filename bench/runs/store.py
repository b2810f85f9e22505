"""Run folders: run.json says what and how, rows*.jsonl hold the votes, one line an image, only ever appended to.

A folder outlives kill -9 at any moment: run.json appears whole or not at all, a torn last line is not a row, and each
process writes a file of its own. It holds no radius: those are computed from votes on reading.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

from bench.certification.stopping_rule import fits, is_sequential
from bench.data.subset import span_of
from bench.runs import records
from bench.runs.records import (
    FORMAT,
    Seal,
    read_record,
    read_row,
    read_spec,
    record_edited,
    row_line,
    run_text,
    unlike,
)
from bench.runs.seals import edited_words, untouched
from bench.types import Execution, Row, RunSpec
from bench.types.atomic_file import atomic_write, sync_folder
from bench.types.errors import StoreError

RUN_FILE = records.RUN_FILE
SYNC_SECONDS = 5.0  # between two waits for the disk: at 10 ms each, 0.2 % of the time
# What a second look at the same noise may change, and how many of its images are taken.
_REGISTERED = (
    *("certifier", "n", "looks", "alpha", "alphas", "beta", "radii", "mode", "n0"),
    *("images", "subset", "subset_fingerprint"),
)


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
    unsealed: int = 0  # rows from before rows had seals: a change in them would not be noticed
    num_classes: int | None = None  # of the dataset; None in runs from before it was written down
    table_radii: tuple[float, ...] = ()  # l2, of the tables on a dataset out of a stranger's file that states them
    sealed: bool = False  # when it was complete: its record holds the sha256 of its rows
    edited: str = ""  # what was changed after it was written, as far as seals tell; such a run is read, never drawn on
    made_from: Mapping[str, Any] | None = None  # the runs whose votes it took over, by a top-up or a merge
    training: Mapping[str, Any] | None = None  # settings of its weights' training, where somebody has looked them up

    @property
    def done(self) -> bool:
        """Whether every image of the spec has its row."""
        return len(self.rows) == self.spec.images


class RowWriter:
    """An open rows file that belongs to one process."""

    def __init__(self, folder: Path, digest: str | None = None) -> None:
        """`digest` is that of the run's spec; None reads it from the folder."""
        self._folder, self._digest = folder, digest
        self._path = folder / f"rows-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl"
        self._file: FileIO | None = None
        self._synced = 0.0

    def append(self, row: Row) -> None:
        """Add one row; it is in the operating system's hands when this returns, so kill -9 cannot take it.

        A power cut can take those of the last seconds.
        Raises: StoreError where it cannot be written, or the folder is no longer there.
        """
        if self._digest is None:
            self._digest = read_run(self._folder).spec.digest()
        try:
            line = row_line(row, self._digest)
        except ValueError as error:
            raise StoreError(f"the row of image {row.index} cannot be stored: {error}") from error
        try:
            if self._file is None:  # opened late: a process that adds nothing leaves no file
                self._file = self._path.open("ab", buffering=0)
                sync_folder(self._folder)
            elif not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                raise FileNotFoundError
            while line:
                line = line[self._file.write(line) :]
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._sync(self._file)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(
                f"run folder {str(self._folder)!r} was removed or renamed while it was drawn, and its rows with it; "
                "put it back where it was, or draw anew with the same command"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Hand the last bytes to the disk."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                try:
                    self._sync(file)
                except OSError as error:
                    raise self._unwritable(error) from error

    def _sync(self, file: FileIO) -> None:
        os.fsync(file.fileno())
        self._synced = time.monotonic()

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write {str(self._path)!r}: {error.strerror}; the rows so far are kept: mend that (free space, "
            "permissions), and the same command goes on from them"
        )

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except StoreError:
            if error is None:  # else what ended the block says more
                raise


def folder_name(spec: RunSpec) -> str:
    """The name of a run's folder: for people the first words, for machines the digest."""
    dataset, method = _clean(spec.dataset), _clean(spec.method.rpartition(":")[2] or spec.method)
    return f"{dataset}-{method}-s{spec.sigma:g}-{spec.digest()[:10]}"


def _clean(name: str) -> str:
    """A name as a part of a folder's: it leads nowhere out of `out`, hides nothing, is no option and not too long."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in "-_." else "-" for c in name).lstrip(".-")[:80]


def open_run(
    out: Path,
    spec: RunSpec,
    execution: Execution,
    environment: Mapping[str, Any],
    num_classes: int | None = None,
    table_radii: tuple[float, ...] = (),
    made_from: Mapping[str, Any] | None = None,
) -> Run:
    """The run's folder under `out`, made if it is not there, with the rows that it has.

    Raises: StoreError if the folder holds another spec, was edited, or cannot be written, or if the spec looks again at
    samples on which another sequential run under `out` has spent its alpha.
    """
    folder = out / folder_name(spec)
    if not (folder / RUN_FILE).exists():
        _refuse_extension(out, spec)
    try:
        if not (folder / RUN_FILE).exists():
            record = {
                "format": FORMAT,
                "digest": spec.digest(),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "spec": spec.as_json(),
                "execution": asdict(execution),
                "environment": dict(environment),
                **({} if num_classes is None else {"num_classes": num_classes}),
                **({"table_radii": table_radii} if table_radii else {}),
                **({"made_from": dict(made_from)} if made_from else {}),
            }
            text = run_text(record)
            read_spec(read_record(text.encode()))  # no run is begun whose record could not be read
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / RUN_FILE, text, first_wins=True)
            sync_folder(out)
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r}: {error.strerror}; give --out another folder") from error
    except ValueError as error:
        raise StoreError(f"this run cannot be stored: {error}; change what it names") from error
    run = read_run(folder)
    if run.spec.digest() != spec.digest():
        differing = differences(run.spec, spec)
        raise StoreError(
            f"run {str(folder)!r} was made with {differing[0]}; this spec has {differing[1]}. "
            "Give --out another folder, or resume with the same spec"
        )
    return untouched(run)


def read_run(folder: Path) -> Run:
    """A run folder, with whatever rows it has; what was edited in it stands in `Run.edited`.

    Raises: StoreError if run.json is missing, damaged or of another format, or a row that is not the last of its file
    is damaged, or cannot be of this run.
    """
    path = folder / RUN_FILE
    try:
        text = _bytes(path)
        record = read_record(text)
        spec = read_spec(record)
    except FileNotFoundError:
        raise StoreError(f"no {RUN_FILE} in {str(folder)!r}; expected a run folder made by `rrcm-bench run`") from None
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(
            f"{str(path)!r} is no record of a run: {error}; restore it, or move the folder away"
        ) from error
    num_classes = record.get("num_classes")
    read = list(_read_rows(folder, spec.digest()))
    # Whoever seals a run seals its rows.
    changed = [row.index for row, seal in read if seal == "broken" or (seal == "none" and record.get("seal"))]
    # A row that was put in beside the one that was drawn does not take its place.
    first = sorted(read, key=lambda each: each[1] != "fits") if changed else read
    rows, conflicts = _merge((row for row, _ in first), spec, num_classes, folder)
    sealed = {row.index for row, seal in read if seal != "none"}
    kept = record.get("rows")
    return Run(
        path=folder,
        spec=spec,
        rows=rows,
        environment=record.get("environment", {}),
        execution=record.get("execution", {}),
        conflicts=conflicts,
        unsealed=sum(row.index not in sealed for row in rows),
        num_classes=num_classes,
        table_radii=tuple(map(float, record.get("table_radii", ()))),
        sealed=kept is not None,
        edited=edited_words(record_edited(text, record), changed, kept, rows),
        made_from=record.get("made_from"),
    )


def find_runs(paths: Sequence[Path], left_out: Callable[[StoreError], None] | None = None) -> list[Run]:
    """All runs in the given folders: each a run folder, or a folder of run folders. Sorted by dataset, method, sigma.

    `left_out` is told of those in a folder of runs that cannot be read, and the others are given.
    Raises: StoreError for a folder that is not there; for a run that cannot be read where it was named itself, where
    nobody is to be told, or where none can.
    """
    folders: dict[Path, bool] = {}  # whether it was named itself
    for path in paths:
        try:
            if (path / RUN_FILE).is_file():
                folders[path] = True
            elif path.is_dir():
                for found in sorted(path.glob(f"*/{RUN_FILE}")):
                    folders.setdefault(found.parent, False)
            else:
                raise StoreError(f"no folder {str(path)!r}; expected a run folder or a folder of runs")
        except OSError as error:
            raise StoreError(f"folder {str(path)!r} cannot be read: {error.strerror}") from error
    runs: list[Run] = []
    problems: list[StoreError] = []
    for folder, named in folders.items():
        try:
            runs.append(read_run(folder))
        except StoreError as error:
            if named or left_out is None:
                raise
            problems.append(error)
    if problems and not runs:
        raise problems[0]
    for problem in problems:
        assert left_out is not None  # noqa: S101  else it was raised
        left_out(problem)
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
    if not is_sequential(spec.certifier) or not out.is_dir():
        return
    for folder in sorted(out.glob(f"{folder_name(spec).rpartition('-')[0]}-*")):
        if not (folder / RUN_FILE).is_file():
            continue
        there = read_run(folder)
        kept = {name: getattr(there.spec, name) for name in _REGISTERED}
        same_images = there.spec.subset.partition(",")[0] == spec.subset.partition(",")[0]  # but for a limit
        if not is_sequential(there.spec.certifier):
            continue
        spent, asked = ((one.certifier, one.looks, one.alpha) for one in (there.spec, spec))
        if there.rows and same_images and spent != asked and replace(spec, **kept) == there.spec:
            alpha = ", alpha={:g}" if there.spec.alpha != spec.alpha else ""
            test = "--certifier {}, " if there.spec.certifier != spec.certifier else ""
            old, new = (test.format(s.certifier) + f"n={s.n}" + alpha.format(s.alpha) for s in (there.spec, spec))
            raise StoreError(
                f"run {str(folder)!r} registered {old} on these images and this noise, and has spent its alpha on "
                f"{len(there.rows)} of them; {new} cannot be looked at afterwards. Resume with {old}, or draw afresh "
                "by another --seed and report that run alone"
            )


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a run's folder: once run.json is there, nobody needs another's temporary."""
    for left in folder.glob(f".{RUN_FILE}.*"):
        with suppress(OSError):
            left.unlink()


def _bytes(path: Path) -> bytes:
    """A file's content, of a plain file alone: a pipe would be waited for, a device has no end."""
    if path.exists() and not path.is_file():
        raise OSError(None, "it is no plain file")
    return path.read_bytes()


def _read_rows(folder: Path, digest: str) -> Iterator[tuple[Row, Seal]]:
    """The rows of all files, and what the seal of each says."""
    for path in sorted(folder.glob("rows*.jsonl")):
        try:
            lines = _bytes(path).split(b"\n")
        except OSError as error:
            raise StoreError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn, or nothing
            try:
                yield read_row(line, digest)
            except ValueError as error:
                raise StoreError(
                    f"{str(path)!r} line {number} is not a row of this run ({error}); restore the file, or move it "
                    "away whole and give the same `rrcm-bench run` again, which draws its images anew"
                ) from error


def _merge(rows: Iterable[Row], spec: RunSpec, num_classes: int | None, folder: Path) -> tuple[tuple[Row, ...], int]:
    merged: dict[int, Row] = {}
    conflicts = 0
    span = span_of(spec.subset, spec.images)
    for row in rows:
        if not fits(spec, row):
            registered = f" and {len(spec.looks)} looks" if spec.stops else ""
            raise StoreError(
                f"{str(folder)!r} holds a row of image {row.index} with n0={row.selection.n}, n={row.estimation.n}; "
                f"its spec has n0={spec.n0}, n={spec.n}{registered}"
            )
        if wrong := unlike(row, span, num_classes):
            raise StoreError(f"{str(folder)!r} holds a row that is not of its run: {wrong}; were two runs mixed?")
        first = merged.setdefault(row.index, row)
        if (first.label, first.fingerprint) != (row.label, row.fingerprint):
            raise StoreError(f"{str(folder)!r} holds two different images with index {row.index}; were two runs mixed?")
        conflicts += not first.same_votes(row)
    if len(merged) > spec.images:
        raise StoreError(f"{str(folder)!r} holds rows of {len(merged)} images, its run has {spec.images}")
    return tuple(merged[i] for i in sorted(merged)), conflicts
