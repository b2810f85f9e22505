"""A bit that flips in a stored run is refused or told, or is in nothing that counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from report_runs import row, run

from bench.runs.store import RUN_FILE, RowWriter, Run, open_run, read_run
from bench.types import LOCAL, Counts, Execution, Row
from bench.types.errors import StoreError

FLIPS = 200


def whole(folder: Path, *, sequential: bool) -> Run:
    changes = {
        "certifier": "sequential",
        "radii": (0.0, 0.5),
        "looks": (500, 1000),
        "alphas": (0.0005, 0.0005),
        "n0": 0,
        "mode": "table",
    }
    spec = run([990, 700, 400], subset="first:3", **(changes if sequential else {})).spec
    stored = open_run(folder, spec, Execution(("cpu",), 100, LOCAL), {"packages": {"torch": "2.15.0"}})
    with RowWriter(stored.path) as writer:
        for index, votes in enumerate((990, 700, 400)):
            made = row(index, votes)
            if sequential:
                first = Counts.of([(3, votes // 2), (5, 500 - votes // 2)])
                second = Counts.of([(3, votes - votes // 2), (5, 500 - votes + votes // 2)])
                made = replace(made, selection=Counts((), 0), looks=(first, second))
            writer.append(made)
    return read_run(stored.path)


def counted(found: Run) -> list[Row]:
    return [replace(each, seconds=0.0) for each in found.rows]


@pytest.mark.parametrize("sequential", [False, True])
def test_a_flipped_bit_is_refused_or_told_or_moves_no_number(tmp_path: Path, sequential: bool) -> None:
    sound = whole(tmp_path, sequential=sequential)
    files = [sound.path / RUN_FILE, *sound.path.glob("rows*.jsonl")]
    places = [(path, bit) for path in files for bit in range(8 * path.stat().st_size)]
    accepted = []
    for path, bit in Random(0).sample(places, FLIPS):
        content = path.read_bytes()
        at = bit // 8
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :])
        try:
            found = read_run(sound.path)
        except StoreError:
            continue
        finally:
            path.write_bytes(content)
        # What follows the last newline is a row that was not written to its end: it is made again.
        same = counted(found) in (counted(sound), counted(sound)[:-1])
        if found.spec != sound.spec or not (same or found.edited):
            accepted.append(f"{path.name} bit {bit}: {content[max(0, at - 20) : at + 20]!r}")
    assert accepted == []
