"""The distribution of p_A: against certified accuracy, against counting, and what its table and figure say."""

from __future__ import annotations

import pytest
from report_runs import run
from scipy.stats import norm

from bench.certification.bounds import lower_bound
from bench.report.accuracy import certified_accuracy
from bench.report.build import build
from bench.report.class_probability import LEVELS, at_least, class_probabilities, quantiles
from bench.report.figures.class_probability import probability_figure
from bench.report.figures.registry import drawings
from bench.report.grouping import groups
from bench.report.tables.table import Table
from bench.types.errors import ReportError

VOTES = [1000, 990, 900, 900, 700, 560, 480, 100, 0]


def test_the_share_above_a_threshold_is_the_certified_accuracy_at_its_radius() -> None:
    some = run(VOTES)
    found = class_probabilities(some)
    for radius in (0.0, 0.1, 0.25, 0.5, 0.8, 1.2):
        # The selection of each image here is of the class with more votes, so that it hides none.
        share = at_least(found.lower, float(norm.cdf(radius / some.spec.sigma)))
        assert share == certified_accuracy(some, (radius,)).certified[0]


def test_estimates_and_bounds_are_those_of_the_votes_alone() -> None:
    found = class_probabilities(run(VOTES), alpha=0.01)
    assert found.plug_in == tuple(sorted(v / 1000 for v in VOTES))
    assert found.lower == tuple(sorted(lower_bound(v, 1000, 0.01) for v in VOTES))
    assert found.alpha == 0.01
    assert at_least(found.plug_in, 0.9) == 4  # an image exactly there counts
    assert quantiles(found.plug_in, (0.0, 0.5, 1.0)) == (0.0, 0.7, 1.0)


def test_it_does_not_grow_with_n_where_the_average_radius_does() -> None:
    few, many = run([1000] * 3, n=1000), run([100_000] * 3, n=100_000)
    assert certified_accuracy(many, ()).acr > 1.2 * certified_accuracy(few, ()).acr
    assert class_probabilities(few).plug_in == class_probabilities(many).plug_in


def table_of(*runs: object) -> Table:
    return build(list(runs), table="probability").tables[0]  # type: ignore[arg-type]


def test_the_table_has_a_row_a_run_with_counts_behind_each_share() -> None:
    made = table_of(run(VOTES), run(VOTES[:5], sigma=0.25, images=9, folder="b"))
    keys = [column.key for column in made.columns]
    assert [row[keys.index("sigma")].value for row in made.rows] == ["0.25", "0.50"]
    for level in LEVELS:
        cell = made.rows[1][keys.index(f"share_{level:g}")]
        expected = sum(lower_bound(v, 1000, 0.001) >= level for v in VOTES)
        assert (cell.successes, cell.images, cell.n) == (expected, 9, 1000)
    assert made.rows[1][keys.index("quantile_0.5")].value == 0.7
    assert made.rows[1][keys.index("acr")].value == certified_accuracy(run(VOTES), ()).acr


def test_runs_that_may_stop_are_left_out_and_said_so() -> None:
    stops = run([], certifier="sequential", looks=(50, 1000), alphas=(0.0001, 0.0009), radii=(0.0,), mode="table")
    with pytest.raises(ReportError, match="fixed n"):
        class_probabilities(stops)
    with pytest.raises(ReportError, match="fixed n"):
        drawings(groups([stops], "pa"), None, ["probability"])


def test_the_quoted_rows_stand_beside_cifar_10_alone() -> None:
    assert [t.rows[0][0].source for t in build([], table="probability").tables] == ["quoted"]
    digits, cifar = run(VOTES), run(VOTES, dataset="cifar10", shape=(3, 32, 32), folder="c")
    assert len(build([digits], table="probability").tables) == 1
    assert [t.rows[0][0].source for t in build([cifar], table="probability").tables] == ["measured", "quoted"]


def test_a_drawn_line_is_the_share_of_images_and_no_bound_lies_above_it() -> None:
    some = run(VOTES)
    figure = probability_figure(groups([some, run(VOTES, sigma=1.0, folder="b")], "pa")[0])
    assert [axis.get_title() for axis in figure.axes] == ["sigma 0.50", "sigma 1.00"]
    (line,) = figure.axes[0].get_lines()
    for t, height in zip(*line.get_data(), strict=True):
        assert height == pytest.approx(100 * sum(v / 1000 >= t for v in VOTES) / len(VOTES))
    (band,) = figure.axes[0].collections
    assert band.get_datalim(figure.axes[0].transData).y1 <= max(line.get_ydata()) + 1e-9
    assert "lower bound at alpha=0.001" in figure.get_suptitle()


def test_the_figure_is_drawn_by_name_beside_its_table() -> None:
    report = build([run(VOTES)], table="probability", figures=["probability"])
    assert [picture.name for picture in report.pictures] == ["probability-digits-pa"]
    assert not build([run(VOTES)], table="probability").pictures
