"""Images inside uncompressed tars, read in place; among them the shards of webdataset (KEY.jpg beside KEY.cls)."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from bench.data.pictures import LARGEST, SUFFIXES, Labelled, Stored
from bench.types.errors import DataError

LABEL = "cls"  # suffix of the member that holds an image's class: its number or its name
_LONGEST = 1000  # bytes of a class


def tar_members(path: Path) -> list[tarfile.TarInfo]:
    """The regular files of a tar, as they lie in it.

    Raises: DataError for a tar that is compressed, cut off or damaged, or holds sparse files, or one name twice.
    """
    members: list[tarfile.TarInfo] = []
    before = -1
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:  # no compression: images are read in place
            for member in tar:
                # A damaged size can lead back, and round for ever.
                if member.offset <= before or member.size < 0 or member.offset_data + member.size > size:
                    raise DataError(f"{str(path)!r} is cut off or damaged at {member.name!r}; fetch it again")
                before = member.offset
                if member.issparse():
                    raise DataError(f"{str(path)!r} holds the sparse file {member.name!r}; expected plain files")
                if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                    members.append(member)
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)
            if file.read(512) != bytes(512):  # one that ends between two images is as readable as a whole one
                raise DataError(f"{str(path)!r} is cut off: it ends without the closing block of a tar; fetch it again")
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{str(path)!r} is not a readable uncompressed tar: {error}; unpack it, or fetch it again"
        ) from None
    names = {member.name for member in members}
    if len(names) < len(members):
        raise DataError(f"{str(path)!r} holds one name twice; fetch it again")
    return members


def is_picture(member: tarfile.TarInfo) -> bool:
    """Whether a member is an image by its suffix."""
    return PurePosixPath(member.name).suffix.lower() in SUFFIXES


def stored_in(path: Path, member: tarfile.TarInfo, label: int) -> Stored:
    """An image of a tar.

    Raises: DataError for one that is too large.
    """
    if member.size > LARGEST:
        raise DataError(f"{str(path)!r} says that {member.name!r} has {member.size:,} bytes; expected an image")
    return Stored(label, path, member.name, member.offset_data, member.size)


def is_webdataset(members: Sequence[tarfile.TarInfo]) -> bool:
    """Whether images have their classes beside them."""
    return any(member.name.lower().endswith(f".{LABEL}") for member in members)


def read_shards(paths: Sequence[Path]) -> Labelled:
    """The images of webdataset's shards in order of shard, then as they lie there; classes are numbers or names.

    Raises: DataError for an image without a class, a class without an image, or numbers beside names.
    """
    found: list[tuple[Stored, str]] = []
    for path in paths:
        images: dict[str, tarfile.TarInfo] = {}
        labels: dict[str, str] = {}
        members = tar_members(path)
        with path.open("rb") as file:
            for member in members:
                folder, slash, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")  # webdataset's key ends at the first dot
                key = folder + slash + stem
                if kind.lower() == LABEL:
                    file.seek(member.offset_data)
                    labels[key] = _class(file.read(min(member.size, _LONGEST + 1)), path, member.name)
                elif is_picture(member):
                    if key in images:
                        raise DataError(f"{str(path)!r} has two images of {key!r}; expected one")
                    images[key] = member
        if odd := sorted(images.keys() ^ labels.keys()):
            lacks, has = (f".{LABEL}", "an image") if odd[0] in images else ("image", f"a .{LABEL}")
            raise DataError(
                f"{str(path)!r} has {has} but no {lacks} of {odd[0]!r}; expected both, as KEY.jpg and KEY.{LABEL}"
            )
        found += ((stored_in(path, member, 0), labels[key]) for key, member in images.items())
    if not found:
        raise DataError(f"{str(paths[0])!r} holds no image; expected a webdataset of KEY.jpg and KEY.{LABEL}")
    numbers = {text.isascii() and text.isdigit() for _, text in found}
    if numbers == {True, False}:
        raise DataError(f"{str(paths[0])!r} and its other shards have both numbers and names as classes")
    if numbers == {True}:
        return Labelled(tuple(replace(stored, label=int(text)) for stored, text in found), ())
    names = tuple(sorted({text for _, text in found}))
    label_of = {name: label for label, name in enumerate(names)}
    return Labelled(tuple(replace(stored, label=label_of[text]) for stored, text in found), names, sorted=True)


def _class(data: bytes, path: Path, name: str) -> str:
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > _LONGEST or (text.isdigit() and len(text) > 9):
        raise DataError(f"{str(path)!r} has no class in {name!r}; expected its number or its name as text")
    return text
