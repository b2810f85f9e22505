"""Decoded pictures of an archive, kept in the cache folder: the next process reads them in a tenth of a second.

A file is named by a hash of all that it follows from, the archive's bytes and the decoder among it, and begins with the
hash of its own content: neither another archive nor a damaged file is ever taken for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bench.data.arrays import Octets
from bench.data.cache import cache_dir
from bench.types.atomic_file import atomic_write

FOLDER = "decoded"
LEAST = 1000  # pictures: fewer are decoded as soon
_DIGEST = 32  # bytes


def name_of(archive: Path, *more: bytes) -> str:
    """The name of an archive's decoded pictures.

    Raises: OSError where it cannot be read.
    """
    import PIL
    from PIL import features

    digest = hashlib.sha256(f"{PIL.__version__} {features.version('jpg')} {features.version('libjpeg_turbo')}".encode())
    with archive.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    for part in more:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


def recall(name: str, shape: tuple[int, int]) -> Octets | None:
    """Records of that shape, where they were kept and are whole."""
    path = _path(name)
    try:
        if path.stat().st_size != _DIGEST + shape[0] * shape[1]:
            return None
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except OSError:
        return None
    body = content[_DIGEST:]
    if hashlib.sha256(body.data).digest() != content[:_DIGEST].tobytes():
        return None
    records: Octets = body.reshape(shape)
    return records


def keep(name: str, records: Octets) -> None:
    """Keep records for others; where the folder cannot be written, none are kept."""
    content = np.ascontiguousarray(records).tobytes()
    try:
        _path(name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(_path(name), hashlib.sha256(content).digest() + content)
    except OSError:
        return


def _path(name: str) -> Path:
    return cache_dir() / FOLDER / f"{name}.u8"
