"""A file is there whole or not at all, and what dead writers left is removed, and nothing else."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.types.atomic_file import STALE_SECONDS, atomic_path, atomic_write, is_dead


def gone_pid() -> int:
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    atomic_write(path, "old")
    with pytest.raises(FileNotFoundError), atomic_path(path) as part:
        shutil.copy(__file__, part).rename(tmp_path / "nowhere" / "else")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize("durable", [True, False])
def test_the_last_writer_wins_unless_the_first_shall(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "run.json"
    for text, first_wins, found in (("a", True, "a"), ("b", True, "a"), ("c", False, "c")):
        atomic_write(path, text, first_wins=first_wins, durable=durable)
        assert path.read_text() == found
    assert len(list(tmp_path.iterdir())) == 1


def test_the_first_wins_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", unable)
    for text in ("a", "b"):
        atomic_write(tmp_path / "run.json", text, first_wins=True)
    assert (tmp_path / "run.json").read_text() == "a"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "import") as part:
        part.mkdir()
        (part / "rows").write_text("1")
        assert not (tmp_path / "import").exists()
    assert [each.name for each in tmp_path.rglob("*")] == ["import", "rows"]


def test_a_name_as_long_as_a_file_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ж" * 127)
    atomic_write(path, b"")
    assert path.exists()


def test_leftovers_of_dead_writers_are_removed_and_no_other_file(tmp_path: Path) -> None:
    here, dead, longest = platform.node(), gone_pid(), "0" * 6
    left = [f".a.part-{here}-{dead}-{longest}", f".b c.part-{here}-{dead}-abcdef", ".d.part-else-where-1-abcdef"]
    kept = [
        f".a.part-{here}-{os.getpid()}-abcdef",
        ".a.part-else-where-1-abcdef",
        f"a.part-{here}-{dead}-abcdef",
        f".a.part-{here}-{dead}",
        "part-1",
        ".run.json",
    ]
    for name in (*left, *kept):
        (tmp_path / name).write_text("{")
    (tmp_path / left[1]).unlink()
    (tmp_path / left[1] / "inner").mkdir(parents=True)
    then = (tmp_path / left[2]).stat().st_mtime - STALE_SECONDS - 60
    os.utime(tmp_path / left[2], (then, then))
    atomic_write(tmp_path / "whole", "", durable=False)
    assert all((tmp_path / name).exists() for name in left)
    atomic_write(tmp_path / "whole", "")
    assert {each.name for each in tmp_path.iterdir()} == {*kept, "whole"}


def test_a_process_is_dead_only_where_that_is_sure() -> None:
    here, gone = platform.node(), gone_pid()
    assert is_dead(here, gone)
    for host, pid in ((here, os.getpid()), (here, 1), ("elsewhere", gone), (here, "1"), (here, -1), (here, 10**30)):
        assert not is_dead(host, pid)
