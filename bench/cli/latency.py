"""`rrcm-bench latency`: time certificates on this device; what others would take is never called a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.cli import options
from bench.cli.output import doubt_lengths, print_json, remark, resumable, stdout
from bench.cli.paths import at_home

if TYPE_CHECKING:
    from bench.report.tables.latency_claims import Timed
    from bench.report.tables.table import Table
    from bench.timing.latency.devices import Profile
    from bench.timing.latency.request import Item, LatencyRequest
    from bench.timing.latency.session import Outcome

LEDGER = Path("results/runs/latency.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyOptions:
    """The words of `rrcm-bench latency`."""

    methods: options.LatencyMethods = None
    dataset: options.LatencyDataset = None
    gpu: Annotated[
        str | None,
        options.images(help="Device wanted: a800, h200, ...; projected where it is not here.", show_default="this one"),
    ] = None
    table: options.LatencyTable = None
    n: options.N = None
    n0: options.LatencyN0 = 100
    sigma: options.Sigma = 0.5
    alpha: options.LatencyAlpha = 0.001
    precision: options.Precision = "fp32"
    allow_slow_precision: options.AllowSlowPrecision = None
    batch: options.LatencyBatch = None
    repeats: Annotated[int, options.computing(help="Certificates, or parts of one, on the clock.")] = 6
    budget: Annotated[
        float, options.computing(help="Seconds for each method; a part is timed where a whole is too long.")
    ] = 120.0
    size: options.Size = None
    random_weights: options.LatencyRandomWeights = False
    weights: options.Weights = None
    params: options.Settings = None
    device: options.Device = "auto"
    shared: Annotated[bool, options.computing("--shared", help="Go on beside other processes on the GPU.")] = False
    strict: Annotated[bool, options.computing("--strict", help="Measure on the --gpu or refuse; project nothing.")] = (
        False
    )
    claims: Annotated[bool, options.output("--claims", help="Only re-derive the paper's claims of speed.")] = False
    backtest: Annotated[bool, options.output("--backtest", help="Only test projections on known rates.")] = False
    out: Annotated[Path, options.output(help="File of records, JSON lines, appended to.", callback=at_home)] = LEDGER
    json: options.Json = False


def latency(given: LatencyOptions) -> None:
    """Time one certificate of each method: what was timed, on what, how sure it is."""
    from bench.timing.latency.devices import profile
    from bench.types.errors import UsageError

    if given.claims or given.backtest:
        show_published(claims=given.claims, backtest=given.backtest, json=given.json)
        return
    table = given.table
    if table is not None and (given.methods or given.dataset or given.n):
        raise UsageError("--table has its own methods, dataset and N; leave --methods, --dataset and --n out")
    target = profile(given.gpu) if given.gpu else None
    from bench.runs.execution.environment import check_instructions
    from bench.timing.latency import paper
    from bench.timing.latency import request as requests
    from bench.timing.latency.request import LatencyRequest

    plan = paper.rows(table) if table is not None else ()
    request = LatencyRequest(
        dataset=paper.dataset(table) if table is not None else given.dataset or "digits", sigma=given.sigma,
        n0=given.n0, n=given.n or 100_000, alpha=given.alpha, size=given.size, precision=given.precision,
        batch=given.batch or ("auto" if table is None else "paper"), repeats=given.repeats, budget_s=given.budget,
        random_weights=given.random_weights, weights=tuple(given.weights or ()), params=tuple(given.params or ()),
        shared=given.shared,
    )  # fmt: skip
    named = tuple(word.strip() for word in (given.methods or options.LATENCY_METHODS).split(","))
    items = requests.paper_items(table) if table is not None else requests.items(request, named)
    device = one_device(given.device)
    if not given.allow_slow_precision:
        check_instructions([device], request.precision)
    found = compute(request, items, device, target, strict=given.strict, out=given.out)
    if given.json:
        from bench.report.tables.latency_claims import as_json

        print_json({"rows": as_json(found)})
        return
    from bench.report.tables.latency_claims import beside_published, claimed, measured, projected

    show(measured(found))
    if target and any(row.projection or row.refusal for row in found) and not is_here(found, target):
        show(projected(found, target))
    if plan:
        show(beside_published(found, plan, target))
        show(claimed(found))
    remark(f"records are kept in {given.out}")


def compute(
    request: LatencyRequest, items: tuple[Item, ...], device: str, target: Profile | None, *, strict: bool, out: Path
) -> list[Timed]:
    """All rows timed, stored as they come, and projected where another device was asked for.

    Raises: the refusal of a single row; DeviceError under --strict on another device than the one asked for.
    """
    from bench.report.units import duration
    from bench.runs.execution.environment import device_name
    from bench.timing.latency import session, store
    from bench.timing.latency.devices import recognise
    from bench.timing.latency.request import check
    from bench.types.errors import DeviceError

    check(request)
    name = device_name(device)
    present = recognise(name) if device.startswith("cuda") else None
    elsewhere = target if target and target != present else None
    if strict and elsewhere:
        raise DeviceError(
            f"--strict: expected a measurement on {elsewhere.name}, this device is {name}; "
            "leave --strict out for a projection, or run it there"
        )
    found = []
    doubt_lengths([request.sigma])
    with resumable(f"the records so far are kept in {out}"):
        remark(f"latency  {len(items)} rows on {name}, at most about {duration(request.budget_s)} each  -> {out}")
        for outcome in session.run(request, items, device):
            record, item, refusal = outcome.record, outcome.item, outcome.refusal
            row = projected_row(request, outcome, elsewhere)
            if record is None and refusal is not None and len(items) == 1 and row.projection is None:
                raise refusal
            if record is not None:
                store.append(out, [record])
                remark(f"  {item.title}: {record.kind}, {len(record.doubts)} doubts")
            else:
                remark(f"  left out  {refusal}")
            found.append(row)
    return found


def projected_row(request: LatencyRequest, outcome: Outcome, elsewhere: Profile | None) -> Timed:
    """The row with what it would take elsewhere; that needs no clock, so that one too slow to be timed here has it too.

    From a CPU in bf16 as well, a GPU's fastest, whatever was timed.
    """
    from bench.report.tables.latency_claims import Timed
    from bench.runs import registry
    from bench.timing.latency.projection import at_precision, counted, from_counts, project
    from bench.timing.latency.session import count_item
    from bench.types.errors import BenchError, SpecError, WeightsError

    record, item, refusal = outcome.record, outcome.item, outcome.refusal
    said, made, in_half = str(refusal or ""), None, None
    if elsewhere and (record is not None or isinstance(refusal, SpecError | WeightsError)):
        try:
            if record is not None:
                of, made = counted(record), project(record, elsewhere)
            else:
                of = count_item(request, item, {item.method: registry.method(item.method)})
                made = from_counts(of, elsewhere)
            if of.precision != "bf16" and "bf16" in elsewhere.peak and not (record and record.device.profile):
                in_half = from_counts(at_precision(of, "bf16"), elsewhere)
        except BenchError as error:
            said = str(error)
    return Timed(title=item.title, key=item.key, record=record, projection=made, in_half=in_half, refusal=said)


def is_here(rows: list[Timed], target: Profile) -> bool:
    """Whether the device asked for is the one that was timed."""
    return any(row.record is not None and row.record.device.profile == target.key for row in rows)


def one_device(words: str) -> str:
    """The device of a session.

    Raises: DeviceError for one that is not there, UsageError for several.
    """
    from bench.runs.execution.environment import parse_devices
    from bench.types.errors import UsageError

    devices = parse_devices(words)
    if len(devices) != 1:
        raise UsageError(f"--device {words!r}: expected one device, a latency is of one")
    return devices[0]


def show_published(*, claims: bool, backtest: bool, json: bool) -> None:
    """What needs no clock: the paper's claims, and projections against published rates."""
    from dataclasses import asdict

    from bench.report.tables.latency_claims import backtest as tested
    from bench.report.tables.latency_claims import claimed
    from bench.timing.latency import calibration, paper

    pairs, left_out = calibration.pairs(), calibration.leave_one_out()
    if json:
        document: dict[str, object] = {}
        if claims:
            document["claims"] = [{**asdict(c), "derived": c.derived} for c in paper.claims()]
        if backtest:
            document |= {"pairs": list(map(asdict, pairs)), "leave_one_out": list(map(asdict, left_out))}
        print_json(document)
        return
    for table in ((claimed(),) if claims else ()) + (tested(pairs, left_out) if backtest else ()):
        show(table)


def show(table: Table) -> None:
    """A table on stdout."""
    from bench.report.formats.terminal import terminal

    stdout().print(terminal(table))
