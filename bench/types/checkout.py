"""The commit that the code runs from, where it runs from a checkout."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def git_commit() -> str | None:
    """The commit of the checkout that this code runs from, "+" where it has changes; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    # git by its name: where it stands is the user's own PATH.
    run = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=5)  # noqa: S603, S607
    return run.stdout.strip()
