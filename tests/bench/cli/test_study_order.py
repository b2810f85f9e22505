"""What of a study is done and in which order: named parts, the longest chain first, rows by name, rows alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from places import PROJECT

from bench.cli import study_stages as stages
from bench.cli.study_file import Study, read_study
from bench.cli.study_order import longest_first, parts, rows_named
from bench.cli.study_stages import kept_of, seconds_left
from bench.cli.study_status import record
from bench.types.errors import UsageError

WEIGHTS = PROJECT / "methods" / "pretrained" / "digits"
HEAD = """dataset = "digits"
[tier.small]
part_seconds = 100
jobs = [2, 4]
longest_first = true
run = { n = 20, n0 = 10, subset = "first:3" }
"""
# Chains: long 40 + 50 = 90; short 60; quick 10 + 50 + 30 = 90, which stands later.
STAGES = """
[[train]]
name = "short"
method = "gaussian"
seconds = 60
[[train]]
name = "long"
method = "gaussian"
seconds = 40
tier.small.part = 1
[[train]]
name = "tuned"
method = "gaussian"
init = "stage:long"
seconds = 50
tier.small.part = 2
[[train]]
name = "quick"
method = "gaussian"
seconds = 10
tier.small.part = 1
[[train]]
name = "middle"
method = "gaussian"
init = "stage:quick"
seconds = 50
[[train]]
name = "last"
method = "gaussian"
init = "stage:middle"
seconds = 30
"""
RUNS = """
[[run]]
name = "plain"
methods = "gaussian"
sigma = [0.25, 0.5]
weights = { network = "stage:short" }
seconds = 20
[[run]]
name = "tuned"
methods = "gaussian"
sigma = 0.25
weights = { network = "stage:tuned" }
seconds = 20
"""


def read(folder: Path, text: str = HEAD + STAGES + RUNS) -> Study:
    (folder / "study.toml").write_text(text)
    return read_study(folder / "study.toml", "small", None)


def test_parts_that_are_named_stand_first_and_the_rest_is_cut_by_seconds(tmp_path: Path) -> None:
    named = [[item.name for item in part] for part in parts(read(tmp_path))]
    # (60 + 50 + 30) / 4 of part 3, and 10 + 10 + 20 of the runs, which are one after another: 75.
    assert named == [
        ["long", "quick"],
        ["tuned"],
        ["short", "middle", "last", "run plain-s0.25", "run plain-s0.50", "run tuned-s0.25"],
    ]
    few = [part[0].name for part in parts(read(tmp_path, (HEAD + STAGES).replace("[2, 4]", "1")))]
    assert few == ["long", "tuned", "short", "middle"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("small.part = 2", "small.part = 3", "none left out, up to 3"),
        ("small.part = 2", "small.part = 0", "none left out, up to 1"),
        ("seconds = 30", "seconds = 30\ntier.small.part = 2", "last is in part 2, its parent middle in part 3"),
        ("jobs = [2, 4]\n", "jobs = 0\n", "at least 1 at once"),
        ("jobs = [2, 4]\n", "jobs = []\n", "at least 1 at once"),
        ("jobs = [2, 4]\n", 'jobs = "2"\n', "a whole number or a list of whole numbers"),
        # 50 of tuned and 60 of short, where both stand in part 2
        ("part_seconds = 100\njobs = [2, 4]", "part_seconds = 60\njobs = 1", "part 2 declares 110 seconds"),
    ],
)
def test_parts_that_cannot_be_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = STAGES.replace("seconds = 60\n", "seconds = 60\ntier.small.part = 2\n")
    with pytest.raises(UsageError, match=said):
        parts(read(tmp_path, (HEAD + text).replace(old, new)))


def test_a_part_that_is_left_out_is_told_of_before_anything_is_done(cli, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text((HEAD + STAGES).replace("small.part = 2", "small.part = 3"))
    found = cli("study", "study.toml", "--dry-run")
    assert found.code == 2
    assert "none left out, up to 3" in found.err


def test_jobs_are_those_of_the_part_unless_given(tmp_path: Path) -> None:
    read(tmp_path)
    path = tmp_path / "study.toml"
    assert [read_study(path, "small", None, part=part).jobs for part in (None, 1, 2, 3)] == [2, 2, 4, 4]
    assert read_study(path, "small", None, part=2, jobs=7).jobs == 7


def test_the_time_left_is_shared_by_stages_at_once_and_not_by_runs(tmp_path: Path) -> None:
    read(tmp_path)
    path = tmp_path / "study.toml"
    left = {}
    for jobs in (1, 2):
        made = read_study(path, "small", None, jobs=jobs)
        left[jobs] = record(made, made.items)["seconds_left"]
    trains = sum(item.seconds or 0 for item in made.items if item.trains)
    assert trains > 0
    assert left[1] == sum(item.seconds or 0 for item in made.items)
    assert left[2] == left[1] - trains / 2


def test_the_longest_chain_is_begun_first_and_parents_before_their_children(tmp_path: Path) -> None:
    made = read(tmp_path)
    train = [item for item in made.items if item.trains]

    def order() -> list[str]:
        return [item.name for item in longest_first(made, train)]

    assert order() == ["long", "quick", "middle", "short", "tuned", "last"]
    # A stage that is done costs nothing, and one that was stopped what its checkpoint lacks: 40 * 0.25 + 50 = 60.
    made.weights("quick").parent.mkdir(parents=True)
    made.weights("quick").write_bytes(b"")
    long = next(item for item in train if item.name == "long")
    checkpoint, metrics, log = kept_of(made, long)
    checkpoint.parent.mkdir(parents=True)
    log.write_text("  step 50/400  loss 2\n  step 200/400  loss 1  9 steps/s\nrrcm-bench: interrupted\n")
    assert seconds_left(made, long) == 40  # its checkpoint was not brought
    checkpoint.write_bytes(b"")
    assert seconds_left(made, long) == 20
    metrics.write_text('{"step": 250, "loss": 1.0}\n{"step": 300, "loss": 1.0}\n')  # more often than in the log
    assert seconds_left(made, long) == 10
    assert order() == ["quick", "middle", "short", "long", "tuned", "last"]


def test_the_command_begins_the_longest_chain_first_or_keeps_the_order(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"import json;print(json.dumps({{'weights': {str(WEIGHTS / 'gaussian-0.25.safetensors')!r}}}))"
    monkeypatch.setattr(stages, "own_command", lambda words: [sys.executable, "-c", script, *words])
    text = 'dataset = "digits"\n' + STAGES.partition('[[train]]\nname = "quick"')[0]
    (tmp_path / "study.toml").write_text(text)
    for words, expected in (
        (("--in-order", "--out", "a"), ["short", "long", "tuned"]),
        (("--longest-first", "--out", "b"), ["long", "short", "tuned"]),
    ):
        found = cli("study", "study.toml", "--train-only", *words)
        assert found.code == 0
        assert [line.split()[2] for line in found.err.splitlines() if line.startswith("train  ")] == expected


def test_rows_are_asked_for_by_name_with_the_stages_that_they_need(tmp_path: Path) -> None:
    made = read(tmp_path)

    def named(*names: str) -> list[str]:
        return [item.name for item in rows_named(made, made.items, names)]

    assert named("tuned") == ["long", "tuned", "run tuned-s0.25"]
    assert named("plain-s0.50") == ["short", "run plain-s0.50"]
    assert named("plain") == ["short", "run plain-s0.25", "run plain-s0.50"]
    with pytest.raises(UsageError, match="no row is named 'short'; there are: plain, tuned"):
        named("plain", "short")


def test_rows_whose_weights_are_there_are_run_and_nothing_is_trained(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(words: list[str]) -> list[str]:
        raise AssertionError(words)

    monkeypatch.setattr(stages, "own_command", no_process)
    made = read(tmp_path)
    made.weights("short").parent.mkdir(parents=True)
    made.weights("short").write_bytes((WEIGHTS / "gaussian-0.25.safetensors").read_bytes())
    words = ("study", "study.toml", "--tier", "small", "--certify-only", "--json")
    found = cli(*words, "--rows", "plain-s0.25,tuned")
    assert found.code == 0
    assert {item["name"]: item["state"] for item in found.json["items"]} == {
        "run plain-s0.25": "done", "run tuned-s0.25": "waiting",
    }  # fmt: skip
    assert "left out  run tuned-s0.25: waits for tuned" in found.err
    assert len(list((tmp_path / "small" / "runs").glob("*/run.json"))) == 1
    for more, said in ((("--rows", "no"), "no row is named 'no'"), (("--train-only",), "give one of them")):
        wrong = cli(*words, *more)
        assert wrong.code == 2
        assert said in wrong.err
