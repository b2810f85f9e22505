"""Imported logs are stored whole, marked as such, never among measured rows; bad ones leave nothing behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import published_logs as made
import pytest

from bench.cli import main
from bench.published.logs.reading import read_log
from bench.published.logs.store import find_imports, read
from bench.report.build import build
from bench.report.formats.markdown import as_csv, markdown
from bench.report.tables.imported_logs import imported_tables
from bench.runs.store import find_runs
from bench.types.errors import StoreError

ROWS = made.simulated(500, n=100_000, sigma=0.5)


def imported(cli: Any, text: str | None = None, name: str = "cifar10/noise_0.50", **options: object) -> Path:
    log = made.put(Path("published") / name, made.cohen(ROWS) if text is None else text)
    words = [word for key, value in {"method": "gaussian", **options}.items() for word in (f"--{key}", value)]
    outcome = cli("logs", "import", log, "--out", "store", *words)
    assert outcome.code == 0, outcome.err
    return next(
        p
        for p in Path("store").iterdir()
        if json.loads((p / "imported.json").read_text())["origin"]["source"] == str(log)
    )


def test_an_import_gives_back_the_rows_of_the_log(cli: Any) -> None:
    folder = imported(cli)
    log = read(folder)
    assert log.rows == read_log(Path("published/cifar10/noise_0.50")).rows
    assert [(r.index, r.label, r.predict, float(r.radius)) for r in log.rows] == [
        (i, y, p, float(f"{r:.3}")) for i, y, p, r, _ in ROWS
    ]
    origin = log.origin
    assert (origin.dataset, origin.subset, origin.expected, origin.rows) == ("cifar10", "skip:20", 500, 500)
    assert (origin.n, origin.alpha, origin.sigma) == (100_000, 0.001, 0.5)
    assert (origin.sampling_by, origin.sigma_by, origin.significant) == ("radii", "path", 3)


def test_importing_twice_is_importing_once(cli: Any) -> None:
    first = imported(cli)
    before = {p: p.read_bytes() for p in first.iterdir()}
    assert imported(cli) == first
    assert {p: p.read_bytes() for p in first.iterdir()} == before
    assert len(list(Path("store").iterdir())) == 1


def test_an_import_is_no_run_and_a_report_marks_every_cell(cli: Any) -> None:
    imported(cli)
    assert find_runs([Path("store")]) == []
    report = build([], imports=find_imports([Path("store")]))
    assert report.tables
    assert {cell.source for table in report.tables for row in table.rows for cell in row} == {"imported"}
    assert "not measured here" in markdown(report.tables)
    assert ",imported," in as_csv(report.tables)
    assert ",measured," not in as_csv(report.tables)


def test_a_report_counts_what_the_rows_say(cli: Any) -> None:
    imported(cli)
    (table,) = imported_tables(find_imports([Path("store")]))
    k = next(k for k, column in enumerate(table.columns) if column.radius == 0.5)
    assert table.rows[0][k].successes == sum(y == p and float(f"{r:.3}") >= 0.5 for _, y, p, r, _ in ROWS)
    assert table.rows[0][k].images == len(ROWS)


def test_best_over_sigma_takes_the_larger_share_and_names_its_sigma(cli: Any) -> None:
    imported(cli)
    imported(cli, made.cohen(made.simulated(500, n=100_000, sigma=0.25)), "cifar10/noise_0.25")
    best, single = imported_tables(find_imports([Path("store")]))
    columns = [k for k, column in enumerate(best.columns) if column.radius is not None]
    offset = len(single.columns) - len(best.columns)
    for k in columns:
        alone = [row[k + offset] for row in single.rows]
        assert best.rows[0][k].value == max(cell.value for cell in alone)
    assert "σ=0.50" in best.rows[0][columns[-1]].note  # sigma 0.25 cannot reach radius 1


def test_a_report_at_another_alpha_comes_from_the_counts(cli: Any) -> None:
    rows = made.simulated(500, n=100_000, sigma=0.5, alpha=0.01)
    imported(cli, made.cohen(rows))
    logs = find_imports([Path("store")])
    loose, strict = imported_tables(logs)[0], imported_tables(logs, 0.001)[0]
    assert "alpha=0.01;" in loose.caption
    assert "alpha=0.001;" in strict.caption
    assert all(a.value >= b.value for a, b in zip(loose.rows[0][-5:], strict.rows[0][-5:], strict=True))
    imported_at_large = imported_tables(logs, 0.05)
    assert imported_at_large == ()


def test_a_damaged_import_is_named_and_the_others_are_read(cli: Any) -> None:
    good = imported(cli)
    wrong = {"sigma": "0.5", "n": 0, "alpha": 2.0, "rows": True, "expected": "x", "layout": [1], "significant": 10**6}
    for field, value in wrong.items():
        record = json.loads((good / "imported.json").read_text())
        record["origin"][field] = value
        folder = good.with_name(f"damaged-{field}")
        folder.mkdir()
        (folder / "imported.json").write_text(json.dumps(record))
        (folder / "rows.jsonl").write_bytes((good / "rows.jsonl").read_bytes())
    said: list[str] = []
    assert [log.path for log in find_imports([Path("store")], said.append)] == [good]
    assert sorted(said) == sorted(line for line in said if "damaged-" in line and "import the log again" in line)
    assert len(said) == len(wrong)


def test_the_report_command_reads_imports(cli: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    imported(cli)
    monkeypatch.setattr(sys, "argv", ["rrcm-bench", "report", "--runs", "store", "--json"])
    with pytest.raises(SystemExit):
        main()
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert {cell["source"] for table in tables for row in table["rows"] for cell in row} == {"imported"}


def test_matlab_radii_are_imported_with_what_the_user_states(cli: Any, tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "macer.mat", {"hard": [r if y == p else -1.0 for _, y, p, r, _ in ROWS]})
    outcome = cli("logs", "import", "macer.mat", "--dataset", "cifar10", "--sigma", 0.5, "--method", "macer", "--json")
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.json["imported"]
    log = read(Path(entry["path"]))
    assert (log.origin.n, log.origin.alpha, log.origin.sampling_by) == (100_000, 0.001, "radii")
    (table,) = imported_tables([log])
    assert next(c for c, col in zip(table.rows[0], table.columns, strict=True) if col.key == "abstain").value is None


ABSTAINS = [(k * 20, 1, -1, 0.0, 1.0) for k in range(500)]
SHIFTED = [(i, y, p, r * 0.9 if r > 0.5 else r, s) for i, y, p, r, s in made.simulated(500, n=1_000, sigma=0.5)]
UNSATURATED = [row for row in ROWS if row[3] < 1.2]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (made.cohen(ROWS).rpartition("\t")[0], (), "it was cut off"),
        (made.cohen(ROWS) + "0\t1\n", (), "expected 6 columns"),
        (made.cohen(ROWS) + made.cohen(ROWS), (), "two logs in one file"),
        (made.cohen(ROWS) + made.cohen(ROWS[:1], header=False), (), "an image that came before"),
        (made.cohen(UNSATURATED), (), "do not tell N and alpha"),
        (made.cohen(UNSATURATED), ("--n", "100000"), "give --alpha"),
        (made.cohen(ABSTAINS), (), "no image is certified"),
        ("words\n", (), "is not a certification log"),
        (made.cohen(ROWS), ("--n", "10000", "--alpha", "0.001"), "above 1.599, the largest of n=10000"),
        (made.cohen(ROWS), ("--n", "200000", "--alpha", "0.001"), "they say N=100000, alpha=0.001"),
        (made.cohen(SHIFTED), ("--n", "1000", "--alpha", "0.001"), "radii can come of n=1000"),
        (made.cohen(ROWS), ("--n", "5", "--alpha", "0.001"), "can never certify"),
        (made.adaptive(ROWS, 0.5), (), "give --radius"),
    ],
)
def test_a_bad_log_is_one_line_and_nothing_is_written(
    cli: Any, text: str, options: tuple[str, ...], message: str
) -> None:
    log = made.put(Path("cifar10/noise_0.50"), text)
    outcome = cli("logs", "import", log, "--out", "store", *options)
    assert outcome.code == 1
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not Path("store").exists()
    assert not Path("results").exists()


def test_a_refused_log_stops_no_other_and_is_named(cli: Any) -> None:
    made.put(Path("logs/cifar10/noise_0.25"), made.cohen(made.simulated(500, n=100_000, sigma=0.25)))
    made.put(Path("logs/cifar10/noise_0.50"), made.cohen(ROWS) + "0\t1\n")
    made.put(Path("logs/cifar10c/noise_0.50"), made.cohen(ROWS))
    Path("logs/a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b" " * 107 + b"IM" + b"\x0e\0\0\0\xff\xff\xff\x7f")
    outcome = cli("logs", "import", "logs", "--out", "store", "--json")
    assert outcome.code == 3
    assert [entry["source"] for entry in outcome.json["imported"]] == ["logs/cifar10/noise_0.25"]
    assert set(outcome.json["refused"]) == {"logs/cifar10/noise_0.50", "logs/cifar10c/noise_0.50", "logs/a.mat"}
    assert len(list(Path("store").iterdir())) == 1


@pytest.mark.parametrize(
    ("n", "alpha", "sigma", "votes"),
    [
        (100_000, 0.001, 0.5, [99_999] * 6 + [99_000, 98_000, 97_000, 96_000]),  # a tie just below the end
        (100_000, 0.001, 0.25, [99_999, 99_999, 99_999]),
        (100, 0.01, 0.12, [99] * 12 + [80, 70]),
        (1_000, 0.05, 1.0, [400] * 5),  # abstentions alone
    ],
)
def test_an_honest_log_is_taken_under_its_true_sampling(
    cli: Any, n: int, alpha: float, sigma: float, votes: list[int]
) -> None:
    radii = [made.radius(k, n, alpha, sigma) for k in votes]
    rows = [(k * 20, 1, -1 if r is None else 1, r or 0.0, 1.0) for k, r in enumerate(radii)]
    log = imported(cli, made.cohen(rows), f"cifar10/noise_{sigma}", n=n, alpha=alpha)
    assert (read(log).origin.n, read(log).origin.alpha) == (n, alpha)


def test_radii_printed_from_float32_are_on_their_grid(cli: Any) -> None:
    import numpy as np

    rows = [(i, y, p, r, s) for i, y, p, r, s in made.simulated(60, n=100_000, sigma=0.5)]
    text = "\n".join(f"{i}\t{y}\t{p}\t{np.float32(r)!s}\t{int(y == p)}\t0:00:01" for i, y, p, r, _ in rows)
    log = imported(cli, made.cohen([]) + text + "\n", n=100_000, alpha=0.001)
    assert read(log).origin.rows == 60


def test_radii_of_two_bounds_stand_in_a_table_of_their_own(cli: Any) -> None:
    head, *lines = made.cohen(ROWS).splitlines()
    text = "\n".join([f"{head}\tpABar\tpBBar", *(f"{line}\t0.9\t0.05" for line in lines)]) + "\n"
    imported(cli)
    assert read(imported(cli, text, "cifar10/two/noise_0.50", n=5_000, alpha=0.001)).origin.bound == "papb"
    tables = imported_tables(find_imports([Path("store")]))
    assert sorted("papb" in table.caption for table in tables) == [False, True]
    assert ["papb" in table.caption for table in imported_tables(find_imports([Path("store")]), 0.0005)] == [False]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar10/noise_64", ("--sigma", "64", "--n", "1000", "--alpha", "0.001"), "no noise level of pixels in"),
        ("linf/cifar10/noise_0.50", ("--n", "100000", "--alpha", "0.001"), "its path says 'linf'"),
        ("cifar10/noise_0.50", ("--dataset", "cifar10"), "index 10020 is beyond the 10000 images"),
    ],
)
def test_what_a_log_cannot_be_is_refused(cli: Any, name: str, options: tuple[str, ...], message: str) -> None:
    some = [row for row in made.simulated(40, n=100_000, sigma=0.5, certain=0.0) if row[3] < 0.9]
    rows = [(10_020 if "beyond" in message and not k else k * 20, *row[1:]) for k, row in enumerate(some)]
    outcome = cli("logs", "import", made.put(Path(name), made.cohen(rows)), *options)
    assert (outcome.code, len(outcome.err.splitlines())) == (1, 1)
    assert message in outcome.err


def test_names_from_strangers_stay_within_the_store(cli: Any) -> None:
    log = made.put(Path("noise_0.50"), made.cohen(ROWS))
    outcome = cli("logs", "import", log, "--dataset", "../../up", "--method", "[red]/../x\n\x1b[2J", "--out", "store")
    assert outcome.code == 0, outcome.err
    (folder,) = Path("store").iterdir()
    assert read(folder).origin.method == "[red]/../x\n\x1b[2J"
    assert folder.name.isprintable()


@pytest.mark.parametrize(
    "name", ["[red]noise_0.50", "noise_0.50\x1b[2J", "noise_0.50\n", "\u202enoise_0.50", "noise_0.50\udcff"]
)
def test_names_of_files_are_printed_and_not_obeyed(cli: Any, name: str) -> None:
    made.put(Path("cifar10") / name, made.cohen(ROWS))
    printed = [cli("logs", "audit", "cifar10").out, cli("logs", "import", "cifar10", "--out", "store").out]
    for out in printed:
        assert "".join(out.split("\n")).isprintable()
        assert ("[red]" in out) == ("[red]" in name)
    assert find_imports([Path("store")])[0].origin.source.isprintable()


def test_a_folder_without_logs_is_one_line(cli: Any) -> None:
    made.put(Path("folder/README.md"), "words\n")
    for command in ("import", "audit"):
        outcome = cli("logs", command, "folder")
        assert (outcome.code, len(outcome.err.splitlines())) == (1, 1)
        assert "no certification log in" in outcome.err


def test_a_log_whose_path_and_labels_tell_no_dataset_asks_for_it(cli: Any) -> None:
    outcome = cli("logs", "import", made.put(Path("noise_0.50"), made.cohen(ROWS)))
    assert outcome.code == 1
    assert "give --dataset" in outcome.err


def test_words_that_are_off_are_usage_errors(cli: Any) -> None:
    assert cli("logs", "audit").code == 2
    log = made.put(Path("cifar10/noise_0.50"), made.cohen(ROWS))
    assert cli("logs", "audit", log, "--alpha", "0.7").code == 2
    assert cli("logs", "import", log, "--n", "many").code == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "rows.jsonl").write_text(
            (folder / "rows.jsonl").read_text().replace("true", "false", 1)
        ),
        lambda folder: (folder / "imported.json").write_text(
            (folder / "imported.json").read_text().replace('"alpha": 0.001', '"alpha": 0.01')
        ),
        lambda folder: (folder / "imported.json").write_text("{"),
        lambda folder: (folder / "rows.jsonl").unlink(),
        lambda folder: (folder / "imported.json").write_text('{"format": 7}'),
    ],
)
def test_an_import_that_was_edited_is_refused(cli: Any, change: Any) -> None:
    folder = imported(cli)
    change(folder)
    with pytest.raises(StoreError, match="'store/imported"):
        read(folder)
