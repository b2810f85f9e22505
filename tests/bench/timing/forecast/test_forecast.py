"""What a large run takes: samples an image from logs, and the schedule of the real driver against a clock."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from places import PROJECT
from published_logs import cohen, put, radius
from typer.testing import CliRunner

from bench.certification.bounds import lower_bound
from bench.certification.operating_characteristic import operating
from bench.certification.sequential import look_sizes
from bench.certification.stopping_rule import BETA, reachable_design
from bench.cli.app import app
from bench.published.logs.reading import read_log
from bench.report.figures.forecast import efficiency_figure, record
from bench.report.formats.markdown import markdown
from bench.report.tables.forecast import forecast_tables
from bench.timing.forecast.forecast import QUOTED, costs_of_the_paper, forecast, given_cost
from bench.timing.forecast.sample_demand import Demand, as_toml, draw, from_logs, known, pick, recovered
from bench.timing.forecast.simulate import Costs, by_image, by_look, by_share, of_fixed_n
from bench.types.errors import BenchError, DataError, UsageError

RADII = (0.0, 0.5, 1.0, 1.5)
SEVERAL = Costs(sample=0.001, batch=100)
FREE = Costs(sample=0.001, batch=1, task=0.0, unit=0.0)


def sizes_of(n: int = 100_000) -> list[int]:
    return [b - a for a, b in pairwise((0, *look_sizes(n)))]


# ---- samples an image ------------------------------------------------------------------------------------------------


def log_of(folder: Path, votes: list[int], correct: bool = True) -> Path:
    """A log at sigma 0.5 of images with so many votes of 10 000."""
    rows = [
        (k, 3, 3 if correct else 4, found, 1.0)
        for k, count in enumerate(votes)
        if (found := radius(count, 10_000, 0.001, 0.5)) is not None
    ]
    return put(folder / "sigma_0.50", cohen(rows, form="{:.12f}"))


def test_a_logs_demand_is_the_expectation_at_the_probabilities_behind_it(tmp_path: Path) -> None:
    votes = [10_000] * 3 + [9_700, 9_000, 7_777, 6_001]
    demand = recovered(read_log(log_of(tmp_path, votes)), "mine", 20_000, RADII)
    design = reachable_design(0.5, RADII, 20_000, 0.001, BETA)
    expected = np.mean([operating(design, min(count / 10_000, 1 - 3.4e-6)).samples for count in votes])
    assert demand.samples == pytest.approx(expected, rel=0.1)  # p is rounded to 0.02 standard deviations
    assert demand.images == len(votes)
    assert demand.going[-1] == 0
    assert all(a >= b for a, b in pairwise(demand.going))


def test_an_image_of_another_class_is_taken_below_what_that_class_leaves(tmp_path: Path) -> None:
    wrong = recovered(read_log(log_of(tmp_path, [9_990, 9_995, *[10_000] * 4], correct=False)), "m", 20_000, RADII)
    assert lower_bound(9_990, 10_000, 0.001) > 0.99
    assert wrong.samples < 60  # p below 0.001: given up at the first look


def test_a_log_that_tells_no_n_is_refused_in_one_line(tmp_path: Path) -> None:
    path = put(tmp_path / "log", cohen([(0, 1, 1, 0.3, 1.0)]))
    for paths in ([path], [tmp_path / "absent"]):
        with pytest.raises(DataError) as caught:
            from_logs(paths, 1000, RADII)
        assert "\n" not in str(caught.value)


def test_images_are_drawn_in_the_logs_shares_and_in_random_order() -> None:
    demand = pick(known(), 0.5, 100_000)
    looks = draw(demand, 20_000)
    assert np.array(demand.looks)[looks - 1].mean() == pytest.approx(demand.samples, rel=0.01)
    for j, left in enumerate(demand.going):
        assert (looks > j + 1).mean() == pytest.approx(left, abs=1e-4)
    assert abs(looks[:10_000].mean() - looks[10_000:].mean()) < 0.5
    assert (looks == draw(demand, 20_000)).all()
    with pytest.raises(DataError, match="give --logs"):
        pick(known(), 0.3, 100_000)


def test_what_ships_is_what_the_logs_give(shared: Path) -> None:
    root = shared / "logs" / "locuslab__smoothing" / "data" / "certify" / "imagenet" / "resnet50"
    if not root.is_dir():
        pytest.skip("../shared/logs/locuslab__smoothing is absent")
    for sigma in ("0.25", "0.50", "1.00"):
        log = read_log(root / f"noise_{sigma}" / "test" / f"sigma_{sigma}")
        shipped = pick(known(), float(sigma), 100_000)
        made = recovered(log, shipped.network, 100_000, (*RADII, 2.0, 2.5))
        assert as_toml(made) == as_toml(shipped)


# ---- the schedule ----------------------------------------------------------------------------------------------------


def test_every_schedule_counts_every_sample_and_none_beats_perfect_division() -> None:
    looks = draw(pick(known(), 1.0, 10_000), 300)
    sizes = sizes_of(10_000)
    total = float(np.cumsum(sizes)[looks - 1].sum())
    for schedule in (by_look, by_image, by_share):
        for devices in (1, 4, 32):
            found = schedule(looks, sizes, devices, SEVERAL)
            assert found.work == pytest.approx(total * SEVERAL.sample)
            assert found.efficiency(devices) <= 1 + 1e-9


def test_one_hard_image_is_shared_by_look_and_by_nothing_else() -> None:
    sizes = sizes_of()
    looks = np.array([len(sizes)])
    alone = sum(sizes) * FREE.sample
    assert by_image(looks, sizes, 8, FREE).seconds == pytest.approx(alone)
    assert by_share(looks, sizes, 8, FREE).seconds == pytest.approx(alone)
    # Each look waits for all of its pieces; they are equal in number on every device but for the first small ones.
    assert by_look(looks, sizes, 8, FREE).seconds < 1.5 * alone / 8


def test_hard_images_at_the_end_leave_devices_idle_only_where_images_are_whole() -> None:
    sizes = sizes_of()
    looks = np.concatenate([np.full(200, 2), np.full(2, len(sizes))])
    kept = [s(looks, sizes, 16, SEVERAL).efficiency(16) for s in (by_look, by_image, by_share)]
    assert kept[0] > 0.8
    assert kept[1] < 0.2
    assert kept[2] < 0.2


def test_a_driver_too_slow_for_its_devices_is_seen() -> None:
    looks, sizes = np.full(3000, 3), sizes_of()
    quick = by_look(looks, sizes, 64, FREE)
    slow = by_look(looks, sizes, 64, Costs(sample=0.001, batch=1, task=0.0, unit=0.01))
    assert slow.driver >= 0.01 * 3 * 3000
    assert slow.seconds >= slow.driver > 5 * quick.seconds


def test_a_fixed_n_splits_to_the_last_pass() -> None:
    found = of_fixed_n(10, 1000, 7, SEVERAL)
    assert found.seconds == pytest.approx(15 * 100 * 0.001)  # 100 passes over 7 devices
    assert found.work == pytest.approx(10.0)


@pytest.mark.parametrize("name", ["imagenet-rrcm-b", "imagenet-resnet50", "cifar-resnet110"])
def test_a_row_of_a_table_keeps_the_gpus_of_a_machine_busy_at_the_pass_times_measured(name: str) -> None:
    record = json.loads((PROJECT / "results/bench/nvidia-h200-20261126T072111Z.json").read_text())
    (row,) = (row for row in record["networks"] if row["name"] == name)
    costs = Costs(sample=1 / row["certifier_copies_per_s"], batch=row["batch"])
    images, n = 500, 100_100
    for devices in (2, 4, 8):
        # `run --device cuda`: whole images to whichever process is free; and a cluster's tasks.
        whole = by_image(np.ones(images, dtype=np.int64), [n], devices, costs)
        assert whole.efficiency(devices) >= 0.97
        assert of_fixed_n(images, n, devices, costs).efficiency(devices) >= 0.97


# ---- the plan --------------------------------------------------------------------------------------------------------


def small(**change):
    mine = given_cost("mine=0.002", 64)
    asked = {"sigmas": (0.5, 1.0), "n": 10_000, "images": 200, "devices": (1, 8), "split": ("mine",), **change}
    return forecast([*costs_of_the_paper(), mine], known(), **asked)


def test_hours_are_samples_times_the_quoted_seconds() -> None:
    made = {(each.method.key, each.sigma): each for each in small()}
    dds = made["dds", 0.5]
    assert dds.method.origin == QUOTED
    assert dds.fixed_hours == pytest.approx(200 * 232 / 3600)  # the paper's 232 s an image, at its own N
    assert dds.own_hours == pytest.approx(dds.fixed_hours)
    rrcm = made["rrcm-b", 0.5]
    assert rrcm.own_hours == pytest.approx(200 * 53 / 3600)
    assert rrcm.sequential_hours == pytest.approx(rrcm.sequential_samples * 53 / 100_100 / 3600)
    assert dds.sequential_samples == rrcm.sequential_samples < rrcm.fixed_samples / 2


def test_a_record_says_of_each_number_where_it_is_from() -> None:
    made = small()
    told = json.loads(json.dumps(record(made)))
    assert {row["seconds_origin"] for row in told["rows"]} == {"quoted", "given"}
    assert all("Lei et al." in row["seconds_source"] for row in told["rows"] if row["seconds_origin"] == "quoted")
    mine = [row for row in told["rows"] if row["method"] == "mine"]
    assert [split["devices"] for row in mine for split in row["devices"]] == [1, 8, 1, 8]
    assert all(not row["devices"] for row in told["rows"] if row["method"] != "mine")
    hours, split = forecast_tables(made)
    text = markdown([hours, split])
    assert all(note in text for note in told["notes"])
    assert (len(hours.rows), len(split.rows)) == (15, 4)
    figure = efficiency_figure(made)
    assert len(figure.axes) == 2


def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    words = ["plan", "--images", "100", "--gpus", "1,4", "--n", "10000", "--sigma", "1.0", "--methods", "gaussian"]
    ran = CliRunner().invoke(app, [*words, "--json", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    written = json.loads((tmp_path / "scaling.json").read_text())
    assert json.loads(ran.stdout) == written
    assert written["n"] == 10_000
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png", ".svg"}


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--gpus", "0"], UsageError, "--gpus '0': expected numbers from 1 to"),
        (["--gpus", "many"], UsageError, "--gpus 'many'"),
        (["--images", "0"], UsageError, "--images 0"),
        (["--methods", "dds2"], UsageError, "no row 'dds2'; expected all, or some of: gaussian"),
        (["--cost", "mine"], UsageError, "expected NAME=SECONDS"),
        (["--cost", "mine=-1"], UsageError, "expected NAME=SECONDS"),
        (["--n", "777"], DataError, "there is (sigma, n)"),
        (["--logs", "nowhere"], DataError, "no file or folder 'nowhere'"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_one_line(words: list[str], error: type[BenchError], said: str) -> None:
    ran = CliRunner().invoke(app, ["plan", *words])
    assert isinstance(ran.exception, error)
    assert said in str(ran.exception)
    assert "\n" not in str(ran.exception)


def test_a_demands_samples_are_the_sum_over_its_looks() -> None:
    demand = Demand(network="", sigma=1.0, n=100, radii=(0.0,), images=1, looks=(50, 63, 100), going=(0.5, 0.25, 0.0))
    assert demand.samples == 50 + 0.5 * 13 + 0.25 * 37
