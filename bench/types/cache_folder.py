"""The folder of this machine for files that can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = "RRCM_BENCH_CACHE"


def cache_folder() -> Path:
    """$RRCM_BENCH_CACHE, or the platform's cache."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("rrcm-bench"))
