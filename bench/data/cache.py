"""Where downloaded datasets are kept, and how an archive gets there; a download happens only when it is asked for."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from bench.types.cache_folder import cache_folder
from bench.types.errors import DataError

DOWNLOAD = "RRCM_BENCH_DOWNLOAD"


def cache_dir() -> Path:
    """The folder of downloads: $RRCM_BENCH_CACHE, or the platform's cache."""
    return cache_folder()


def may_download() -> bool:
    """Whether the user allowed downloads: $RRCM_BENCH_DOWNLOAD is 1."""
    return os.environ.get(DOWNLOAD) == "1"


def fetch_archive(url: str, md5: str, folder: Path, member: str) -> Path:
    """The unpacked folder `member` of a tar archive, fetched and verified once.

    Raises: DataError if it cannot be fetched, or is not the archive of that md5.
    """
    target = folder / member
    if target.is_dir():
        return target
    import pooch
    import requests

    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = pooch.retrieve(url, known_hash=f"md5:{md5}", path=folder, fname=url.rpartition("/")[2])
        # Unpacked beside its place and moved there whole: an interruption leaves no half dataset behind.
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            with tarfile.open(archive) as tar:
                tar.extractall(aside, filter="data")
            (Path(aside) / member).rename(target)
    except (requests.RequestException, OSError, ValueError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{url} could not be fetched into {str(folder)!r}: {reason}; give --data-root instead"
        ) from None
    return target
