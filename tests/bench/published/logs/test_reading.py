"""A published log gives back the rows it was made of, whatever its layout; what is damaged or no log says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import published_logs as made
import pytest

from bench.published.logs.matlab import variables
from bench.published.logs.reading import find_logs, read_log
from bench.published.logs.records import NotALogError, Precision, number
from bench.types import ABSTAIN
from bench.types.errors import BenchError, DataError

ROWS = made.simulated(40)

WITH_INDEX: dict[str, Callable[[list[made.Row]], str]] = {
    "cohen": made.cohen,
    "cohen-seconds": lambda rows: made.cohen(rows, time=repr),
    "cohen-bare": lambda rows: made.cohen(rows, header=False),
    "cumulative": made.cumulative,
    "no-time": made.without_time,
    "no-time-bare": lambda rows: made.without_time(rows, header=False),
    "true-false": made.true_or_false,
    "true-false-bare": lambda rows: made.true_or_false(rows, header=False),
    "ten-columns": made.ten_columns,
    "ten-columns-bare": lambda rows: made.ten_columns(rows, header=False),
    "consensus": made.consensus,
    "carriage-returns": lambda rows: made.cohen(rows).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("layout", WITH_INDEX)
def test_a_log_gives_back_the_rows_it_was_made_of(layout: str, tmp_path: Path) -> None:
    log = read_log(made.put(tmp_path / layout, WITH_INDEX[layout](ROWS)))
    assert [(r.index, r.label, r.predict, r.radius) for r in log.rows] == [
        (i, y, p, f"{r:.3}") for i, y, p, r, _ in ROWS
    ]
    assert [r.correct for r in log.rows] == [y == p for _, y, p, _, _ in ROWS]
    if "no-time" not in layout:
        assert [r.seconds for r in log.rows] == pytest.approx([s for *_, s in ROWS], abs=1e-6)
    assert log.contradicted == 0
    assert log.torn == ""


def test_rows_without_an_index_keep_their_order_and_name_no_image(tmp_path: Path) -> None:
    log = read_log(made.put(tmp_path / "bare", made.without_index(ROWS)))
    assert [(r.index, r.label, r.predict, r.radius) for r in log.rows] == [
        (None, y, p, f"{r:.3}") for _, y, p, r, _ in ROWS
    ]


def test_classes_by_name_become_numbers_that_agree_where_the_names_do(tmp_path: Path) -> None:
    log = read_log(made.put(tmp_path / "service", made.by_name(ROWS)))
    assert [(r.index, r.correct, r.radius) for r in log.rows] == [(i, y == p, f"{r:.3f}") for i, y, p, r, _ in ROWS]
    assert [r.predict == ABSTAIN for r in log.rows] == [p == ABSTAIN for _, _, p, _, _ in ROWS]
    assert len({r.label for r in log.rows}) == len({y for _, y, *_ in ROWS})


def test_a_running_total_is_told_from_flags_and_changes_no_row(tmp_path: Path) -> None:
    running = read_log(made.put(tmp_path / "running", made.cumulative(ROWS)))
    flags = read_log(made.put(tmp_path / "flags", made.cohen(ROWS)))
    assert (running.correct_column, flags.correct_column) == ("cumulative", "flags")
    assert running.rows == flags.rows


def test_flags_that_contradict_the_labels_are_counted_and_overruled(tmp_path: Path) -> None:
    right = [k for k, (_, y, p, _, _) in enumerate(ROWS) if y == p][:3]
    lines = made.cohen(ROWS).splitlines()
    for k in right:
        fields = lines[k + 1].split("\t")
        lines[k + 1] = "\t".join([*fields[:4], "0", fields[5]])
    log = read_log(made.put(tmp_path / "lying", "\n".join(lines) + "\n"))
    assert log.contradicted == 3
    assert all(log.rows[k].correct for k in right)


def test_an_adaptive_log_needs_its_radius_and_then_certifies_just_that(tmp_path: Path) -> None:
    path = made.put(tmp_path / "adaptive", made.adaptive(ROWS, 0.75))
    with pytest.raises(DataError, match="--radius"):
        read_log(path)
    log = read_log(path, 0.75)
    assert [(r.predict, r.radius) for r in log.rows] == [
        (p, "0.75") if r >= 0.75 else (ABSTAIN, "0.0") for _, _, p, r, _ in ROWS
    ]


def test_a_matlab_vector_gives_radii_at_full_precision_and_no_labels(tmp_path: Path) -> None:
    import numpy as np
    from scipy.io import savemat

    radii = np.array([r if y == p else -1.0 for _, y, p, r, _ in ROWS])
    savemat(tmp_path / "macer.mat", {"hard": radii, "soft": radii})
    log = read_log(tmp_path / "macer.mat")
    assert [float(r.radius) if r.correct else -1.0 for r in log.rows] == radii.tolist()
    assert {(r.index, r.label, r.predict) for r in log.rows} == {(None, None, None)}


def test_a_matlab_file_of_something_else_is_no_log(tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "other.mat", {"weights": [1.0, 2.0]})
    with pytest.raises(NotALogError, match="weights"):
        read_log(tmp_path / "other.mat")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["f8", "f4", "i2", "u1"])
def test_matlab_arrays_are_read_as_scipy_writes_them(packed: bool, kind: str) -> None:
    import io

    import numpy as np
    from scipy.io import savemat

    values = np.random.default_rng(3).uniform(0, 90, (1, 37)).astype(kind)
    file = io.BytesIO()
    savemat(file, {"hard": values, "words": "text", "c": np.array([1j]), "grid": np.eye(3)}, do_compression=packed)
    found = variables(file.getvalue())
    assert np.array_equal(found["hard"], values)
    assert np.array_equal(found["grid"], np.eye(3))
    assert (found["words"], found["c"]) == (None, None)


@pytest.mark.parametrize("packed", [False, True])
def test_a_mutated_matlab_file_is_read_or_refused(packed: bool) -> None:
    import io

    import numpy as np
    from scipy.io import savemat

    rng = np.random.default_rng(11)
    file = io.BytesIO()
    savemat(file, {"hard": rng.random(40), "soft": rng.random(40)}, do_compression=packed)
    for _ in range(300):
        data = bytearray(file.getvalue())
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(256)
        with contextlib.suppress(ValueError):
            variables(bytes(data[: rng.integers(100, len(data) + 1)]))


def test_abstentions_of_a_matlab_file_may_be_nan(tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "macer.mat", {"hard": [0.5, -1.0, float("nan")]})
    assert [r.correct for r in read_log(tmp_path / "macer.mat").rows] == [True, False, False]


def test_a_damaged_matlab_file_is_one_line(tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "macer.mat", {"hard": [0.5, -1.0, 0.25]})
    data = (tmp_path / "macer.mat").read_bytes()
    (tmp_path / "macer.mat").write_bytes(data[: len(data) - 20])
    with pytest.raises(DataError, match="damaged MATLAB"):
        read_log(tmp_path / "macer.mat")


@pytest.mark.parametrize(
    "row",
    ["{i}\t{y}\t-1\t-1.0\t0\t0:00:01", "{i}\t{y}\t-1.0\tnan\t0\t0:00:01", "{i}.0\t{y}.0\tnan\tNaN\t0\t0:00:01"],
)
def test_abstentions_of_a_table_program_are_abstentions(row: str, tmp_path: Path) -> None:
    lines = [made.cohen([r]).splitlines()[1] for r in ROWS]
    for k in range(3):
        lines[k] = row.format(i=ROWS[k][0], y=ROWS[k][1])
    log = read_log(made.put(tmp_path / "log", "\n".join([made.cohen([]).strip(), *lines]) + "\n"))
    assert len(log.rows) == len(ROWS)
    assert [(r.index, r.label, r.predict, r.certified, r.correct) for r in log.rows[:3]] == [
        (ROWS[k][0], ROWS[k][1], ABSTAIN, False, False) for k in range(3)
    ]
    assert log.unpromised == 0


@pytest.mark.parametrize("radius", ["-1", "-1.0", "nan"])
def test_a_class_without_a_radius_is_an_abstention_and_counted(radius: str, tmp_path: Path) -> None:
    text = made.cohen(ROWS) + f"900\t3\t3\t{radius}\t1\t0:00:01\n"
    log = read_log(made.put(tmp_path / "log", text))
    assert (log.rows[-1].predict, log.rows[-1].correct, log.rows[-1].certified) == (ABSTAIN, False, False)
    assert log.unpromised == 1


def test_no_message_advises_to_delete_rows(tmp_path: Path) -> None:
    for k, tail in enumerate(("0\t3\t3\tinf\t1\t0:00:01\n", "7\t8\n", made.cohen(ROWS))):
        with pytest.raises(DataError) as caught:
            read_log(made.put(tmp_path / str(k), made.cohen(ROWS) + tail))
        assert "delete" not in str(caught.value)


def test_summary_lines_after_the_rows_are_read_past_and_kept(tmp_path: Path) -> None:
    summary = "\n\nCleanACC = 415/500\n=====\nmean radius: 0.51\ttotal 3\n# done\n"
    log = read_log(made.put(tmp_path / "log", made.cohen(ROWS) + summary))
    assert log.rows == read_log(made.put(tmp_path / "plain", made.cohen(ROWS))).rows
    assert log.after == ("CleanACC = 415/500", "=====", "mean radius: 0.51\ttotal 3", "# done")
    assert log.torn == ""


@pytest.mark.parametrize("tail", ["12\n", "12\t3\n", "mean\t3\t3\t0.5\t1\t0:00:01\n"])
def test_what_may_be_a_row_is_no_summary(tail: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 42: expected"):
        read_log(made.put(tmp_path / "log", made.cohen(ROWS) + tail))


def test_words_between_rows_are_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 42: expected 6 columns"):
        read_log(made.put(tmp_path / "log", made.cohen(ROWS) + "accuracy 0.8\n" + made.cohen(ROWS, header=False)))


@pytest.mark.parametrize("column", ["radius_linf", "l1_radius", "linf", "radius_l_inf"])
def test_a_log_of_radii_of_another_norm_alone_is_none_of_ours(column: str, tmp_path: Path) -> None:
    with pytest.raises(NotALogError, match=f"not l2, by its column '{column}'"):
        read_log(made.put(tmp_path / "log", made.cohen(ROWS).replace("radius", column, 1)))


def test_a_torn_last_line_is_no_row_and_is_told(tmp_path: Path) -> None:
    text = made.cohen(ROWS)
    cut = text[: text.rindex("\t", 0, text.rindex("\t"))]
    log = read_log(made.put(tmp_path / "torn", cut))
    assert len(log.rows) == len(ROWS) - 1
    assert f"line {len(ROWS) + 1} has 4 of 6 columns" in log.torn
    within = read_log(made.put(tmp_path / "within", text.rpartition(":")[0]))
    assert (len(within.rows), "ends within its time" in within.torn) == (len(ROWS) - 1, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:5], lines[5] + "\t7", *lines[6:]], "line 6: expected 6 columns"),
        (lambda lines: [*lines[:5], lines[5].rpartition("\t")[0], *lines[6:]], "line 6: expected 6 columns"),
        (lambda lines: [*lines, *lines], "a header again"),
        (
            lambda lines: [*lines[:5], lines[5].replace("\t", "\tx", 1), *lines[6:]],
            "line 6: expected a number for label",
        ),
        (lambda lines: [*lines[:1], "0\t3\t3\tinf\t1\t0:00:01", *lines[2:]], "line 2: expected a number for radius"),
        (lambda lines: [*lines[:1], "0\t3\t3\t1_0.5\t1\t0:00:01", *lines[2:]], "line 2: expected a number for radius"),
        (lambda lines: [*lines[:1], "0\t3\t3\t-0.5\t1\t0:00:01", *lines[2:]], "line 2: expected a number for radius"),
        (lambda lines: [*lines[:1], "0\t3\t-1\t0.5\t0\t0:00:01", *lines[2:]], "radius 0 where the certifier abstains"),
        (lambda lines: [*lines[:1], "0\t3\t-2\t0.5\t0\t0:00:01", *lines[2:]], "a prediction from -1"),
        (lambda lines: [*lines[:1], "0\t3\t3\t0.5\t1\tsoon", *lines[2:]], "line 2: expected a number for time"),
    ],
)
def test_a_damaged_log_is_refused_with_its_line(
    change: Callable[[list[str]], list[str]], message: str, tmp_path: Path
) -> None:
    text = "\n".join(change(made.cohen(ROWS).splitlines())) + "\n"
    with pytest.raises(DataError, match=message) as caught:
        read_log(made.put(tmp_path / "damaged", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("hello\nworld\n", "neither a header"),
        ("idx\tlabel\tpredict\tcorrect\ttime\n0\t1\t1\t1\t0:01\n", "without a radius"),
        ("0.0\t0.81\n0.005\t0.8\n", "curve"),
        ("idx\tlabel\tpredict\tradius\tcorrect\ttime\n", "without a row"),
        ("1\t2\t3\t4\t5\n", "neither a header"),
    ],
)
def test_what_is_no_log_is_told_why(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NotALogError, match=message):
        read_log(made.put(tmp_path / "other", text))


def test_bytes_that_are_no_text_are_no_log(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(NotALogError, match="not text"):
        read_log(tmp_path / "weights.pth")


def test_a_folder_gives_its_logs_its_damage_and_the_rest_apart(tmp_path: Path) -> None:
    good = made.put(tmp_path / "a" / "b" / "noise_0.50", made.cohen(ROWS))
    bad = made.put(
        tmp_path / "a" / "noise_1.00", made.cohen(ROWS).replace("\t", " ", 9).replace(" ", "\t", 5) + "x\ty\n"
    )
    note = made.put(tmp_path / "README.md", "words\n")
    logs, damaged, others = find_logs([tmp_path, good])
    assert [log.path for log in logs] == [good]
    assert list(damaged) == [bad]
    assert list(others) == [note]


def test_a_path_that_is_not_there_or_no_log_is_an_error_by_itself(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no file or folder"):
        find_logs([tmp_path / "absent"])
    with pytest.raises(BenchError, match="is not a certification log"):
        find_logs([made.put(tmp_path / "note", "words\n")])


@pytest.mark.parametrize("form", ["{:.3}", "{:.4f}", "{:.3f}", "{!r}", "{:.5}"])
def test_the_true_radius_lies_within_what_its_print_leaves_open(form: str) -> None:
    radii = [r for *_, r, _ in made.simulated(300, seed=3) if r] + [0.4996, 0.9996, 1.0049, 0.0123456, 3.69e-5]
    printed = [form.format(r) for r in radii]
    precision = Precision.of(printed)
    for text, true in zip(printed, radii, strict=True):
        low, high = precision.spread(text)
        assert low - 1e-15 <= true <= high + 1e-15, text


def test_three_digits_leave_open_just_half_a_unit() -> None:
    precision = Precision(significant=3, decimals=5)
    assert precision.spread("0.5") == (0.4995, 0.5005)
    assert precision.spread("1.0") == (0.9995, 1.005)
    assert precision.spread("3.81") == (3.805, 3.815)


def test_numbers_are_compared_without_the_zeros_of_their_print() -> None:
    assert number("0.500") == number("0.5") == number("5e-1")
    with pytest.raises(ValueError, match="not a number"):
        number("0.5.1")
