"""What a result was computed with: versions, devices, arithmetic. Recorded beside every run; never part of its spec."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.runs.execution.memory import keep_memory
from bench.types.checkout import git_commit
from bench.types.errors import DeviceError, SpecError
from bench.types.limits import digits

PACKAGES = (
    "rrcm-bench",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "timm",
    "diffusers",
    "pillow",
    "scikit-learn",
    "xformers",
)
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
# Of a line "flags" (x86) or "Features" (ARM) in /proc/cpuinfo: any of them computes products in that type.
HALF_FLAGS = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "avx10", "bf16", "svebf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16", "avx10", "asimdhp", "fphp"}),
}
SLOWER = 130  # times that bf16 took the seconds of fp32 where there were no instructions for it (results/bench)
CPU_INFO = Path("/proc/cpuinfo")


def environment(devices: tuple[str, ...], precision: str) -> dict[str, Any]:
    """Versions, devices and arithmetic of this process, as plain values."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: v for name in PACKAGES if (v := package_version(name))},
        "git_commit": git_commit(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "devices": {device: device_name(device) for device in dict.fromkeys(devices)},
        "cuda": torch.version.cuda,
        "cudnn": _cudnn(),
        "precision": precision,
        "tf32": precision == "tf32",
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def check_precision(precision: str) -> None:
    """Nothing, for an arithmetic that there is.

    Raises: SpecError.
    """
    if precision not in PRECISIONS:
        raise SpecError(f"no precision {precision!r}; expected one of {', '.join(PRECISIONS)}")


def check_instructions(devices: Iterable[str], precision: str) -> None:
    """Nothing, unless a CPU is to compute in half precision and is known to have no instructions for it.

    Raises: DeviceError.
    """
    wanted = HALF_FLAGS.get(precision)
    if wanted is None or "cpu" not in devices or (there := _cpu_flags()) is None or wanted & there:
        return
    raise DeviceError(
        f"this CPU has no instructions for {precision}: bf16 took {SLOWER} times the seconds of fp32 on another such; "
        f"expected one of {', '.join(sorted(wanted))} in {CPU_INFO}. Give --precision fp32, or --allow-slow-precision "
        "to go on"
    )


def _cpu_flags() -> frozenset[str] | None:
    """What the processor can; None where no system says so."""
    try:
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            name, _, flags = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(flags.split())
    except OSError:
        pass
    return None


def ready_process(precision: str) -> None:
    """Let this process compute as every run does: in that arithmetic, and keeping the memory that passes give back."""
    set_precision(precision)
    keep_memory()


def set_precision(precision: str) -> None:
    """Put the float32 arithmetic of this process into the state that the spec names.

    torch lets cuDNN use TF32 unless told otherwise: "fp32" must switch it off.
    """
    import torch

    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def parse_devices(words: str) -> tuple[str, ...]:
    """Devices by name: "auto" is the first CUDA device or the CPU, "cuda" all of this machine; one worker each.

    Raises: DeviceError for a device that is not there.
    """
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if words == "auto":
        return ("cuda:0",) if cuda else ("cpu",)
    devices = []
    for word in (w.strip() for w in words.split(",")):
        if word == "cuda" and cuda:
            devices += [f"cuda:{i}" for i in range(cuda)]
            continue
        number = digits(word.removeprefix("cuda:")) if word.startswith("cuda:") else None
        if word != "cpu" and (number is None or number >= cuda):
            there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(cuda))])
            raise DeviceError(f"no device {word!r}; expected auto or some of: {there}")
        devices.append(word)
    return tuple(devices)


def device_name(device: str) -> str:
    """The maker's name of a device."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()


def _cudnn() -> Any:
    import torch

    cudnn: Any = torch.backends.cudnn
    return cudnn.version() if cudnn.is_available() else None


@cache
def cpu_name() -> str:
    """The processor's model and its number of cores."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores"


def package_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def own_version() -> str:
    """The version of this package; of a tree that was never installed, what its pyproject.toml says."""
    import tomllib

    if installed := package_version("rrcm-bench"):
        return installed
    project = Path(__file__).resolve().parents[3] / "pyproject.toml"
    return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]) if project.is_file() else "0"
