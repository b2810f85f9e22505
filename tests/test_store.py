"""Run folders survive what happens to them, and refuse what they cannot hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.store import RowWriter, find_runs, open_run, read_run
from bench.types import Counts, Execution, Row, RunSpec

SPEC = RunSpec(
    method="gaussian", params={"arch": "net", "flag": True}, weights={"network": "ab" * 32}, dataset="digits",
    split="test", subset="skip:5", subset_fingerprint="cd" * 32, images=4, shape=(1, 8, 8), preprocessing="none",
    sigma=0.5, n0=10, n=100, alpha=0.001, certifier="cohen", seed=0, precision="fp32", noise="v",
)  # fmt: skip
HOW = Execution(("cpu",), None)


def row(index: int, votes: int = 90) -> Row:
    return Row(index, f"f{index}", 1, Counts.of([(1, 10)]), Counts.of([(1, votes), (4, 100 - votes)]), 0.5)


def filled(tmp_path: Path, *rows: Row) -> Path:
    run = open_run(tmp_path, SPEC, HOW, {"python": "3"})
    with RowWriter(run.path) as writer:
        for r in rows:
            writer.append(r)
    return run.path


def rows_file(folder: Path) -> Path:
    return next(folder.glob("rows*.jsonl"))


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
