"""What every refusal keeps: the right kind of error, one line, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.types.errors import BenchError


def check_refused(asked: Callable[[], object], error: type[BenchError], words: str, out: Path) -> None:
    with pytest.raises(error) as caught:
        asked()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()
