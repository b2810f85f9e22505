"""From the words of `rrcm-bench run` to how it is computed: devices, batch, workers."""

from __future__ import annotations

from bench.types import EXECUTORS, LOCAL, SLURM, Execution
from bench.types.errors import UsageError
from bench.types.limits import SAMPLES, WORKERS, check_within, digits

CLUSTER_DEVICES = ("auto", "cpu", "cuda")


def execution_of(executor: str, device: str, batch: str, workers: int | None, slurm: tuple[str, ...]) -> Execution:
    """How a run is computed, from the words of its options.

    Raises: UsageError for words that do not fit each other; DeviceError for a device that is not here.
    """
    if executor not in EXECUTORS:
        raise UsageError(f"no executor {executor!r}; expected one of: {', '.join(EXECUTORS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1")
    check_within("--workers", workers, 1, WORKERS)
    if slurm and executor != SLURM:
        raise UsageError(f"--slurm {slurm[0]} is for --executor slurm; give that too, or leave it out")
    if executor == LOCAL:
        from bench.runs.execution.environment import parse_devices

        devices = parse_devices(device)
        if workers is not None and workers < len(devices):
            raise UsageError(f"--workers {workers} for {len(devices)} devices: expected one for each, or fewer devices")
        # More workers than devices share them in turn.
        return Execution(tuple(devices[k % len(devices)] for k in range(workers or len(devices))), parse_batch(batch))
    if device not in CLUSTER_DEVICES:
        raise UsageError(
            f"--device {device!r} with --executor {executor}: expected one of {', '.join(CLUSTER_DEVICES)}; "
            "each worker has one device, and the cluster says which"
        )
    return Execution((device,), parse_batch(batch), executor, workers, slurm)


def parse_batch(words: str) -> int | None:
    """None for auto.

    Raises: UsageError.
    """
    if words == "auto":
        return None
    copies = digits(words)
    if copies is None or copies < 1:
        raise UsageError(f"--batch {words!r}: expected auto or a positive number of copies")
    check_within("--batch", copies, 1, SAMPLES)
    return copies
