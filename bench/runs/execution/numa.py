"""The cores beside a GPU: a worker process keeps to them, and so does the memory that it pins for that GPU.

On a machine of several sockets what crosses between them to reach a GPU is slower. Where the system does not say which
cores those are (another system, a container, one socket), nothing happens.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.types.limits import digits

SYSTEM = Path("/sys")


def bind_cores(device: str, system: Path = SYSTEM) -> int | None:
    """Bind this thread, and all that it starts, to the cores beside a CUDA device; how many, None where unknown.

    Memory follows by itself: a page lies where the thread runs that first writes it. To be called before threads start.
    """
    if not device.startswith("cuda") or not hasattr(os, "sched_setaffinity"):
        return None
    address = pci_address(device)
    there = cores_near(address, system) if address else frozenset()
    mine = there & os.sched_getaffinity(0)  # what a scheduler or a container leaves this process
    if not mine:
        return None
    try:
        os.sched_setaffinity(0, mine)
    except OSError:
        return None
    return len(mine)


def pci_address(device: str) -> str | None:
    """A CUDA device's place on the bus, as the system names it; None of a torch that does not tell."""
    import torch

    try:
        found = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError):  # of torch without CUDA; whoever uses the device will say it better
        return None
    parts = [getattr(found, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if not all(isinstance(part, int) for part in parts):
        return None
    domain, bus, place = parts
    return f"{domain:04x}:{bus:02x}:{place:02x}.0"


def cores_near(address: str, system: Path = SYSTEM) -> frozenset[int]:
    """Cores of the NUMA node of a device on the bus; none where that is not known."""
    try:
        node = (system / "bus/pci/devices" / address / "numa_node").read_text(encoding="ascii").strip()
        if digits(node) is None:  # -1: the system does not know
            return frozenset()
        return _numbers((system / f"devices/system/node/node{node}/cpulist").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return frozenset()


def _numbers(words: str) -> frozenset[int]:
    """The numbers of "0-3,8,10-11".

    Raises: ValueError for anything else.
    """
    ranges = [word.partition("-") for word in words.strip().split(",") if word]
    return frozenset(n for low, dash, high in ranges for n in range(int(low), int(high if dash else low) + 1))
