from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_runs import row, run
from scipy.stats import binom

from bench.data.digits import open_digits
from bench.published.tables import load
from bench.report.accuracy import certified_accuracy
from bench.report.figures.ablation import ablation_figure, ablations, published_sizes, scaling_figure
from bench.report.figures.accuracy import bounds, curve_figure
from bench.report.figures.canvas import as_bytes, style_of
from bench.report.figures.denoised_images import denoised_strip, shown_ranges, strip_figure
from bench.report.figures.ema_schedule import schedule_figure, target_rate
from bench.report.figures.label_placement import Box, Point, nearest, place
from bench.report.figures.method_looks import LOOKS
from bench.report.figures.own_latency import timed_here
from bench.report.figures.registry import drawings
from bench.report.figures.sample_size import samples_figure, varies
from bench.report.figures.tradeoff import Timed, latency_figure
from bench.report.formats.page_data import page_data
from bench.report.grouping import groups
from bench.smoothing.noise import ESTIMATE, NoiseKey
from bench.smoothing.voting import draw
from bench.testing import Constant
from bench.types import Noise
from bench.types.errors import MethodError, ReportError
from methods.training.schedules import ema_rate


def test_a_drawn_curve_is_the_certified_accuracy() -> None:
    some = run([1000, 950, 900, 0])
    figure = curve_figure(groups([some], "pa")[0])
    (line,) = figure.axes[0].get_lines()
    xs, ys = line.get_data()
    for radius, height in zip(xs[:-1], ys[:-1], strict=True):
        assert height / 100 == certified_accuracy(some, (float(radius),)).fractions[0]
    assert ys[-1] == 0
    assert line.get_drawstyle() == "steps-pre"


def test_methods_differ_in_colour_and_in_marker() -> None:
    names = [*LOOKS, "mine", "yours"]
    lines = curve_figure(groups([run([1000, 900], method=name) for name in names], "pa")[0]).axes[0].get_lines()
    assert len({line.get_marker() for line in lines}) == len(names)
    few = [*list(LOOKS)[:6], "mine", "yours", "theirs"]
    lines = curve_figure(groups([run([1000, 900], method=name) for name in few], "pa")[0]).axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == len(few)


