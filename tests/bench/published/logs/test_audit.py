"""The audit says of simulated logs what was done to them, and of published ones what is known of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import published_logs as made
import pytest

from bench.cli import main
from bench.data.installed import installed_datasets
from bench.published.logs.audit import Audit, audit
from bench.published.logs.reading import find_logs, read_log
from bench.published.logs.subsets import sigma_of, subset_of
from bench.published.tables import load

RADII = {"imagenet": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5), "cifar10": (0.0, 0.25, 0.5, 0.75, 1.0)}


def audited(*paths: Path) -> Audit:
    logs, damaged, others = find_logs(paths)
    return audit(logs, installed_datasets(), damaged=damaged, others=others)


def kinds(*paths: Path) -> dict[str, list[str]]:
    return {each.log.path.name: [finding.kind for finding in each.findings] for each in audited(*paths).logs}


ROWS = made.simulated(500, n=100_000, sigma=0.5, seed=4)


def clean(rows: list[made.Row]) -> list[made.Row]:
    """Without the radii that print as a table's radius."""
    return [row for row in rows if f"{row[3]:.3}" not in ("0.25", "0.5", "0.75", "1.0")]


def put(folder: Path, rows: list[made.Row], name: str = "cifar10/noise_0.50") -> Path:
    return made.put(folder / name, made.cohen(rows))


def test_a_plain_log_has_no_findings(tmp_path: Path) -> None:
    whole = [(k * 20, *row[1:]) for k, row in enumerate((clean(ROWS) * 2)[:500])]
    assert kinds(put(tmp_path, whole)) == {"noise_0.50": []}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("cifar10", "cifar10"),
        ("certify_CIFAR-10_0.25", "cifar10"),
        ("imagenet_resnet50", "imagenet"),
        ("imagenet/imagenet-c", ""),
        ("cifar10/cifar10c", ""),
        ("cifar-10-c", ""),
        ("cifar10.1", ""),
        ("cifar10_1.00", "cifar10"),
        ("cifar100", ""),
        ("imagenetv2", ""),
        ("imagenet-a", ""),
        ("tiny-imagenet", ""),
        ("imagenet32", ""),
        ("mycifar10x", ""),
    ],
)
def test_a_dataset_is_named_by_its_whole_name(name: str, dataset: str, tmp_path: Path) -> None:
    rows = [(k * 20, k % 7, k % 7, 0.3, 1.0) for k in range(100)]
    assert subset_of(read_log(put(tmp_path, rows, f"{name}/noise_0.50")), installed_datasets()).dataset == dataset


@pytest.mark.parametrize(("index", "label"), [(10_000, 1), (20, 10)])
def test_rows_beyond_a_dataset_are_not_of_it(index: int, label: int, tmp_path: Path) -> None:
    (each,) = audited(put(tmp_path, [(index, label, 1, 0.3, 1.0), (9_999, 1, 1, 0.4, 1.0)])).logs
    assert each.subset.dataset == ""
    assert "dataset" in [f.kind for f in each.findings]


@pytest.mark.parametrize(
    ("name", "column"), [("linf/cifar10/noise_0.50", "time"), ("cifar10/noise_0.50-l1", "time"), ("cifar10/a", "linf")]
)
def test_radii_of_another_norm_are_said(name: str, column: str, tmp_path: Path) -> None:
    text = made.cohen(ROWS, time=lambda s: f"{s:.1f}").replace("time", column, 1)
    (each,) = audited(made.put(tmp_path / name, text)).logs
    assert "norm" in [f.kind for f in each.findings]


def test_radii_of_0_to_255_are_told_by_their_unit(tmp_path: Path) -> None:
    for name in ("cifar10/noise_0.25", "cifar10/plain"):
        rows = [(k * 20, 1, 1, r, 1.0) for k, r in enumerate((64.0, 64.0, 64.0, 20.0))]
        (each,) = audited(put(tmp_path, rows, name)).logs
        assert each.reading.sampling is None
        assert any("is not that of pixels in [0, 1]" in f.text for f in each.findings if f.kind == "unit")


