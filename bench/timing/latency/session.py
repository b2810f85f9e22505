"""From what a user asks for to latency records: methods built, counted, timed one after another on one device."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

from bench.runs import registry
from bench.runs.clock import Clock, clock_for, overhead
from bench.runs.execution.environment import device_name, environment, ready_process
from bench.timing import peak_memory
from bench.timing.flops import countable
from bench.timing.latency.batch_search import FEWEST, SIZES, ProbePlan, Timing, measure
from bench.timing.latency.devices import Ceiling, ceiling, observe, recognise
from bench.timing.latency.projection import Counted
from bench.timing.latency.quality_warnings import doubts
from bench.timing.latency.request import Item, LatencyRequest, batch_of, check, prepare
from bench.timing.records import DeviceFacts, LatencyRecord, Work
from bench.timing.telemetry import Sensor, sensor_for
from bench.timing.workload import Certification
from bench.types import BaseClassifier, Method, RunSpec
from bench.types.classifier import calls_of
from bench.types.errors import BenchError, DeviceError, MethodError, SpecError, WeightsError
from bench.types.plugins import plugin_errors

LEAST_PASSES = 3  # before the repeats: two to find that the batch fits, one to warm up


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row timed, or why it was not."""

    item: Item
    record: LatencyRecord | None
    refusal: BenchError | None = None


def run(request: LatencyRequest, rows: tuple[Item, ...], device: str) -> Iterator[Outcome]:
    """Time the rows one after another; one that cannot be timed says why and does not end the others."""
    import torch

    check(request)
    # An unknown name is refused before the first is timed.
    methods = {item.method: registry.method(item.method) for item in rows}
    ready_process(request.precision)
    sensor, clock = sensor_for(device, torch.get_num_threads()), clock_for(device)
    _refuse_company(sensor, device, shared=request.shared)
    facts = describe(device, request.precision)
    for item in rows:
        try:
            with plugin_errors():
                outcome = Outcome(item, time_item(request, item, methods, device, facts, clock, sensor))
        except (MethodError, SpecError, DeviceError, WeightsError) as refusal:
            outcome = Outcome(item, None, refusal)
        yield outcome


def count_item(request: LatencyRequest, item: Item, methods: Mapping[str, Method]) -> Counted:
    """A row by its shapes alone, for what a device could do with it that is not here.

    Raises: the method's own refusals, DeviceError where its FLOP cannot be counted.
    """
    method = methods[item.method]
    spec, setting = prepare(request, replace(item, any_weights=True), method, methods)  # nothing of it is run
    meta = replace(setting, device="meta", precision="fp32")
    work = countable(lambda: method.build(meta), spec.shape, "meta", spec.precision)
    if work is None:
        raise DeviceError(f"{item.method}: its FLOP cannot be counted, so that nothing can be projected")
    return Counted(method=spec.method, precision=spec.precision, shape=spec.shape, copies=spec.n0 + spec.n, work=work)


def time_item(
    request: LatencyRequest,
    item: Item,
    methods: Mapping[str, Method],
    device: str,
    facts: DeviceFacts,
    clock: Clock,
    sensor: Sensor,
) -> LatencyRecord:
    """One row's record; `methods`: of all rows, by name.

    Raises: the method's own refusals, SpecError for a budget that is too small, DeviceError for too little memory.
    """
    import torch

    method = methods[item.method]
    spec, setting = prepare(request, item, method, methods)
    for note in dict.fromkeys(note for file in setting.weights.values() for note in file.notes):
        logging.getLogger(__name__).warning("note  %s", note)

    def build(where: str, precision: str = spec.precision) -> BaseClassifier:
        return method.build(replace(setting, device=where, precision=precision))

    # As fp32: `countable` halves the bytes, and weights that are built in half would be halved twice.
    work = countable(lambda: build("meta", "fp32"), spec.shape, "meta", spec.precision)
    if work is not None:
        _refuse_hopeless(work, facts, request, item)
    classifier = build(device)
    work = work or countable(lambda: build(device, "fp32"), spec.shape, device, spec.precision)
    pixels = torch.rand(spec.shape, generator=torch.Generator().manual_seed(spec.seed))
    workload = Certification(classifier, spec, pixels.to(device))
    batch, origin = batch_of(request, item)
    cuda = device.startswith("cuda")
    plan = ProbePlan(
        n0=spec.n0,
        n=spec.n,
        batch=batch,
        batch_from=origin,
        repeats=request.repeats,
        budget_s=request.budget_s,
        smallest_batch=32 if cuda else 1,
        warm_passes=10 if cuda else 5,
        warm_seconds=5.0 if cuda else 0.0,
    )
    timing = measure(workload, clock, sensor, plan)
    peak_bytes = peak_memory.highest(device)
    return assemble(spec, facts, clock, timing, work, calls_of(classifier), device, peak_bytes)


