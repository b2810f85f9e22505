"""`rrcm-bench logs`: published certification logs, audited and imported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import print_json, remark, stdout
from bench.cli.paths import at_home

PATHS = Annotated[
    list[Path], typer.Argument(help="Logs, or folders of them, however deep.", show_default=False, callback=at_home)
]
FAILED = 3  # the exit code of what ran, but not for all that was asked

RADIUS = Annotated[
    float | None,
    typer.Option(help="l2 radius of logs that say only whether one radius was proved.", show_default="none"),
]


def audit(
    paths: PATHS,
    alpha: Annotated[float, typer.Option(help="The failure probability that the papers state.")] = 0.001,
    radius: RADIUS = None,
    json: options.Json = False,
) -> None:
    """Find what is odd about published logs: N and alpha, missing images, unusual subsets, rounding, doubles."""
    from bench.cli.audits import record, tables
    from bench.data.installed import installed_datasets
    from bench.published.logs.audit import audit as audit_logs
    from bench.published.logs.reading import each_log
    from bench.types.errors import DataError, UsageError

    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    damaged: dict[Path, str] = {}
    others: dict[Path, str] = {}
    logs = each_log(paths, _radius(radius), damaged, others)
    found = audit_logs(logs, installed_datasets(), alpha=alpha, damaged=damaged, others=others)
    if not found.logs and not damaged:
        raise DataError(f"no certification log in {', '.join(map(str, paths))} ({len(others)} other files)")
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
    json: options.Json = False,
) -> None:
    """Store published logs, marked as imported; those that cannot be are named, with exit code 3."""
    from bench.data.installed import installed_datasets
    from bench.published.logs.importing import Stated, import_logs
    from bench.types.errors import DataError, UsageError
    from bench.types.printable import printable

    if n is not None and not 0 < n <= 10**9:
        raise UsageError(f"--n must lie in [1, 1e9], got {n}; the field uses 100 to 1 000 000")
    if alpha is not None and not 0 < alpha < 0.5:
        raise UsageError(f"--alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    stated = Stated(method=method, dataset=dataset, sigma=sigma, n=n, alpha=alpha)
    refused: dict[Path, str] = {}
    others: dict[Path, str] = {}
    within = _radius(radius)
    written = list(import_logs(paths, stated, out, installed_datasets(), refused=refused, others=others, radius=within))
    if not written and len(refused) == 1:
        raise DataError(next(iter(refused.values())))
    if not written and not refused:
        raise DataError(
            f"no certification log in {', '.join(map(repr, map(str, paths)))} ({len(others)} other files); give logs, "
            "or their folder"
        )
    for file, reason in others.items():
        remark(printable(f"left out {file}: {reason}"))
    for reason in refused.values():
        remark(printable(f"not imported: {reason}"))
    if json:
        print_json(
            {
                "imported": [{"path": str(folder), "digest": o.digest(), "source": o.source} for folder, o in written],
                "refused": {str(path): reason for path, reason in refused.items()},
            }
        )
    for folder, o in () if json else written:
        by = "radii" if o.sampling_by == "radii" else "words given"
        words = f"{o.source}: {o.rows} images, {o.dataset} {o.subset}, sigma {o.sigma:g}, N={o.n}, alpha={o.alpha:g}"
        print(printable(f"{words} (by the {by})  -> {folder}"))
        for finding in o.findings:
            remark(printable(f"! {o.source}: {finding}"))
    if not written:
        raise DataError(f"none of {len(refused)} logs is imported, for the reasons above; mend what they name")
    if refused:
        remark(f"{len(written)} of {len(written) + len(refused)} logs are imported")
        raise typer.Exit(FAILED)


def _radius(radius: float | None) -> float | None:
    from bench.types.errors import UsageError

    if radius is not None and not 0 < radius < 1e6:
        raise UsageError(f"--radius must be above 0, an l2 length of pixels in [0, 1], got {radius!r}")
    return radius
