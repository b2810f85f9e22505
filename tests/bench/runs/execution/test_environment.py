"""What is recorded beside a run."""

from __future__ import annotations

import subprocess

import pytest
from places import PROJECT

from bench.runs.execution.environment import git_commit


def test_the_commit_is_that_of_the_checkout() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("an unpacked tree, no checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert (git_commit() or "").removesuffix("+") == head.stdout.strip()