def assemble(
    spec: RunSpec,
    facts: DeviceFacts,
    clock: Clock,
    timing: Timing,
    work: Work | None,
    calls: Mapping[str, int],
    device: str,
    peak_bytes: int | None,
) -> LatencyRecord:
    """The record of a timing, with its doubts."""
    seconds, wall = tuple(r.seconds for r in timing.readings), tuple(r.wall for r in timing.readings)
    whole, added = spec.n0 + spec.n, overhead(clock)
    energy = timing.watch.energy_j
    return LatencyRecord(
        spec_digest=spec.digest(),
        spec=spec.as_json(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        device=facts,
        environment=environment((device,), spec.precision),
        clock=clock.name,
        batch=timing.batch,
        batch_from=timing.batch_from,
        curve=timing.curve,
        n0=spec.n0,
        n=spec.n,
        copies=timing.copies,
        seconds=seconds,
        wall=wall,
        discarded=timing.discarded,
        warmup=timing.warmup,
        steady=timing.steady,
        replayed=timing.replayed,
        setup_s=timing.setup_s,
        extrapolated_from=timing.extrapolated_from,
        stages=timing.stages,
        noise_host=timing.noise_host,
        overhead_s=added,
        energy_j=None if energy is None else energy / len(seconds) * whole / timing.copies,
        peak_bytes=peak_bytes,
        work=work,
        calls=calls,
        watch=timing.watch,
        doubts=doubts(
            kind=facts.kind,
            seconds=seconds,
            wall=wall,
            warmup=timing.warmup,
            steady=timing.steady,
            discarded=timing.discarded,
            sizes=timing.extrapolated_from,
            overhead_s=added,
            watch=timing.watch,
            threads=facts.threads,
            unreplayed=timing.unreplayed,
            mfu=work.total_flops * timing.copies / median(seconds) / facts.peak_flops_s if work else None,
        ),
    )


def describe(device: str, precision: str) -> DeviceFacts:
    """The device, and its ceiling: by its profile where it has one, else as a product and a copy show it."""
    import torch

    name = device_name(device)
    found = recognise(name) if device.startswith("cuda") else None
    top: Ceiling = ceiling(found, precision) if found and precision in found.peak else observe(device, precision)
    return DeviceFacts(
        name=name,
        kind="cuda" if device.startswith("cuda") else "cpu",
        profile=found.key if found else "",
        threads=torch.get_num_threads(),
        peak_flops_s=top.flops_s,
        peak_bytes_s=top.bytes_s,
        peak_origin=top.origin,
    )


def _refuse_hopeless(work: Work, facts: DeviceFacts, request: LatencyRequest, item: Item) -> None:
    """A row whose fewest copies do not fit the budget even at the device's peak is not begun."""
    asked, _ = batch_of(request, item)
    copies = (LEAST_PASSES + SIZES * FEWEST) * min(asked or 1, request.n0 + item.n)
    least = copies * work.total_flops / facts.peak_flops_s
    if least > request.budget_s:
        raise SpecError(
            f"{item.title}: a budget of {request.budget_s:g} s is too small: {copies} copies of "
            f"{work.total_flops / 2e9:,.0f} GMAC take at least {least:,.0f} s at this device's peak of "
            f"{facts.peak_flops_s / 1e12:.2g} TFLOP/s; give a larger --budget, or a faster device"
        )


def _refuse_company(sensor: Sensor, device: str, *, shared: bool) -> None:
    if not device.startswith("cuda") or shared:
        return
    sensor.start()
    others = sensor.stop().others
    if others:
        raise DeviceError(
            f"{device} is used by {others} other processes; expected it for ourselves alone: end them, or give "
            "--shared, which says so in the record"
        )
