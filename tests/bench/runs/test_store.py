"""Run folders survive what happens to them, and refuse what they cannot hold."""

from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from store_runs import HOW, SPEC, filled, row, rows_file

from bench.runs.store import RowWriter, find_runs, open_run, read_run
from bench.types import Counts, Execution
from bench.types.errors import StoreError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = read_run(filled(tmp_path, row(2), row(0)))
    assert run.spec == SPEC
    assert run.spec.digest() == SPEC.digest()
    assert run.rows == (row(0), row(2))
    assert run.environment == {"python": "3"}
    assert not run.done


def test_the_digest_moves_with_every_field() -> None:
    digests = {SPEC.digest()}
    for change in (
        {"sigma": 0.25}, {"n": 101}, {"alpha": 0.01}, {"seed": 1}, {"precision": "bf16"}, {"shape": (1, 9, 9)},
        {"noise": "w"}, {"params": {"arch": "net", "flag": False}}, {"weights": {"network": "random"}},
        {"subset_fingerprint": "e" * 64},
    ):  # fmt: skip
        digests.add(replace(SPEC, **change).digest())
    assert len(digests) == 11


def test_the_digest_does_not_depend_on_the_order_of_settings() -> None:
    assert replace(SPEC, params={"flag": True, "arch": "net"}).digest() == SPEC.digest()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_not_a_row(tmp_path: Path, cut: int) -> None:
    folder = filled(tmp_path, row(0), row(1))
    path = rows_file(folder)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_run(folder).rows == (row(0),)
    # and a later process writes past it into its own file
    with RowWriter(folder) as writer:
        writer.append(row(1))
    assert read_run(folder).rows == (row(0), row(1))


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0), row(1))
    lines = rows_file(folder).read_text().splitlines()
    rows_file(folder).write_text("\n".join([lines[0][:20], lines[1], ""]))
    with pytest.raises(StoreError, match="line 1 is not a row"):
        read_run(folder)


def test_a_row_is_on_disk_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    run = open_run(tmp_path, SPEC, HOW, {})
    writer = RowWriter(run.path)
    writer.append(row(3))
    assert read_run(run.path).rows == (row(3),)
    writer.close()


def test_writers_do_not_share_a_file(tmp_path: Path) -> None:
    run = open_run(tmp_path, SPEC, HOW, {})
    with RowWriter(run.path) as first, RowWriter(run.path) as second:
        for i in range(2):
            first.append(row(i))
            second.append(row(i + 1))
    assert len(list(run.path.glob("rows*.jsonl"))) == 2
    found = read_run(run.path)
    assert [r.index for r in found.rows] == [0, 1, 2]
    assert found.conflicts == 0


def test_rows_that_disagree_are_counted_not_hidden(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0))
    with RowWriter(folder) as writer:
        writer.append(row(0, votes=89))
    assert read_run(folder).conflicts == 1


def test_a_row_of_another_n_is_refused(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    with RowWriter(folder) as writer:
        writer.append(replace(row(0), estimation=Counts.of([(1, 50)])))
    with pytest.raises(StoreError, match="n=50; its spec has n0=10, n=100"):
        read_run(folder)


def test_another_spec_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    other = replace(SPEC, n=200)
    folder = filled(tmp_path, row(0))
    taken = tmp_path / f"digits-gaussian-s0.5-{other.digest()[:10]}"
    folder.rename(taken)
    with pytest.raises(StoreError, match=r"was made with n=100; this spec has n=200. Give --out"):
        open_run(tmp_path, other, HOW, {})


def test_an_edited_spec_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path) / "run.json"
    record = json.loads(path.read_text())
    record["spec"]["n"] = 7
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match="was edited"):
        read_run(path.parent)


def test_opening_again_keeps_the_rows_and_the_first_record(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0))
    before = (folder / "run.json").read_text()
    assert open_run(tmp_path, SPEC, Execution(("cuda:0",), 7), {"python": "4"}).rows == (row(0),)
    assert (folder / "run.json").read_text() == before
    assert not list(folder.glob(".run.json*"))


