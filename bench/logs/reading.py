"""Files into logs: text of every known layout, and MACER's .mat; a damaged file gives one line that says where."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench.errors import DataError
from bench.logs import layouts
from bench.logs.records import ImportedRow, Log, NotALogError, number
from bench.types import ABSTAIN


def find_logs(paths: Sequence[Path], radius: float | None = None) -> tuple[list[Log], dict[Path, str], dict[Path, str]]:
    """The logs among files and in folders, however deep; what is damaged; and what in the folders is no log.

    `radius`: of adaptive certifiers, which print only whether that radius was proved.
    Raises: DataError for a path that is not there, or a file named by itself that is no log.
    """
    logs: list[Log] = []
    damaged: dict[Path, str] = {}
    others: dict[Path, str] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"no file or folder {str(path)!r}; expected certification logs or folders of them")
        inside = path.is_dir()
        files = sorted(p for p in path.rglob("*") if p.is_file()) if inside else [path]
        for file in files:
            if any(file == log.path for log in logs):
                continue
            try:
                logs.append(read_log(file, radius))
            except NotALogError as error:
                if not inside:
                    raise NotALogError(f"{str(file)!r} is not a certification log: {error}") from None
                others[file] = str(error)
            except DataError as error:
                damaged[file] = str(error)
    return logs, damaged, others


def read_log(path: Path, radius: float | None = None) -> Log:
    """One log, whatever its layout; right or wrong is label == predict, whatever its own column says.

    Raises: NotALogError for another kind of file, DataError for a damaged log, naming the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error.strerror}; mend its permissions, or leave it out"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if not data.strip():
        raise NotALogError("empty")
    if data.startswith(b"MATLAB 5.0 MAT-file"):
        return _mat(path, data, sha256)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotALogError("not text") from None
    lines = text.replace("\r\n", "\n").split("\n")
    whole_last = lines[-1] == ""
    while lines and not lines[-1].strip():
        lines.pop()
    header = layouts.named(lines[0])
    layout = header or layouts.bare(lines[:5] if whole_last or len(lines) > 5 else lines[:-1] or lines)
    first = 1 if header else 0
    records: list[dict[str, str]] = []
    torn = ""
    for line_number, line in enumerate(lines[first:], start=first + 1):
        fields = line.split("\t")
        last = line_number == len(lines)
        if len(fields) != len(layout):
            if last and len(fields) < len(layout) and not whole_last:
                torn = f"line {line_number} has {len(fields)} of {len(layout)} columns and no line end: it was cut off"
                break
            raise _damaged(path, line_number, f"{len(layout)} columns ({' '.join(layout)})", f"{len(fields)}: {line!r}")
        if line_number > 1 and layouts.named(line) is not None:
            raise _damaged(path, line_number, "a row", "a header again: two logs in one file")
        record = {name: field.strip() for name, field in zip(layout, fields, strict=True)}
        if last and not whole_last and not _whole_time(record.get("time")):
            torn = f"line {line_number} ends within its time, with no line end: it was cut off"
            break
        records.append(record)
    if not records:
        raise NotALogError("a header without a row")
    if layouts.RADIUS not in layout and radius is None:
        raise DataError(
            f"{str(path)!r} says only whether one radius was proved, not which; give --radius as its certifier had it"
        )
    if layouts.LABEL_NAME in layout:
        records = _numbered(records)
    rows = tuple(_row(path, k, record, radius) for k, record in enumerate(records, start=first + 1))
    kind, contradicted = _correct_column([record.get("correct") for record in records], rows)
    return Log(
        path=path,
        layout=layout,
        header=header is not None,
        rows=rows,
        sha256=sha256,
        correct_column=kind,
        contradicted=contradicted,
        torn=torn,
    )


