"""Runs, comparisons and reports as frames say what the command line says of the same runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import PROJECT

import rrcm_bench
from bench.report.accuracy import certified_accuracy
from bench.types.errors import ReportError, StoreError

WORDS = ("run", "--methods", "gaussian,consistency", "--dataset", "digits", "--n", "200", "--limit", "5", "--json")


@pytest.fixture
def runs(cli, tmp_path: Path) -> list[dict]:
    found = cli(*WORDS, "--sigma", "0.5")
    if found.code:
        found = cli(*(word.replace("gaussian,consistency", "gaussian,consistency") for word in WORDS), "--sigma", "0.5")
    assert found.code == 0, found.err
    return found.json["runs"]


def test_a_loaded_run_counts_what_the_report_counts(runs: list[dict]) -> None:
    run = rrcm_bench.load_run(runs[0]["path"])
    frame = run.to_pandas()
    for radius, fraction in zip((0.0, 0.5), certified_accuracy(run.run, (0.0, 0.5)).fractions, strict=True):
        assert (
            (frame.correct & (frame.radius >= radius)).mean()
            == fraction
            == run.certificates().certified_accuracy(radius)
        )
    assert frame.attrs["digest"] == runs[0]["digest"]
    assert run.done
    assert (run.to_pandas(alpha=1e-6).radius <= frame.radius).all()  # the same votes, read at another level


def test_a_comparison_is_the_command_lines(cli, runs: list[dict]) -> None:
    a, b = (run["path"] for run in runs)
    said = cli("compare", a, b, "--json").json
    made = rrcm_bench.compare(a, rrcm_bench.load_run(b))
    frame = made.to_pandas()
    assert list(frame.p) == [r["p"] for r in said["radii"]]
    assert list(frame.difference) == [r["difference"] for r in said["radii"]]
    assert frame.attrs["images"] == 5
    assert "McNemar" in str(made)


def test_a_reports_frames_are_its_tables(cli, runs: list[dict], tmp_path: Path) -> None:
    said = cli("report", "--json").json["tables"]
    made = rrcm_bench.report()
    frames = made.to_pandas()
    assert list(frames) == [table["name"] for table in said]
    for table, frame in zip(said, frames.values(), strict=True):
        assert list(frame.columns) == [column["key"] for column in table["columns"]]
        assert frame.attrs["caption"] == table["caption"]
        assert [list(row) for row in frame.itertuples(index=False)] == [[c["value"] for c in r] for r in table["rows"]]
    assert [path.name for path in made.write(tmp_path / "made", ["csv"])] == ["report.csv"]
    one = rrcm_bench.report(rrcm_bench.load_run(runs[0]["path"]))
    assert len(one.tables[0].rows) == 1


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        rrcm_bench.load_run(tmp_path)
    with pytest.raises(StoreError):
        rrcm_bench.load_runs(tmp_path / "absent")
    with pytest.raises(ReportError):
        rrcm_bench.report(tmp_path)


def test_every_public_name_is_there_and_documented() -> None:
    for name in rrcm_bench.__all__:
        assert getattr(rrcm_bench, name)
        assert name == "__version__" or getattr(rrcm_bench, name).__doc__
    with pytest.raises(AttributeError):
        rrcm_bench.nothing  # noqa: B018
    assert f'version = "{rrcm_bench.__version__}"' in (PROJECT / "pyproject.toml").read_text()
