from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import run
from typer.testing import CliRunner

from bench.cli.app import app
from bench.report.compare import compare, comparison_table
from bench.report.moved_votes import doubts, moved_votes
from bench.runs.store import RowWriter, open_run
from bench.types import Counts, Execution
from bench.types.errors import ReportError


def test_images_are_paired_by_fingerprint_not_by_order() -> None:
    a = run([1000, 1000, 0, 0])
    b = run([1000, 0, 1000, 0], method="rrcm")
    shuffled = replace(b, rows=tuple(replace(row, index=10 + k) for k, row in enumerate(reversed(b.rows))))
    for other in (b, shuffled):
        counts = compare(a, other, [0.0]).radii[0].counts
        assert (counts.both, counts.only_a, counts.only_b, counts.neither) == (1, 1, 1, 1)


def test_a_clear_lead_is_found_and_a_tie_is_not() -> None:
    # 20 images of a alone at r=0: p = 2 ** -19.
    made = compare(run([1000] * 40), run([1000] * 20 + [0] * 20, method="rrcm"), [0.0, 5.0])
    assert made.radii[0].p == pytest.approx(2.0**-19)
    assert made.radii[0].p_holm == pytest.approx(2 * 2.0**-19)
    assert (made.radii[1].p, made.radii[1].counts.difference) == (1.0, 0.0)
    better = [row[-1].value for row in comparison_table(made).rows]
    assert better == ["a", "undecided"]
    assert made.radii[0].low > 0
    assert made.acr_interval[0] > 0


def test_swapping_the_runs_turns_every_sign() -> None:
    a, b = run([1000] * 9 + [700]), run([1000] * 4 + [600] * 6, method="rrcm")
    there, back = compare(a, b), compare(b, a)
    for one, other in zip(there.radii, back.radii, strict=True):
        assert one.counts.difference == -other.counts.difference
        assert one.p == other.p
    assert there.acr == back.acr[::-1]


def test_different_subsets_are_refused_and_their_overlap_is_reported_when_asked() -> None:
    a = run([1000] * 4)
    b = run([1000] * 6, method="rrcm", subset="skip:3", subset_fingerprint="cd" * 32)
    with pytest.raises(ReportError, match=r"neither be paired nor ranked; give --overlap"):
        compare(a, b)
    made = compare(a, b, overlap=True)
    assert (made.images, made.only_a, made.only_b) == (4, 0, 2)
    assert any("4 images are common, 0 only of a, 2 only of b" in note for note in made.notes)


def test_no_common_image_is_one_line() -> None:
    b = run([1000], subset_fingerprint="cd" * 32)
    b = replace(b, rows=(replace(b.rows[0], fingerprint="other"),))
    with pytest.raises(ReportError, match="no image in common"):
        compare(run([1000]), b, overlap=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (1, 16, 16)}, "other pixels"),
        ({"preprocessing": "resize16"}, "other pixels"),
        ({"alpha": 0.01}, "give --alpha"),
        ({}, "given twice"),
    ],
)
def test_what_does_not_compare_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ReportError, match=words) as caught:
        compare(run([1000]), run([1000], **change), overlap=True)
    assert "\n" not in str(caught.value)


def test_one_image_under_two_labels_is_refused() -> None:
    b = run([1000], method="rrcm")
    b = replace(b, rows=(replace(b.rows[0], label=7),))
    with pytest.raises(ReportError, match=r"has label 3 in .* and 7 in"):
        compare(run([1000]), b)


def test_another_n_is_said_aloud() -> None:
    made = compare(run([1000]), run([2000], n=2000))
    assert "! n differs: 1 000 in a, 2 000 in b; the comparison is of the two together" in made.notes


def test_the_command_reads_folders_and_gives_json(tmp_path: Path) -> None:
    paths = []
    for made in (run([1000, 0, 900], subset="first:3"), run([1000, 1000, 900], subset="first:3", method="rrcm")):
        folder = open_run(tmp_path, made.spec, Execution(("cpu",)), {}).path
        with RowWriter(folder) as writer:
            for row in made.rows:
                writer.append(row)
        paths.append(str(folder))
    done = CliRunner().invoke(app, ["compare", *paths, "--radii", "0,0.5", "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [r["counts"]["only_b"] for r in record["radii"]] == [1, 1]
    assert record["images"] == {"common": 3, "only_a": 0, "only_b": 0}
    assert CliRunner().invoke(app, ["compare", *paths, "--radii", "wide"]).exception is not None


def test_a_run_that_stops_early_is_compared_at_its_own_radii_only() -> None:
    stopping = run([1000], method="rrcm", certifier="sequential", looks=(1000,), radii=(0.0, 0.5))
    with pytest.raises(ReportError, match=r"no verdict of both runs at r = 0.25; known: run .* at 0, 0.5; give others"):
        compare(run([1000]), stopping, [0.0, 0.25])


def test_votes_that_went_elsewhere_are_counted_image_by_image() -> None:
    a = run([1000, 900, 400])
    b = replace(run([1000, 890, 400]), spec=replace(a.spec, precision="bf16"))
    found = moved_votes(a, b)
    assert (found.images, found.moved, found.images_moved, found.labels_moved) == (3, 10, 1, 0)
    assert found.votes == sum(row.selection.n + row.estimation.n for row in a.rows)
    assert moved_votes(b, a) == found


def test_votes_of_a_sequential_test_of_the_label_are_counted_too() -> None:
    looks = {"certifier": "sequential", "looks": (1000,), "radii": (0.0,), "n0": 0}
    a, b = (run([votes], **looks) for votes in (990, 980))
    a, b = (replace(each, rows=(replace(each.rows[0], selection=Counts((), 0)),)) for each in (a, b))
    found = moved_votes(a, b)
    assert (found.votes, found.moved, found.labels_moved) == (1000, 10, 0)


def test_what_else_differs_beside_votes_is_said() -> None:
    a, b = run([1000, 900, 400]), run([1000, 900], weights={"network": "bb"})
    found = moved_votes(a, b)
    assert (found.images, found.only_a, found.only_b) == (2, 1, 0)
    assert doubts(a, a) == []
    said = doubts(replace(a, edited="a seal does not fit"), b)
    assert ["was edited" in said[0], "weights differ" in said[1], len(said)] == [True, True, 2]


def test_votes_of_other_copies_are_not_compared() -> None:
    a = run([1000])
    with pytest.raises(ReportError, match="did not draw the same copies: seed is 0 and 1"):
        moved_votes(a, replace(a, spec=replace(a.spec, seed=1)))
    with pytest.raises(ReportError, match="no image in common"):
        moved_votes(a, replace(a, rows=()))
