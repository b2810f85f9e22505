"""The command line in this process: its words, its exit code, and what it printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rrcm-bench", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        found = capsys.readouterr()
        code = left.value.code
        return Outcome(code if isinstance(code, int) else 0, found.out, found.err)

    return call
