"""What four processes do together, the last of which is then killed; each is a fork, with torchrun's environment."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from few_digits import few_digits
from torch import Tensor
from two_processes import LONG, refusal, toy, train_in_float64

from methods.training.distributed import join
from methods.training.loop import Task, run

SIZE = 4


def dying(task: Task, *, last: bool) -> Task:
    """The task, whose last process is killed in a step."""

    def loss(step: int, batch: Any) -> Mapping[str, Tensor]:
        if step == 3 and last:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.loss(step, batch)

    return dataclasses.replace(task, loss=loss)


def work(folder: Path, init: Path) -> None:
    """Train in four processes, then lose one."""
    torch.set_num_threads(1)
    world = join("cpu")
    train_in_float64("pretrain", folder / "pretrain", init, **LONG)
    task = dying(toy(world), last=world.rank == world.size - 1)
    (folder / f"{world.rank}.txt").write_text(refusal(lambda: run(task, folder / "killed", resume=False)))


def main(folder: Path, init: Path) -> None:
    """Fork, and wait for all."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    os.environ |= {"WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for rank in range(SIZE):
        if child := os.fork():
            children.append(child)
            continue
        os.environ["RANK"] = str(rank)
        try:
            work(folder, init)
        finally:
            os._exit(1)  # leaving as usual would wait for the one that is gone
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    with few_digits():
        main(Path(sys.argv[1]), Path(sys.argv[2]))
