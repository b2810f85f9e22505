"""What stands around each test: folders of its own, and global random generators that it must leave as they were.

Where the reference material is absent (a user's machine has none), the tests of it skip, saying so.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import random
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.style  # noqa: F401 - draws from `random` while it is imported: before any test is watched
import typer.main
from command_line import cli  # noqa: F401 - a fixture of all tests
from hypothesis import settings
from places import SHARED_FOLDER

typer.main.get_command = cache(typer.main.get_command)  # the options of all commands: 50 ms, in hundreds of tests
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: tests run side by side, their threads must not spin

# Examples follow from the test's name: a red test is red again, on any machine.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED_FOLDER.is_dir():
        pytest.skip("../shared (reference material) is absent")
    return SHARED_FOLDER.resolve()


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


# ---- the global random generators ------------------------------------------------------------------------------------
# A test that draws from them depends on whatever drew before it: it passes alone and fails in company. Each test, each
# wider fixture and each module starts from a seed of its own name, and fails if it has moved them; a draw is made under
# `methods.training.rng.borrowed`, which also decorates a test, or from a generator with a seed. The mark `global_rng`
# with a reason leaves a test alone: for libraries whose draws must differ between processes, as those of ports do.
# So a random claim that holds once holds always; its stated false-alarm rate is that of another seed or version of a
# generator.


def _states() -> dict[str, Any]:
    legacy: Any = np.random.get_state()  # noqa: NPY002 - the legacy global one is what is watched
    found = {"random": random.getstate(), "numpy.random": (legacy[0], legacy[1].tobytes(), *legacy[2:])}
    if torch := sys.modules.get("torch"):  # never imported for this: many tests need no torch
        found["torch"] = torch.get_rng_state().numpy().tobytes()
    return found


@contextmanager
def _watched(name: str) -> Iterator[list[str]]:
    """Seed the global generators by a name, put them back afterwards, and list those that had been moved."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_there = sys.modules.get("torch")
    of_torch = torch_there.get_rng_state() if torch_there else None
    seed, moved = zlib.crc32(name.encode()), []
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch_there:
        torch_there.default_generator.manual_seed(seed)
    before = _states()
    try:
        yield moved
    finally:
        after = _states()
        if torch := sys.modules.get("torch"):  # perhaps imported just now, and seeded by the system
            fresh = torch.Generator().manual_seed(torch.initial_seed()).get_state()
            before.setdefault("torch", fresh.numpy().tobytes())
            torch.set_rng_state(fresh if of_torch is None else of_torch)
        moved += [which for which in after if after[which] != before[which]]
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def _announced(node: pytest.Item | pytest.Collector) -> bool:
    mark = node.get_closest_marker("global_rng")
    assert mark is None or mark.args, f"{node.nodeid}: the mark global_rng needs a reason"
    return mark is not None


def _complaint(what: str, moved: list[str]) -> str:
    return (
        f"{what} moved the global generator of {' and '.join(moved)}; "
        "draw under `seeded_globals(SEED)`, or from a generator"
    )


@pytest.fixture(autouse=True)
def _generators_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    if _announced(request.node):
        yield
        return
    with _watched(request.node.nodeid) as moved:
        yield
    if moved:
        pytest.fail(_complaint("this test", moved), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Generator[None, Any]:
    if fixturedef.scope == "function" or _announced(request.node):
        return (yield)
    with _watched(f"{fixturedef.baseid}::{fixturedef.argname}") as moved:
        made = yield
    if moved:
        pytest.fail(_complaint(f"the fixture {fixturedef.argname!r}", moved), pytrace=False)
    return made


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, pytest.CollectReport]:
    with _watched(collector.nodeid) as moved:
        report = yield
    if moved and report.passed:
        report.outcome, report.longrepr = "failed", _complaint("importing this", moved)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # No garbage is collected while modules are imported, and what they define, with torch and its company a million
    # objects, is left out of every later collection: each took 0.2 s longer for it.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)


def pytest_configure(config: pytest.Config) -> None:
    # pytest-randomly is here for the order alone: its own seeds, set again after the fixtures, would undo these.
    if hasattr(config.option, "randomly_reset_seed"):
        config.option.randomly_reset_seed = False
