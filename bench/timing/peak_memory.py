"""Most memory in use on a device: forgotten before what is looked at, read after it."""

from __future__ import annotations

from pathlib import Path


def forget(device: str) -> None:
    """Begin anew, from what is in use now; where nobody can, nothing happens."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:  # Linux: the highest resident size begins anew
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def highest(device: str) -> int | None:
    """Most memory in use since, bytes: of tensors on a GPU, of the whole process on a CPU; None where nobody tells.

    A pass that is recorded as a CUDA graph is counted while it is recorded, and takes no more when it is replayed.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) * 1024 if line else None
