from __future__ import annotations

import itertools

import pytest
from report_runs import run

from bench.errors import ReportError
from bench.published import load
from bench.report.accuracy import certified_accuracy
from bench.report.figures import as_bytes, curve_figure
from bench.report.grouping import groups
from bench.report.placement import Box, Point, place
from bench.report.tradeoff import latency_figure


def test_a_drawn_curve_is_the_certified_accuracy() -> None:
    some = run([1000, 950, 900, 0])
    figure = curve_figure(groups([some], "pa")[0])
    (line,) = figure.axes[0].get_lines()
    xs, ys = line.get_data()
    for radius, height in zip(xs[:-1], ys[:-1], strict=True):
        assert height / 100 == certified_accuracy(some, (float(radius),)).fractions[0]
    assert ys[-1] == 0
    assert line.get_drawstyle() == "steps-pre"


def test_methods_differ_in_colour_and_in_dashes() -> None:
    methods = [run([1000, 900], method=f"m{k}") for k in range(5)]
    lines = curve_figure(groups(methods, "pa")[0]).axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == len({str(line._dash_pattern) for line in lines}) == 5


def test_two_trainings_at_one_sigma_are_two_lines() -> None:
    twins = [run([1000, 900], weights={"network": w}) for w in ("aa", "bb")]
    figure = curve_figure(groups(twins, "pa")[0])
    assert len({line.get_color() for line in figure.axes[0].get_lines()}) == 2
    assert len(figure.legends[0].get_texts()) == 2


def test_the_picture_says_what_it_shows() -> None:
    figure = curve_figure(groups([run([1000], sigma=0.25), run([900], sigma=0.5, images=4)], "pa")[0])
    assert [axis.get_title() for axis in figure.axes] == ["sigma 0.25", "sigma 0.50"]
    assert "N=1 000, alpha=0.001, bound pa" in figure.get_suptitle()
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"gaussian", "gaussian, 1 of 4 images"}


@pytest.mark.parametrize("name", ["$x$", "$\\nosuch{$", "_hidden", "two words"])
def test_a_name_is_drawn_as_it_is(name: str) -> None:
    figure = curve_figure(groups([run([1000], method=name)], "pa")[0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [name]
    assert as_bytes(figure, "png")


@pytest.mark.parametrize("words", ["m", "a method of quite a long name", "a name that is longer than the page " * 4])
def test_the_legend_lies_outside_the_panels_and_on_the_page(words: str) -> None:
    figure = curve_figure(groups([run([1000], method=f"{words} {k}") for k in range(9)], "pa")[0])
    figure.draw_without_rendering()
    box, page = figure.legends[0].get_window_extent(), figure.bbox
    assert all(box.y1 < axis.get_tightbbox().y0 for axis in figure.axes)
    assert page.x0 <= box.x0
    assert box.x1 <= page.x1
    assert page.y0 <= box.y0
    assert all(axis.get_window_extent().height > 1.5 * figure.dpi for axis in figure.axes)


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_no_label_of_the_latency_figure_covers_another(table: str) -> None:
    published = load(table)
    figure = latency_figure(published)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = {text.get_text().rstrip("*"): text.get_window_extent() for text in axis.texts}
    drawn = {r.title for r in published.rows if r.latency_s is not None and None not in r.values}
    assert set(boxes) == drawn
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes.values(), 2))
    frame = axis.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes.values())


def test_the_latency_figure_names_what_it_leaves_out_and_that_it_is_quoted() -> None:
    (axis,) = latency_figure(load("table1")).axes
    assert "Denoised" in axis.get_xlabel()
    assert "not measured here" in axis.get_title()
    assert "A800" in axis.get_title()


def test_one_radius_is_drawn_at_its_own_values() -> None:
    published = load("table1")
    (axis,) = latency_figure(published, 1.0).axes
    heights = {round(float(c.get_offsets()[0][1]), 6) for c in axis.collections}
    assert heights == {round(100 * r.values[2], 6) for r in published.rows if r.latency_s is not None}
    assert "at r=1" in axis.get_ylabel()
    with pytest.raises(ReportError, match="expected a radius of"):
        latency_figure(published, 0.3)


def test_equal_figures_are_equal_files() -> None:
    for form, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        first, second = (as_bytes(latency_figure(load("table2")), form) for _ in range(2))
        assert first.startswith(start)
        assert first == second


def test_labels_of_one_crowded_place_do_not_overlap() -> None:
    points = [Point(300 + k % 3, 200 + 4 * k, 5, 80, 12) for k in range(10)]
    boxes = place(points, Box(0, 0, 600, 400))
    assert all(a.overlap(b) == 0 for a, b in itertools.combinations(boxes, 2))
    assert all(box.outside(Box(0, 0, 600, 400)) == 0 for box in boxes)
