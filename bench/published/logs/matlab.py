"""Plain numeric arrays of a MATLAB file of level 5; every length is held against the bytes that there are.

scipy's reader trusts the lengths that a file states: a damaged one ends the process. Nothing but real numeric arrays is
read here; of all else only the name.
Source: MAT-File Format, The MathWorks, chapter 1 (level 5).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

MAGIC = b"MATLAB 5.0 MAT-file"
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Types of stored numbers by their code; integers are stored as narrow as they fit, whatever the array's class.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single, int8 to uint64
_FLAG_COMPLEX = 0x0800
_MOST = 1 << 26  # bytes that one variable may unpack to: 8 million radii

Array = np.ndarray[Any, np.dtype[Any]]


def variables(data: bytes) -> dict[str, Array | None]:
    """Each variable by its name; None for what is no array of real numbers.

    Raises: ValueError for a damaged file.
    """
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("its header is cut off")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, Array | None] = {}
    for kind, body in _elements(data[_HEADER:], order, padded=False):
        if kind == _COMPRESSED:
            for inner, unpacked in _elements(_unpacked(body), order, padded=False):
                if inner == _MATRIX:
                    found.update(_matrix(unpacked, order))
        elif kind == _MATRIX:
            found.update(_matrix(body, order))
    return found


def _elements(data: bytes, order: str, *, padded: bool) -> Iterator[tuple[int, bytes]]:
    """The elements that lie one after another, each with its type."""
    word = np.dtype(f"{order}u4")
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("it ends within the head of an element")
        first, length = (int(value) for value in np.frombuffer(data, word, 2, at))
        if first >> 16:  # four bytes or fewer, in the head itself
            kind, length, start, after = first & 0xFFFF, first >> 16, at + 4, at + 8
            if length > 4:
                raise ValueError(f"a small element states {length} bytes")
        else:
            kind, start = first, at + 8
            after = start + (length + (-length % 8) if padded else length)
        if start + length > len(data):
            raise ValueError(f"an element states {length} bytes where {len(data) - start} are left")
        yield kind, data[start : start + length]
        at = after


def _unpacked(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, _MOST)
    except zlib.error as error:
        raise ValueError(f"a compressed element is damaged: {error}") from None
    if not unpacker.eof:
        raise ValueError(f"a compressed element is cut off, or unpacks to more than {_MOST >> 20} MiB")
    return data


def _matrix(body: bytes, order: str) -> dict[str, Array | None]:
    parts = _elements(body, order, padded=True)
    try:
        (_, flags), (_, dimensions), (_, name) = next(parts), next(parts), next(parts)
    except StopIteration:
        raise ValueError("an array has no flags, dimensions and name") from None
    if len(flags) != 8 or len(dimensions) % 4 or len(name) > 64:
        raise ValueError("an array has no flags, dimensions and name")
    word = int(np.frombuffer(flags, f"{order}u4")[0])
    shape = tuple(int(value) for value in np.frombuffer(dimensions, f"{order}i4"))
    title = name.decode("ascii", "replace")
    if word & 0xFF not in _NUMERIC_CLASSES or word & _FLAG_COMPLEX:
        return {title: None}
    kind, numbers = next(parts, (0, b""))
    size = 1
    for length in shape:  # Python's integers: a product of stated lengths may be anything
        size *= length
    if kind not in _NUMBERS or min(shape, default=-1) < 0 or size * int(_NUMBERS[kind][1]) != len(numbers):
        raise ValueError(f"array {title!r} of shape {shape} has {len(numbers)} bytes of type {kind}")
    return {title: np.frombuffer(numbers, f"{order}{_NUMBERS[kind]}").reshape(shape, order="F")}
