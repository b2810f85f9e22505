"""Seals of run folders: set when a run is complete, checked when it is read; what was edited is put in words.

Seals are checksums without a key. They tell of accidents and careless edits, not of a forger, who computes them anew:
against that, the sha256 of run.json stands where he cannot reach, as in a paper, or rows are drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.runs.records import RUN_FILE, read_record, rows_sha256, run_text
from bench.types import Row
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError

if TYPE_CHECKING:
    from bench.runs.store import Run

_SHOWN = 5  # images in a message


def edited_words(record: bool, changed: Sequence[int], kept: Mapping[str, Any] | None, rows: Sequence[Row]) -> str:
    """What of a run was changed after it was written; empty where nothing is known to be.

    `record`: whether its run.json was. `changed`: images with a row whose seal does not fit. `kept`: what its record
    holds of its rows.
    """
    said = [f"the seal of {RUN_FILE} does not fit"] if record else []
    if changed:
        images = sorted(set(changed))
        some = ", ".join(map(str, images[:_SHOWN])) + (" and more" if len(images) > _SHOWN else "")
        said.append(f"no seal of this run fits the row of image {some}")
    if kept is not None and len(rows) != kept["images"]:
        said.append(f"{len(rows)} images have a row, it was sealed with {kept['images']}")
    elif kept is not None and not changed and rows_sha256(rows) != kept["sha256"]:
        said.append("its rows are not those that it was sealed with")
    return "; ".join(said)


def untouched(run: Run) -> Run:
    """The run, for those who add to it or build on its votes.

    Raises: StoreError where it was edited.
    """
    if run.edited:
        raise StoreError(
            f"run {str(run.path)!r} was edited: {run.edited}; restore the file, or move it away whole and give the "
            "same `rrcm-bench run` again, which draws its images anew"
        )
    return run


def seal_rows(run: Run) -> Run:
    """The run with the sha256 of its rows in its record, once it is complete; as it is before, or with unsealed rows.

    Whoever calls has the right to draw the run.
    Raises: StoreError where it cannot be written.
    """
    if not run.done or run.sealed or run.edited or run.unsealed:
        return run
    amend(run, {"rows": {"images": len(run.rows), "sha256": rows_sha256(run.rows)}})
    return replace(run, sealed=True)


def amend(run: Run, more: Mapping[str, Any]) -> None:
    """Write run.json anew with some more in it; all that it holds stays.

    Raises: StoreError where it cannot be written.
    """
    path = run.path / RUN_FILE
    try:
        record = read_record(path.read_bytes())
        atomic_write(path, run_text({key: value for key, value in {**record, **more}.items() if key != "seal"}))
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror}; mend that, and give the same command again"
        ) from error


def seal_words(run: Run) -> str:
    """Whether a run is sealed, in words."""
    if run.edited:
        return f"edited: {run.edited}"
    if run.sealed:
        return "sealed"
    if not run.done:
        return f"not sealed: {len(run.rows)} of {run.spec.images} images"
    return "not sealed" + (f": {run.unsealed} rows have no seal" if run.unsealed else "")
