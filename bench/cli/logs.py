"""`rrcm-bench logs`: published certification logs, audited and imported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.output import JSON_OPTION, print_json, remark, stdout
from bench.cli.paths import at_home

PATHS = Annotated[
    list[Path], typer.Argument(help="Logs, or folders of them, however deep.", show_default=False, callback=at_home)
]
RADIUS = Annotated[
    float | None,
    typer.Option(help="l2 radius of logs that say only whether one radius was proved.", show_default="none"),
]


def audit(
    paths: PATHS,
    alpha: Annotated[float, typer.Option(help="The failure probability that the papers state.")] = 0.001,
    radius: RADIUS = None,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Find what is odd about published logs: N and alpha, missing images, unusual subsets, rounding, doubles."""
    from bench.cli.audits import record, tables
    from bench.errors import DataError, UsageError
    from bench.logs.audit import audit as audit_logs
    from bench.logs.reading import find_logs
    from bench.report.accuracy import natural_radii

    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    logs, damaged, others = find_logs(paths, radius)
    if not logs and not damaged:
        raise DataError(f"no certification log in {', '.join(map(str, paths))} ({len(others)} other files)")
    found = audit_logs(logs, natural_radii, alpha=alpha, damaged=damaged, others=others)
    if json:
        print_json(record(found))
        return
    console = stdout()
    for each in tables(found):
        console.print(each)
        console.print()


def import_(
    paths: PATHS,
    method: Annotated[
        str | None,
        typer.Option(help="Name of the method in reports: no log says it.", show_default="each PATH's own name"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset of the images.", show_default="told by path or labels")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="l2 noise level in [0, 1] pixels.", show_default="told by path or radii")
    ] = None,
    n: Annotated[int | None, typer.Option(help="Samples of the estimate.", show_default="told by the radii")] = None,
    alpha: Annotated[float | None, typer.Option(help="Failure probability.", show_default="told by the radii")] = None,
    radius: RADIUS = None,
    out: Annotated[Path, typer.Option(help="Folder of imported logs.", callback=at_home)] = Path("results/imported"),
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Store published logs, marked as imported; all of them or none."""
    from bench.errors import DataError
    from bench.logs.archive import write
    from bench.logs.importing import Stated, origins
    from bench.logs.reading import find_logs
    from bench.report.accuracy import natural_radii

    ready = []
    for path in paths:
        logs, damaged, others = find_logs([path], radius)
        if damaged:
            raise DataError(next(iter(damaged.values())))
        if not logs:
            raise DataError(
                f"no certification log in {str(path)!r} ({len(others)} other files); give logs, or their folder"
            )
        stated = Stated(method=method or path.resolve().name, dataset=dataset, sigma=sigma, n=n, alpha=alpha)
        ready += [(origin, log) for origin, log in zip(origins(logs, stated, natural_radii), logs, strict=True)]
        for file, reason in others.items():
            remark(f"left out {file}: {reason}")
    written = [(write(out, origin, log.rows), origin) for origin, log in ready]
    if json:
        print_json(
            {"imported": [{"path": str(folder), "digest": o.digest(), "source": o.source} for folder, o in written]}
        )
        return
    for folder, o in written:
        print(f"{o.source}: {o.rows} images, {o.dataset} {o.subset}, sigma {o.sigma:g}, N={o.n}, alpha={o.alpha:g}"
              f" (by the {'radii' if o.sampling_by == 'radii' else 'words given'})  -> {folder}")  # fmt: skip
