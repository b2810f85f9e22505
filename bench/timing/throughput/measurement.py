"""One network on the clock: its forward pass alone, the certifier around it, and the plain loop; in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.runs.batch_size import auto_batch
from bench.runs.built_weights import walk
from bench.runs.clock import Clock, clock_for
from bench.runs.execution.cuda_graphs import RECORD_AFTER, replayed
from bench.runs.execution.environment import set_precision
from bench.runs.execution.kernels import kernels
from bench.runs.execution.torch_compile import compiled
from bench.runs.registry import dataset, method
from bench.runs.store import RowWriter
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.smoothing.philox import noisy, normals
from bench.smoothing.voting import autocast, draw
from bench.timing import peak_memory
from bench.timing.flops import countable
from bench.timing.throughput.baseline import plain_counts
from bench.timing.throughput.kernels import kernel_shares
from bench.timing.throughput.records import DEFAULT_BATCH, RANDOM, Flips, Measurement, Reading, Series
from bench.timing.throughput.targets import Built, Target, build
from bench.timing.workload import FINGERPRINT
from bench.types import NEVER, BaseClassifier, Counts, Row
from bench.types.errors import BenchError, DeviceError

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 5
LARGE_BYTES = 1e9  # of weights: from here on one copy at a time
PLAIN_BATCHES = (10, 100, DEFAULT_BATCH)
FLIP_SHARE = 0.2  # of the budget, for copies in both arithmetics
TABLE_COPIES = 500 * 100_100.0  # of a row of a table: whether such a run would compile is what a record says
ROWS = 20  # appended to see what one costs
PICTURES = 50  # whose copies are labelled in several arithmetics, in turns


def measure(
    target: Target, *, device: str, sigma: float, precision: str, budget_s: float, compiling: str = NEVER
) -> Measurement:
    """Forward pass, certifier and plain loop in turns, so that a slow minute of the machine hits all three.

    Of a large network one copy is held at a time: the plain loop has its turns after the others.
    Raises: as `bench.timing.throughput.targets.build`; DeviceError where it does not fit the memory.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        return _measured(target, device, sigma, precision, budget_s, compiling=compiling)
    except torch.OutOfMemoryError as error:
        reason = ". ".join(str(error).split(". ")[:2])  # that it is out of memory, and what it asked for
        where = error.__notes__[0] if getattr(error, "__notes__", ()) else "its search for a batch"
    finally:
        set_precision(precision)
        torch.set_num_threads(threads)
    raise DeviceError(
        f"{target.name} does not fit the memory of {device}: {reason}, in {where}; expected a larger device"
    )


