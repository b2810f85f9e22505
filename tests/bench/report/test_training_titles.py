"""Titles of runs of one method whose weights differ: they say how these were trained."""

from __future__ import annotations

from typing import Any

from report_runs import run

from bench.report.grouping import groups, variants
from bench.report.tables.accuracy import by_sigma_tables
from bench.report.training_records import with_training

ALIKE = {"batch": 64, "lr": 0.1, "workers": 0}


def record(*, seed: int = 0, **settings: Any) -> dict[str, Any]:
    more = {"parents": {}, "data": {"fingerprint": "f"}, "seed": seed}
    own = {**ALIKE, "steps": 400, **settings}
    return {
        "numbers": 1000,
        "training": {"settings": own, "steps": own["steps"], "of_steps": own["steps"], **more},
    }


def titles(records: dict[str, Any], *runs: Any) -> list[tuple[str, list[float]]]:
    (group,) = groups(with_training(runs, records), "pa")
    return sorted((each.title, [one.spec.sigma for one in each.runs]) for each in variants(group))


def of(weights: str, sigma: float = 0.5, **changes: Any) -> Any:
    return run([1000, 900, 0], weights={"network": weights}, sigma=sigma, **changes)


def test_a_title_says_what_the_trainings_differ_in_and_no_more() -> None:
    records = {"a": record(), "b": record(steps=60, workers=8), "c": record(steps=60, lr=0.01)}
    assert titles(records, of("a"), of("b")) == [("gaussian (steps=400)", [0.5]), ("gaussian (steps=60)", [0.5])]
    assert titles(records, of("a"), of("c")) == [
        ("gaussian (lr=0.01, steps=60)", [0.5]),
        ("gaussian (lr=0.1, steps=400)", [0.5]),
    ]


def test_noise_levels_of_one_training_stay_one_method() -> None:
    # Other settings at another noise level are the recipe's, as MACER's are: no second method.
    records = {"a": record(), "b": record(lr=0.01), "c": record(steps=60)}
    assert titles(records, of("a", 0.25), of("b", 0.5)) == [("gaussian", [0.25, 0.5])]
    assert titles(records, of("a", 0.25), of("c", 0.25), of("b", 0.5)) == [
        ("gaussian", [0.25, 0.5]),
        ("gaussian (steps=60)", [0.25]),
    ]


def test_what_most_have_goes_without_saying() -> None:
    records = {
        "a": record(),
        "b": record(steps=60),
        "c": record(lr=0.01),
        "d": record(steps=60, lr=0.01),
        "e": record(),
    }
    names = ["gaussian", "gaussian (lr=0.01)", "gaussian (steps=60)"]
    assert [title for title, _ in titles(records, of("a"), of("b"), of("c"))] == names
    assert len(titles(records, *map(of, "abcde"))) == 4  # those of one training together


def test_a_seed_of_the_training_is_told_from_that_of_the_run() -> None:
    records = {"a": record(), "b": record(seed=1)}
    assert [title for title, _ in titles(records, of("a"), of("b"))] == [
        "gaussian (training seed=0)",
        "gaussian (training seed=1)",
    ]


def test_without_records_or_differences_the_digest_tells_runs_apart() -> None:
    assert titles({}, of("a"), of("b")) == [("gaussian", [0.5, 0.5])]
    assert titles({"a": record(), "b": record()}, of("a"), of("b")) == [("gaussian", [0.5, 0.5])]
    records = {"a": record(), "b": record(steps=60)}
    found = titles(records, of("a"), of("b"), of("unknown"))
    assert found == [("gaussian", [0.5]), ("gaussian (steps=400)", [0.5]), ("gaussian (steps=60)", [0.5])]


def test_a_table_has_the_titles() -> None:
    records = {"a": record(), "b": record(steps=60)}
    (table,) = by_sigma_tables(with_training([of("a"), of("b")], records), "pa")
    assert sorted(str(line[0].value) for line in table.rows) == ["gaussian (steps=400)", "gaussian (steps=60)"]
