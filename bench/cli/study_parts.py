"""The archive of a study's part: one tar in pieces of at most 16 MB, growing with every stage; and read again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from bench.cli.output import remark
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError

PIECE = 16_000_000  # bytes
MOST_FILES = 8


class Archive:
    """The archive of a part, as it grows; a piece that is full is not written again."""

    def __init__(self, folder: Path, name: str, state: Path) -> None:
        self._folder, self._name, self._state = folder, name, state
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w")  # noqa: SIM115  it grows until the end
        self._written = 0
        self.files = 0

    def add(self, paths: Sequence[Path]) -> None:
        """Files of the study's folder, saved when this returns."""
        for path in paths:
            self._tar.add(path, arcname=str(path.relative_to(self._state)))
        self._save()

    def add_run(self, folder: Path) -> None:
        """A run's record and rows."""
        self.add([folder / "run.json", *sorted(folder.glob("rows*.jsonl"))])

    def _save(self) -> None:
        # An archive ends with two empty blocks, which the next member goes over.
        content = self._bytes.getvalue() + bytes(2 * tarfile.BLOCKSIZE)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for number, start in enumerate(range(0, len(content), PIECE)):
                if start + PIECE > self._written:
                    atomic_write(self._folder / f"{self._name}.tar.{number:02}", content[start : start + PIECE])
                self.files = number + 1
        except OSError as error:
            raise StoreError(f"cannot write {str(self._folder)!r}: {error.strerror}; give --out another") from error
        self._written = len(self._bytes.getvalue()) // PIECE * PIECE
        remark(f"saved  {self.files} files in {self._folder}")


def unpack(folder: Path, state: Path) -> None:
    """The archives of parts in a folder, into the study's; a file that is there stays.

    Raises: StoreError for a folder without any, or one that cannot be read.
    """
    names = sorted({path.name.rpartition(".")[0] for path in folder.glob("part-*.tar.[0-9][0-9]")})
    if not names:
        raise StoreError(f"no part-K.tar.00 in {str(folder)!r}; expected what `study --part K --out` left")
    for name in names:
        content = b"".join(path.read_bytes() for path in sorted(folder.glob(f"{name}.[0-9][0-9]")))
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                for member in archive:
                    if member.isfile() and not (state / member.name).exists():
                        archive.extract(member, state, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise StoreError(
                f"archive {name!r} in {str(folder)!r} cannot be read: {error}; bring its pieces anew"
            ) from error
        remark(f"taken  {name}")
