"""`rrcm-bench run --dry-run`: what jobs would take, by both certifiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.output import listing, print_json, remark, stdout

if TYPE_CHECKING:
    from bench.runs.certify import Job
    from bench.timing.dry_run import Cost
    from bench.types import Execution


def show_cost(jobs: list[Job], execution: Execution, out: Path, json: bool) -> None:
    """What is missing of each job under `out` would cost on the first device, from a short probe of each."""
    device = execution.devices[0]
    costs = []
    for number, job in enumerate(jobs, start=1):
        missing = _missing(job, out)
        if missing and len(jobs) > 1:
            remark(f"probe {number}/{len(jobs)}  {job.spec.method}  sigma {job.spec.sigma:g}")
        costs.append((job, _cost(job, execution, missing)))
    if json:
        print_json({"plan": [_record(job, cost, device) for job, cost in costs]})
        return
    _table(costs, device)


def _missing(job: Job, out: Path) -> list[int]:
    """Images that have no row yet."""
    from bench.runs.certify import missing
    from bench.runs.store import RUN_FILE, folder_name, read_run

    folder = out / folder_name(job.spec)
    return missing(job, read_run(folder) if (folder / RUN_FILE).is_file() else None)


def _cost(job: Job, execution: Execution, missing: list[int]) -> Cost:
    """That of the copies that the images without a row still lack: nothing is built where there are none."""
    from bench.data.installed import natural_radii
    from bench.timing.dry_run import Cost, probe

    if not missing:
        return Cost(passes=0, flops=None, seconds=0.0, sequential=0)
    radii = job.table_radii or natural_radii(job.spec.dataset)
    whole = probe(job, execution.devices[0], execution.batch, radii=radii)
    images = len(missing) / job.spec.images
    # A look cannot be taken over: the sequential certifier would draw these images anew.
    sequential = None if whole.sequential is None else round(images * whole.sequential)
    kept = sum(job.spec.n0 + job.given[index].estimation.n for index in missing if index in job.given)
    share = images - kept / (job.spec.images * (job.spec.n0 + job.spec.n))
    return replace(
        whole,
        passes=round(share * whole.passes),
        seconds=share * whole.seconds,
        fixed=round(share * whole.fixed),
        sequential=sequential,
    )


def _record(job: Job, cost: Cost, device: str) -> dict[str, object]:
    return {
        "digest": job.spec.digest(),
        "spec": job.spec.as_json(),
        "passes": cost.passes,
        "passes_fixed": cost.fixed,
        "passes_sequential_expected": cost.sequential,
        "pilot_images": cost.pilot,
        "flops_per_pass": cost.flops,
        "calls_per_pass": dict(cost.calls),
        "seconds": cost.seconds,
        "device": device,
    }


def _table(costs: list[tuple[Job, Cost]], device: str) -> None:
    from bench.report.units import duration

    columns = (
        *("method", "dataset", "sigma", "images", "n0 + n", "samples", "fixed n", "sequential"),
        *("calls a sample", "GMAC a sample", "time"),
    )
    rows = []
    for job, cost in costs:
        spec = job.spec
        macs = f"{cost.flops / 2e9:.4g}" if cost.flops else "not countable" if cost.passes else "all there"
        told = ", ".join(f"{count} {network}" for network, count in cost.calls.items())
        calls = told or ("not told" if cost.passes else "all there")
        rows.append((
            spec.method + (" (random weights)" if spec.random_weights else ""), spec.dataset, f"{spec.sigma:g}",
            str(spec.images), f"{'up to ' * spec.stops}{spec.n0 + spec.n}", f"{cost.passes:,}", f"{cost.fixed:,}",
            "not told" if cost.sequential is None else f"{cost.sequential:,}", calls, macs, duration(cost.seconds),
        ))  # fmt: skip
    console = stdout()
    console.print(listing(f"plan on {device}, estimated from a probe of about 2 s each", columns, rows, words=2))
    console.print(f"all: {sum(c.passes for _, c in costs):,} samples, {duration(sum(c.seconds for _, c in costs))}")
    fixed = sum(c.fixed for _, c in costs)
    other = [c.sequential for _, c in costs if c.sequential is not None]
    if len(other) == len(costs) and 0 < sum(other) < fixed:
        console.print(
            f"--certifier sequential: about {sum(other):,} samples in place of {fixed:,}, {fixed / sum(other):.1f} "
            f"times fewer; expected from few copies of {max(cost.pilot for _, cost in costs)} images"
        )