def test_radii_of_two_bounds_are_not_judged_by_the_grid_of_one(tmp_path: Path) -> None:
    head, *lines = made.cohen(ROWS).splitlines()
    text = "\n".join([f"{head}\tpABar\tpBBar", *(f"{line}\t0.9\t0.05" for line in lines)]) + "\n"
    (each,) = audited(made.put(tmp_path / "cifar10" / "noise_0.50", text)).logs
    assert each.reading.sampling is None
    assert "'pBBar'" in each.reading.reason


def test_an_audit_keeps_no_rows_and_says_how_sure_it_is(tmp_path: Path) -> None:
    (each,) = audited(put(tmp_path, made.simulated(500, n=100_000, sigma=0.25), "cifar10/noise_0.25")).logs
    assert (each.log.rows, each.images) == ((), 500)
    assert each.reading.chance is not None
    assert each.reading.chance < 1e-6


def test_a_log_that_stops_early_is_incomplete(tmp_path: Path) -> None:
    (each,) = audited(put(tmp_path, ROWS[:427])).logs
    assert "427 of the 500 images of skip:20, index 0 to 8520" in [f.text for f in each.findings]


def test_an_alpha_other_than_stated_is_named(tmp_path: Path) -> None:
    (each,) = audited(put(tmp_path, made.simulated(500, n=100_000, alpha=0.01, sigma=0.5))).logs
    assert [f.text.split(":")[0] for f in each.findings if f.kind == "alpha"] == ["alpha=0.01, not 0.001"]
    assert each.rebounded is not None


def test_rows_of_two_sigmas_in_one_file_are_told(tmp_path: Path) -> None:
    low = [(i + 10_000, *rest) for i, *rest in made.simulated(500, n=100_000, sigma=0.25, seed=5)]
    path = put(tmp_path, ROWS + low)  # type: ignore[operator]
    (found,) = kinds(path).values()
    assert "mixed" in found
    assert "mixed" not in kinds(put(tmp_path / "plain", ROWS))["noise_0.50"]


def test_a_path_that_names_another_sigma_than_the_radii_is_told(tmp_path: Path) -> None:
    (each,) = audited(put(tmp_path, made.simulated(500, n=100_000, sigma=0.25), "cifar10/noise_1.00")).logs
    assert "its path says sigma 1, its radii are those of sigma 0.25" in [f.text for f in each.findings]


def test_the_same_rows_under_two_names_are_told_whatever_their_times(tmp_path: Path) -> None:
    put(tmp_path, ROWS)
    put(tmp_path, [(*row[:4], row[4] + 1) for row in ROWS], "cifar10/noise_0.50_again")
    found = kinds(tmp_path)
    assert "duplicate" in found["noise_0.50_again"]
    assert "duplicate" not in found["noise_0.50"]


def test_other_images_at_the_same_indices_are_told(tmp_path: Path) -> None:
    put(tmp_path, ROWS)
    put(tmp_path, made.simulated(500, n=100_000, sigma=0.5, seed=9), "cifar10/noise_0.50_other")
    assert "images" in kinds(tmp_path)["noise_0.50_other"]


def test_columns_that_mislead_are_told(tmp_path: Path) -> None:
    running = made.put(tmp_path / "cifar10" / "running_0.50", made.cumulative(ROWS))
    assert "correct" in kinds(running)["running_0.50"]
    twice = put(tmp_path, [*ROWS, *ROWS[:3]])
    assert "repeated" in kinds(twice)["noise_0.50"]
    torn = made.put(tmp_path / "cifar10" / "torn", made.cohen(ROWS).rpartition("\t")[0])
    assert "torn" in kinds(torn)["torn"]


def test_radii_that_rounding_may_have_lifted_are_told(tmp_path: Path) -> None:
    path = put(tmp_path, [*ROWS[:-1], (9980, 1, 1, 0.4996, 1.0)])
    (each,) = audited(path).logs
    assert any("at r=0.5" in f.text for f in each.findings if f.kind == "rounding")


