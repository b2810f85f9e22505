"""Files of class folders: listed in order, kept while nothing changed, and small to hand to a worker."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from bench.data import file_lists
from bench.data.file_lists import FileList, list_classes

FOLDERS = ("b", "a", "ü")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three folders of files, lists of which are kept however small and however new."""
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_lists, "LEAST", 1)
    monkeypatch.setattr(file_lists, "SETTLED", -1e9)
    for k, name in enumerate(FOLDERS):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3 + k):
            (tmp_path / "set" / name / f"{number}ö.jpg").touch()
    (tmp_path / "set" / "a" / "notes.txt").touch()
    return tmp_path / "set"


def names(found: FileList) -> list[tuple[int, str]]:
    return [(stored.label, str(stored.path)) for stored in found]


def expected(top: Path) -> list[tuple[int, str]]:
    return [(label, str(path)) for label, f in enumerate(FOLDERS) for path in sorted((top / f).glob("*.jpg"))]


def test_files_are_those_of_the_folders_in_order(top: Path) -> None:
    found = list_classes(top, FOLDERS)
    assert names(found) == expected(top)
    assert found.others == (1, str(top / "a" / "notes.txt"))
    assert (len(found), found[-1], found[3:5]) == (12, found[11], (found[3], found[4]))
    with pytest.raises(IndexError):
        found[12]


def test_an_unchanged_set_is_not_listed_again(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list_classes(top, FOLDERS)
    monkeypatch.setattr(file_lists, "class_files", None)
    again = list_classes(top, FOLDERS)
    assert again.kept is not None
    assert names(again) == names(first)
    assert again.others == first.others


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "replaced"])
def test_a_changed_folder_is_listed_again(top: Path, change: str) -> None:
    list_classes(top, FOLDERS)
    if change == "added":
        (top / "a" / "new.jpg").touch()
    elif change == "removed":
        (top / "a" / "0ö.jpg").unlink()
    elif change == "renamed":
        (top / "a" / "0ö.jpg").rename(top / "a" / "z.jpg")
    else:
        (top / "a").rename(top.parent / "old")
        (top / "a").mkdir()
        (top / "a" / "x.jpg").touch()
    assert names(list_classes(top, FOLDERS)) == expected(top)


def test_a_set_that_changed_just_now_is_not_kept(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lists, "SETTLED", 1e9)
    assert list_classes(top, FOLDERS).kept is None


def test_other_folders_or_suffixes_are_another_list(top: Path) -> None:
    list_classes(top, FOLDERS)
    assert [stored.path.parent.name for stored in list_classes(top, ("a",))] == ["a"] * 4
    assert len(list_classes(top, FOLDERS, (".png",))) == 0


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"states": 3}', None])
def test_a_damaged_list_is_made_anew(top: Path, damage: bytes | None) -> None:
    place = list_classes(top, FOLDERS).kept
    assert place is not None
    if damage is None:
        (place / "names.npy").write_bytes((place / "names.npy").read_bytes()[:-3])
    else:
        (place / "list.json").write_bytes(damage)
    assert names(list_classes(top, FOLDERS)) == expected(top)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top.parent / "file").touch()
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(top.parent / "file"))
    found = list_classes(top, FOLDERS)
    assert (found.kept, names(found)) == (None, expected(top))


def test_a_kept_list_is_sent_to_a_worker_by_its_place(top: Path) -> None:
    for number in range(100):
        (top / "a" / f"{number:0200d}.jpg").touch()
    found = list_classes(top, FOLDERS)
    sent = pickle.dumps(found)
    assert len(sent) < 2000
    assert names(pickle.loads(sent)) == names(found)
