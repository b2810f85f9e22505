"""`rrcm-bench run --dry-run`: what jobs would take, by both certifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.output import listing, print_json, stdout

if TYPE_CHECKING:
    from bench.runs.certify import Job
    from bench.timing.dry_run import Cost
    from bench.types import Execution


def show_cost(jobs: list[Job], execution: Execution, json: bool) -> None:
    """What each job would cost on the first device, from a short probe."""
    from bench.report.accuracy import natural_radii
    from bench.timing.dry_run import probe

    device = execution.devices[0]
    costs = [
        (job, probe(job, device, execution.batch, radii=job.table_radii or natural_radii(job.spec.dataset)))
        for job in jobs
    ]
    if json:
        print_json({"plan": [_record(job, cost, device) for job, cost in costs]})
        return
    _table(costs, device)


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
        macs = f"{cost.flops / 2e9:.4g}" if cost.flops else "not countable"
        calls = ", ".join(f"{count} {network}" for network, count in cost.calls.items()) or "not told"
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
    if len(other) == len(costs):
        console.print(
            f"--certifier sequential: about {sum(other):,} samples in place of {fixed:,}, {fixed / sum(other):.1f} "
            f"times fewer; expected from few copies of {costs[0][1].pilot} images"
        )
