"""Damaged files and odd words are told in one line, whatever they are."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import PROJECT

from tests.fuzz.targets import TARGETS, schedule

COUNT = 120  # `just fuzz` runs 10 000


@pytest.mark.skipif(sys.platform != "linux", reason="mutants are forked, and their threads counted in /proc")
def test_120_mutants_break_nothing() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--count", str(COUNT), "--seed", "1"]
    found = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]


def test_those_are_of_every_kind() -> None:
    assert set(schedule(COUNT)) == set(TARGETS)
