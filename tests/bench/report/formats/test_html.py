from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from headless_chromium import BINARY, Chromium
from report_runs import row, run

from bench.certification.stopping_rule import register, stop
from bench.data.digits import open_digits
from bench.data.installed import natural_radii
from bench.report.accuracy import certified_accuracy
from bench.report.build import build
from bench.report.envelope import envelope
from bench.report.figures.accuracy import curve_figure
from bench.report.figures.method_looks import looks
from bench.report.formats.html import page
from bench.report.formats.page_data import page_data
from bench.report.formats.page_summary import summary
from bench.report.formats.thumbnails import data_uri, thumbnails
from bench.report.grouping import groups
from bench.report.method_titles import title_of
from bench.report.statistics import wilson
from bench.runs.store import Run
from bench.types import Counts

NASTY = "</script><img src=x onerror=alert(1)> $x$ & 'b' \"c\" \u2028 字"


def digits_run(votes: list[int], **changes: object) -> Run:
    """A run whose images are digits as scikit-learn has them."""
    made = run(votes, **changes)
    digits = open_digits(None, None, "test")
    return replace(made, rows=tuple(replace(r, fingerprint=digits[r.index].fingerprint) for r in made.rows))


def some_runs() -> list[Run]:
    return [
        digits_run([1000, 990, 900, 700, 0, 480]),
        digits_run([1000, 1000, 950, 100, 900, 600], method="rrcm"),
        digits_run([900, 1000, 980, 960, 940, 700], method=NASTY),
        digits_run([990, 900, 850, 800, 0, 480], sigma=1.0),
    ]


def made_page(runs: list[Run]) -> str:
    return page("a report", build(runs).tables, {}, page_data(runs))


