"""Half precision on a CPU is for processors that have instructions for it, or for who says so twice."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from places import PROJECT
from typer.testing import CliRunner

from bench.cli.app import app
from bench.runs.execution import environment
from bench.runs.execution.environment import check_instructions
from bench.types.checkout import git_commit
from bench.types.errors import DeviceError

OLD = "processor\t: 0\nflags\t\t: fpu sse2 avx2 fma avx512f\n"


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "CPU_INFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (OLD, {"bf16", "fp16"}),
        ("flags : fma avx512f avx512_bf16 avx512_bitalg\n", {"fp16"}),
        ("flags : avx512_fp16 amx_bf16\n", set()),
        ("processor : 0\nFeatures : fp asimd asimdhp bf16\n", set()),
        ("no such line\n", set()),
    ],
    ids=["avx2", "zen 4", "sapphire rapids", "arm", "unknown"],
)
def test_what_the_processor_cannot_is_refused_by_precision(text: str, refused: set[str], processor: Path) -> None:
    processor.write_text(text)
    found = set()
    for precision in environment.PRECISIONS:
        try:
            check_instructions(("cuda:0", "cpu"), precision)
        except DeviceError:
            found.add(precision)
        check_instructions(("cuda:0",), precision)
    assert found == refused


def test_where_no_system_says_nothing_is_refused(processor: Path) -> None:
    check_instructions(("cpu",), "bf16")


@pytest.mark.parametrize(
    "words",
    [
        "run --methods gaussian --sigma 0.5 --n 100 --limit 1 --out OUT",
        "bench --networks digits-resnet8 --out OUT",
        "latency --methods gaussian --out OUT/file",
    ],
)
def test_commands_refuse_it_in_one_line_and_write_nothing(words: str, processor: Path, tmp_path: Path) -> None:
    processor.write_text(OLD)
    out = tmp_path / "out"
    asked = [*words.replace("OUT", str(out)).split(), "--precision", "bf16", "--device", "cpu"]
    with pytest.raises(DeviceError, match="no instructions for bf16: bf16 took 130 times the seconds of fp32"):
        CliRunner().invoke(app, asked, catch_exceptions=False)
    assert not out.exists()


def test_who_says_so_twice_gets_it(processor: Path, tmp_path: Path) -> None:
    processor.write_text(OLD)
    words = f"run --methods gaussian --sigma 0.5 --n 100 --limit 1 --batch 50 --device cpu --out {tmp_path / 'out'}"
    asked = [*words.split(), "--precision", "bf16", "--allow-slow-precision"]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    assert len(list((tmp_path / "out").glob("*/run.json"))) == 1


def test_the_commit_is_that_of_the_checkout() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("an unpacked tree, no checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert (git_commit() or "").removesuffix("+") == head.stdout.strip()
