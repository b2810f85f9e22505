"""Parquet files of Hugging Face's image datasets: a column of encoded images, a column of labels, and their names."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.data.pictures import LARGEST, Encoded, Labelled
from bench.types.errors import DataError

IMAGES = ("image", "img", "images", "picture")
LABELS = ("label", "labels", "fine_label", "target", "class")
_ROWS = 100_000_000  # of a file
_GROUP = 8_000_000_000  # bytes that a row group unpacks to


@dataclass(frozen=True, slots=True)
class Cell:
    """An image in a row of a Parquet file."""

    label: int
    path: Path
    column: str
    group: int
    row: int  # in the group
    name: str = ""  # the image's own, where the file keeps it

    def opened(self) -> io.BytesIO:
        """The bytes."""
        return io.BytesIO(self.read())

    def read(self) -> bytes:
        """The encoded image.

        Raises: DataError if the file cannot be read, or has no bytes in that row.
        """
        data = _images(self.path, self.column, self.group)[self.row].as_py()
        if not isinstance(data, bytes) or not 0 < len(data) <= LARGEST:
            raise DataError(f"{self} holds no image; a file of paths alone is of no use here")
        return data

    def __str__(self) -> str:
        return repr(f"{self.path}:{self.column}:{self.group}:{self.row}")


def read_parquet(paths: Sequence[Path]) -> Labelled:
    """The images of Parquet files in order of file and row.

    Names of the classes are those that the file tells (Hugging Face's ClassLabel), or the labels themselves where
    they are text.
    Raises: DataError where pyarrow is missing, for damaged files, missing columns, or labels that are none.
    """
    cells: list[Cell] = []
    labels: list[Any] = []
    told: set[tuple[str, ...]] = set()
    for path in paths:
        with _file(path) as file:
            _check(file, path)
            schema = file.schema_arrow
            image, label = column_of(schema, IMAGES, path), column_of(schema, LABELS, path)
            told.add(class_names(schema, label))
            encoded, own = bytes_of(schema, image, path)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[label, *own], use_threads=False)
                labels += table.column(label).to_pylist()
                names = table.column(image).combine_chunks().field("path").to_pylist() if own else [""] * len(table)
                cells += (Cell(0, path, encoded, group, row, str(name or "")) for row, name in enumerate(names))
    return labelled(cells, labels, told, paths[0])


def labelled(cells: Sequence[Encoded], labels: Sequence[Any], told: set[tuple[str, ...]], path: Path) -> Labelled:
    """Images with their labels: numbers, by the names that the files tell, or texts, whose order nothing says.

    Raises: DataError for files that tell other names than each other, no images, or labels that are none.
    """
    if len(told) > 1:
        raise DataError(f"{str(path)!r} and its other parts name other classes; expected files of one dataset")
    if not cells:
        raise DataError(f"{str(path)!r} has no rows; expected images")
    (names,) = told
    if all(isinstance(label, str) and label for label in labels):
        found = tuple(sorted(set(labels)))
        label_of = {name: label for label, name in enumerate(found)}
        return Labelled(
            tuple(replace(cell, label=label_of[label]) for cell, label in zip(cells, labels, strict=True)),
            found,
            sorted=True,
        )
    most = len(names) or 2**31
    for label in labels:
        if type(label) is not int or not 0 <= label < most:
            raise DataError(
                f"{str(path)!r} has the label {label!r}; expected numbers from 0 on"
                + (f" to {most - 1}" if names else "")
                + (": a test set without labels cannot be certified" if label == -1 else "")
            )
    return Labelled(tuple(replace(cell, label=label) for cell, label in zip(cells, labels, strict=True)), names)


def _check(file: Any, path: Path) -> None:
    """Refuse what a file declares, before any of it is unpacked."""
    meta = file.metadata
    sizes = [meta.row_group(group).total_byte_size for group in range(meta.num_row_groups)]
    if meta.num_rows > _ROWS or any(not 0 <= size <= _GROUP for size in sizes):
        raise DataError(
            f"{str(path)!r} declares {meta.num_rows:,} rows and groups of {max(sizes, default=0):,} bytes; expected "
            f"at most {_ROWS:,} and {_GROUP:,}"
        )


def column_of(schema: Any, known: Sequence[str], path: Path) -> str:
    """The column of one of those names.

    Raises: DataError.
    """
    there = schema.names
    found = next((name for name in known if name in there), None)
    if found is None or there.count(found) > 1:
        raise DataError(f"{str(path)!r} has the columns {', '.join(there)[:200]}; expected one of {', '.join(known)}")
    return found


def bytes_of(schema: Any, image: str, path: Path) -> tuple[str, list[str]]:
    """The column of the bytes, and that of the image's own name where there is one."""
    from pyarrow import types

    kind = schema.field(image).type
    if types.is_binary(kind) or types.is_large_binary(kind):
        return image, []
    fields = [kind.field(k).name for k in range(kind.num_fields)] if types.is_struct(kind) else []
    if "bytes" not in fields:
        raise DataError(f"{str(path)!r} has {image!r} as {str(kind)[:100]}; expected encoded images, {{bytes, path}}")
    return f"{image}.bytes", [f"{image}.path"] if "path" in fields else []


def class_names(schema: Any, label: str) -> tuple[str, ...]:
    """The classes by number, as Hugging Face's metadata has them; empty where there are none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(text)["info"]["features"][label]["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
    ok = isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names)
    return tuple(names) if ok else ()


@lru_cache(maxsize=1)  # a group holds some hundred images, which are asked for in order
def _images(path: Path, column: str, group: int) -> Any:
    with _file(path) as file:
        found = file.read_row_group(group, columns=[column], use_threads=False).column(0).combine_chunks()
        return found.field("bytes") if column.endswith(".bytes") else found


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    with reading(path, "a Parquet file", "Parquet"):
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            yield file


@contextmanager
def reading(path: Path, kind: str, form: str) -> Iterator[None]:
    """Say of what pyarrow cannot read that it cannot be read, and of pyarrow where it is missing.

    Raises: DataError.
    """
    try:
        import pyarrow
    except ImportError:
        raise DataError(f"{str(path)!r} is {kind}, which takes pyarrow; pip install 'rrcm-bench[parquet]'") from None
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{str(path)!r} cannot be read as {form}: {said}; fetch it again") from None
