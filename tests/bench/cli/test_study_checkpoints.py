"""A stage that was stopped: its checkpoint goes along with the part's archive, and the next part goes on from it."""

from __future__ import annotations

import os
import sys
import tarfile
import time
from pathlib import Path

import pytest
from places import PROJECT

from bench.cli import study as command
from bench.cli import study_parts
from bench.cli import study_stages as stages
from bench.cli.study_parts import Archive, unpack

WEIGHTS = PROJECT / "methods" / "pretrained" / "digits" / "gaussian-0.25.safetensors"
STUDY = """dataset = "digits"
[tier.small]
part_seconds = 1000
[[train]]
name = "slow"
method = "gaussian"
seconds = 800
"""
# It goes on from step 30, if that was brought; else it gets there and waits for a signal.
STAGE = f"""
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(exist_ok=True)
checkpoint = out / "checkpoint.pt"
if not checkpoint.is_file():
    print("  step 30/40  loss 1", file=sys.stderr, flush=True)
    checkpoint.with_name("part").write_text("of step 30")
    checkpoint.with_name("part").rename(checkpoint)
    while True:
        time.sleep(0.01)
assert checkpoint.read_text() == "of step 30"
print(json.dumps({{"weights": {str(WEIGHTS)!r}}}))
"""


def members(folder: Path) -> set[str]:
    with tarfile.open(folder / "part-1.tar.00") as archive:
        return set(archive.getnames())


@pytest.fixture
def stopped(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the archive of a part whose stage was stopped at step 30 of 40."""
    monkeypatch.setattr(stages, "own_command", lambda words: [sys.executable, "-c", STAGE, *words])
    (tmp_path / "study.toml").write_text(STUDY)
    checkpoint = tmp_path / "small" / "train" / "slow" / "run" / "checkpoint.pt"

    class Clock:
        """Past the limit once the stage has a checkpoint."""

        sleep = staticmethod(time.sleep)

        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + (10_000 if checkpoint.is_file() else 0)

    with monkeypatch.context() as patched:
        patched.setattr(stages, "time", Clock)
        found = cli("study", "study.toml", "--part", 1, "--out", "out", "--seconds", 900)
    assert found.code == 1
    assert "stopped at the time limit" in found.err
    return tmp_path / "out"


def test_the_next_part_goes_on_from_the_checkpoint_of_the_one_before(cli, tmp_path: Path, stopped: Path) -> None:
    assert members(stopped) == {"train/slow/run/checkpoint.pt", "train/slow/log.txt"}
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "study.toml").write_text(STUDY)
    words = ("study", "there/study.toml", "--part", 1, "--out", "next", "--take", "out")
    late = cli(*words, "--seconds", 190)
    assert "slow: not begun: 200 s declared" in late.err  # a quarter of its steps is left
    assert members(tmp_path / "next") == members(stopped)  # nothing is lost by a part that does nothing
    assert cli(*words, "--seconds", 300).code == 0
    assert members(tmp_path / "next") == {"weights/slow.safetensors", "weights/slow.json"}


def test_a_later_checkpoint_takes_the_place_of_an_older_one_and_nothing_else_of_anything(
    tmp_path: Path, stopped: Path
) -> None:
    state = tmp_path / "other"
    checkpoint = state / "train" / "slow" / "run" / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    for age, kept in ((100.0, "own"), (-100.0, "of step 30")):
        checkpoint.write_text("own")
        os.utime(checkpoint, (time.time() + age,) * 2)
        unpack(stopped, state)
        assert checkpoint.read_text() == kept
    checkpoint.unlink()
    (state / "weights").mkdir()
    (state / "weights" / "slow.safetensors").write_bytes(b"done")
    unpack(stopped, state)
    assert not checkpoint.exists()


def test_a_checkpoint_for_which_there_is_no_room_is_left_out_and_told_of(
    cli, tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_parts, "MOST_BYTES", 10)
    found = cli("study", "study.toml", "--part", 1, "--out", "small-out", "--seconds", 1)
    assert "! left out  checkpoint of slow" in found.err
    assert not (tmp_path / "small-out").exists()


def test_an_interrupted_part_leaves_its_checkpoints_too(
    cli, tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_given: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "train_stages", interrupted)
    assert cli("study", "study.toml", "--part", 1, "--out", "again").code == 130
    assert members(tmp_path / "again") == members(stopped)


def test_pieces_of_a_longer_archive_before_it_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_parts, "PIECE", 4000)
    for size, pieces in ((20_000, 6), (100, 1)):
        (tmp_path / "state").mkdir(exist_ok=True)
        (tmp_path / "state" / "a").write_bytes(bytes(size))
        Archive(tmp_path / "out", "part-1", tmp_path / "state").add([tmp_path / "state" / "a"])
        assert len(list((tmp_path / "out").iterdir())) == pieces