def test_runs_are_found_in_a_folder_of_runs_and_by_themselves(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0))
    assert [r.path for r in find_runs([tmp_path])] == [folder]
    assert [r.path for r in find_runs([folder, tmp_path])] == [folder]
    with pytest.raises(StoreError, match="no folder"):
        find_runs([tmp_path / "nowhere"])


@pytest.mark.parametrize("votes", [((1, 3), (0, 2)), ((0, 0), (1, 5)), ((0, 2), (0, 3)), ((0, 4),)])
def test_counts_that_do_not_add_up_are_refused(votes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="votes"):
        Counts(votes, 5)


def test_counts_add_up_over_parts() -> None:
    assert Counts.of([(0, 3), (5, 2)]) + Counts.of([(5, 1), (2, 4)]) == Counts.of([(0, 3), (2, 4), (5, 3)])


def test_a_bad_run_is_left_out_of_a_folder_and_named_itself_refused(tmp_path: Path) -> None:
    good = filled(tmp_path, row(0))
    bad = open_run(tmp_path, replace(SPEC, seed=2), HOW, {}).path
    (bad / "rows-1.jsonl").write_text("{}\n")
    told: list[StoreError] = []
    assert [run.path for run in find_runs([tmp_path], told.append)] == [good]
    assert len(told) == 1
    assert str(bad) in str(told[0])
    for paths in ([bad], [tmp_path, bad], [bad, tmp_path]):
        with pytest.raises(StoreError, match="line 1"):
            find_runs(paths, told.append)
    with pytest.raises(StoreError, match="line 1"):
        find_runs([tmp_path])  # nobody to be told
    (good / "run.json").write_text("{}")
    with pytest.raises(StoreError):
        find_runs([tmp_path], told.append)  # none left


def test_no_run_is_begun_whose_record_could_not_be_read(tmp_path: Path) -> None:
    for spec, how in (
        (replace(SPEC, sigma=1e200), HOW),
        (replace(SPEC, dataset="\ud800"), HOW),
        (SPEC, Execution((1,))),
    ):  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="cannot be stored"):
            open_run(tmp_path / "out", spec, how, {})
    assert not (tmp_path / "out").exists()


# ---- what happens to a folder while it is written to -----------------------------------------------------------------


def test_a_folder_removed_under_way_is_noticed_at_the_next_row(tmp_path: Path) -> None:
    for away in (shutil.rmtree, lambda folder: folder.rename(tmp_path / "elsewhere")):
        folder = filled(tmp_path)
        writer = RowWriter(folder)
        writer.append(row(0))
        away(folder)
        with pytest.raises(StoreError, match="was removed or renamed while it was drawn"):
            writer.append(row(1))
        writer.close()
        with pytest.raises(StoreError, match="was removed or renamed"):
            RowWriter(folder, SPEC.digest()).append(row(1))


def test_a_disk_that_is_full_is_said_with_the_path_and_keeps_the_rows(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RowWriter(folder) as writer:
        writer.append(row(0))
        size = rows_file(folder).stat().st_size
        try:
            # A file that may not grow is as near to a full disk as a test comes; Python ignores the signal.
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
            with pytest.raises(StoreError, match="File too large; the rows so far are kept") as caught:
                writer.append(row(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(rows_file(folder)) in str(caught.value)
    assert read_run(folder).rows == (row(0),)


def test_rows_and_record_are_handed_to_the_disk_and_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    folder = filled(tmp_path)
    assert len(synced) == 3  # the record, its folder and the folder above
    del synced[:]
    with RowWriter(folder) as writer:
        for index in (0, 1, 2, 3) * 10:
            writer.append(row(index))
        assert len(synced) == 2  # the first row and its name; the others wait for the timer
        monkeypatch.setattr("bench.runs.store.SYNC_SECONDS", 0.0)
        writer.append(row(0))
        assert len(synced) == 3
    assert len(synced) == 4