@pytest.mark.parametrize(
    ("indices", "words", "expected"),
    [
        (range(0, 10_000, 20), "skip:20", 500),
        (range(0, 5_000, 20), "skip:20", 500),
        (range(5_000, 10_000, 20), "skip:20", 500),
        (range(7, 10_000, 20), "skip:20+7", 500),
        (range(500), "first:500", 500),
        (range(500, 1_000), "500:1000", 500),
        (range(10_000), "all", 10_000),
        ([*range(0, 4_000, 20), *range(6_000, 10_000, 20)], "skip:20", 500),
        ([0, 1, 5, 700, 9_000], "5 images of no regular stride, from 0 to 9000", None),
        (reversed(range(0, 10_000, 20)), "skip:20, not in index order", 500),
    ],
)
def test_a_subset_is_read_off_its_indices(indices: Any, words: str, expected: int | None, tmp_path: Path) -> None:
    rows = [(i, i % 7, i % 7, 0.3, 1.0) for i in indices]
    subset = subset_of(read_log(put(tmp_path, rows)), installed_datasets())
    assert (subset.words, subset.expected, subset.dataset) == (words, expected, "cifar10")


def test_class_order_is_told_from_file_order(tmp_path: Path) -> None:
    by_class = [(i, i // 50, i // 50, 0.3, 1.0) for i in range(0, 50_000, 100)]
    by_file = [(i, (i * 7919) % 1000, 1, 0.3, 1.0) for i in range(0, 50_000, 100)]
    first = subset_of(read_log(put(tmp_path, by_class, "a/noise_0.50")), installed_datasets())
    assert (first.dataset, first.words, first.order) == ("imagenet", "skip:100", "class-sorted")
    assert (
        subset_of(read_log(put(tmp_path, by_file, "imagenet/noise_0.50")), installed_datasets()).order
        == "mixed classes"
    )
    assert "order" in kinds(tmp_path / "imagenet")["noise_0.50"]
    ten = [(i, i // 50, i // 50, 0.3, 1.0) for i in range(500)]
    assert kinds(put(tmp_path, ten, "imagenet/first"))["first"].count("subset") == 2


@pytest.mark.parametrize(
    ("path", "sigma"),
    [
        ("resnet50/noise_0.25/test/sigma_0.50", 0.5),
        ("workdir/model/certify_result_0.25.txt", 0.25),
        ("x-noise_1-10-1_run", 1.0),
        ("smoothmix/noise_0.5_adv", 0.5),
        ("sig1_b10", 1.0),
        ("resnet18/sigma_25/log", None),
        ("results/carlini", None),
    ],
)
def test_the_last_noise_level_of_a_path_counts(path: str, sigma: float | None) -> None:
    assert sigma_of(Path(path)) == sigma


def test_json_is_one_document_and_the_table_names_each_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, ROWS[:427])
    put(tmp_path, made.simulated(500, n=100_000, sigma=0.25), "cifar10/noise_0.25")
    printed = []
    for words in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["rrcm-bench", "logs", "audit", str(tmp_path), *words])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code in (0, None)
        printed.append(capsys.readouterr().out)
    document = json.loads(printed[0])
    assert [(log["n"], log["alpha"]) for log in document["logs"]] == [(100_000, 0.001)] * 2
    assert "incomplete" in {f["kind"] for log in document["logs"] for f in log["findings"]}
    for words in ("noise_0.25", "noise_0.50", "427 of 500", "findings", "100 000"):
        assert words in printed[1]


# ---- published logs, where they are ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def published_logs(shared: Path) -> Path:
    if not (shared / "logs").is_dir():
        pytest.skip("../shared/logs is absent")
    return shared / "logs"


def percents(values: Any, digits: int = 1) -> list[float]:
    return [round(100 * value, digits) for value in values]


def test_the_imagenet_gaussian_row_is_the_best_of_its_logs_and_owes_alpha_001(published_logs: Path) -> None:
    found = audited(*sorted((published_logs / "locuslab__smoothing/data/certify/imagenet").rglob("test/*")))
    (best,) = found.best
    assert percents(best.printed) == [66.7, 49.4, 37.2, 28.6, 19.4, 14.8]
    assert best.rebounded is not None
    assert percents(best.rebounded) == [66.7, 49.4, 37.2, 28.0, 19.4, 14.4]
    assert percents(best.printed, 0) == percents(load("table1").row("gaussian").values, 0)
    named = {each.sigma: each for each in found.logs if each.log.path.parts[-3] == f"noise_{each.sigma:.2f}"}
    assert {s: each.reading.sampling and each.reading.sampling.alpha for s, each in named.items()} == {
        0.25: 0.01,
        0.5: 0.01,
        1.0: 0.01,
    }
    assert [f.text for f in named[0.25].findings if f.kind == "incomplete"] == [
        "427 of the 500 images of skip:100, index 0 to 42600"
    ]
    assert all(f.kind != "incomplete" for s in (0.5, 1.0) for f in named[s].findings)


@pytest.mark.parametrize(
    ("path", "strict"),
    [
        ("imagenet/resnet50/noise_1.00/test/sigma_1.00", [43.6, 37.8, 32.4, 26.0, 19.4, 14.4]),
        ("cifar10/resnet110/noise_0.25/test/sigma_0.25", [74.8, 60.0, 42.8, 25.8, 0.0]),
        ("cifar10/resnet110/noise_0.50/test/sigma_0.50", [65.0, 54.6, 41.4, 32.0, 23.2]),
    ],
)
def test_single_logs_read_at_the_stated_alpha(published_logs: Path, path: str, strict: list[float]) -> None:
    (each,) = audited(published_logs / "locuslab__smoothing/data/certify" / path).logs
    assert each.rebounded is not None
    assert percents(each.rebounded.fractions) == strict


def test_the_imagenet_consistency_row_is_reproduced_in_five_of_six_cells(published_logs: Path) -> None:
    (best,) = audited(published_logs / "jh-jeong__smoothing-consistency/data/certify/imagenet").best
    assert percents(best.printed) == [55.0, 50.2, 44.0, 34.8, 24.2, 21.0]
    quoted = percents(load("table1").row("consistency").values, 0)
    assert [a == b for a, b in zip(percents(best.printed, 0), quoted, strict=True)] == [True] * 3 + [False] + [True] * 2


def test_the_cifar10_consistency_row_is_reproduced(published_logs: Path) -> None:
    root = published_logs / "jh-jeong__smoothing-consistency/data/certify/cifar10/consistency"
    names = [
        "cohen/num_2/lbd_10.0/eta_0.5/cifar_resnet110/noise_0.25",
        "cohen/num_2/lbd_20.0/eta_0.5/cifar_resnet110/noise_0.25",
        "salman_255.0_10_10/num_4/lbd_2.0/eta_0.5/cifar_resnet110/noise_0.25",
        "salman_512.0_10_10/num_2/lbd_1.0/eta_0.5/cifar_resnet110/noise_0.50",
    ]
    (best,) = audited(*(root / name for name in names)).best
    assert best.rebounded is None  # made at the stated alpha
    assert percents(best.printed) == percents(load("table2").row("consistency").values)


def test_third_party_logs_are_of_ten_thousand_samples_and_one_is_a_copy(published_logs: Path) -> None:
    found = audited(published_logs / "SaiyueLyu__DensePure")
    known = {each.log.path.name: each for each in found.logs}
    assert {(e.reading.sampling.n, e.reading.sampling.alpha) for e in found.logs if e.reading.sampling} == {
        (10_000, 0.001)
    }
    assert percents(known["carlini"].printed.fractions) == [60, 54, 48, 46, 36, 28]
    assert sum(f.kind == "duplicate" for each in found.logs for f in each.findings) == 1
    assert any("42 of the 50" in f.text for f in known["dars_sig1.txt"].findings)
    assert [path.name for path in found.others] == ["log.txt"]
