"""What the device does while it is timed: clocks, power, heat, throttling, other programs. Flagged, never dropped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from bench.timing.records import Telemetry

PERIOD = 0.1  # seconds between looks
# Bits of NVML's current clocks event reasons that slow a GPU down; idle (1) and clocks set by the user (2) do not.
THROTTLES: Mapping[int, str] = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


class Sensor(Protocol):
    """Looks at a device between `start` and `stop`."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Telemetry:
        """End, and what was seen."""


class HostSensor:
    """A CPU's: the share of its threads' time that this process got, and how many others wanted a core."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Begin."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> Telemetry:
        """End, and what was seen."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        share = cpu / (wall * self._threads) if wall > 0 else None
        load = os.getloadavg()[0] - self._threads if hasattr(os, "getloadavg") else None
        return Telemetry(cpu_share=None if share is None else min(1.0, share), load=load)


class NvmlSensor:
    """An NVIDIA GPU's by NVML, looked at ten times a second in a thread of its own.

    Any single question that a driver does not answer is left unanswered: it must not end a measurement.
    """

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml, self._handle = nvml, nvml.nvmlDeviceGetHandleByIndex(index)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._energy: float | None = None
        self._seen: list[tuple[int | None, int | None, int]] = []

    def start(self) -> None:
        """Begin."""
        self._energy, self._seen = self._joules(), []
        self._over.clear()
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> Telemetry:
        """End, and what was seen."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._look()
        energy = self._joules()
        nvml = self._nvml
        clocks = [clock for clock, _, _ in self._seen if clock is not None]
        heats = [heat for _, heat, _ in self._seen if heat is not None]
        bits = 0
        for _, _, reasons in self._seen:
            bits |= reasons
        limit = self._ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(self._handle, nvml.NVML_CLOCK_SM))
        cap = self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle))
        return Telemetry(
            energy_j=None if energy is None or self._energy is None else energy - self._energy,
            clocks_mhz=(min(clocks), max(clocks)) if clocks else None,
            clock_limit_mhz=limit,
            # Bit 2: "applications clocks setting" and locked clocks both show as it.
            clocks_locked=bool(bits & 0x2) if self._seen else None,
            power_cap_w=None if cap is None else cap / 1000,
            temperature_c=max(heats, default=None),
            throttled=tuple(words for bit, words in THROTTLES.items() if bits & bit),
            others=self._others(),
            samples=max(0, len(self._seen) - 2),
        )

    def _watch(self) -> None:
        while not self._over.wait(PERIOD):
            self._look()

    def _look(self) -> None:
        nvml, handle = self._nvml, self._handle
        clock = self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        heat = self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        self._seen.append((clock, heat, int(reasons or 0)))

    def _joules(self) -> float | None:
        millijoules = self._ask(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if millijoules is None else millijoules / 1000

    def _others(self) -> int | None:
        running = self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return None if running is None else sum(process.pid != os.getpid() for process in running)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


class BlindSensor:
    """Sees nothing: a GPU without NVML."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Telemetry:
        """End, with nothing seen."""
        return Telemetry()


def sensor_for(device: str, threads: int, nvml: ModuleType | None = None) -> Sensor:
    """The sensor of a device; a blind one where NVML is not installed or does not answer."""
    if not device.startswith("cuda"):
        return HostSensor(threads)
    if nvml is None:
        try:
            import pynvml
        except ModuleNotFoundError:
            return BlindSensor()
        nvml = pynvml
    try:
        nvml.nvmlInit()
        return NvmlSensor(nvml, _physical(device))
    except nvml.NVMLError:
        return BlindSensor()


def _physical(device: str) -> int:
    """The driver's number of a torch device: CUDA_VISIBLE_DEVICES may have renumbered it."""
    number = int(device.partition(":")[2] or 0)
    visible = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return int(visible[number]) if number < len(visible) and visible[number].isdigit() else number
