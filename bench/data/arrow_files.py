"""Arrow files as Hugging Face's `datasets` saves them, or has them in its cache; read in place by a memory map."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from bench.data.parquet import IMAGES, LABELS, bytes_of, class_names, column_of, labelled, reading
from bench.data.pictures import LARGEST, Labelled
from bench.types.errors import DataError

MADE_BY_MAP = "cache-"  # how the names of files begin that `Dataset.map` leaves beside the saved ones
_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class ArrowCell:
    """An image in a row of an Arrow file."""

    label: int
    path: Path
    column: str
    row: int
    name: str = ""  # the image's own, where the file keeps it

    def opened(self) -> io.BytesIO:
        """The bytes."""
        return io.BytesIO(self.read())

    def read(self) -> bytes:
        """The encoded image.

        Raises: DataError if the file cannot be read, or has no bytes in that row.
        """
        with reading(self.path, "an Arrow file", "Arrow"):
            data = _table(self.path, self.column)[self.row].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not isinstance(data, bytes) or not 0 < len(data) <= LARGEST:
            raise DataError(f"{self} holds no image; a file of paths alone is of no use here")
        return data

    def __str__(self) -> str:
        return repr(f"{self.path}:{self.column}:{self.row}")


def read_arrow(paths: Sequence[Path]) -> Labelled:
    """The images of Arrow files in order of file and row; names of classes as the files tell them.

    Raises: DataError where pyarrow is missing, for damaged files, missing columns, labels that are none, or a dataset
    that was saved as a choice of rows.
    """
    cells: list[ArrowCell] = []
    labels: list[Any] = []
    told: set[tuple[str, ...]] = set()
    for path in paths:
        _check_whole(path)
        with reading(path, "an Arrow file", "Arrow"), _opened(path) as table:
            image, label = column_of(table.schema, IMAGES, path), column_of(table.schema, LABELS, path)
            told.add(class_names(table.schema, label))
            _, own = bytes_of(table.schema, image, path)
            labels += table.column(label).to_pylist()
            images = _table(path, image)
            stored = ([""] * len(chunk) if not own else chunk.field("path").to_pylist() for chunk in images.chunks)
            names = chain.from_iterable(stored)
            cells += (ArrowCell(0, path, image, row, str(name or "")) for row, name in enumerate(names))
    return labelled(cells, labels, told, paths[0])


def _check_whole(path: Path) -> None:
    """Refuse files of which a list of indices beside them chooses some, and in another order."""
    state = path.with_name(_STATE)
    try:
        said = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{str(state)!r} cannot be read: {error}; fetch it again") from None
    if isinstance(said, dict) and said.get("_indices_data_files"):
        raise DataError(
            f"{str(path.parent)!r} was saved as a choice of rows, by its indices; save it after flatten_indices()"
        )


@lru_cache(maxsize=2)
def _table(path: Path, column: str) -> Any:
    """A column, mapped and not read."""
    with _opened(path) as table:
        return table.column(column)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow import ipc

    source = pyarrow.memory_map(str(path), "r")
    try:
        opened = ipc.open_stream(source)  # as `datasets` writes
    except pyarrow.ArrowInvalid:
        opened = ipc.open_file(source)
    table = opened.read_all()
    table.validate(full=True)  # a damaged offset would otherwise lead anywhere in the memory
    yield table
