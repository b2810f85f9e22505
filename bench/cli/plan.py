"""`rrcm-bench plan`: GPU-hours of a large table, and how they split over devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import print_json, remark, stdout
from bench.cli.paths import at_home


def plan(
    gpus: Annotated[str, typer.Option(help="Numbers of devices, with commas between.")] = "1,8,64,512",
    images: Annotated[int, typer.Option(help="Images of the table.")] = 50_000,
    sigma: Annotated[str, typer.Option(help="Noise levels, l2 in [0, 1] pixels.")] = "0.25,0.5,1.0",
    n: Annotated[
        int, typer.Option(help="Samples an image, and the most that the sequential certifier takes.")
    ] = 100_000,
    methods: Annotated[
        str, typer.Option(help="Rows that are split over the devices (the hours are told of all); all.")
    ] = "rrcm-b,gaussian,densepure-k5",
    cost: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SECONDS of a sample, as you measured it; a row more.", show_default="the paper's"),
    ] = None,
    logs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Certification logs whose images' samples are taken.",
            show_default="the summary that ships",
            callback=at_home,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for JSON, tables and picture.", show_default="none", callback=at_home)
    ] = None,
    json: options.Json = False,
) -> None:
    """Forecast the device hours of a table by both certifiers; for one run on this machine see `run --dry-run`."""
    from bench.cli.forecasts import make, shown, write

    asked = make(gpus=gpus, images=images, sigma=sigma, n=n, methods=methods, cost=cost or [], logs=logs or [])
    if out is not None:
        remark(f"-> {write(asked, out)}")
    if json:
        from bench.report.figures.forecast import record

        print_json(record(asked))
        return
    for table in shown(asked):
        stdout().print(table)
