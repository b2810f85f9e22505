"""Files into logs: text of every known layout, and MACER's .mat; a damaged file gives one line that says where.

No row is ever left out, nor its deletion advised: an abstention that is gone raises every accuracy of a log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from bench.published.logs import layouts, matlab
from bench.published.logs.records import ImportedRow, Log, NotALogError, number
from bench.types import ABSTAIN
from bench.types.errors import DataError

_LARGEST = 1 << 28  # bytes: a hundred times a log of all of ImageNet's validation images


def find_logs(paths: Sequence[Path], radius: float | None = None) -> tuple[list[Log], dict[Path, str], dict[Path, str]]:
    """The logs among files and in folders, however deep; what is damaged; and what in the folders is no log.

    `radius`: of adaptive certifiers, which print only whether that radius was proved.
    Raises: DataError for a path that is not there, or a file named by itself that is no log.
    """
    damaged: dict[Path, str] = {}
    others: dict[Path, str] = {}
    return list(each_log(paths, radius, damaged, others)), damaged, others


def each_log(
    paths: Sequence[Path], radius: float | None, damaged: dict[Path, str], others: dict[Path, str]
) -> Iterator[Log]:
    """As `find_logs`, one log at a time: thousands of them need not be in memory together.

    What is damaged and what is no log is put into the two dictionaries by the way.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise DataError(f"no file or folder {str(path)!r}; expected certification logs or folders of them")
        inside = path.is_dir()
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if inside else [path]:
            if file in seen:
                continue
            seen.add(file)
            try:
                log = read_log(file, radius)
            except NotALogError as error:
                if not inside:
                    raise NotALogError(f"{str(file)!r} is not a certification log: {error}") from None
                others[file] = str(error)
            except DataError as error:
                damaged[file] = str(error)
            else:
                yield log


def read_log(path: Path, radius: float | None = None) -> Log:
    """One log, whatever its layout; right or wrong is label == predict, whatever its own column says.

    Raises: NotALogError for another kind of file, DataError for a damaged log, naming the line.
    """
    data = _bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if not data.strip():
        raise NotALogError("empty")
    if data.startswith(matlab.MAGIC):
        return _mat(path, data, sha256)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotALogError("not text") from None
    lines = text.replace("\r\n", "\n").split("\n")
    whole_last = lines[-1] == ""
    after = []
    while lines and layouts.words(lines[-1]) and layouts.named(lines[-1]) is None:
        after.append(lines.pop())
    if not lines:
        raise NotALogError("neither a header with label, predict and radius nor rows of a known layout")
    header = layouts.named(lines[0])
    layout = header or layouts.bare(lines[:5] if whole_last or len(lines) > 5 else lines[:-1] or lines)
    while after and len(after[-1].split("\t")) == len(layout):  # as many columns as a row: damage, not a summary
        lines.append(after.pop())
    after = [line.strip() for line in reversed(after) if line.strip()]
    whole_last = whole_last or bool(after)
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
        if line_number > 1 and "label" in line and layouts.named(line) is not None:
            raise _damaged(path, line_number, "a row", "a header again: two logs in one file", "give each its own file")
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
        unpromised=sum(
            row.predict == ABSTAIN and not layouts.nothing(record.get("predict", "-1"))
            for row, record in zip(rows, records, strict=True)
            if layouts.RADIUS in record
        ),
        torn=torn,
        after=tuple(after),
    )


def _bytes(path: Path) -> bytes:
    """The file, unless it is plainly no text and no MATLAB file of level 5.

    Raises: NotALogError, DataError.
    """
    try:
        if not path.is_file():
            raise NotALogError("no regular file")
        with path.open("rb") as file:
            head = file.read(4096)
            if b"\0" in head and not head.startswith(matlab.MAGIC):
                raise NotALogError("not text")
            if file.seek(0, 2) > _LARGEST:
                raise NotALogError(f"larger than {_LARGEST >> 20} MiB")
            file.seek(0)
            return file.read()
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error.strerror}; mend its permissions, or leave it out"
        ) from error


def _row(path: Path, line_number: int, record: dict[str, str], proved: float | None) -> ImportedRow:
    name = ""
    try:
        name = "label"
        label = layouts.whole(record[name])
        name = "predict"
        predict = ABSTAIN if layouts.nothing(record[name]) else layouts.whole(record[name])
        name = "idx"
        index = layouts.whole(record[name]) if name in record else None
        name = "time"
        took = layouts.seconds(record["time"]) if "time" in record else None
        name = layouts.RADIUS if layouts.RADIUS in record else layouts.PROVED
        if name == layouts.PROVED:
            # Printed through three letters, so that a truth value may have lost its last.
            if record[name] not in ("1", "1.0", "Tru", "True", "-1", "-1.0", "0", "Fal", "False"):
                raise ValueError(f"{record[name]!r} is neither yes nor no")
            yes = record[name] in ("1", "1.0", "Tru", "True")
            radius, predict = (repr(float(proved or 0.0)), predict) if yes else ("0.0", ABSTAIN)
        elif layouts.nothing(record[name]):
            radius, predict = "0.0", ABSTAIN
        else:
            radius = layouts.radius(record[name])
        value = number(radius)
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

    try:
        found = matlab.variables(data)
    except ValueError as error:
        raise DataError(f"{str(path)!r} is a damaged MATLAB file ({error}); fetch it again") from None
    if "hard" not in found:
        raise NotALogError(
            f"a MATLAB file with {', '.join(sorted(found)) or 'nothing'}; expected a vector 'hard' of radii"
        )
    radii = found["hard"]
    if radii is None or radii.size == 0 or max(radii.shape) != radii.size:
        came = "no real numbers" if radii is None else f"{radii.dtype} {radii.shape}"
        raise DataError(f"{str(path)!r}: expected a vector of radii in 'hard', got {came}")
    rows = []
    for k, value in enumerate(radii.ravel().tolist()):
        absent = value == -1 or np.isnan(value)
        if not absent and not 0 <= value < 1e9:
            raise DataError(
                f"{str(path)!r}: radius {k} is {value}, expected at least 0, or -1 or nan where wrong; fetch it again"
            )
        text = "0.0" if absent else repr(float(value))
        rows.append(ImportedRow(index=None, label=None, predict=None, correct=not absent, radius=text, seconds=None))
    return Log(
        path=path,
        layout=("hard",),
        header=True,
        rows=tuple(rows),
        sha256=sha256,
        correct_column="none",
        contradicted=0,
    )


def _damaged(
    path: Path, line_number: int, expected: str, came: str, advice: str = "fetch the log again, or ask its authors"
) -> DataError:
    shown = came if len(came) <= 120 else f"{came[:117]}..."
    return DataError(f"{str(path)!r} line {line_number}: expected {expected}, got {shown}; {advice}")
