"""Run folders survive what happens to them, and refuse what they cannot hold."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.store import RowWriter, find_runs, open_run, read_run
from bench.types import Counts, Execution, Row, RunSpec

SPEC = RunSpec(
    method="gaussian", params={"arch": "net", "flag": True}, weights={"network": "ab" * 32}, dataset="digits",
    split="test", subset="first:4", subset_fingerprint="cd" * 32, images=4, shape=(1, 8, 8), preprocessing="none",
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


# ---- a row belongs to its run, and stays as it was written -----------------------------------------------------------


def written(folder: Path, change: dict[str, object], *, drop: tuple[str, ...] = ()) -> Path:
    """A run with one row that has no seal and is not as it should be."""
    run = open_run(folder, SPEC, HOW, {}, num_classes=5)
    record = {key: value for key, value in (row(0).as_json() | change).items() if key not in drop}
    (run.path / "rows-0.jsonl").write_text(json.dumps(record) + "\n")
    return run.path


def refused(folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_flipped_bit_of_a_row_passes(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0), row(1), row(2))
    path = rows_file(folder)
    good = path.read_bytes()
    last = good.rstrip(b"\n").rfind(b"\n") + 1  # a bit of the last newline leaves a torn line, which is no row
    rng = random.Random(12)
    for at in rng.sample(range(8 * (len(good) - 1)), 250):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        path.write_bytes(bad)
        with pytest.raises(StoreError):
            read_run(folder)
    path.write_bytes(good[:-1] + b"\x0b")
    assert read_run(folder).rows == (row(0), row(1))
    assert good[last:]


def test_no_flipped_bit_of_the_record_passes(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0))
    path = folder / "run.json"
    good = path.read_bytes()
    rng = random.Random(13)
    for at in rng.sample(range(8 * len(good)), 250):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        path.write_bytes(bad)
        with pytest.raises(StoreError):
            read_run(folder)


def test_a_row_of_another_run_is_refused(tmp_path: Path) -> None:
    here, other = filled(tmp_path, row(0)), open_run(tmp_path, replace(SPEC, seed=1), HOW, {}).path
    (other / "rows-1.jsonl").write_bytes(rows_file(here).read_bytes())
    assert "its seal does not fit: it was changed, or is of another run" in refused(other)


def test_rows_from_before_seals_are_read_and_counted(tmp_path: Path) -> None:
    folder = written(tmp_path, {})
    assert read_run(folder).rows == (row(0),)
    assert read_run(folder).unsealed == 1
    with RowWriter(folder) as writer:
        writer.append(row(1))
    assert read_run(folder).unsealed == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"index": 4}, "image 4 is not in the subset"),
        ({"label": 5}, "class 5, the dataset has 5"),
        ({"label": -1}, "label"),
        ({"selection": [[7, 10]]}, "class 7, the dataset has 5"),
        ({"estimation": [[1, 90.0], [4, 10]]}, "estimation"),
        ({"estimation": [[1, 90.5], [4, 9.5]]}, "estimation"),
        ({"estimation": [[1, 101], [4, -1]]}, "estimation"),
        ({"estimation": [[1, True], [4, 99]]}, "estimation"),
        ({"estimation": [[1, 50], [1, 50]]}, "votes"),
        ({"estimation": [[1, 90], [4, 9]]}, "n=99; its spec has n0=10, n=100"),
        ({"estimation": [[1, 10**400]]}, "estimation"),
        ({"estimation": {"1": 100}}, "estimation"),
        ({"index": "0"}, "index"),
        ({"index": 0.0}, "index"),
        ({"seconds": float("nan")}, "malformed"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": "1"}, "seconds"),
        ({"fingerprint": None}, "fingerprint"),
        ({"fingerprint": "\ud800"}, "not a row"),
        ({"looks": [[[1, 90], [4, 10]]]}, "its spec has"),
        ({"stopped": "tired"}, "stopped"),
        ({"votes": 3}, "unknown field"),
    ],
)
def test_a_row_that_cannot_be_of_the_run_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    assert words in refused(written(tmp_path, change))


@pytest.mark.parametrize("key", ["index", "fingerprint", "label", "selection", "estimation", "seconds"])
def test_a_row_that_lacks_something_is_refused(tmp_path: Path, key: str) -> None:
    assert key in refused(written(tmp_path, {}, drop=(key,)))


@pytest.mark.parametrize(
    "line", [b"", b"null", b"[]", b'"x"', b"\xff\xfe", b"{" * 50_000, b"[" * 50_000, b"1" * 50_000]
)
def test_a_line_that_is_no_row_is_refused(tmp_path: Path, line: bytes) -> None:
    folder = filled(tmp_path)
    (folder / "rows-0.jsonl").write_bytes(line + b"\n")
    assert "line 1 is not a row" in refused(folder)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, {})
    path = folder / "rows-0.jsonl"
    path.write_text(path.read_text().replace('{"index": 0', '{"index": 1, "index": 0'))
    assert "a key stands twice" in refused(folder)


def test_more_images_than_the_run_has_are_refused(tmp_path: Path) -> None:
    spec = replace(SPEC, subset="file:0123456789ab", images=2)  # words that do not tell which
    folder = open_run(tmp_path, spec, HOW, {}).path
    with RowWriter(folder) as writer:
        for index in (7, 3, 5):
            writer.append(row(index))
    assert "rows of 3 images, its run has 2" in refused(folder)


def test_a_row_that_would_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    with RowWriter(folder) as writer:
        for bad in (
            replace(row(0), seconds=float("nan")),
            replace(row(0), label=1.0),  # type: ignore[arg-type]
            replace(row(0), selection=Counts(((1, 10.0),), 10)),  # type: ignore[arg-type]
            replace(row(0), index=-1),
        ):
            with pytest.raises(StoreError, match="cannot be stored"):
                writer.append(bad)
    assert not list(folder.glob("rows*"))


# ---- any run.json is read right, or refused in one line --------------------------------------------------------------


def mutants(value: object, rng: random.Random) -> object:
    """The value with one part of it changed, removed, or put where another belongs."""
    odd = [None, True, -1, 0, 10**30, 1.5, "", "x" * 300, "\ud800", [], {}, [[]], {"a": [1]}, [None] * 3]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        changed = {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.8:
            changed[key] = mutants(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.5:
        place = rng.randrange(len(value))
        return [*value[:place], mutants(value[place], rng), *value[place + 1 :]]
    return rng.choice(odd)


def test_any_record_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    spec = replace(SPEC, n=200, looks=(100, 200), radii=(0.0, 0.5), alphas=(0.0005, 0.0005), n0=0, mode="table",
                   certifier="sequential", beta=0.001)  # fmt: skip
    rng, said = random.Random(14), []
    for k in range(400):
        (tmp_path / str(k)).mkdir()
        record = {"format": 1, "digest": "", "spec": (SPEC if k % 2 else spec).as_json(), "created": "now"}
        record |= {"execution": {"devices": ["cpu"], "batch": None}, "num_classes": 10}
        record |= {"environment": {"python": "3", "packages": {"torch": "2"}, "devices": {"cpu": "x"}, "workers": []}}
        changed = mutants(record, rng)
        if isinstance(changed, dict) and rng.random() < 0.7:
            canonical = json.dumps(changed.get("spec"), sort_keys=True, separators=(",", ":"))
            changed["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
        (tmp_path / str(k) / "run.json").write_text(json.dumps(changed))
        try:
            run = read_run(tmp_path / str(k))
        except StoreError as error:
            said.append(str(error))
        else:
            assert run.spec.digest() == changed["digest"]
    assert len(said) > 100
    assert all(line.isprintable() for line in said)  # and so of one line


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "NaN", '{"format": 1', "\x00", "[" * 100_000, '{"a":' * 50_000]
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    refused(tmp_path)


def test_a_record_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe{}")
    refused(tmp_path)
    (tmp_path / "run.json").unlink()
    os.mkfifo(tmp_path / "run.json")
    assert "no plain file" in refused(tmp_path)


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
        monkeypatch.setattr("bench.store.SYNC_SECONDS", 0.0)
        writer.append(row(0))
        assert len(synced) == 3
    assert len(synced) == 4
