"""Progress of runs as another process sees it: files are read, nothing is locked, built or written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.runs.failures import failures_in
from bench.runs.locks import HOLDER
from bench.runs.store import RUN_FILE, Run, folder_name, read_run
from bench.types import RunSpec
from bench.types.atomic_file import is_dead
from bench.types.errors import StoreError

DONE, RUNNING, PENDING, FAILED = "done", "running", "pending", "failed"
STATES = (DONE, RUNNING, PENDING, FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One piece of work of a plan."""

    name: str  # of its folder
    state: str  # one of STATES; pending: not begun, or stopped in the middle
    spec: RunSpec | None = None  # None: of a failed one nothing but its log is there
    images: int = 0  # that have a row
    rate: float | None = None  # samples a second of the process that draws it, or drew it last
    seconds_left: float | None = None  # None: not known
    silent: float | None = None  # seconds since its last row, where it runs
    reason: str | None = None  # of a failure, or why it cannot be read
    log: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """The record of `--json`."""
        spec = self.spec
        return {
            "name": self.name,
            "state": self.state,
            "digest": spec and spec.digest(),
            "method": spec and spec.method,
            "dataset": spec and spec.dataset,
            "sigma": spec and spec.sigma,
            "images": self.images,
            "images_planned": spec.images if spec else None,
            "samples_per_second": self.rate,
            "seconds_left": self.seconds_left,
            "seconds_since_last_row": self.silent,
            "reason": self.reason,
            "log": None if self.log is None else str(self.log),
        }


@dataclass(slots=True)
class Reader:
    """Reads a folder of runs again and again; a run whose files are as they were is not read twice."""

    out: Path
    planned: Sequence[RunSpec] | None = None  # None: whatever is there
    _known: dict[Path, tuple[object, Run]] = field(default_factory=dict)

    def read(self) -> list[Progress]:
        """Every run, in the order of the plan, else by name; failed ones that have no folder last."""
        failed = failures_in(self.out)
        names: dict[str, RunSpec | None]
        if self.planned is None:
            names = dict.fromkeys(path.parent.name for path in sorted(self.out.glob(f"*/{RUN_FILE}")))
            names |= dict.fromkeys(name for name in failed if name not in names)
        else:
            names = {folder_name(spec): spec for spec in self.planned}
        found = [self._one(name, spec, failed) for name, spec in names.items()]
        return _with_estimates(found)

    def _one(self, name: str, spec: RunSpec | None, failed: Mapping[str, tuple[str, Path]]) -> Progress:
        folder = self.out / name
        reason, log = failed.get(name, (None, None))
        rest = PENDING if log is None else FAILED
        try:
            run = self._run(folder) if (folder / RUN_FILE).is_file() else None
        except StoreError as error:
            return Progress(name=name, state=FAILED, spec=spec, reason=str(error))
        if run is None:
            return Progress(name=name, state=rest, spec=spec, reason=reason, log=log)
        began, last, samples = _last_file(run)
        rate = samples / (last - began) if last > began and samples else None
        if run.done:
            return Progress(name=name, state=DONE, spec=run.spec, images=len(run.rows), rate=rate, seconds_left=0.0)
        if held(folder):
            silent = max(0.0, time.time() - last) if last else None
            return Progress(name=name, state=RUNNING, spec=run.spec, images=len(run.rows), rate=rate, silent=silent)
        return Progress(name=name, state=rest, spec=run.spec, images=len(run.rows), rate=rate, reason=reason, log=log)

    def _run(self, folder: Path) -> Run:
        seen = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder))
        before = self._known.get(folder)
        if before is None or before[0] != seen:
            before = self._known[folder] = seen, read_run(folder)
        return before[1]


def count(found: Sequence[Progress]) -> dict[str, int]:
    """How many are in each state."""
    return {state: sum(each.state == state for each in found) for state in STATES}


def seconds_left(found: Sequence[Progress]) -> tuple[float, int]:
    """Seconds until all are done, one after another; and of how many that is not known."""
    open_ = [each for each in found if each.state in (RUNNING, PENDING)]
    return sum(each.seconds_left or 0.0 for each in open_), sum(each.seconds_left is None for each in open_)


def _files(folder: Path) -> list[Path]:
    return [path for path in (folder / RUN_FILE, *sorted(folder.glob("rows*.jsonl"))) if path.is_file()]


def _last_file(run: Run) -> tuple[float, float, float]:
    """When the newest rows file was begun and written to last, seconds of the clock, and the samples in it; else 0.

    Its name says when: a file's own time of birth is not known everywhere.
    """
    times: list[tuple[float, float, float]] = []
    mean = sum(row.samples for row in run.rows) / len(run.rows) if run.rows else 0.0
    for path in run.path.glob("rows-*.jsonl"):
        with suppress(OSError, ValueError, IndexError):
            if path.is_file():
                began = time.mktime(time.strptime(path.name.split("-")[1], "%Y%m%dT%H%M%S"))
                times.append((began, path.stat().st_mtime, mean * path.read_bytes().count(b"\n")))
    return max(times, default=(0.0, 0.0, 0.0))


def held(folder: Path) -> bool:
    """Whether a process says that it draws the run, and is not provably gone; its lock is not tried."""
    try:
        if not (folder / HOLDER).is_file():  # a pipe would be waited for
            return False
        record = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return not is_dead(record["host"], record["pid"])
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _with_estimates(found: Sequence[Progress]) -> list[Progress]:
    """Time left by a run's own pace, else by that of the same method on the same dataset."""
    paces: dict[tuple[str, str], float] = {}
    for each in sorted(found, key=lambda each: each.state == RUNNING):  # one that runs now says most
        if each.spec and each.rate:
            paces[each.spec.method, each.spec.dataset] = each.rate
    made = []
    for each in found:
        pace = each.rate or (paces.get((each.spec.method, each.spec.dataset)) if each.spec else None)
        if each.state not in (RUNNING, PENDING) or each.spec is None or not pace:
            made.append(each)
            continue
        # Of a run that may stop, the most that its images can take.
        samples = (each.spec.images - each.images) * (each.spec.n0 + each.spec.n)
        made.append(replace(each, seconds_left=samples / pace))
    return made
