"""`verify` finds what was changed in a run, and says what it could not check."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import SUPPORT
from report_runs import row
from report_runs import run as by_hand

from bench.report.verification import verification, words
from bench.runs.records import row_line, rows_sha256
from bench.runs.seals import amend
from bench.runs.store import read_run
from bench.types import Counts, Row

TOY = f"{SUPPORT / 'toy_method.py'}:TOY"
SMALL = ("--dataset", "digits", "--sigma", "0.5", "--n0", "20", "--n", "300", "--subset", "first:4", "--batch", "64")


@pytest.fixture
def made(cli: Any) -> Callable[..., Path]:
    def run(*words: str) -> Path:
        assert cli("run", *SMALL, "--out", "runs", *words).code == 0
        (folder,) = Path("runs").iterdir()
        return folder

    return run


def rewritten(folder: Path, change: Callable[[Row], Row]) -> None:
    """The first row changed and sealed anew, with the run: what a forger would do."""
    (path,) = folder.glob("rows*.jsonl")
    run = read_run(folder)
    rows = [change(run.rows[0]), *run.rows[1:]]
    path.write_bytes(b"".join(row_line(each, run.spec.digest()) for each in rows))
    amend(run, {"rows": {"images": len(rows), "sha256": rows_sha256(rows)}})


def moved(first: Row) -> Row:
    (one, votes), *others = first.estimation.ranked()
    return Row(
        index=first.index,
        fingerprint=first.fingerprint,
        label=first.label,
        selection=first.selection,
        estimation=Counts.of([(one, votes - 5), *others]) + Counts.of([((one + 1) % 10, 5)]),
        seconds=first.seconds,
    )


def test_a_run_as_it_was_written_comes_out_equal(cli: Any, made: Callable[..., Path]) -> None:
    folder = made("--methods", "gaussian")
    found = cli("verify", str(folder))
    assert found.code == 0
    assert "sealed" in found.out
    assert "4 of 4 rows: every vote equal" in found.out
    assert len(cli("verify", str(folder), "--rows", "2", "--seed", "3", "--json").json["weights"]) == 1


def test_a_forged_run_has_sound_seals_and_votes_that_nobody_draws(cli: Any, made: Callable[..., Path]) -> None:
    folder = made("--methods", "gaussian")
    rewritten(folder, moved)
    found = cli("verify", str(folder))
    assert found.code == 3
    assert "! edited" not in found.out
    assert "3 of 4 rows: every vote equal; 5 of 1,280 votes differ" in found.out


def test_an_edited_run_is_told_even_where_the_drawn_rows_are_equal(cli: Any, made: Callable[..., Path]) -> None:
    folder = made("--methods", "gaussian")
    record = folder / "run.json"
    record.write_text(record.read_text().replace('"python": "3', '"python": "4'))
    found = cli("verify", str(folder), "--rows", "1")
    assert found.code == 3
    assert "! edited: the seal of run.json does not fit" in found.out
    assert "1 of 1 rows: every vote equal" in found.out


@pytest.mark.parametrize(
    "words", [("--certifier", "sequential", "--radii", "0,0.25"), ("--early-stop", "--radii", "0.25")]
)
def test_runs_that_may_stop_are_verified_too(cli: Any, made: Callable[..., Path], words: tuple[str, ...]) -> None:
    found = cli("verify", str(made("--methods", "gaussian", *words)), "--json")
    assert (found.code, found.json["equal"], found.json["rows"]) == (0, 4, 4)


def test_random_weights_are_verified_too(cli: Any, made: Callable[..., Path]) -> None:
    folder = made("--methods", "rrcm", "--random-weights")
    assert "4 of 4 rows: every vote equal" in cli("verify", str(folder)).out


def test_the_file_of_ones_own_method_is_asked_for(cli: Any, made: Callable[..., Path]) -> None:
    folder = made("--methods", TOY)
    found = cli("verify", str(folder))
    assert found.code == 1
    assert "sealed" in found.out
    assert "only the seals were checked" in found.err
    assert "--method FILE.py:NAME" in found.err
    assert cli("verify", str(folder), "--method", TOY).code == 0


def test_weights_that_are_not_here_leave_the_seals_to_be_checked(cli: Any, made: Callable[..., Path]) -> None:
    folder = made("--methods", "gaussian")
    record = json.loads((folder / "run.json").read_text())
    spec = read_run(folder).spec
    other = Path("other")
    other.mkdir()
    gone = replace(spec, weights={"network": "ab" * 32})
    record |= {"spec": gone.as_json(), "digest": gone.digest()}
    del record["seal"], record["rows"]
    (other / "run.json").write_text(json.dumps(record))
    (other / "rows-0.jsonl").write_bytes(b"".join(row_line(each, gone.digest()) for each in read_run(folder).rows))
    found = cli("verify", str(other))
    assert found.code == 1
    assert "the run's have sha256 ababababab" in found.err
    assert found.err.count("\n") == 1
    given = cli("verify", str(other), "--weights", "network=nowhere.pt", "--json")
    assert given.code == 1
    assert "not_drawn" in given.json


def test_votes_and_certificates_that_differ_are_counted() -> None:
    spec = by_hand([990, 700]).spec
    same, other, wrong = row(0, 990), row(1, 700), row(2, 990)
    pairs = [(same, same), (other, row(1, 690)), (wrong, row(2, 100))]
    found = verification(spec, pairs)
    assert (found.rows, found.equal, found.moved, found.votes) == (3, 1, 10 + 890 + 100, 3300)
    assert found.other_class == 1
    assert not found.passed
    assert "1 of 3 rows: every vote equal; 1,000 of 3,300 votes differ" in words(found)
    elsewhere = verification(spec, [(same, row(5, 990))])
    assert (elsewhere.other_images, elsewhere.passed) == (1, False)
    assert "1 rows are of other images" in words(elsewhere)
