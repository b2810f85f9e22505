"""A run of the benchmark: what is asked for, checked, and the ceilings of the machine, measured first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.runs.execution.environment import check_precision, environment, parse_devices, ready_process
from bench.timing.device_peaks import Peak, peaks
from bench.timing.throughput.measurement import measure
from bench.timing.throughput.records import Measurement
from bench.timing.throughput.targets import Target, targets
from bench.types import AUTO
from bench.types.errors import SpecError, UsageError
from bench.types.limits import SECONDS, SIGMA, check_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run of the benchmark on one device."""

    targets: tuple[Target, ...]
    device: str
    precision: str
    sigma: float
    budget_s: float  # for each network
    compiling: str  # COMPILE
    machine: Mapping[str, Any]
    created: str
    peaks: tuple[Peak, ...]

    def measure(self, target: Target) -> Measurement:
        """One network."""
        return measure(
            target,
            device=self.device,
            sigma=self.sigma,
            precision=self.precision,
            budget_s=self.budget_s,
            compiling=self.compiling,
        )


def begin(
    names: str | None,
    *,
    device: str,
    precision: str,
    sigma: float,
    budget_s: float,
    compiling: str = AUTO,
) -> Session:
    """Check what is asked for, and measure the machine.

    Raises: UsageError, SpecError or DeviceError for what cannot be measured.
    """
    import torch

    check_precision(precision)
    if not sigma > 0:
        raise SpecError(f"--sigma {sigma:g}: expected a noise level above 0")
    check_within("--sigma", sigma, *SIGMA)
    if not budget_s > 0:
        raise UsageError(f"--budget {budget_s:g}: expected seconds above 0 for each network")
    check_within("--budget", budget_s, 0, SECONDS)
    devices = parse_devices(device)
    if len(devices) != 1:
        raise UsageError(f"--device {device}: expected one device, got {len(devices)}; measure them one by one")
    wanted = targets(names, devices[0])
    ready_process(precision)  # the plain loop, in the same process, has the good of it too
    return Session(
        targets=wanted,
        device=devices[0],
        precision=precision,
        sigma=sigma,
        budget_s=budget_s,
        compiling=compiling,
        machine={**environment(devices, precision), "capability": torch.backends.cpu.get_cpu_capability()},
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        peaks=peaks(devices[0]),
    )
