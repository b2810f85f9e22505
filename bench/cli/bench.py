"""`rrcm-bench bench`: how near the certifier comes to what this machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.cli import options
from bench.cli.output import doubt_lengths, listing, print_json, remark, stdout
from bench.cli.paths import at_home
from bench.types import NEVER

if TYPE_CHECKING:
    from bench.timing.device_peaks import Peak
    from bench.timing.throughput.records import Measurement

RECORDS = Path("results/bench")


def bench(
    networks: Annotated[
        str | None,
        options.images(
            help="Names from bench/timing/throughput/targets.toml, with commas between.", show_default="all"
        ),
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    allow_slow_precision: options.AllowSlowPrecision = None,
    compiling: options.BenchCompile = NEVER,
    sigma: options.Sigma = 0.5,
    budget: Annotated[float, options.computing(help="Seconds for each network, about.")] = 20.0,
    out: Annotated[Path, options.output(help="Folder of the record.", callback=at_home)] = RECORDS,
    resume: Annotated[
        bool,
        options.output("--resume", help="Leave out networks that a record there holds, of this commit and device."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Measure matrix products, forward passes, the certifier, the plain loop of published scripts, and their ratios."""
    from bench.runs.execution.environment import check_instructions, device_name, parse_devices
    from bench.timing.throughput.records import document, held, save
    from bench.timing.throughput.session import begin
    from bench.types.errors import DeviceError, MethodError

    if not allow_slow_precision:
        check_instructions(parse_devices(device), precision)
    session = begin(
        networks,
        device=device,
        precision=precision,
        sigma=sigma,
        budget_s=budget,
        compiling=options.compile_of(compiling),
    )
    doubt_lengths([sigma])
    found, refused, path = [], None, None
    measured = {"precision": precision, "sigma": sigma}
    there = held(out, session.machine, measured) if resume else {}
    for target in session.targets:
        if target.name in there:
            remark(f"{target.name}  is in {there[target.name]}")
            continue
        remark(f"{target.name}  {target.method} on {target.dataset}, about {budget:g} s")
        try:
            found.append(session.measure(target))
        except (MethodError, DeviceError) as refusal:
            refused = refusal
            remark(f"! {target.name}: {refusal}")
            continue
        # As soon as a network is done: a run that is cut off keeps what it has.
        record = document(session.machine, session.created, session.peaks, tuple(found))
        path = save(out, record, device_name(session.device))
    if refused and not found:
        raise refused
    if path is None:
        remark("nothing is left to measure")
        return
    if json:
        print_json(record)
    else:
        _show(session.peaks, found)
    for line in record["remarks"]:
        remark(f"! {line}")
    remark(f"record: {path}")


def _show(peaks: tuple[Peak, ...], found: list[Measurement]) -> None:
    from bench.report.units import percent
    from bench.timing.throughput.records import DEFAULT_BATCH

    console = stdout()
    for peak in peaks:
        rate = f"{peak.flops_s / 1e9:,.0f} GFLOP/s"
        console.print(f"matrix product {peak.precision}: {rate} (side {peak.side}, {peak.threads} threads)")
    title = "copies a second; the plain loop is that of published scripts, in fp32; in brackets: by the time of cores"
    columns = (
        *("network", "forward", "FLOP use", "certifier", "overhead", "plain loop", "certifier / plain"),
        *(f"at its batch of {DEFAULT_BATCH}", "flips by tuning", "flips by bf16"),
    )
    rows = []
    for m in found:
        share, flips = m.flop_share(peaks), {f.by: f for f in m.flips}
        cpu = "" if m.cpu_speedup is None else f" ({m.cpu_speedup:.2f})"
        cpu_overhead = "" if m.cpu_overhead is None else f" ({percent(m.cpu_overhead)})"
        rows.append((
            m.name, f"{m.forward.rate:,.4g}", "not countable" if share is None else percent(share),
            f"{m.certifier.rate:,.4g}", f"{percent(m.overhead)}{cpu_overhead}", f"{m.plain.rate:,.4g}",
            f"{m.speedup:.2f}{cpu}", "too slow" if m.default_speedup is None else f"{m.default_speedup:.2f}",
            *(f"{flips[by].flipped} of {flips[by].copies}" for by in ("tuning", "bf16")),
        ))  # fmt: skip
    console.print(listing(title, columns, rows, words=1))
    for m in found:
        for other in (f for f in m.flips if f.by not in ("tuning", "bf16")):
            console.print(f"{m.name}: {other.flipped} of {other.copies} labels flipped by {other.by}")
        if m.compiled:
            console.print(f"{m.name}: torch.compile: {m.compiled}")
        for doubt in m.doubts():
            console.print(f"! {m.name}: {doubt}")