def _row(path: Path, line_number: int, record: dict[str, str], proved: float | None) -> ImportedRow:
    name = ""
    try:
        for name in ("label", "predict", "idx"):
            if name in record:
                layouts.whole(record[name])
        label, predict = layouts.whole(record["label"]), layouts.whole(record["predict"])
        index = layouts.whole(record["idx"]) if "idx" in record else None
        name = "time"
        took = layouts.seconds(record["time"]) if "time" in record else None
        name = layouts.RADIUS if layouts.RADIUS in record else layouts.PROVED
        if name == layouts.PROVED:
            # Printed through three letters, so that a truth value may have lost its last.
            if record[name] not in ("1", "1.0", "Tru", "True", "-1", "-1.0", "0", "Fal", "False"):
                raise ValueError(f"{record[name]!r} is neither yes nor no")
            yes = record[name] in ("1", "1.0", "Tru", "True")
            radius, predict = (repr(float(proved or 0.0)), predict) if yes else ("0.0", ABSTAIN)
        else:
            radius = record[name]
        if not (value := number(radius)).is_finite() or value < 0:
            raise ValueError(f"{radius!r} is not a radius")
    except ValueError as error:
        raise _damaged(path, line_number, f"a number for {name}", f"{record.get(name)!r} ({error})") from None
    if label < 0 or predict < ABSTAIN or (index is not None and index < 0):
        raise _damaged(path, line_number, "labels from 0, a prediction from -1, an index from 0", repr(record))
    if predict == ABSTAIN and value:
        raise _damaged(path, line_number, "radius 0 where the certifier abstains", repr(radius))
    return ImportedRow(index=index, label=label, predict=predict, correct=label == predict, radius=radius, seconds=took)


def _whole_time(text: str | None) -> bool:
    try:
        return text is None or layouts.seconds(text) >= 0
    except ValueError:
        return False


def _numbered(records: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Class names as numbers, in the order in which the log first has them; -1 stays the abstention."""
    numbers: dict[str, str] = {}
    made = []
    for record in records:
        label, predict = record[layouts.LABEL_NAME], record[layouts.PREDICT_NAME]
        numbers.setdefault(label, str(len(numbers)))
        if predict != str(ABSTAIN):
            numbers.setdefault(predict, str(len(numbers)))
        made.append({**record, "label": numbers[label], "predict": numbers.get(predict, predict)})
    return made


def _correct_column(printed: Sequence[str | None], rows: Sequence[ImportedRow]) -> tuple[str, int]:
    """What the `correct` column holds, and how many rows it contradicts."""
    if any(text is None for text in printed):
        return "none", 0
    right = [row.correct for row in rows]
    if [str(total) for total in accumulate(map(int, right))] == list(printed) and sum(right) > 1:
        return "cumulative", 0
    return "flags", sum(layouts.flag(text or "") is not is_right for text, is_right in zip(printed, right, strict=True))


def _mat(path: Path, data: bytes, sha256: str) -> Log:
    """MACER's vectors of radii: -1 where wrong or abstained, nothing else. Source: Zhai et al. 2020."""
    import numpy as np
    from scipy.io import loadmat

    try:
        file: Any = io.BytesIO(data)  # its stubs know of paths only
        found = loadmat(file)
    except (ValueError, TypeError, NotImplementedError, OSError, EOFError) as error:
        raise DataError(f"{str(path)!r} is a damaged MATLAB file ({error}); fetch it again") from error
    if "hard" not in found:
        names = ", ".join(sorted(k for k in found if not k.startswith("__"))) or "nothing"
        raise NotALogError(f"a MATLAB file with {names}; expected a vector 'hard' of radii")
    radii = np.asarray(found["hard"])
    if radii.dtype.kind not in "fiu" or radii.size == 0 or max(radii.shape) != radii.size:
        raise DataError(f"{str(path)!r}: expected a vector of radii in 'hard', got {radii.dtype} {radii.shape}")
    rows = []
    for k, value in enumerate(radii.ravel()):
        if not np.isfinite(value) or (value < 0 and value != -1):
            raise DataError(f"{str(path)!r}: radius {k} is {value}, expected at least 0, or -1 where wrong")
        text = repr(value.item()) if value >= 0 else "0.0"
        rows.append(
            ImportedRow(index=None, label=None, predict=None, correct=bool(value >= 0), radius=text, seconds=None)
        )
    return Log(
        path=path,
        layout=("hard",),
        header=True,
        rows=tuple(rows),
        sha256=sha256,
        correct_column="none",
        contradicted=0,
    )


def _damaged(path: Path, line_number: int, expected: str, came: str) -> DataError:
    shown = came if len(came) <= 120 else f"{came[:117]}..."
    return DataError(f"{str(path)!r} line {line_number}: expected {expected}, got {shown}; mend or delete that line")
