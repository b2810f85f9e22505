"""`rrcm_bench` works in a folder that has packages of the names of ours, or says in one line what shadows what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import PROJECT


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    for name in ("bench", "methods"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the folder of another')\n")
    return tmp_path


def call(folder: Path, *words: str, first: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys((first, PROJECT))))}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_module_is_the_command_line_whatever_the_folder_holds(theirs: Path) -> None:
    made = call(theirs, "-m", "rrcm_bench", "methods", "gaussian", "--json")
    assert made.returncode == 0, made.stderr
    assert '"gaussian"' in made.stdout


def test_the_script_is_the_command_line_whatever_the_folder_holds(theirs: Path) -> None:
    (theirs / "bin").mkdir()  # as an installer writes it
    (theirs / "bin" / "rrcm-bench").write_text("import sys\nfrom rrcm_bench import main\nsys.exit(main())\n")
    made = call(theirs, "bin/rrcm-bench", "datasets", "--json")
    assert made.returncode == 0, made.stderr


def test_methods_of_the_folder_do_not_stand_before_ours(theirs: Path) -> None:
    (theirs / "bench" / "__init__.py").unlink()
    (theirs / "bench").rmdir()
    assert call(theirs, "-m", "bench", "methods", "gaussian").returncode == 0


@pytest.mark.parametrize(
    "words", [("-c", "from rrcm_bench import main; main()"), ("-c", "from rrcm_bench import certify")]
)
def test_what_shadows_what_is_said_in_one_line(theirs: Path, words: tuple[str, ...]) -> None:
    made = call(theirs, *words, first=theirs)
    assert made.returncode == 1
    line = made.stderr.splitlines()[-1]
    shadow = str(theirs / "bench" / "__init__.py")
    assert f"{shadow!r} shadows the package 'bench' of rrcm-bench" in line
    assert str(PROJECT.resolve() / "bench") in line
    assert "RuntimeError" not in made.stderr
