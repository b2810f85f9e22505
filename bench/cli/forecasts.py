"""From the words of `rrcm-bench plan` to a forecast, and to its files."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.output import listing, remark
from bench.cli.requests import numbers
from bench.report.accuracy import natural_radii
from bench.timing.forecast.forecast import Forecast, costs_of_the_paper, forecast, given_cost
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError, UsageError
from bench.types.limits import DEVICES, IMAGES, SAMPLES, SIGMA, check_within, digits

if TYPE_CHECKING:
    from rich.table import Table

GIVEN_BATCH = 256  # copies a pass of a method whose cost is given: small beside a parcel, so that it hardly matters
NAME = "scaling"


def make(
    *, gpus: str, images: int, sigma: str, n: int, methods: str, cost: Sequence[str], logs: Sequence[Path]
) -> list[Forecast]:
    """The forecast that the options ask for.

    Raises: UsageError for words that do not fit; DataError for logs that do not tell enough.
    """
    from bench.timing.forecast.sample_demand import from_logs, known

    devices = [digits(word.strip()) or 0 for word in gpus.split(",")]
    if not all(1 <= count <= DEVICES for count in devices):
        raise UsageError(f"--gpus {gpus!r}: expected numbers from 1 to {DEVICES} with commas between, as 1,8,64")
    check_within("--images", images, 1, IMAGES)
    check_within("--n", n, 1, SAMPLES)
    sigmas = numbers(sigma)
    for level in sigmas:
        check_within("--sigma", level, *SIGMA)
    rows = [*costs_of_the_paper(), *(given_cost(word, GIVEN_BATCH) for word in cost)]
    keys = [row.key for row in rows]
    split = keys if methods == "all" else [*methods.split(","), *(word.partition("=")[0] for word in cost)]
    if strange := [key for key in split if key not in keys]:
        raise UsageError(f"--methods: no row {strange[0]!r}; expected all, or some of: {', '.join(keys)}")
    demands = from_logs(logs, n, natural_radii("imagenet")) if logs else known()
    return forecast(
        rows, demands, sigmas=sigmas, n=n, images=images, devices=devices, split=split, told=lambda w: remark(f"  {w}")
    )


def shown(forecasts: Sequence[Forecast]) -> list[Table]:
    """Both tables for a terminal."""
    from bench.report.figures.forecast import HOURS_COLUMNS, SPLIT_COLUMNS, hours_rows, split_rows

    first = forecasts[0]
    sigmas = ", ".join(f"{s:g}" for s in sorted({each.sigma for each in forecasts}))
    title = f"{first.images} images, n = {first.n}, sigma {sigmas} together"
    return [
        listing(title, HOURS_COLUMNS, hours_rows(forecasts), words=1),
        listing("over devices, simulated", SPLIT_COLUMNS, split_rows(forecasts), words=1),
    ]


def write(forecasts: Sequence[Forecast], out: Path) -> Path:
    """JSON, tables and picture in a folder.

    Raises: StoreError where it cannot be written.
    """
    from bench.report.figures.accuracy import as_bytes
    from bench.report.figures.forecast import efficiency_figure, markdown, record

    command = shlex.join(["rrcm-bench", *sys.argv[1:]])
    try:
        out.mkdir(parents=True, exist_ok=True)
        atomic_write(out / f"{NAME}.json", json.dumps(record(forecasts), indent=1) + "\n")
        atomic_write(out / f"{NAME}.md", markdown(forecasts, command))
        if any(each.splits for each in forecasts):
            for form in ("png", "svg"):
                atomic_write(out / f"{NAME}.{form}", as_bytes(efficiency_figure(forecasts), form))
    except OSError as error:
        raise StoreError(f"cannot write {str(out)!r}: {error.strerror}; give --out another folder") from error
    return out