@contextmanager
def _during(what: str) -> Iterator[None]:
    """Let what does not fit the memory say where that was."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        error.add_note(what)
        raise


def _measured(
    target: Target, device: str, sigma: float, precision: str, budget_s: float, *, compiling: str
) -> Measurement:
    import torch

    built = build(target, sigma=sigma, precision=precision, device=device)
    spec, clock = built.spec, clock_for(device)
    x = torch.rand(spec.shape, generator=torch.Generator().manual_seed(spec.seed)).to(device)
    key = NoiseKey(spec.seed, FINGERPRINT, sigma, ESTIMATE)
    batch = auto_batch(spec, built.tuned, device)
    found = torch.get_num_threads()  # the certifier's choice, for the plain loop too: threads are not its merit
    copies = noisy(x, sigma, key.philox("smoothing"), 0, batch)
    ready, said = compiled(
        built.tuned,
        lambda: copies,
        asked=compiling,
        planned=TABLE_COPIES,
        device=device,
        precision=precision,
    )
    classifier = replayed(ready, device)
    forward = partial(_forward, classifier, copies, device, precision)
    certify = partial(draw, classifier, x, key=key, batch=batch, precision=precision)
    if classifier is not built.tuned:
        _times(RECORD_AFTER, forward)  # which record, or compile
    pace = clock.time(partial(_times, 4, forward)).seconds / 4
    piece_s = budget_s * (1 - FLIP_SHARE) / (3 * ROUNDS)
    passes = max(1, int(piece_s / pace))

    def ours() -> tuple[Reading, Reading]:
        return (
            _reading(clock, partial(_times, passes, forward), passes * batch),
            _reading(clock, partial(certify, n=passes * batch), passes * batch),
        )

    large, runs_by = weight_bytes(built.tuned) > LARGE_BYTES, kernels(built.tuned)
    first: list[tuple[Reading, Reading]] = []
    if large:
        with _during("the certifier"):
            first = [ours() for _ in range(ROUNDS)]
        del ready, classifier, forward, certify, ours  # and with them what was recorded
        _give_back(device)
    shares = kernel_shares(partial(_forward, built.tuned, copies, device, precision)) if device != "cpu" else {}
    if large:
        built.release()
        del copies
        _give_back(device)
    with _during("the plain loop"):
        plain_network = built.plain()
        plain_loop = partial(_plainly, plain_network, x, sigma, precision)
        curve = _plain_curve(plain_loop, clock, budget_s / 2, device)
        plain_batch, plain_s = min(curve, key=lambda pair: pair[1])
        loops = max(1, int(piece_s / (plain_s * plain_batch)))
        turns: list[tuple[Reading, Reading, Reading]] = []
        for k in range(ROUNDS):
            alone, whole = first[k] if large else ours()
            n = loops * plain_batch
            turns.append((alone, whole, _reading(clock, partial(plain_loop, n, plain_batch), n)))
    if large:
        del plain_network, plain_loop
        _give_back(device)
        flips_plain = built.plain
    else:
        flips_plain = partial(_same, plain_network)
    set_precision("fp32")
    pictures, flips_of = _pictures(target.dataset, spec.shape, x)

    def copied(first: int, count: int) -> Tensor:
        eps = normals(key.philox("smoothing"), 0, first, count, spec.shape, device)
        return pictures[torch.arange(first, first + count, device=device) % len(pictures)] + sigma * eps

    with _during("the labels of other arithmetics"):
        flips = _flips(built, flips_plain, copied, batch, clock, FLIP_SHARE * budget_s, device, large=large)
    meta = replace(built.setting, device="meta")
    work = countable(lambda: method(target.method).build(meta), spec.shape, "meta", precision)
    work = work or countable(built.exact, spec.shape, device, precision)
    return Measurement(
        name=target.name,
        method=target.method,
        dataset=target.dataset,
        device=device,
        params=spec.params,
        weights=spec.weights,
        shape=spec.shape,
        sigma=sigma,
        precision=precision,
        batch=batch,
        threads=found,
        plain_batch=plain_batch,
        plain_curve=curve,
        flops=None if work is None else sum(work.flops.values()),
        forward=Series.of(alone for alone, _, _ in turns),
        certifier=Series.of(whole for _, whole, _ in turns),
        plain=Series.of(loop for _, _, loop in turns),
        row_s=_row_seconds(clock),
        flips=flips,
        flips_of=flips_of,
        kernels=shares,
        runs_by=runs_by,
        compiled="" if compiling == NEVER else said,
    )


def _reading(clock: Clock, work: Callable[[], object], copies: int) -> Reading:
    began = time.process_time()
    seconds = clock.time(work).seconds
    return Reading(seconds / copies, (time.process_time() - began) / copies)


def _forward(classifier: BaseClassifier, copies: Tensor, device: str, precision: str) -> Tensor:
    import torch

    with torch.inference_mode(), autocast(device.partition(":")[0], precision):
        return classifier.predict(copies, MethodNoise(0, 0, len(copies), device))


def _plainly(classifier: BaseClassifier, x: Tensor, sigma: float, precision: str, n: int, batch: int) -> None:
    """The plain loop in fp32, whatever the arithmetic of the rest: tf32 is a state of the process."""
    set_precision("fp32")
    try:
        plain_counts(classifier, x, sigma=sigma, n=n, batch=batch)
    finally:
        set_precision(precision)


def _times(count: int, work: Callable[[], object]) -> None:
    for _ in range(count):
        work()


def _plain_curve(
    plain: Callable[[int, int], None], clock: Clock, limit_s: float, device: str
) -> tuple[tuple[int, float], ...]:
    """Batches of the plain loop that fit the memory and whose pass is over in time, and its seconds a copy in each.

    One whose activations cannot fit, by those of the batch before, is not begun.
    """
    found: list[tuple[int, float]] = []
    for batch in PLAIN_BATCHES:
        if found and found[-1][1] * batch > limit_s:
            break
        if found and _needed(device) * batch / found[-1][0] > device_bytes(device):
            break
        if device != "cpu":
            peak_memory.forget(device)
        seconds = _plain_seconds(partial(plain, batch, batch), clock, limit_s)
        if seconds is None:
            _give_back(device)
            break
        found.append((batch, seconds / batch))
    if found:
        return tuple(found)
    seconds = _plain_seconds(partial(plain, 1, 1), clock, limit_s)
    if seconds is None:
        raise DeviceError("a copy of the plain loop does not fit the memory; expected a larger device")
    return ((1, seconds),)


def _plain_seconds(loop: Callable[[], None], clock: Clock, limit_s: float) -> float | None:
    """Seconds of a pass, of the faster of two where there is time for them; None where it does not fit the memory."""
    import torch

    try:
        first = clock.time(loop).seconds
        return min(first, clock.time(loop).seconds) if first < limit_s / 4 else first
    except torch.OutOfMemoryError:
        return None


def _needed(device: str) -> int:
    """Most bytes in use since they were forgotten; on a CPU unknown, and 0."""
    return 0 if device == "cpu" else peak_memory.highest(device) or 0


def device_bytes(device: str) -> float:
    """Memory of a device."""
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory) if device.startswith("cuda") else math.inf


def _flips(
    built: Built,
    plain: Callable[[], BaseClassifier],
    copies: Callable[[int, int], Tensor],
    batch: int,
    clock: Clock,
    limit_s: float,
    device: str,
    *,
    large: bool,
) -> tuple[Flips, ...]:
    """Labels that change on the same noisy copies: by tuning, by bf16, and by the run's own arithmetic.

    One network after the other, each built when its turn comes: a large one takes seconds, and memory.
    """
    ways = {"": (built.exact, "fp32"), "tuning": (plain, "fp32"), "bf16": (built.half, "bf16")}
    if built.spec.precision == "fp16":
        ways["fp16"] = (lambda: built.tuned, "fp16")
    found = {}
    for what, (make, precision) in ways.items():
        found[what] = _labels(make(), precision, copies, batch, clock, limit_s / len(ways), device)
        if large:
            built.release()
            _give_back(device)
    exact, base = found.pop("")
    result = []
    for what, (labels, seconds) in found.items():
        n = min(len(exact), len(labels))
        flipped = int((labels[:n] != exact[:n]).sum())
        result.append(Flips(what, flipped, n, seconds / len(labels), base / len(exact)))
    return tuple(result)


def _pictures(name: str, shape: tuple[int, int, int], random: Tensor) -> tuple[Tensor, str]:
    """Test images of a dataset that is on this machine, (m, C, H, W), and what they are; else the random picture."""
    import torch

    try:
        images = dataset(name).open(None, None, "test")
    except BenchError:
        return random[None], RANDOM
    few = [images[i].pixels for i in range(0, len(images), -(-len(images) // PICTURES))]
    if not few or few[0].shape != tuple(shape):
        return random[None], RANDOM
    return torch.stack([torch.from_numpy(pixels) for pixels in few]).to(random.device), f"images of {name}"


def _labels(
    classifier: BaseClassifier, precision: str, copies: Callable[[int, int], Tensor], batch: int, clock: Clock,
    limit_s: float, device: str = "cpu",
) -> tuple[Tensor, float]:  # fmt: skip
    """Labels of the first copies, as many as there is time for, and the seconds that they took.

    `batch` is that of the run's arithmetic: in fp32 it may not fit, and is halved.
    """
    import torch

    labels: list[Tensor] = []
    n, spent = 0, 0.0
    if device != "cpu":  # where a first pass chooses and compiles kernels, and would tell of too few
        _forward(classifier, copies(0, 1), device, precision)
    size = 1  # a first copy tells how many there is time for: half precision may be 100 times slower
    while size:
        try:
            reading = clock.time(partial(_append, labels, classifier, copies(n, size), precision))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            reading = None
        if reading is None:  # not in the handler: its traceback keeps the tensors of the failed pass alive
            _give_back(device)
            batch = size = size // 2
            continue
        n, spent = n + size, spent + reading.seconds
        size = max(0, min(batch, 4 * n, int((limit_s - spent) * n / spent)))
    return torch.cat(labels), spent


def _append(labels: list[Tensor], classifier: BaseClassifier, x: Tensor, precision: str) -> None:
    labels.append(_forward(classifier, x, str(x.device), precision))


def weight_bytes(classifier: BaseClassifier) -> int:
    """Bytes of the tensors that a classifier holds."""
    import torch

    held = (part for _, part in walk(classifier, ends=lambda part: isinstance(part, torch.Tensor)))
    return sum(part.nbytes for part in held if isinstance(part, torch.Tensor))


def _give_back(device: str) -> None:
    """Let the device have again what was freed: pieces of another network's size are of no use to the next one."""
    import gc

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _same(classifier: BaseClassifier) -> BaseClassifier:
    return classifier


def _row_seconds(clock: Clock) -> float:
    """Seconds to store one image's row, safe from a power cut."""
    row = Row(0, "0" * 64, 0, Counts.of([(0, 100)]), Counts.of([(c, 100) for c in range(10)]), 1.0)
    with TemporaryDirectory() as folder, RowWriter(Path(folder), "0" * 64) as writer:
        return clock.time(partial(_times, ROWS, partial(writer.append, row))).wall / ROWS
