"""From the words of a command to how it is computed."""

from __future__ import annotations

import pytest

from bench.cli.options import execution_of
from bench.types import Execution
from bench.types.errors import BenchError, DeviceError, UsageError


def test_without_words_a_run_is_computed_on_this_machine() -> None:
    assert execution_of("local", "cpu", "auto", None, ()) == Execution(("cpu",))


def test_workers_of_this_machine_share_its_devices_in_turn() -> None:
    assert execution_of("local", "cpu", "64", 3, ()) == Execution(("cpu", "cpu", "cpu"), 64)
    assert execution_of("local", "cpu,cpu", "auto", 3, ()).devices == ("cpu", "cpu", "cpu")


def test_a_cluster_is_asked_for_a_kind_of_device_not_for_this_machines() -> None:
    asked = execution_of("ray", "cuda", "auto", 512, ())
    assert asked == Execution(("cuda",), None, "ray", 512)
    slurm = execution_of("slurm", "cpu", "auto", None, ("partition=long",))
    assert slurm.options == ("partition=long",)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("dask", "cpu", "auto", None, ()), UsageError, "no executor 'dask'; expected one of: local, ray, slurm"),
        (("ray", "cpu", "auto", 0, ()), UsageError, "--workers 0: expected at least 1"),
        (("local", "cpu,cpu", "auto", 1, ()), UsageError, "--workers 1 for 2 devices"),
        (("ray", "cuda:1", "auto", 1, ()), UsageError, "expected one of auto, cpu, cuda"),
        (("ray", "cpu", "many", 1, ()), UsageError, "--batch 'many'"),
        (("ray", "cpu", "auto", 1, ("partition=gpu",)), UsageError, "is for --executor slurm"),
        (("local", "tpu", "auto", None, ()), DeviceError, "no device 'tpu'"),
    ],
)
def test_words_that_do_not_fit_are_refused_in_one_line(words: tuple, error: type[BenchError], said: str) -> None:
    with pytest.raises(error) as caught:
        execution_of(*words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cuda_is_every_gpu_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert execution_of("local", "cuda", "auto", None, ()).devices == ("cuda:0", "cuda:1", "cuda:2")
    assert execution_of("local", "auto", "auto", None, ()).devices == ("cuda:0",)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="no device 'cuda'; expected auto or some of: cpu"):
        execution_of("local", "cuda", "auto", None, ())
