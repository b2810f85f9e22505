"""Workers of a real Ray cluster, several nodes on this machine: nodes die and join, and no row can tell."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from plane_runs import REQUEST, compute, timeless

from bench.runs.execution import ray
from bench.runs.request import plan
from bench.runs.store import find_runs
from bench.types import Execution, Row
from bench.types.errors import BenchError, DeviceError, SpecError

pytest.importorskip("ray", reason="ray is not installed: pip install 'rrcm-bench[ray]'")
pytestmark = pytest.mark.global_rng("Ray draws ports and names: those of two suites at once must differ")

SLOW = ("pause=0.02",)  # a batch: time to kill a worker in the middle


def on_ray_workers(count: int) -> Execution:
    return Execution(("cpu",), 50, "ray", count)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    import ray
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else it writes one into the home folder
    folder = tempfile.mkdtemp(prefix="rrcm-test-", dir="/tmp")  # its sockets' names must stay short
    patch.setenv("RAY_TMPDIR", folder)
    Path(folder, "ray").mkdir()
    own = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
            "temp_dir": folder,
        },
    )
    patch.setenv("RAY_ADDRESS", own.address)
    yield own
    if ray.is_initialized():
        ray.shutdown()
    own.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    patch.undo()


def add_node(cluster):
    return cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


def with_nodes(cluster, count: int) -> list:
    """As many nodes as are asked for, first those that the last test has left: to start one takes seconds."""
    for node in list(cluster.worker_nodes)[count:]:
        cluster.remove_node(node)
    while len(cluster.worker_nodes) < count:
        add_node(cluster)
    return list(cluster.worker_nodes)


def test_neither_a_killed_node_nor_one_that_joins_nor_ctrl_c_moves_a_row(
    cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = plan(replace(REQUEST, params=SLOW))[0]
    lost: list[int] = []
    replace_dead = ray.RayPool._replace_dead

    def counted(pool, handle):
        results = replace_dead(pool, handle)
        lost.extend(result.number for result in results)
        return results

    nodes, rows = with_nodes(cluster, 1), []  # the second worker has no place yet
    send = ray.RayPool.send

    def struck(pool, task):
        send(pool, task)
        if task.number == 4:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            with_nodes(cluster, 2)

    monkeypatch.setattr(ray.RayPool, "_replace_dead", counted)
    monkeypatch.setattr(ray.RayPool, "send", struck)

    def stop(row: Row) -> None:
        rows.append(row.index)
        if len(rows) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(job, tmp_path / "ray", on_ray_workers(2), stop)
    assert lost  # it had work in hand
    (stopped,) = find_runs([tmp_path / "ray"])
    assert len(stopped.rows) == 8
    assert stopped.environment["workers"][0]["batch"] == 50
    assert stopped.execution["executor"] == "ray"
    finished = compute(job, tmp_path / "ray", Execution(("cpu",), 200), lambda row: rows.append(row.index))
    assert sorted(rows) == list(range(10))  # nothing twice
    whole = compute(plan(REQUEST)[0], tmp_path / "local", Execution(("cpu",), 64))
    assert timeless(finished) == timeless(whole)


def test_what_a_worker_refuses_is_told_in_its_own_line(
    cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_nodes(cluster, 1)
    job = plan(REQUEST)[0]
    other = replace(job, spec=replace(job.spec, noise="another version's"))
    with pytest.raises(SpecError, match="install the same version of rrcm-bench on every machine") as caught:
        compute(other, tmp_path, on_ray_workers(1))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*/run.json"))


@pytest.mark.parametrize(
    ("device", "words"), [("cpu", r"no worker found a place in 1 s: each needs 1 CPU,"), ("cuda", "has no GPU")]
)
def test_a_cluster_without_a_place_is_told(
    cluster, device: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_nodes(cluster, 0)
    monkeypatch.setattr(ray, "PLACE_SECONDS", 1.0)
    with pytest.raises(DeviceError, match=words) as caught:
        compute(plan(REQUEST)[0], tmp_path, Execution((device,), 50, "ray", 1))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_address_where_no_cluster_answers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(BenchError, match="no ray cluster answers at RAY_ADDRESS='nonsense'") as caught:
        compute(plan(REQUEST)[0], tmp_path, on_ray_workers(1))
    assert "\n" not in str(caught.value)


def test_the_folder_of_a_killed_driver_is_removed_and_no_other(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f"rrcm-ray-{os.getpid()}-abc", "rrcm-ray-abc", "other"]
    for name in (*kept, f"rrcm-ray-{gone.pid}-abc"):
        (tmp_path / name).mkdir()
    ray._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