# Machado, Oliveira & Fernandes 2009, Table 1, severity 1.0: what dichromats see, in linear RGB.
DICHROMATS = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    levels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    ratio = XYZ @ light.clip(0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_no_two_methods_look_alike_to_colour_blind_readers_nor_vanish_on_either_ground() -> None:
    colours = [linear(look.colour) for look in LOOKS.values()]
    for kind, seen in DICHROMATS.items():
        for a, b in itertools.combinations(colours, 2):
            assert np.linalg.norm(lab(np.array(seen) @ a) - lab(np.array(seen) @ b)) >= 16, kind
    dark = float(XYZ[1] @ linear("#14171b")) + 0.05
    for light in (float(XYZ[1] @ each) + 0.05 for each in colours):
        assert min(1.05 / light, light / dark) >= 2.6


def test_each_panel_ends_where_all_its_curves_are_0() -> None:
    runs = [run([1000, 900, 0], sigma=0.25), run([1000, 900], sigma=1.0), run([600, 900], sigma=1.0, method="rrcm")]
    figure = curve_figure(groups(runs, "pa")[0])
    for axis in figure.axes:
        last = max(float(line.get_xdata()[-1]) for line in axis.get_lines())
        assert last <= axis.get_xlim()[1] <= 1.05 * last
    assert figure.axes[0].get_xlim()[1] < figure.axes[1].get_xlim()[1]


def test_bands_are_drawn_of_three_curves_and_of_no_more() -> None:
    for count, bands in ((3, 3), (4, 0)):
        figure = curve_figure(groups([run([1000, 900], method=f"m{k}") for k in range(count)], "pa")[0])
        assert len(figure.axes[0].collections) == bands
        assert ("bands" in figure.get_suptitle()) == bool(bands)


def paper_figures() -> dict[str, Figure]:
    some = [run([1000, 950, 900 - k], method=name, sigma=s) for k, name in enumerate(LOOKS) for s in (0.25, 0.5, 1.0)]
    named = ("accuracy", "latency", "schedule", "scaling", "samples")
    uneven = replace(run([1000] * 3), rows=tuple(row(k, n, n) for k, n in enumerate((100, 200, 1000))))
    style = style_of("paper", 5.5)
    found = groups(some, "pa")
    made = {d.name: d.draw() for d in drawings(found, None, named[:4], style=style)}
    made["published"] = latency_figure(load("table1"), style=style)
    made["samples"] = samples_figure([uneven], style)
    return made


def test_a_figure_for_a_paper_has_its_width_letters_of_8_points_and_no_title() -> None:
    for name, figure in paper_figures().items():
        figure.draw_without_rendering()
        assert figure.get_figwidth() == 5.5, name
        texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
        assert {t.get_fontsize() for t in texts} == {8.0}, name
        assert not figure.get_suptitle()
        if "scaling" not in name:  # whose panels are told apart by theirs
            assert not any(axis.get_title() for axis in figure.axes)


def test_no_letter_of_a_pdf_is_of_type_3_and_its_fonts_are_embedded() -> None:
    figures = paper_figures()
    for name in ("accuracy-digits-pa", "published"):
        made = as_bytes(figures[name], "pdf")
        assert b"/Subtype /Type3" not in made, name
        assert b"/Subtype /CIDFontType2" in made, name  # composite TrueType: what "Type 42" is in a PDF
        assert b"/FontFile2" in made, name


@pytest.mark.parametrize(
    ("name", "width", "words"),
    [("poster", None, "screen, paper"), ("screen", 5.0, "--style paper"), ("paper", 0.5, "2.5 to 20")],
)
def test_a_style_or_width_that_there_is_not_is_refused(name: str, width: float | None, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        style_of(name, width)


def test_rrcm_lies_above_the_others_and_its_name_is_bold() -> None:
    figure = curve_figure(groups([run([1000, 900], method=name) for name in ("macer", "rrcm", "smoothadv")], "pa")[0])
    top = max(figure.axes[0].get_lines(), key=lambda line: line.get_zorder())
    assert top.get_color() == LOOKS["rrcm"].colour
    assert top.get_linewidth() > 1.5 * min(line.get_linewidth() for line in figure.axes[0].get_lines())
    assert [t.get_text() for t in figure.legends[0].get_texts() if t.get_fontweight() == "bold"] == ["rRCM"]
    bold = {t.get_text() for t in latency_figure(load("table1")).axes[0].texts if t.get_fontweight() == "bold"}
    assert bold == {"rRCM-B", "rRCM-B (N=10k)", "rRCM-B-Deep"}


def test_runs_alone_have_a_latency_figure_at_their_best_sigma() -> None:
    runs = [run([1000, 900], sigma=0.25), run([1000, 900], sigma=1.0), run([900, 900], method="rrcm")]
    (group,) = groups(runs, "pa")
    timed, how, missing = timed_here(group)
    assert [one.title for one in timed] == ["Gaussian", "rRCM"]
    assert [one.seconds for one in timed] == [0.5, 0.5]
    assert "no latency measurement" in how
    assert missing == ()
    for one, own in zip(timed, (runs[:2], runs[2:]), strict=True):
        best = [max(certified_accuracy(each, (r,)).fractions[0] for each in own) for r in group.radii]
        assert list(one.values) == best
    assert [d.name for d in drawings([group])] == ["accuracy-digits-pa", "latency-digits-pa"]
    (axis,) = drawings([group], None, ["latency"])[0].draw().axes
    # Averaged over the radii at which anything is certified.
    kept = [k for k in range(len(group.radii)) if any(one.values[k] for one in timed)]
    heights = [100 * sum(one.values[k] for k in kept) / len(kept) for one in timed]
    assert [float(c.get_offsets()[0][1]) for c in axis.collections] == pytest.approx(heights)


def test_seconds_of_two_devices_do_not_stand_in_one_picture() -> None:
    slow, fast = ({"devices": {"0": name}} for name in ("A CPU", "A GPU"))
    runs = [
        replace(run([1000, 900], method=method, sigma=sigma), environment=on)
        for method, sigma, on in (
            ("gaussian", 0.25, slow), ("macer", 0.25, slow), ("rrcm", 0.25, fast),
            ("smoothadv", 0.25, slow), ("smoothadv", 0.5, fast),
        )
    ]  # fmt: skip
    (group,) = groups(runs, "pa")
    timed, how, missing = timed_here(group)
    assert [one.title for one in timed] == ["Gaussian", "MACER", "SmoothAdv"]
    assert "A CPU" in how
    assert missing == ("rRCM (A GPU)",)
    (drawn,) = page_data(runs).record["groups"]
    assert {each["method"] for each in drawn["runs"] if each["seconds"] is None} == {"rRCM", "SmoothAdv"}
    assert [each["sigma"] for each in drawn["runs"] if each["method"] == "SmoothAdv" and each["seconds"]] == ["0.25"]
    assert any("one device alone" in said for said in page_data(runs).doubts)


def test_a_method_certified_on_two_devices_has_the_seconds_of_one() -> None:
    runs = []
    for method in ("gaussian", "macer"):
        for sigma, name, seconds in ((0.25, "A CPU", 8.0), (0.5, "A GPU", 1.0)):
            one = run([1000, 900], method=method, sigma=sigma)
            rows = tuple(replace(row, seconds=seconds) for row in one.rows)
            runs.append(replace(one, rows=rows, environment={"devices": {"0": name}}))
    (group,) = groups(runs, "pa")
    timed, how, missing = timed_here(group)
    assert [one.seconds for one in timed] == [8.0, 8.0]
    assert "A GPU" not in how
    assert not missing


def test_every_published_size_that_is_known_is_drawn() -> None:
    legend = latency_figure(load("table1")).legends[0]
    assert "642M" in {t.get_text() for t in legend.get_texts()}
    assert not any("not stated" in t.get_text() for t in legend.get_texts())


def test_two_trainings_at_one_sigma_are_two_lines() -> None:
    twins = [run([1000, 900], weights={"network": w}) for w in ("aa", "bb")]
    figure = curve_figure(groups(twins, "pa")[0])
    lines = figure.axes[0].get_lines()
    assert {line.get_color() for line in lines} == {LOOKS["gaussian"].colour}
    assert len({str(line._dash_pattern) for line in lines}) == len({line.get_markerfacecolor() for line in lines}) == 2
    assert len(figure.legends[0].get_texts()) == 2


def test_the_picture_says_what_it_shows() -> None:
    figure = curve_figure(groups([run([1000], sigma=0.25), run([900], sigma=0.5, images=4)], "pa")[0])
    assert [axis.get_title() for axis in figure.axes] == ["sigma 0.25", "sigma 0.50"]
    assert "N=1 000, alpha=0.001, bound pa" in figure.get_suptitle()
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"Gaussian", "Gaussian, 1 of 4 images"}


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
    assert "not measured here" in " ".join(axis.get_xlabel().split())
    assert "A800" in axis.get_xlabel()


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


def test_a_label_does_not_stand_beside_another_point_than_its_own() -> None:
    own, other = Point(300, 200, 5, 80, 12), Point(390, 200, 5, 80, 12)
    first, second = place([own, other], Box(0, 0, 600, 400))
    assert math.dist(nearest(other, first), (other.x, other.y)) > 15
    assert math.dist(nearest(own, second), (own.x, own.y)) > 15


def test_exact_bands_are_never_narrower_than_they_promise() -> None:
    some = run([1000, 950, 900, 0])
    wide, narrow = (
        curve_figure(groups([some], "pa")[0], interval).axes[0].collections[0].get_paths()[0].get_extents()
        for interval in ("exact", "wilson")
    )
    assert wide.y1 > narrow.y1
    # 3 of 4: the ends are the roots of the binomial tails at 2.5 % (Clopper & Pearson 1934).
    low, high = bounds(3, 4, "exact")
    assert binom.sf(2, 4, low) == pytest.approx(0.025)
    assert binom.cdf(3, 4, high) == pytest.approx(0.025)
    with pytest.raises(ReportError, match="wilson, exact"):
        curve_figure(groups([some], "pa")[0], "normal")  # type: ignore[arg-type]


def test_every_figure_is_written_as_png_pdf_and_svg() -> None:
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for form, start in starts.items():
        first, second = (as_bytes(schedule_figure(), form) for _ in range(2))
        assert first.startswith(start)
        assert first == second
    with pytest.raises(ReportError, match="png, pdf, svg"):
        as_bytes(schedule_figure(), "gif")


def test_what_was_timed_here_looks_other_than_what_is_quoted() -> None:
    published = load("table2")
    own = Timed(
        title="Gaussian here",
        seconds=40.0,
        values=(0.7, 0.6, 0.5, 0.4, 0.3),
        params_millions=1.7,
        device="TPU",
        n=1000,
        method="gaussian",
    )
    figure = latency_figure(published, measured=[own])
    (axis,) = figure.axes
    faces = [tuple(map(float, c.get_facecolor()[0])) for c in axis.collections]
    assert faces[-1][3] == 1.0
    assert all(face[3] < 0.5 or face[:3] == (1.0, 1.0, 1.0) for face in faces[:-1])
    unsized = latency_figure(published, measured=[replace(own, params_millions=None)]).axes[0]
    assert tuple(map(float, unsized.collections[-1].get_facecolor()[0])) == faces[-1]
    assert axis.collections[-1].get_edgecolor().tolist() == axis.collections[0].get_edgecolor().tolist()
    assert tuple(axis.collections[-1].get_offsets()[0]) == pytest.approx((40.0, 50.0))
    assert "full: measured here (TPU)" in " ".join(axis.get_xlabel().split())
    assert "1 000, 100 000" in axis.get_xlabel()
    assert "measured here" in {text.get_text() for text in figure.legends[0].get_texts()}
    with pytest.raises(ReportError, match="each of 5 radii, got 1"):
        latency_figure(published, measured=[replace(own, values=(0.5,))])


# Lei et al., ICLR 2025, Eq. 13-15 at m = 10, with the two swapped letters of Eq. 14 mended; 7 digits.
RATES = {0: 0.99, 0.01: 0.990497, 0.1: 0.9945924, 0.5: 0.9997691, 1: 0.9998991}


def test_the_ema_schedule_is_the_papers_and_the_trainings() -> None:
    for share, rate in RATES.items():
        assert target_rate(share, 10.0) == pytest.approx(rate, abs=1e-7)
    for m in (5.0, 15.0):
        assert [target_rate(k / 50, m) for k in range(51)] == pytest.approx([ema_rate(k, 50, m=m) for k in range(51)])
    lines = schedule_figure().axes[0].get_lines()
    quarter = [float(line.get_ydata()[len(line.get_ydata()) // 4]) for line in lines]
    assert quarter == sorted(quarter)  # the larger m, the earlier it rises
    with pytest.raises(ReportError, match="positive slopes"):
        schedule_figure([0.0])


def test_the_published_sizes_are_those_of_tables_7_and_8() -> None:
    base, deep = published_sizes()
    assert base.values == (0.532, 0.462, 0.396, 0.348, 0.28, 0.226)
    assert (base.size, deep.size) == (90.0, 177.0)
    assert deep.values[-1] == 0.25
    figure = scaling_figure(published_sizes(), "parameters (millions)", "sizes")
    left, right = figure.axes
    assert all("(quoted)" in text.get_text() for text in left.get_legend().get_texts())
    assert [len(line.get_xdata()) for line in right.get_lines()] == [2] * len(base.radii)
    with pytest.raises(ReportError, match="at least two sizes"):
        scaling_figure([base], "parameters", "one")


def test_an_ablation_compares_runs_that_differ_in_one_setting_only() -> None:
    runs = [
        run([1000, 900], params={"grid": 20}),
        run([1000, 0], params={"grid": 81}, weights={"network": "bb"}),
        run([900, 900], params={"grid": 81}, sigma=1.0),
        run([900, 900], params={"grid": 81}, method="rrcm"),
    ]
    (panel,) = ablations(groups(runs, "pa")[0])
    assert panel.title == "gaussian, sigma 0.50: grid"
    assert [(one.label, one.values[0]) for one in panel.series] == [("grid = 20", 1.0), ("grid = 81", 0.5)]
    assert not ablations(groups([runs[0], run([9], params={"grid": 81}, seed=1)], "pa")[0])
    figure = ablation_figure([panel], "digits")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["grid = 20", "grid = 81"]
    with pytest.raises(ReportError, match="differ in one setting"):
        ablation_figure([], "digits")


def test_the_samples_of_each_image_are_drawn() -> None:
    fixed = [run([1000, 900]), run([900, 900], method="rrcm")]
    assert not varies(fixed)
    some = replace(
        run([1000] * 4, method="fast"),
        rows=tuple(replace(row(k, n, n)) for k, n in enumerate((100, 100, 200, 1000))),
    )
    assert varies([some])
    figure = samples_figure([*fixed, some])
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2  # those that took one number alike are one line
    xs, ys = lines[1].get_data()
    assert list(zip(map(float, xs[1:]), map(float, ys[1:]), strict=True)) == [
        (200, 75.0), (200, 50.0), (300, 25.0), (1100, 0.0)
    ]  # fmt: skip
    assert "Gaussian, rRCM: every image 1 100" in {text.get_text() for text in figure.legends[0].get_texts()}


class Doubling:
    """Shows twice what it is given."""

    num_classes = 10

    def predict(self, x: torch.Tensor, noise: Noise) -> torch.Tensor:
        return torch.zeros(len(x), dtype=torch.int64)

    def denoised(self, x: torch.Tensor, noise: Noise) -> torch.Tensor:
        return 2 * x


def test_a_strip_shows_the_certifiers_own_noise_and_what_was_made_of_it() -> None:
    image = open_digits(None, None, "test")[3]
    seen: list[torch.Tensor] = []

    class Watching:
        num_classes = 10

        def predict(self, x: torch.Tensor, noise: Noise) -> torch.Tensor:
            seen.append(x.clone())
            return torch.zeros(len(x), dtype=torch.int64)

    strip = denoised_strip(image, {"double": Doubling(), "blind": Constant(0, 10)}, sigma=0.5, seed=7)
    assert [what for what, _ in strip.pictures] == ["clean", "sigma 0.50", "double"]
    key = NoiseKey(7, image.fingerprint, 0.5, ESTIMATE)
    draw(Watching(), torch.from_numpy(image.pixels), key=key, n=2, batch=2)
    assert np.array_equal(strip.pictures[1][1], seen[0][0].numpy())
    assert np.array_equal(strip.pictures[2][1], 2 * seen[0][0].numpy())
    figure = strip_figure([strip, strip], "digits")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["clean", "sigma 0.50"]
    # Twice the noisy pixels lie far outside of [0, 1]: shown whole, by the range that stands there.
    low, high = (float(each(strip.pictures[2][1])) for each in (np.min, np.max))
    assert figure.axes[2].get_title() == f"double\n{low:.2f} to {high:.2f}"
    shown = figure.axes[2].images[0].get_array()
    assert (shown.min(), shown.max()) == (0, 1)
    dim = replace(strip, pictures=(*strip.pictures[:2], ("double", strip.pictures[0][1] * 0.4)))
    assert list(shown_ranges([dim])) == ["double"]
    faithful = replace(strip, pictures=(*strip.pictures[:2], ("double", strip.pictures[0][1])))
    assert shown_ranges([faithful]) == {}
    with pytest.raises(ReportError, match="1 to 8 strips"):
        strip_figure([], "none")


def test_a_denoiser_that_gives_other_shapes_is_named() -> None:
    class Flat(Doubling):
        def denoised(self, x: torch.Tensor, noise: Noise) -> torch.Tensor:
            return x.flatten()

    with pytest.raises(MethodError, match=r"flat: denoised must return .* \(1, 1, 8, 8\), got \(64,\)"):
        denoised_strip(open_digits(None, None, "test")[0], {"flat": Flat()}, sigma=0.5, seed=0)


def test_figures_are_found_by_name_or_the_reason_why_not() -> None:
    found = groups([run([1000]), run([900, 900], n=2000)], "pa")
    assert [d.name for d in drawings(found)] == ["accuracy-digits-pa", "accuracy-digits-pa-2"]
    assert [d.name for d in drawings(found, load("table1"), ["latency", "schedule", "scaling"])] == [
        "latency-imagenet", "schedule", "scaling-published"
    ]  # fmt: skip
    assert all(as_bytes(d.draw(), "png") for d in drawings(found, load("table1"), ["latency", "schedule", "scaling"]))
    with pytest.raises(ReportError, match="got 'fig9'"):
        drawings(found, None, ["fig9"])
    with pytest.raises(ReportError, match=r"no figure 'latency' from these runs: .* give --table 1 or 2"):
        drawings([], None, ["latency"])
    with pytest.raises(ReportError, match="no figure 'samples'"):
        drawings(found, None, ["samples"])
