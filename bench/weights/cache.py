"""Where files of weights lie on this machine: shipped, cached, in a folder, or fetched; each checked by its sha256."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.types.atomic_file import atomic_path
from bench.types.errors import WeightsError
from bench.weights.catalogue import Entry, catalogue, config_dir, find, user_catalogue
from bench.weights.checkpoints import checkpoint_file, exists, read_checkpoint, sha256_of, with_key
from bench.weights.user_catalogue import check_entry, remove_user_entry, user_catalogue_lock, write_user_entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.types import Scalar

State = Literal["ok", "missing", "damaged"]


def cache_dir() -> Path:
    """Where fetched and added weights lie, each under its sha256."""
    if given := os.environ.get("RRCM_BENCH_CACHE"):
        return Path(given).expanduser() / "weights"
    from pooch import os_cache

    return Path(os_cache("rrcm-bench")) / "weights"


def locate(entry: Entry, *, download: bool) -> Path | None:
    """The entry's file, its hash checked: shipped, cached, in a folder of RRCM_BENCH_WEIGHTS, or fetched.

    None where it is nowhere, or may not be fetched.
    Raises: WeightsError for a shipped or cached file with another hash, or a download that fails.
    """
    if entry.sha256 is None:
        return None
    if entry.file is not None and exists(shipped := entry.folder / entry.file):
        return _checked(entry, shipped, "install its package again")
    if exists(cached := _cached(entry)):
        return _checked(entry, cached, "delete it, and fetch or add it again")
    if lying := _in_folders(entry):
        return lying
    return _fetch(entry, entry.url) if download and entry.url else None


def lies_here(entry: Entry) -> bool:
    """Whether `locate` would find the entry's file on this machine; in a place of its own it is not hashed for that."""
    if entry.sha256 is None:
        return False
    if any(map(exists, (_cached(entry), *([entry.folder / entry.file] if entry.file is not None else [])))):
        return True
    return _in_folders(entry) is not None


def add(
    name: str,
    path: Path,
    *,
    method: str,
    role: str,
    dataset: str,
    sigma: float | None,
    params: Mapping[str, Scalar],
    said: Mapping[str, Scalar] | None = None,
    licence: str = "",
    source: str = "",
) -> Entry:
    """Copy a checkpoint into the cache and list it in the user's catalogue; the entry as listed.

    It becomes the default of its method, role, dataset and sigma, unless the user's catalogue has one already: then it
    is used by name. Adding the same file under the same name again mends the cache and changes nothing else. `said`:
    params that the file tells of itself, which give way to `params`.
    Raises: WeightsError for a file that does not load, or a name that stands for something else.
    """
    path, key = with_key(path)
    file = checkpoint_file(path)
    if file.name.endswith(".index.json"):
        raise WeightsError(
            f"weights {str(file)!r}: is in several files, the cache takes one; give --weights ROLE={str(file.parent)!r}"
            " where it is used, or save it as one safetensors file"
        )
    entry = Entry(
        name=name,
        method=method,
        role=role,
        dataset=dataset,
        sigma=sigma,
        params={**(said or {}), **params},
        basename=file.name if file.name.isprintable() else None,
        key=read_checkpoint(file, key).key or None,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        licence=licence,
        source=source,
        folder=config_dir(),
    )
    check_entry(entry)
    _copy(file, _cached(_same(entry, params) or entry), entry.sha256)
    with user_catalogue_lock():
        if same := _same(entry, params):  # another process may have added it meanwhile
            if not exists(_cached(same)):
                _copy(file, _cached(same), entry.sha256)
            return same
        own = [known for known in catalogue() if known.folder == config_dir()]
        entry = replace(entry, default=not any(known.default and _slot(known) == _slot(entry) for known in own))
        write_user_entry(entry)
    return entry


def remove(name: str) -> Path | None:
    """Take weights out of the user's catalogue, and their copy out of the cache where no other entry is of it.

    The copy that was removed, if any. Stored runs stay as they are: they hold its sha256.
    Raises: WeightsError for weights that the user's catalogue does not have.
    """
    with user_catalogue_lock():
        there = next((known for known in catalogue() if known.name == name and known.folder == config_dir()), None)
        remove_user_entry(name)
        if there is None or any(known.sha256 == there.sha256 for known in catalogue()):
            return None
        copy = _cached(there)
        try:
            copy.unlink()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise WeightsError(
                f"cache {str(copy)!r}: cannot be removed ({problem.strerror}); the catalogue no longer names it"
            ) from problem
        return copy


