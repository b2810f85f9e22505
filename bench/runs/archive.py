"""Runs in one file that travels, with a manifest of hashes: packed to equal bytes, unpacked with care."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.runs.records import RUN_FILE
from bench.runs.seals import untouched
from bench.runs.store import Run, folder_name, read_run
from bench.types.atomic_file import atomic_path, atomic_write
from bench.types.errors import StoreError

MANIFEST = "manifest.json"
FORMAT = 1
FORMS = (".zip", ".tar")
LARGEST = 2 << 30  # bytes unpacked: votes take little; more is no archive of runs, or one that was made to fill a disk
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold: equal contents are equal bytes
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_RUN = re.compile(rf"runs/([^/]+)/({re.escape(RUN_FILE)}|rows[^/]*\.jsonl)")


class _File(msgspec.Struct):
    sha256: str
    bytes: int


class _Manifest(msgspec.Struct):
    format: int
    files: dict[str, _File]
    runs: list[str]


def run_files(runs: list[Run]) -> dict[str, bytes]:
    """The files of runs by their names in an archive.

    Raises: StoreError for a run that was edited, or twice the same.
    """
    found: dict[str, bytes] = {}
    for run in runs:
        folder = f"runs/{folder_name(untouched(run).spec)}"
        if f"{folder}/{RUN_FILE}" in found:
            raise StoreError(f"run {run.spec.digest()[:10]} was given twice, in two folders; expected each once")
        for path in (run.path / RUN_FILE, *sorted(run.path.glob("rows*.jsonl"))):
            found[f"{folder}/{path.name}"] = path.read_bytes()
    return found


def pack(files: Mapping[str, bytes], digests: list[str], path: Path) -> str:
    """Write an archive, a zip or a tar by its name's end; the sha256 of its manifest, which stands for all of it.

    Raises: StoreError for another name, or one that cannot be written.
    """
    if path.suffix not in FORMS:
        raise StoreError(f"{str(path)!r}: expected a name that ends with {' or '.join(FORMS)}")
    listed = {name: {"sha256": _sha256(held), "bytes": len(held)} for name, held in sorted(files.items())}
    record = {"format": FORMAT, "runs": sorted(digests), "files": listed}
    manifest = (json.dumps(record, indent=1) + "\n").encode()
    members = {MANIFEST: manifest, **{name: files[name] for name in sorted(files)}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, _zip(members) if path.suffix == ".zip" else _tar(members))
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}; give --out another file") from error
    return _sha256(manifest)


def unpack(path: Path) -> dict[str, bytes]:
    """The files of an archive, each as its manifest says.

    Raises: StoreError, one line, for what is no such archive, or was changed.
    """
    try:
        files = dict(_members(path))
    except FileNotFoundError:
        raise StoreError(f"no file {str(path)!r}; expected an archive made by `rrcm-bench runs export`") from None
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, ValueError, EOFError, RuntimeError) as error:
        raise StoreError(f"{str(path)!r} is no archive of runs: {_line(error)}; fetch it again") from error
    try:
        manifest = msgspec.json.decode(files.pop(MANIFEST, b""), type=_Manifest)
    except msgspec.DecodeError as error:
        raise StoreError(f"{str(path)!r} has no {MANIFEST} that can be read ({_line(error)}); fetch it again") from None
    if manifest.format != FORMAT:
        raise StoreError(
            f"{str(path)!r} has format {manifest.format}, expected {FORMAT}; use the version that wrote it"
        )
    if odd := sorted(files.keys() ^ manifest.files.keys()):
        raise StoreError(f"{str(path)!r}: {odd[0]!r} is in the archive or in its manifest alone; fetch it again")
    for name, held in files.items():
        if _sha256(held) != manifest.files[name].sha256:
            raise StoreError(f"{str(path)!r}: {name!r} was changed: its sha256 is not the manifest's; fetch it again")
    return files


def add_runs(path: Path, out: Path) -> list[tuple[Run, bool]]:
    """Put the runs of an archive under `out`; each with whether it was not there before.

    All are read before one is written.
    Raises: StoreError for an archive or a run that is not sound, or a folder that holds other rows.
    """
    files = unpack(path)
    parts: dict[str, dict[str, bytes]] = {}
    for name, held in files.items():
        if match := _RUN.fullmatch(name):
            parts.setdefault(match[1], {})[match[2]] = held
        elif name.startswith("runs/"):
            raise StoreError(f"{str(path)!r}: {name!r} is no file of a run")
    if not parts:
        raise StoreError(f"{str(path)!r} holds no run")
    known: dict[str, Run | None] = {}
    with tempfile.TemporaryDirectory() as place:
        for folder, content in parts.items():
            found = untouched(read_run(_written(Path(place) / folder, content)))
            if folder != folder_name(found.spec):
                raise StoreError(f"{str(path)!r}: the run in {folder!r} is {folder_name(found.spec)!r}")
            known[folder] = read_run(out / folder) if (out / folder).exists() else None
            there = known[folder]
            if there is not None and (there.spec.digest(), _votes(there)) != (found.spec.digest(), _votes(found)):
                raise StoreError(f"{str(out / folder)!r} is there with other rows; give --out another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for folder, there in known.items():
            if there is None:
                with atomic_path(out / folder) as part:
                    _written(part, parts[folder])
    except OSError as error:
        raise StoreError(f"cannot write {str(out)!r}: {error.strerror}; give --out another folder") from error
    return [(there or read_run(out / folder), there is None) for folder, there in known.items()]


def _written(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, held in files.items():
        (folder / name).write_bytes(held)
    return folder


def _votes(run: Run) -> list[dict[str, Any]]:
    return [{**row.as_json(), "seconds": 0.0} for row in run.rows]


def _zip(members: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, content)
    return held.getvalue()


def _tar(members: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return held.getvalue()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each plain file.

    Raises: ValueError for a name that leads elsewhere or stands twice, for a link, and for too much.
    """
    seen: set[str] = set()
    left = LARGEST
    with path.open("rb") as file:
        members = _zip_members(file) if zipfile.is_zipfile(file) else _tar_members(file)
        for name, size, held in members:
            if not all(map(_PART.fullmatch, name.split("/"))):
                raise ValueError(f"{name[:100]!r} is no name of a file in it")
            if name in seen:
                raise ValueError(f"{name!r} stands twice")
            seen.add(name)
            left -= size
            if left < 0:
                raise ValueError(f"it holds more than {LARGEST >> 30} GiB")
            content = held.read(size + 1)
            if len(content) != size:
                raise ValueError(f"{name!r} has another size than it says")
            yield name, content


def _zip_members(file: Any) -> Iterator[tuple[str, int, Any]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = info.external_attr >> 28  # of a Unix mode: 8 a plain file, 10 a link
            if info.is_dir() or kind not in (0, 8):
                raise ValueError(f"{info.filename[:100]!r} is no plain file")
            with archive.open(info) as held:
                yield info.filename, info.file_size, held


def _tar_members(file: Any) -> Iterator[tuple[str, int, Any]]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            held = archive.extractfile(info) if info.isreg() else None
            if held is None:
                raise ValueError(f"{info.name[:100]!r} is no plain file")
            yield info.name, info.size, held


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
