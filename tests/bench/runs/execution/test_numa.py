"""A worker of a GPU keeps to the cores beside it, where the system says which those are."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.runs.execution import numa
from bench.runs.execution.numa import bind_cores, cores_near, pci_address

GPU = "0000:9a:00.0"


def system(folder: Path, node: str = "1", cores: str = "16-19,48-51,63") -> Path:
    device = folder / "bus/pci/devices" / GPU
    device.mkdir(parents=True)
    (device / "numa_node").write_text(f"{node}\n")
    (folder / "devices/system/node/node1").mkdir(parents=True)
    (folder / "devices/system/node/node1/cpulist").write_text(f"{cores}\n")
    return folder


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What this process was bound to, on a machine of 64 cores of which a scheduler left it some."""
    found: list[set[int]] = []
    left = set(range(17, 50))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: left, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, cores: found.append(set(cores)), raising=False)
    place = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x9A, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: place)
    return found


def test_it_keeps_to_those_of_its_node_that_it_may_use(bound: list[set[int]], tmp_path: Path) -> None:
    assert pci_address("cuda:0") == GPU
    assert cores_near(GPU, system(tmp_path)) == {16, 17, 18, 19, 48, 49, 50, 51, 63}
    assert bind_cores("cuda:0", tmp_path) == 5
    assert bound == [{17, 18, 19, 48, 49}]


@pytest.mark.parametrize(
    ("node", "cores"),
    [("-1", "0-3"), ("7", "0-3"), ("1", ""), ("1", "0-3"), ("1", "some"), ("", "16-19")],
    ids=["unknown", "no such node", "a node of memory alone", "none of its own", "not numbers", "empty"],
)
def test_where_it_cannot_know_it_stays(node: str, cores: str, bound: list[set[int]], tmp_path: Path) -> None:
    assert bind_cores("cuda:0", system(tmp_path, node, cores)) is None
    assert bind_cores("cuda:0", tmp_path / "no such folder") is None
    assert bind_cores("cpu", tmp_path) is None
    assert bound == []


def test_a_torch_that_does_not_tell_where_a_device_is_is_believed(
    bound: list[set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(name="a GPU"))
    assert bind_cores("cuda:0", system(tmp_path)) is None
    assert bound == []


def test_this_machine_is_read_without_an_error() -> None:
    assert numa.cores_near("0000:00:00.0") <= frozenset(range(os.cpu_count() or 1))
