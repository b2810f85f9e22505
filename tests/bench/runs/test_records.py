"""A row belongs to its run and stays as it was written; whatever else lies in a folder is refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from store_runs import HOW, SPEC, filled, row, rows_file

from bench.runs.records import row_line
from bench.runs.seals import seal_rows
from bench.runs.store import RowWriter, open_run, read_run
from bench.types import Counts
from bench.types.errors import StoreError

# ---- a row belongs to its run, and stays as it was written -----------------------------------------------------------


def written(folder: Path, change: dict[str, object], *, drop: tuple[str, ...] = ()) -> Path:
    """A run from before seals, with one row that is not as it should be."""
    run = open_run(folder, SPEC, HOW, {}, num_classes=5)
    record = {key: value for key, value in (row(0).as_json() | change).items() if key not in drop}
    (run.path / "rows-0.jsonl").write_text(json.dumps(record) + "\n")
    path = run.path / "run.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "seal"}))
    return run.path


def refused(folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def noticed(folder: Path) -> bool:
    """Whether a change is refused, or said of the run."""
    try:
        return bool(read_run(folder).edited)
    except StoreError:
        return True


def test_no_flipped_bit_of_a_row_passes(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0), row(1), row(2))
    path = rows_file(folder)
    good = path.read_bytes()
    rng = random.Random(12)
    for at in rng.sample(range(8 * (len(good) - 1)), 250):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        path.write_bytes(bad)
        assert noticed(folder), bytes(bad)
    path.write_bytes(good[:-1] + b"\x0b")
    assert read_run(folder).rows == (row(0), row(1))


def test_no_flipped_bit_of_the_record_passes(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0))
    path = folder / "run.json"
    good = path.read_bytes()
    rng = random.Random(13)
    for at in rng.sample(range(8 * len(good)), 250):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        path.write_bytes(bad)
        assert noticed(folder), bytes(bad)


def test_a_row_of_another_run_is_told_and_not_drawn_on(tmp_path: Path) -> None:
    here, other = filled(tmp_path, row(0)), open_run(tmp_path, replace(SPEC, seed=1), HOW, {}).path
    (other / "rows-1.jsonl").write_bytes(rows_file(here).read_bytes())
    assert read_run(other).edited == "no seal of this run fits the row of image 0"
    with pytest.raises(StoreError, match="was edited"):
        open_run(tmp_path, replace(SPEC, seed=1), HOW, {})


def test_rows_from_before_seals_are_read_and_counted(tmp_path: Path) -> None:
    folder = written(tmp_path, {})
    assert read_run(folder).rows == (row(0),)
    assert read_run(folder).unsealed == 1
    with RowWriter(folder) as writer:
        writer.append(row(1))
    assert read_run(folder).unsealed == 1


def test_a_changed_vote_is_read_and_told(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0), row(1))
    path = rows_file(folder)
    path.write_text(path.read_text().replace("[[1,90],[4,10]]", "[[1,99],[4,1]]", 1))
    found = read_run(folder)
    assert found.rows == (row(0, 99), row(1))
    assert found.edited == "no seal of this run fits the row of image 0"
    with RowWriter(folder) as writer:  # the row as it was drawn, beside the other, counts
        writer.append(row(0))
    found = read_run(folder)
    assert (found.rows, found.conflicts, bool(found.edited)) == ((row(0), row(1)), 1, True)


def test_a_complete_run_is_sealed_and_any_edit_of_it_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path, *map(row, range(3)))
    assert not seal_rows(read_run(folder)).sealed  # one image is missing
    with RowWriter(folder) as writer:
        writer.append(row(3))
    made = seal_rows(read_run(folder))
    found = read_run(folder)
    assert made == found
    assert (found.sealed, found.edited) == (True, "")
    assert seal_rows(found) is found
    record, rows = folder / "run.json", sorted(folder.glob("rows*"), key=lambda path: -path.stat().st_size)
    kept = record.read_text()

    def said(path: Path, content: str) -> str:
        before = path.read_text()
        path.write_text(content)
        words = read_run(folder).edited
        path.write_text(before)
        return words

    assert "the seal of run.json does not fit" in said(record, kept.replace('"python": "3"', '"python": "4"'))
    told = json.loads(kept)
    del told["seal"]
    assert "the seal of run.json does not fit" in said(record, json.dumps(told))
    lines = rows[0].read_text().splitlines()
    assert "3 images have a row, it was sealed with 4" in said(rows[0], "".join(f"{each}\n" for each in lines[:-1]))
    resealed = row_line(row(1, 80), SPEC.digest()).decode()
    forged = "".join(f"{each}\n" for each in (lines[0], resealed.strip(), lines[2]))
    assert "its rows are not those that it was sealed with" in said(rows[0], forged)
    # In another order, and in one file, they are the same rows.
    (folder / "rows-0.jsonl").write_text("".join(path.read_text() for path in reversed(rows)))
    for path in rows:
        path.unlink()
    assert not read_run(folder).edited


def test_a_run_from_before_seals_is_not_sealed_afterwards(tmp_path: Path) -> None:
    folder = written(tmp_path, {})
    with RowWriter(folder) as writer:
        for index in (1, 2, 3):
            writer.append(row(index))
    before = (folder / "run.json").read_bytes()
    found = seal_rows(read_run(folder))
    assert (found.done, found.sealed, found.edited) == (True, False, "")
    assert (folder / "run.json").read_bytes() == before


def test_a_run_that_has_a_seal_has_them_on_all_its_rows(tmp_path: Path) -> None:
    folder = filled(tmp_path, row(0), row(1))
    path = rows_file(folder)
    first, second = path.read_text().splitlines()
    bare = json.dumps({**row(1).as_json(), "label": 1})
    for lines in ([first, bare], [first, second, bare], [bare]):
        path.write_text("".join(f"{line}\n" for line in lines))
        assert "the row of image 1" in read_run(folder).edited


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
