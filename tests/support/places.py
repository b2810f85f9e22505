"""Folders that tests read: this project, its golden numbers, and the reference material where there is any."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SUPPORT = PROJECT / "tests" / "support"
GOLDEN_FILES = PROJECT / "tests" / "golden"
SHARED_FOLDER = PROJECT / ".." / "shared"  # absent on a user's machine