def record_in(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_its_tables_name_methods_as_its_plots_do() -> None:
    made = made_page([digits_run([1000, 990], method="smoothadv"), digits_run([900, 1000])])
    names = re.findall(r"<th scope=\"row\"[^>]*>\s*([^<]*?)\s*<", made)
    assert set(names) == {"SmoothAdv", "Gaussian"}


def test_the_page_holds_each_image_as_the_tables_count_it() -> None:
    runs = some_runs()
    (group,) = page_data(runs).record["groups"]
    radii = [radius for radius, _ in group["radii"]]
    assert radii == list(natural_radii("digits"))
    by_id = {r.spec.digest()[:10]: r for r in runs}
    for shown in group["runs"]:
        score = certified_accuracy(by_id[shown["id"]], radii)
        right = [radius for image, label, radius, *_ in shown["rows"] if label == group["images"][image][1]]
        assert tuple(sum(each >= r for each in right) for r in radii) == score.certified
        assert sum(label == -1 for _, label, *_ in shown["rows"]) == score.abstained
        for (*_, votes, rest), each in zip(shown["rows"], by_id[shown["id"]].rows, strict=True):
            assert sum(votes[1::2]) + rest == each.estimation.n
    for k, interval in enumerate(group["intervals"]["6"]):
        assert interval == pytest.approx(wilson(k, 6), abs=1e-6)


def stopped_run() -> Run:
    """Four images under the sequential certifier, whose every look goes to the right class, or to none."""
    fixed = run([1000], certifier="sequential")
    made = register(
        "sequential", sigma=0.5, radii=(0.0, 0.25, 0.5), n=fixed.spec.n, alpha=0.001, beta=0.001, mode="table"
    )
    spec = replace(
        fixed.spec, images=4, radii=made.radii, looks=made.looks, alphas=made.alphas, beta=made.beta, mode=made.mode
    )
    rows = []
    for index, label in enumerate((3, 3, 5, 3)):
        looks: list[Counts] = []
        selection = Counts.of([(label, spec.n0)])
        known = None
        for done, size in zip((0, *spec.looks), spec.looks, strict=False):
            looks.append(Counts.of([(label, size - done)]))
            total = Counts.of([(label, size)])
            reason, known = stop(spec, 3, selection, total, known)
            if reason is not None:
                break
        rows.append(replace(row(index, 0), selection=selection, estimation=total, looks=tuple(looks)))
    return replace(fixed, spec=spec, rows=tuple(rows))


def test_of_images_that_stopped_the_page_promises_what_the_tables_do() -> None:
    some = stopped_run()
    made = page_data([some])
    (group,) = made.record["groups"]
    score = certified_accuracy(some, some.spec.radii)
    assert 0 < score.certified[0] < 4
    right = [radius for image, label, radius, *_ in group["runs"][0]["rows"] if label == group["images"][image][1]]
    assert tuple(sum(each >= r for each in right) for r in some.spec.radii) == score.certified
    assert group["stops"]
    assert "N<=1 000" in group["title"]
    assert any("what is proven at least" in doubt for doubt in made.doubts)


def test_a_run_that_cannot_be_read_as_asked_is_named_and_not_drawn() -> None:
    some = run([1000, 900])
    cut = replace(run([1000], method="rrcm"), rows=(row(0, 300, 300),))
    made = page_data([some, cut])
    assert [r["method"] for r in made.record["groups"][0]["runs"]] == ["Gaussian"]
    assert any("rrcm" in doubt and "expected n=1000" in doubt for doubt in made.doubts)


def test_runs_that_may_not_be_compared_are_kept_apart() -> None:
    made = page_data([run([1000, 900]), run([2000, 900], n=2000), run([1000], alpha=0.01)])
    assert len(made.record["groups"]) == 3
    assert any("no number of one compares" in doubt for doubt in made.doubts)


def test_what_weakens_a_number_is_among_the_doubts() -> None:
    doubts = page_data([run([1000], images=4, weights={"network": "random"})]).doubts
    assert any("1 of 4 images" in doubt for doubt in doubts)
    assert any("random weights" in doubt for doubt in doubts)
    assert any("no latency measurement" in doubt for doubt in doubts)


def test_no_word_of_a_run_becomes_markup() -> None:
    text = made_page(some_runs())
    assert "<img src=x" not in text
    methods = {r["method"] for r in record_in(text)["groups"][0]["runs"]}
    assert NASTY in methods


def test_the_page_names_no_folder_of_its_maker() -> None:
    made = replace(some_runs()[0], path=Path("/home/somebody/secret/digits-gaussian-s0.5"))
    text = made_page([made])
    assert "somebody" not in text
    assert "digits-gaussian-s0.5" in text
    far = page_data([run([1000], dataset="cifar10", shape=(3, 32, 32))])
    assert any("cifar10: no pictures" in doubt and "/" not in doubt for doubt in far.doubts)


def test_a_picture_is_the_image_that_was_certified() -> None:
    from PIL import Image

    made = thumbnails([digits_run([1000, 900])])
    assert made.missing == ""
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(made.by_index[1].partition(",")[2]))))
    assert np.array_equal(levels, np.round(open_digits(None, None, "test")[1].pixels[0] * 255))
    other = thumbnails([run([1000, 900])])
    assert not other.by_index
    assert "2 of 2 images here are not those that were certified" in other.missing


def test_500_images_by_10_methods_stay_below_8_mb() -> None:
    source = np.random.default_rng(0)
    # Noise is the worst that a picture can hold.
    pictures = [data_uri(source.random((3, 32, 32), dtype=np.float32)) for _ in range(500)]
    runs = [run([int(v) for v in source.integers(400, 1001, 500)], method=f"method-{k}") for k in range(10)]
    made = page_data(runs)
    made.record["groups"][0]["pictures"] = pictures
    text = page("a report", build(runs).tables, {}, made)
    assert len(record_in(text)["groups"][0]["runs"]) == 10
    assert len(text.encode()) < 8e6


def test_large_images_are_shrunk() -> None:
    uri = data_uri(np.random.default_rng(0).random((3, 224, 224), dtype=np.float32))
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < 10_000


def test_a_page_without_runs_has_tables_and_no_plots() -> None:
    text = page("a report", build([run([1000])]).tables, {})
    assert "certified accuracy" in text
    assert len(text) < 50_000


# ---- the summary -----------------------------------------------------------------------------------------------------


