"""Parts of one run, certified apart, as one: on two machines, or subset by subset. Draws nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.runs.origin import made_from
from bench.runs.seals import seal_rows, untouched
from bench.runs.store import RowWriter, Run, differences, folder_name, open_run, read_run
from bench.types import Execution, Row, RunSpec
from bench.types.errors import StoreError

_OF_IMAGES = ("subset", "subset_fingerprint", "images")
_SHOWN = 5  # images in a message


@dataclass(frozen=True, slots=True)
class Whole:
    """The subset that several others are parts of."""

    words: str
    fingerprint: str
    labels: Mapping[int, int]  # of each image, by index


def merge(runs: Sequence[Run], out: Path, whole: Whole | None = None) -> Run:
    """One run with the rows of all, in a new folder under `out`.

    `whole`: the subset of the merged run; None where all are of one subset already.
    Raises: StoreError where they are not parts of one run, two of them disagree on an image, or the folder is there;
    nothing is written then.
    """
    spec = _common_spec([untouched(run) for run in runs], whole)
    rows = _common_rows(runs, whole)
    folder = out / folder_name(spec)
    if folder.exists():
        raise StoreError(f"{str(folder)!r} is there already; give --out another folder, or move it away")
    first = runs[0]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".merge-") as place:
            how = Execution(tuple(first.execution.get("devices", ())))
            origin = made_from("merge", runs)
            facts = _environment(runs), first.num_classes, first.table_radii, origin
            made = open_run(Path(place), spec, how, *facts)
            with RowWriter(made.path, spec.digest()) as writer:
                for row in rows:
                    writer.append(row)
            seal_rows(read_run(made.path))
            made.path.rename(folder)
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r}: {error.strerror}; give --out another folder") from error
    return read_run(folder)


def of_one_subset(runs: Sequence[Run]) -> bool:
    """Whether all are of the same images, so that no subset needs to be named."""
    return len({run.spec.subset_fingerprint for run in runs}) == 1


def _common_spec(runs: Sequence[Run], whole: Whole | None) -> RunSpec:
    if len(runs) < 2:
        raise StoreError(f"{len(runs)} run given; expected two or more to merge")
    first, *others = (run.spec for run in runs)
    for other in others:
        ours = first if whole is None else replace(first, **{key: getattr(other, key) for key in _OF_IMAGES})
        if ours.digest() != other.digest():
            a, b = differences(ours, other)
            raise StoreError(f"these are not parts of one run: one has {a}, another {b}; expected equal settings")
    if whole is None:
        return first
    return replace(first, subset=whole.words, subset_fingerprint=whole.fingerprint, images=len(whole.labels))


def _common_rows(runs: Sequence[Run], whole: Whole | None) -> list[Row]:
    rows: dict[int, Row] = {}
    other_image, other_votes = set(), set()
    for run in runs:
        for row in run.rows:
            there = rows.setdefault(row.index, row)
            if (there.fingerprint, there.label) != (row.fingerprint, row.label):
                other_image.add(row.index)
            elif not there.same_votes(row):
                other_votes.add(row.index)
    if other_image:
        raise StoreError(f"the runs hold other images under one index: {_some(other_image)}; expected the same dataset")
    if other_votes:
        raise StoreError(
            f"the runs have other votes on {len(other_votes)} of the images that both hold: {_some(other_votes)}; "
            "`rrcm-bench compare A B --votes` counts them; leave the rows of one of the runs out, nothing was written"
        )
    if whole is not None:
        off = {row.index for row in rows.values() if whole.labels.get(row.index) != row.label}
        if off:
            raise StoreError(f"images {_some(off)} are not in the subset {whole.words!r}, or have another label there")
    return [rows[index] for index in sorted(rows)]


def _environment(runs: Sequence[Run]) -> dict[str, Any]:
    """The first one's, with the devices of all; each one's own stands with its origin."""
    devices: dict[str, str] = {}
    for k, run in enumerate(runs):
        for device, name in run.environment.get("devices", {}).items():
            if name not in devices.values():
                devices[device if device not in devices else f"{device} of part {k + 1}"] = name
    return {**runs[0].environment, "devices": devices}


def _some(images: set[int]) -> str:
    shown = sorted(images)
    return ", ".join(map(str, shown[:_SHOWN])) + (" and more" if len(shown) > _SHOWN else "")
