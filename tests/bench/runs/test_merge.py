"""Parts of a run, certified apart, are the run that was certified at once; what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from store_runs import HOW, SPEC, row

from bench.runs.merge import Whole, merge
from bench.runs.store import RowWriter, Run, open_run, read_run
from bench.types import Row, RunSpec
from bench.types.errors import StoreError

WHOLE = Whole("first:4", "cd" * 32, dict.fromkeys(range(4), 1))


def part(out: Path, *rows: Row, spec: RunSpec = SPEC, device: str = "A") -> Run:
    made = open_run(out, spec, HOW, {"python": "3", "devices": {"cpu": device}})
    with RowWriter(made.path) as writer:
        for each in rows:
            writer.append(each)
    return read_run(made.path)


def subset(words: str) -> RunSpec:
    return replace(SPEC, subset=words, subset_fingerprint=words.encode().hex() * 4, images=2)


def test_halves_of_one_run_are_the_run(tmp_path: Path) -> None:
    made = merge(
        [part(tmp_path / "a", row(0), row(2)), part(tmp_path / "b", row(2), row(3), row(1), device="B")],
        tmp_path / "out",
    )
    assert (made.spec, made.rows) == (SPEC, tuple(map(row, range(4))))
    assert (made.sealed, made.edited, made.unsealed) == (True, "", 0)
    assert sorted(made.environment["devices"].values()) == ["A", "B"]
    assert (made.made_from or {})["how"] == "merge"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [made.path.name]


def test_two_subsets_are_the_run_on_both(tmp_path: Path) -> None:
    first = part(tmp_path / "a", row(0), row(1), spec=subset("first:2"))
    second = part(tmp_path / "b", row(2), row(3), spec=subset("2:4"))
    made = merge([first, second], tmp_path / "out", WHOLE)
    assert made.spec.digest() == SPEC.digest()
    assert made.done


def test_a_part_that_is_missing_leaves_the_run_to_be_resumed(tmp_path: Path) -> None:
    made = merge([part(tmp_path / "a", row(0)), part(tmp_path / "b", row(1))], tmp_path / "out")
    assert (len(made.rows), made.done, made.sealed) == (2, False, False)
    assert open_run(tmp_path / "out", SPEC, HOW, {}).rows == made.rows


def other_votes(out: Path) -> tuple[list[Run], Whole | None]:
    return [part(out / "a", row(0), row(3)), part(out / "b", row(3, 91))], None


def other_image(out: Path) -> tuple[list[Run], Whole | None]:
    return [part(out / "a", row(3)), part(out / "b", replace(row(3), fingerprint="g"))], None


def other_spec(out: Path) -> tuple[list[Run], Whole | None]:
    return [part(out / "a", row(3)), part(out / "b", row(3), spec=replace(SPEC, seed=1))], None


def outside(out: Path) -> tuple[list[Run], Whole | None]:
    runs = [part(out / "a", row(0), spec=subset("first:2")), part(out / "b", row(3), spec=subset("2:4"))]
    return runs, replace(WHOLE, words="first:3", labels=dict.fromkeys(range(3), 1))


def edited(out: Path) -> tuple[list[Run], Whole | None]:
    return [part(out / "a", row(0)), replace(part(out / "b", row(1)), edited="a seal does not fit")], None


def alone(out: Path) -> tuple[list[Run], Whole | None]:
    return [part(out / "a", row(0))], None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (other_votes, "other votes on 1 of the images that both hold: 3"),
        (other_image, "other images under one index: 3"),
        (other_spec, "one has seed=0, another seed=1"),
        (outside, "images 3 are not in the subset 'first:3'"),
        (edited, "was edited"),
        (alone, "1 run given"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path: Path, make: Callable[[Path], tuple[list[Run], Whole | None]], words: str
) -> None:
    runs, whole = make(tmp_path)
    with pytest.raises(StoreError, match=words):
        merge(runs, tmp_path / "out", whole)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    runs = [part(tmp_path / "a", row(0)), part(tmp_path / "b", row(1))]
    with pytest.raises(StoreError, match="there already"):
        merge(runs, tmp_path / "a")
    assert read_run(runs[0].path).rows == (row(0),)
