"""The archive of a study's part: one tar in pieces of at most 16 MB, growing with every stage; and read again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bench.cli.output import remark
from bench.cli.study_file import weights_of
from bench.cli.study_stages import kept_of
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError

if TYPE_CHECKING:
    from bench.cli.study_file import Item, Study

PIECE = 16_000_000  # bytes
MOST_FILES = 8
MOST_BYTES = 64_000_000  # of a folder, where a checkpoint is to be added


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

    def add_unfinished(self, made: Study, stages: Sequence[Item]) -> None:
        """Checkpoints of stages that have no weights, in order; one without room is left out, which is said."""
        for item in stages:
            files = [path for path in kept_of(made, item) if path.is_file()]
            if made.weights(item.name).is_file() or not kept_of(made, item)[0].is_file():
                continue
            others = [path for path in self._folder.glob("*") if not path.name.startswith(f"{self._name}.tar.")]
            size = len(self._bytes.getvalue()) + sum(path.stat().st_size for path in [*files, *others])
            pieces = size // PIECE + 1 + len(others)
            if size > MOST_BYTES or pieces > MOST_FILES:
                remark(f"! left out  checkpoint of {item.name}: the archive would have {size} bytes, {pieces} files")
            else:
                self.add(files)

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
            for path in self._folder.glob(f"{self._name}.tar.[0-9][0-9]"):  # of a longer one before it
                if int(path.suffix[1:]) >= self.files:
                    path.unlink()
        except OSError as error:
            raise StoreError(f"cannot write {str(self._folder)!r}: {error.strerror}; give --out another") from error
        self._written = len(self._bytes.getvalue()) // PIECE * PIECE
        remark(f"saved  {self.files} files in {self._folder}")


def unpack(folder: Path, state: Path) -> None:
    """The archives of parts in a folder, into the study's; a file that is there stays, but for an older checkpoint.

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
                    if member.isfile() and _wanted(member, state):
                        archive.extract(member, state, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise StoreError(
                f"archive {name!r} in {str(folder)!r} cannot be read: {error}; bring its pieces anew"
            ) from error
        remark(f"taken  {name}")


def _wanted(member: tarfile.TarInfo, state: Path) -> bool:
    from bench.runs.status import held

    path, (top, name, *_) = state / member.name, (*PurePosixPath(member.name).parts, "", "")
    if top != "train":
        return not path.exists()
    if weights_of(state, name).is_file() or held(state / "train" / name):
        return False  # done, or being trained here
    return not path.exists() or member.mtime > path.stat().st_mtime