def binomial_p(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar from the definition: both tails of Binomial(n, 1/2) beyond the rarer kind."""
    n = only_a + only_b
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n) if n else 1.0


def test_the_summary_is_what_the_rows_say_counted_another_way() -> None:
    # Radii at sigma 0.5 and n = 1 000: 1000 votes reach 0.75, 900 more than 0.5, 300 are wrong.
    first = [1000] * 40 + [900] * 20 + [300] * 10
    other = [1000] * 40 + [300] * 20 + [1000] * 3 + [300] * 7
    runs = [run(first, method="rrcm"), run(other)]
    (group,) = groups(runs, "pa")
    expected = {}
    for radius in group.radii:
        right = [
            [certified_accuracy(replace(each, rows=(r,)), (radius,)).certified[0] for r in each.rows] for each in runs
        ]
        a = sum(x > y for x, y in zip(*right, strict=True))
        b = sum(x < y for x, y in zip(*right, strict=True))
        if any(map(any, right)):
            expected[radius] = (100 * (a - b) / 70, binomial_p(a, b))
    # Holm from its definition: the k-th smallest of m times m - k + 1, never falling.
    worst, corrected = 0.0, {}
    for k, radius in enumerate(sorted(expected, key=lambda r: expected[r][1])):
        worst = max(worst, min(1.0, (len(expected) - k) * expected[radius][1]))
        corrected[radius] = worst
    ahead = [r for r in expected if corrected[r] <= 0.05]
    assert ahead == [0.0, 0.25, 0.5]
    assert max(corrected[r] for r in ahead) < 0.01
    assert len({round(expected[r][0], 1) for r in ahead}) == 1
    assert list(expected) == [*ahead, 0.75, 1.0]
    (said,) = summary(group)
    assert said == (
        f"rRCM is ahead of Gaussian at r = 0.00..0.50 by {expected[0.0][0]:.1f} points (p < 0.01); "
        "no significant difference at r = 0.75..1.00"
    )


def test_the_summary_says_who_is_behind_and_compares_no_random_weights() -> None:
    good, bad = [1000] * 30, [300] * 15 + [1000] * 15
    assert summary(groups([run(bad, method="rrcm"), run(good)], "pa")[0])[0].startswith("rRCM is behind Gaussian at")
    random = run(good, weights={"network": "random"})
    assert summary(groups([run(bad, method="rrcm"), random], "pa")[0]) == ()
    assert summary(groups([run(good)], "pa")[0]) == ()
    alike = summary(groups([run(good), run(good, method="macer")], "pa")[0])
    assert alike == ("Gaussian and MACER: no significant difference at r = 0.00..1.00 (+0.0 to +0.0 points)",)


def test_the_summary_pairs_each_method_at_its_best_sigma_of_a_radius() -> None:
    runs = [run([1000] * 16, sigma=0.25), run([1000] * 14 + [0] * 2, sigma=1.0), run([300] * 16, method="rrcm")]
    (group,) = groups(runs, "pa")
    best = envelope(runs[:2], group.radii)
    assert {each.run.spec.sigma for each in best.best} == {0.25, 1.0}
    (said,) = summary(group)
    spans = re.search(r"behind Gaussian at r = (\S+) by ([\d. to]+) points", said)
    assert spans
    assert spans[2] == "87.5 to 100.0"  # 14 of 16 at the radii of sigma 1.0, all at those of 0.25


def test_curves_and_latency_come_first_and_tables_after() -> None:
    text = made_page(some_runs())
    order = [text.index(f'id="{name}"') for name in ("summary", "curves", "latency", "tables", "images", "provenance")]
    assert order == sorted(order)
    plain = page("a report", build([run([1000])]).tables, {"a picture": b""})
    assert plain.index('id="figures"') < plain.index('id="tables"')


def test_a_method_has_one_colour_in_the_figures_and_on_the_page() -> None:
    runs = [run([1000, 900], method=name) for name in ("gaussian", "rrcm", "mine", "yours")]
    (group,) = groups(runs, "pa")
    figure = curve_figure(group)
    handles = figure.legends[0].legend_handles
    drawn = {text.get_text(): (handle.get_color(), handle.get_marker()) for text, handle in zip(
        figure.legends[0].get_texts(), handles, strict=True)}  # fmt: skip
    shown = {r["method"]: r["colour"] for r in page_data(runs).record["groups"][0]["runs"]}
    assert {title: colour for title, (colour, _) in drawn.items()} == shown
    assert len(set(shown.values())) == len({marker for _, marker in drawn.values()}) == 4


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chromium, Path]]:
    if BINARY is None:
        pytest.skip("no Chromium is installed: the page is not tested as a reader sees it")
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(made_page(some_runs()), encoding="utf-8")
    with Chromium(folder / "profile") as made:
        yield made, folder / "report.html"


@pytest.fixture
def browser(chromium: tuple[Chromium, Path]) -> Chromium:
    """The page as it is opened: no test sees what another has clicked."""
    made, page = chromium
    made.open(page)
    return made


def table(browser: Chromium, selector: str) -> list[list[str]]:
    return browser.value(
        f"[...document.querySelector('{selector}').tBodies[0].rows]"
        ".map(r => [...r.cells].map(c => c.firstChild ? c.firstChild.textContent : ''))"
    )


def test_a_click_on_a_heading_sorts_and_says_so(browser: Chromium) -> None:
    heading = "table.report th:nth-child(4)"
    for order in ("ascending", "descending"):
        browser.click(f"{heading} button")
        assert browser.value(f"document.querySelector('{heading}').ariaSort") == order
        values = [float(line[3]) for line in table(browser, "table.report")]
        assert values == sorted(values, reverse=order == "descending")
    others = browser.value(
        "[...document.querySelectorAll('table.report')][0].querySelectorAll('[aria-sort=none]').length"
    )
    assert others == len(table(browser, "table.report")[0]) - 1


def test_keys_alone_sort_and_find_the_origin_of_a_number(browser: Chromium) -> None:
    browser.value("document.querySelector('table.report th:nth-child(5) button').focus()")
    browser.press("Enter", 13)
    assert browser.value("document.querySelector('table.report th:nth-child(5)').ariaSort") == "ascending"
    browser.value("document.querySelector('table.report tbody [tabindex=\"0\"]').focus()")
    for _ in range(3):
        browser.press("ArrowRight", 39)
    shown = browser.value("document.getElementById('origin').textContent")
    assert re.search(r"measured: [0-9a-f]{10}.* of 6 images", shown)
    (link,) = browser.value("[...document.querySelectorAll('#origin a')].slice(0, 1).map(a => a.getAttribute('href'))")
    browser.click("#origin a")
    assert browser.value(f"document.querySelector('{link}').open")


def test_toggles_choose_the_curves(browser: Chromium) -> None:
    count = "document.getElementById('curve-plot').data.length"
    assert browser.value(count) == 2 * 3  # a line and its marks, three methods at the smallest sigma
    browser.click("#sigmas label:nth-of-type(2) input")
    assert browser.value(count) == 2 * 4
    browser.click("#methods label:nth-of-type(1) input")
    names = browser.value("document.getElementById('curve-plot').data.map(t => t.legendgroup)")
    (hidden,) = (r.spec.digest()[:10] for r in some_runs() if r.spec.method == "rrcm")  # emphasised, so the first
    assert len(names) == 2 * 3
    assert hidden not in names
    browser.click("#methods label:nth-of-type(1) input")
    browser.click("#sigmas label:nth-of-type(2) input")
    assert hidden in set(browser.value("document.getElementById('curve-plot').data.map(t => t.legendgroup)"))


def test_bands_are_the_intervals(browser: Chromium) -> None:
    browser.click("#bands")
    low, high = browser.value("document.getElementById('curve-plot').data.slice(0, 2).map(t => t.y[0])")
    line = browser.value("document.getElementById('curve-plot').data[2].y[0]")
    assert [low, high] == pytest.approx([100 * end for end in wilson(round(line * 6 / 100), 6)], abs=1e-3)
    browser.click("#bands")


def test_a_value_at_a_radius_is_the_certified_accuracy(browser: Chromium) -> None:
    for radius in (0.0, 0.3, 0.75):
        browser.value(
            f"(e => {{ e.value = '{radius}'; e.dispatchEvent(new Event('input')) }})(document.getElementById('radius'))"
        )
        found = {line[0]: line[4] for line in table(browser, "#curve-table")}
        for each in some_runs()[:3]:
            count = certified_accuracy(each, (radius,)).certified[0]
            assert found[title_of(each.spec.method)] == f"{count} of 6"


def test_the_mouse_over_a_curve_tells_its_value(browser: Chromium) -> None:
    browser.value("document.getElementById('curve-plot').scrollIntoView({block: 'center'})")
    x, y = browser.value(
        "(() => { const p = document.querySelector('#curve-plot .scatterlayer .point').getBoundingClientRect();"
        "return [p.x + p.width / 2, p.y + p.height / 2] })()"
    )
    said = ""
    for shift in range(40):  # hovering waits for the next frame
        browser.hover(x + shift % 2, y)
        said = browser.value("document.querySelector('#curve-plot .hoverlayer').textContent")
        if said:
            break
    assert re.search(r"sigma 0\.50.*r = .* of 6 images", said)


def test_images_are_looked_at_one_by_one(browser: Chromium) -> None:
    assert browser.value("document.getElementById('previous').disabled")
    browser.click("#next")
    assert "image 1 of digits" in browser.value("document.querySelector('#image-figure img').alt")
    assert browser.value("document.querySelector('#image-figure img').naturalWidth") == 8
    verdicts = {line[0]: line for line in table(browser, "#verdicts")}
    assert verdicts["Gaussian"][2:4] == ["✓ right, certified", "3"]
    assert verdicts["Gaussian"][6] == "3: 990, 5: 10"
    for _ in range(4):
        browser.click("#next")
    assert browser.value("document.getElementById('next').disabled")
    assert {line[0]: line[2] for line in table(browser, "#verdicts")}["Gaussian"] == "– abstains"


def test_images_on_which_methods_disagree_can_be_chosen(browser: Chromium) -> None:
    browser.value(
        "(e => { e.value = 'split'; e.dispatchEvent(new Event('change')) })(document.getElementById('filter'))"
    )
    assert browser.value("[...document.getElementById('image').options].map(o => o.textContent.split(',')[0])") == [
        "3", "4", "5"
    ]  # fmt: skip


def test_seconds_stand_beside_their_source(browser: Chromium) -> None:
    lines = table(browser, "#latency-table")
    assert len(lines) == 3
    assert all(line[2].startswith("measured here") and line[4] == "0.500" for line in lines)


def test_a_screen_reader_finds_landmarks_and_a_name_for_each_control(browser: Chromium) -> None:
    browser.value("document.querySelector('table.report tbody [tabindex=\"0\"]').focus()")  # the status speaks
    browser.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [n["role"]["value"] for n in nodes if not n.get("ignored")]
    assert {"banner", "navigation", "main", "status"} <= set(roles)
    for kind in ("button", "checkbox", "combobox", "spinbutton", "table", "image", "region"):
        nameless = [n for n in nodes if n.get("role", {}).get("value") == kind and not n.get("name", {}).get("value")]
        assert kind in roles
        assert not [n for n in nameless if not n.get("ignored")], kind


def test_nothing_went_wrong_and_nothing_was_asked_for(browser: Chromium) -> None:
    browser.value("window.alerted === undefined")
    assert browser.complaints() == []


def test_a_screenshot_shows_the_curves(browser: Chromium) -> None:
    from PIL import Image

    browser.value("document.getElementById('curves').scrollIntoView()")
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    colours = {colour for _, colour in picture.getcolors(1 << 24) or []}
    for method, look in looks(["gaussian", "rrcm", NASTY]).items():
        assert tuple(bytes.fromhex(look.colour[1:])) in colours, method


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_360_pixels_wide_scrolls_in_no_other_way_than_down(chromium: tuple[Chromium, Path], scheme: str) -> None:
    browser, made = chromium
    browser.ask("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        browser.open(made)
        browser.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert browser.value("document.documentElement.scrollWidth") <= 360
        for plot in ("curve-plot", "latency-plot"):
            # Nothing of the plot's ink lies outside of its frame.
            inside = browser.value(
                f"(() => {{ const frame = document.getElementById('{plot}').getBoundingClientRect();"
                f"return [...document.querySelectorAll('#{plot} .main-svg text, #{plot} .main-svg path.point')]"
                ".map(e => e.getBoundingClientRect()).filter(b => b.width)"
                ".every(b => b.left >= frame.left - 1 && b.right <= frame.right + 1"
                " && b.top >= frame.top - 1 && b.bottom <= frame.bottom + 1) })()"
            )
            assert inside, plot
    finally:
        browser.ask("Emulation.clearDeviceMetricsOverride")
        browser.ask("Emulation.setEmulatedMedia", features=[])


def test_dark_follows_the_system_until_the_button_says_otherwise(chromium: tuple[Chromium, Path]) -> None:
    browser, made = chromium
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.getElementById('curve-plot').layout.font.color"
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    try:
        browser.open(made)
        assert browser.value(ground) == "rgb(20, 23, 27)"
        dark_ink = browser.value(ink)
        browser.click("#theme")
        assert browser.value(ground) == "rgb(255, 255, 255)"
        assert browser.value(ink) != dark_ink
        assert browser.value("document.getElementById('theme').textContent") == "Dark"
    finally:
        browser.ask("Emulation.setEmulatedMedia", features=[])
