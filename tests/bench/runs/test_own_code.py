"""The identity of a stranger's file covers the modules beside it that it imports, and nothing that it does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bench.runs.own_code import code_sha256, modules_beside


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/').replace('/init', '/__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "mine.py"


def test_a_file_alone_is_its_bytes(tmp_path: Path) -> None:
    file = write(tmp_path, mine="import torch\nimport json\nfrom bench.types import Method\n", other="x = 1\n")
    assert code_sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("changed", ["net", "blocks", "parts__init", "parts__deep"])
def test_a_change_in_a_module_beside_it_shows(tmp_path: Path, changed: str) -> None:
    files = {
        "mine": "from net import Net\ndef build():\n    import parts.deep\n",
        "net": "import blocks\nimport mine\n",
        "blocks": "a = 1\n",
        "parts__init": "a = 1\n",
        "parts__deep": "from . import near\nfrom .near import x\n",
        "parts__near": "x = 1\n",
        "unused": "a = 1\n",
    }
    file = write(tmp_path, **files)
    assert set(modules_beside(file)) == {"net", "blocks", "parts", "parts.deep", "parts.near"}
    before = code_sha256(file)
    write(tmp_path, unused="a = 2\n")
    assert code_sha256(file) == before
    write(tmp_path, **{changed: files[changed] + "# changed\n"})
    assert code_sha256(file) != before


def test_a_file_that_is_no_python_is_its_bytes(tmp_path: Path) -> None:
    file = write(tmp_path, mine="def (\n")
    assert code_sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()
