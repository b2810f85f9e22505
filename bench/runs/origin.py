"""The runs whose votes another run took over: by a top-up or a merge, as its record has them and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.runs.records import rows_sha256

if TYPE_CHECKING:
    from bench.runs.store import Run


def made_from(how: str, runs: Sequence[Run]) -> dict[str, Any]:
    """The runs whose votes another takes over, as its record has them."""
    return {
        "how": how,
        "runs": [
            {
                "digest": run.spec.digest(),
                "n": run.spec.n,
                "images": len(run.rows),
                "rows_sha256": rows_sha256(run.rows),
                "environment": dict(run.environment),
            }
            for run in runs
        ],
    }


def origin_words(found: Mapping[str, Any]) -> str:
    """Where the votes of a run are from, for a reader of its numbers."""
    names = ", ".join(dict.fromkeys(str(each["digest"])[:10] for each in found["runs"]))
    if found["how"] == "merge":
        return f"merged from {len(found['runs'])} folders (run {names})"
    base = found["runs"][0]
    return f"topped up from run {names}, whose first N={base['n']:,} votes are kept ({base['images']} images)"
