"""Where the reference material is, if it is: a user's machine has none, and those tests then skip, saying so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: tests run side by side, their threads must not spin

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("../shared (reference material) is absent")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def golden_certificate(shared: Path) -> dict:
    return json.loads((shared / "golden" / "certificate.json").read_text())


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    # No test may read or write a user's cache or catalogue.
    home = tmp_path_factory.mktemp("home")
    os.environ["RRCM_BENCH_CACHE"] = str(home / "cache")
    os.environ["RRCM_BENCH_HOME"] = str(home / "config")
    for name in ("RRCM_BENCH_WEIGHTS", "RRCM_BENCH_DOWNLOAD", "RRCM_BENCH_TRACEBACK"):
        os.environ.pop(name, None)
