"""An archive holds the same bytes for the same runs, and gives back what was put in, or nothing."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from store_runs import SPEC, filled, row

from bench.runs.archive import MANIFEST, add_runs, pack, run_files, unpack
from bench.runs.seals import seal_rows
from bench.runs.store import folder_name, read_run
from bench.types.errors import StoreError

FORMS = ("zip", "tar")


def packed(tmp_path: Path, form: str, name: str = "runs") -> Path:
    folder = tmp_path / "made" / folder_name(SPEC)
    if not folder.exists():
        seal_rows(read_run(filled(tmp_path / "made", *map(row, range(4)))))
    run, path = read_run(folder), tmp_path / f"{name}.{form}"
    pack({**run_files([run]), "report.md": b"# one\n"}, [run.spec.digest()], path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_what_was_packed_is_added_elsewhere(tmp_path: Path, form: str) -> None:
    path = packed(tmp_path, form)
    ((made, new),) = add_runs(path, tmp_path / "out")
    there = read_run(tmp_path / "made" / folder_name(SPEC))
    assert new
    assert replace(made, path=there.path) == there
    assert made.sealed
    assert [each.name for each in (tmp_path / "out").iterdir()] == [folder_name(SPEC)]
    assert [new for _, new in add_runs(path, tmp_path / "out")] == [False]


@pytest.mark.parametrize("form", FORMS)
def test_equal_runs_are_equal_bytes(tmp_path: Path, form: str) -> None:
    first = packed(tmp_path, form).read_bytes()
    shutil.copytree(tmp_path / "made", tmp_path / "moved")
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "moved").rename(tmp_path / "made")
    assert packed(tmp_path, form, "again").read_bytes() == first


def rezipped(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_manifest(files: dict[str, bytes]) -> None:
    """The manifest of what is there now, as one who forges it would write it."""
    import hashlib

    listed = {k: {"sha256": hashlib.sha256(v).hexdigest(), "bytes": len(v)} for k, v in files.items() if k != MANIFEST}
    files[MANIFEST] = json.dumps({"format": 1, "runs": [], "files": listed}).encode()


def changed_vote(files: dict[str, bytes]) -> None:
    name = next(each for each in files if "rows" in each)
    files[name] = files[name].replace(b"[[1,90],[4,10]]", b"[[1,99],[4,1]]", 1)


def forged(files: dict[str, bytes]) -> None:
    changed_vote(files)
    with_manifest(files)


def another(files: dict[str, bytes]) -> None:
    files["runs/x/more.txt"] = b""
    with_manifest(files)


def unlisted(files: dict[str, bytes]) -> None:
    files["more.txt"] = b""


def outside(files: dict[str, bytes]) -> None:
    files["runs/../../evil/run.json"] = b"{}"
    with_manifest(files)


def absolute(files: dict[str, bytes]) -> None:
    files["/evil"] = b""
    with_manifest(files)


def renamed(files: dict[str, bytes]) -> None:
    for name in [each for each in files if each.startswith("runs/")]:
        files[f"runs/other/{name.rpartition('/')[2]}"] = files.pop(name)
    with_manifest(files)


def empty(files: dict[str, bytes]) -> None:
    files.clear()
    with_manifest(files)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_vote, "was changed: its sha256"),
        (forged, "was edited"),
        (another, "is no file of a run"),
        (unlisted, "in the archive or in its manifest alone"),
        (outside, "is no name of a file"),
        (absolute, "is no name of a file"),
        (renamed, "the run in 'other'"),
        (empty, "holds no run"),
        (dict.clear, "has no manifest.json"),
    ],
)
def test_an_archive_that_was_changed_is_refused_and_nothing_is_written(
    tmp_path: Path, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    path = rezipped(packed(tmp_path, "zip"), change)
    with pytest.raises(StoreError, match=words):
        add_runs(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("runs")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    with pytest.raises(StoreError, match="no plain file"):
        unpack(path)
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        zipped = zipfile.ZipInfo("runs")
        zipped.external_attr = 0o120777 << 16
        archive.writestr(zipped, "/etc")
    with pytest.raises(StoreError, match="no plain file"):
        unpack(path)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.tar"
    with tarfile.open(path, "w") as archive:
        for content in (b"a", b"b"):
            info = tarfile.TarInfo("report.md")
            info.size = 1
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(StoreError, match="stands twice"):
        unpack(path)


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_refused_or_moves_nothing(tmp_path: Path, form: str) -> None:
    path = packed(tmp_path, form)
    good, rng = path.read_bytes(), Random(5)
    sound = unpack(path)
    for _ in range(120):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))])
        with suppress(StoreError):  # refused; else it was a bit of what nobody reads, as of a time
            assert unpack(path) == sound


def test_rows_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    path = packed(tmp_path, "zip")
    folder = filled(tmp_path / "out", row(0, 89))
    before = {each: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(StoreError, match="there with other rows"):
        add_runs(path, tmp_path / "out")
    assert {each: each.read_bytes() for each in folder.iterdir()} == before
