"""The driver of a run as a Slurm job of its own, which asks for its workers when it has a place; by submitit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.runs.execution.slurm import DRIVER_WORD, clean_slurm, parse_options, queue_of, submitter
from bench.types import Execution
from bench.types.errors import DeviceError

DETACH = "--detach"
MINUTES = 3 * 24 * 60  # of the driver's job, unless told otherwise; where they are over it is queued again
DRIVERS = "drivers"  # folder of the drivers' logs, beside the run folders
# Of the workers' own options, those that say where and for whom, not how much.
_PLACE = ("slurm_partition", "slurm_account", "slurm_qos", "slurm_constraint", "slurm_reservation")


@dataclass(frozen=True, slots=True)
class DriverJob:
    """Where the driver is."""

    number: str
    log: Path  # its progress
    cancel: str  # the command that ends it


@dataclass(frozen=True, slots=True)
class Driver:
    """The command in a job: words of the command line, and the folder that they are meant in."""

    words: tuple[str, ...]
    folder: str
    packages: str  # where `bench` is found

    def __call__(self) -> int:
        """Run it to its end; its exit code.

        Raises: RuntimeError where it fails, so that the job is seen to have failed.
        """
        path = os.pathsep.join(filter(None, (self.packages, os.environ.get("PYTHONPATH"))))
        # -P: a folder `bench` of the user's must not be taken for this package.
        command = [sys.executable, "-P", "-c", "from bench.cli import main; main()", *self.words]
        code = subprocess.run(command, cwd=self.folder, env=os.environ | {"PYTHONPATH": path}, check=False).returncode  # noqa: S603
        if code:
            raise RuntimeError(f"rrcm-bench ended with {code}")
        return code

    def checkpoint(self) -> Any:
        """What submitit queues where the job's time is over or its machine is taken back: the same, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def detach(words: Sequence[str], execution: Execution, out: Path) -> DriverJob:
    """Submit the driver; its job has one core and no GPU, and its own options begin with `driver_`.

    Raises: UsageError for options that submitit does not know; DeviceError where there is no Slurm, or it refuses.
    """
    import bench

    options = parse_options(execution.options)
    own = {key.removeprefix(DRIVER_WORD): value for key, value in options.items() if key.startswith(DRIVER_WORD)}
    cluster = queue_of(options)
    place = {key: options[key] for key in _PLACE if key in options}
    asked = {"name": "rrcm-bench-driver", "timeout_min": MINUTES, "cpus_per_task": 2, **place, **own}
    logs = out.absolute() / DRIVERS
    executor = submitter(logs, cluster, {**asked, "stderr_to_stdout": True}, execution.options)
    packages = str(Path(bench.__file__).parents[1])
    with clean_slurm():
        try:
            job = executor.submit(Driver(tuple(words), str(Path.cwd()), packages))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise DeviceError(f"the driver could not be submitted: {' '.join(str(error).split())[:300]}") from error
    number = str(job.job_id)
    cancel = f"scancel {number}" if cluster == "slurm" else f"kill {number}"
    return DriverJob(number, Path(job.paths.stdout), cancel)
