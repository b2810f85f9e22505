"""`rrcm-bench plan`: GPU-hours of a large table, and how they split over devices."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.cli import options
from bench.cli.output import print_json, remark, stdout
from bench.cli.paths import at_home
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError, UsageError
from bench.types.limits import DEVICES, IMAGES, SAMPLES, SIGMA, check_within, digits

if TYPE_CHECKING:
    from bench.timing.forecast.forecast import Forecast

GIVEN_BATCH = 256  # copies a pass of a method whose cost is given: small beside a parcel, so that it hardly matters
NAME = "scaling"


def plan(
    gpus: Annotated[str, options.computing(help="Numbers of devices, with commas between.")] = "1,8,64,512",
    images: Annotated[int, options.images(help="Images of the table.")] = 50_000,
    sigma: Annotated[str, options.certificate(help="Noise levels, l2 in [0, 1] pixels.")] = "0.25,0.5,1.0",
    n: Annotated[
        int, options.copies(help="Samples an image, and the most that the sequential certifier takes.")
    ] = 100_000,
    methods: Annotated[
        str, options.images(help="Rows that are split over the devices (the hours are told of all); all.")
    ] = "rrcm-b,gaussian,densepure-k5",
    cost: Annotated[
        list[str] | None,
        options.computing(help="NAME=SECONDS of a sample, as you measured it; a row more.", show_default="the paper's"),
    ] = None,
    logs: Annotated[
        list[Path] | None,
        options.images(
            help="Certification logs whose images' samples are taken.",
            show_default="the summary that ships",
            callback=at_home,
        ),
    ] = None,
    out: Annotated[
        Path | None, options.output(help="Folder for JSON, tables and picture.", show_default="none", callback=at_home)
    ] = None,
    json: options.Json = False,
) -> None:
    """Forecast the device hours of a table by both certifiers; for one run on this machine see `run --dry-run`."""
    asked = make(gpus=gpus, images=images, sigma=sigma, n=n, methods=methods, cost=cost or [], logs=logs or [])
    if out is not None:
        remark(f"-> {write(asked, out)}")
    if json:
        from bench.report.figures.forecast import record

        print_json(record(asked))
        return
    from bench.report.formats.terminal import terminal
    from bench.report.tables.forecast import forecast_tables

    for table in forecast_tables(asked):
        stdout().print(terminal(table))


def make(
    *, gpus: str, images: int, sigma: str, n: int, methods: str, cost: Sequence[str], logs: Sequence[Path]
) -> list[Forecast]:
    """The forecast that the options ask for.

    Raises: UsageError for words that do not fit; DataError for logs that do not tell enough.
    """
    from bench.cli.requests import numbers
    from bench.data.installed import natural_radii
    from bench.timing.forecast.forecast import costs_of_the_paper, forecast, given_cost
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


def write(forecasts: Sequence[Forecast], out: Path) -> Path:
    """JSON, tables and picture in a folder.

    Raises: StoreError where it cannot be written.
    """
    from bench.report.figures.canvas import as_bytes
    from bench.report.figures.forecast import efficiency_figure, record
    from bench.report.formats.markdown import markdown
    from bench.report.tables.forecast import forecast_tables

    command = shlex.join(["rrcm-bench", *sys.argv[1:]])
    try:
        out.mkdir(parents=True, exist_ok=True)
        atomic_write(out / f"{NAME}.json", json.dumps(record(forecasts), indent=1) + "\n")
        text = f"Made by `{command}`.\n\n{markdown(forecast_tables(forecasts))}"
        atomic_write(out / f"{NAME}.md", text)
        if any(each.splits for each in forecasts):
            for form in ("png", "svg"):
                atomic_write(out / f"{NAME}.{form}", as_bytes(efficiency_figure(forecasts), form))
    except OSError as error:
        raise StoreError(f"cannot write {str(out)!r}: {error.strerror}; give --out another folder") from error
    return out