def _same(entry: Entry, given: Mapping[str, Scalar]) -> Entry | None:
    """What the catalogues have under the entry's name, where it is the same.

    Raises: WeightsError where it is not.
    """
    same = next((known for known in catalogue() if known.name == entry.name and known.sha256), None)
    if same is None:
        return None
    if same.sha256 != entry.sha256:
        raise WeightsError(
            f"weights {entry.name!r}: sha256 is {short(entry.sha256)}, the catalogue has {short(same.sha256)} under "
            "that name; give another name"
        )
    if (_slot(same), same.key) != (_slot(entry), entry.key) or dict(same.params) not in (
        dict(given),
        dict(entry.params),
    ):
        raise WeightsError(
            f"weights {entry.name!r}: this file is listed under that name for another method, role, dataset, sigma, "
            f"other params or another network in it; give another name, or edit {str(user_catalogue())!r}"
        )
    return same


def verify(names: Sequence[str] = ()) -> list[tuple[Entry, State, Path | None]]:
    """Each named entry (none named: all) with its state on this machine and its file; nothing is fetched."""
    checked: list[tuple[Entry, State, Path | None]] = []
    for entry in [find(name) for name in names] if names else catalogue():
        try:
            path = locate(entry, download=False)
        except _OtherHashError as other:
            checked.append((entry, "damaged", other.path))
        else:
            checked.append((entry, "ok" if path else "missing", path))
    return checked


def short(sha256: str | None) -> str:
    """The beginning of a hash, for messages."""
    return f"{(sha256 or '')[:12]}..."


class _OtherHashError(WeightsError):
    """A file in a place of its own that is not what the catalogue says."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


def _slot(entry: Entry) -> tuple[str, str, str, float | None]:
    return entry.method, entry.role, entry.dataset, entry.sigma


def _cached(entry: Entry) -> Path:
    return cache_dir() / f"{entry.sha256}{Path(entry.filename or '').suffix}"


def _in_folders(entry: Entry) -> Path | None:
    for folder in filter(None, os.environ.get("RRCM_BENCH_WEIGHTS", "").split(os.pathsep)):
        lying = Path(folder).expanduser() / (entry.filename or "")
        # Another file of that name is no damage: everyone calls theirs checkpoint.pth.tar.
        if exists(lying) and lying.is_file() and sha256_of(lying) == entry.sha256:
            return lying
    return None


def _checked(entry: Entry, path: Path, advice: str) -> Path:
    sha256 = sha256_of(path)
    if sha256 != entry.sha256:
        raise _OtherHashError(
            f"weights {entry.name!r}: sha256 is {short(sha256)}, expected {short(entry.sha256)}; {str(path)!r} is not "
            f"what the catalogue says, {advice}",
            path,
        )
    return path


def _fetch(entry: Entry, url: str) -> Path:
    import sys

    import pooch

    target = _cached(entry)
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{entry.sha256}",
            path=target.parent,
            fname=target.name,
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60),
        )
    except (OSError, ValueError) as problem:  # requests' errors are OSErrors; a wrong hash is a ValueError
        said = " ".join(str(problem).split())[:200]
        raise WeightsError(
            f"weights {entry.name!r}: cannot be fetched from {url} ({said}); fetch it by hand, then name its folder in "
            "RRCM_BENCH_WEIGHTS"
        ) from problem
    return _checked(entry, target, "delete it and fetch it again")


def _copy(file: Path, target: Path, sha256: str | None) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as part:
            if sha256_of(shutil.copyfile(file, part)) != sha256:
                raise WeightsError(f"weights {str(file)!r}: changed while being copied; add it again once complete")
    except OSError as problem:
        raise WeightsError(
            f"cache {str(target.parent)!r}: cannot be written ({problem.strerror}); set RRCM_BENCH_CACHE to a folder "
            "with room"
        ) from problem
