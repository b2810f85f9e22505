"""What two processes do together, for tests that compare them with one; run by torchrun."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import few_digits
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from bench.cli.app import app
from bench.types import TrainRequest
from bench.types.errors import BenchError
from methods.training import boosting, classical, loader, rrcm, run_stage, smoothmix
from methods.training.distributed import ALONE, World, join
from methods.training.loader import load
from methods.training.loop import Intervals, Task, run
from methods.training.optimisers import adamw
from methods.training.rng import generator, seeded_globals
from methods.training.sharding import Share

BATCH, STEPS = 16, 8
SHORT = {"epochs": "1", "batch": "64", "warmup_epochs": "0"}  # 5 steps
LONG = {"steps": "50", "batch": "16", "warmup_steps": "10"}
STAGES: dict[str, tuple[Callable[[TrainRequest], Mapping[str, Any]], dict[str, str]]] = {
    "gaussian": (classical.gaussian, {**SHORT, "copies": "2"}),
    "gaussian_apart": (classical.gaussian, {**SHORT, "copies": "2", "sync_bn": "false"}),
    "finetune": (rrcm.finetune, {**SHORT, "mixup": "0.8", "cutmix": "1.0", "clip": "1.0", "ema": "0.9"}),
    "finetune_accumulated": (rrcm.finetune, {**SHORT, "accumulate": "2"}),
    "smoothmix": (smoothmix.train, {**SHORT, "copies": "2"}),
    "boosting": (boosting.train, {**SHORT, "members": "2"}),
    "pretrain": (rrcm.pretrain, {"steps": "3", "batch": "32", "warmup_steps": "0"}),
    "pretrain_cached": (rrcm.pretrain, {"steps": "3", "batch": "32", "warmup_steps": "0", "micro_batch": "4"}),
}
REFUSED: dict[str, tuple[Callable[[TrainRequest], Mapping[str, Any]], dict[str, str]]] = {
    "indivisible": (classical.gaussian, {**SHORT, "batch": "255"}),
    "odd_mixing": (rrcm.finetune, {**SHORT, "batch": "90", "mixup": "0.8"}),
}


def request(out: Path, init: Path | None, changes: Mapping[str, str], **more: Any) -> TrainRequest:
    values = {
        "method": "rrcm",
        "stage": "finetune",
        "dataset": "digits",
        "data_root": None,
        "preset": "",
        "sigma": 0.25,
    }
    values |= {"init": init, "out": out, "overrides": changes, "device": "cpu", "seed": 0}
    values |= {"resume": False, "dry_run": False}
    return TrainRequest(**{**values, **more})


def asked(name: str, out: Path, init: Path, **more: str) -> TrainRequest:
    train, changes = {**STAGES, **REFUSED}[name]
    changes = {**changes, **more}
    if train is rrcm.pretrain:
        return request(out, None, changes, stage="pretrain", sigma=None)
    if train is rrcm.finetune:
        return request(out, init, changes)
    method = {classical.gaussian: "gaussian", smoothmix.train: "smoothmix", boosting.train: "boosting"}[train]
    return request(out, None, changes, method=method, stage="train")


@contextmanager
def in_float64() -> Iterator[None]:
    """All arithmetic of a stage on digits in float64, where sums in another order change no digit that a test looks at.

    In float32, an input of a ReLU that is nearly 0 may be positive in one process and not in two, which changes that
    step's gradient by a percent.
    """

    def doubled(*which: Any) -> tuple[Tensor, Tensor]:
        images, labels = load(*which)
        return images.double(), labels

    torch.set_default_dtype(torch.float64)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            for module in (loader, run_stage):
                patch.setattr(module, "load", doubled)
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def train_in_float64(name: str, out: Path, init: Path, **more: str) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Report and weights of a stage."""
    with in_float64():
        report = STAGES[name][0](asked(name, out, init, **more))
    return report, load_file(report["weights"])


def first_gradients(out: Path, **changes: str) -> dict[str, Tensor]:
    """Gradients of the first step of pre-training, averaged over the processes, by their place."""
    found: dict[str, Tensor] = {}

    def recording(groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        made = adamw(groups, lr=lr, weight_decay=weight_decay)

        def record(optimiser: torch.optim.Optimizer, _args: object, _kwargs: object) -> None:
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            found.update({str(i): p.grad.clone() for i, p in enumerate(parameters) if p.grad is not None})

        made.register_step_pre_hook(record)
        return made

    before, rrcm.adamw = rrcm.adamw, recording
    try:
        values = {"steps": "1", "batch": "32", "warmup_steps": "0", "clip": "0", **changes}
        rrcm.pretrain(request(out, None, values, stage="pretrain", sigma=None))
    finally:
        rrcm.adamw = before
    return found


class Toy(nn.Sequential):
    """Of a class of its own: some versions of torch compile no network that is made of torch's own modules alone."""

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = super().forward(x)
        return made


def toy(world: World, *, spoilt: int | None = None, stopped: int | None = None, accumulate: int = 1) -> Task:
    """A linear network; the last process spoils its loss, or is asked to stop, in a step."""
    last = world.rank == world.size - 1
    with seeded_globals("toy"):
        net = Toy(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    shares = [Share(world.rank * accumulate + i, world.size * accumulate) for i in range(accumulate)]

    def batches(step: int) -> Iterator[Tensor]:
        while True:
            whole = torch.randn(BATCH, 4, generator=generator("cpu", "toy data", step))
            yield from (share.take(whole) for share in shares)
            step += 1

    def loss(step: int, x: Tensor) -> Mapping[str, Tensor]:
        if step == stopped and last:
            signal.raise_signal(signal.SIGTERM)
        fit = (net(x) - x.sum(dim=1, keepdim=True)).square().mean()
        return {"loss": fit * float("nan") if step == spoilt and last else fit}

    return Task(
        modules={"net": net},
        optimiser=torch.optim.SGD([{"params": list(net.parameters()), "base_lr": 0.1}], lr=0.1, momentum=0.9),
        batches=batches,
        loss=loss,
        rate=lambda _step: 1.0,
        steps=STEPS,
        identity={},
        world=world,
        accumulate=accumulate,
    )


def weights(task: Task) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in task.modules["net"].state_dict().items()}


def main(folder: Path, init: Path) -> None:
    """Do all of it in one of two processes, and leave what came of it in RANK.pt."""
    torch.set_num_threads(1)
    world = join("cpu")
    found: dict[str, Any] = {name: train_in_float64(name, folder / name, init) for name in STAGES}
    train_in_float64("pretrain", folder / "long", init, **LONG)
    found["dry_run"] = classical.gaussian(dataclasses.replace(asked("gaussian", folder / "dry", init), dry_run=True))
    for name in REFUSED:
        found[name] = refusal(lambda name=name: REFUSED[name][0](asked(name, folder / name, init)))
    found["gradients"] = first_gradients(folder / "cached", micro_batch="4")  # 16 images a process: 4 chunks
    spoilt = toy(world, spoilt=5)
    found["spoilt"] = refusal(lambda: run(spoilt, folder / "spoilt", resume=False, intervals=Intervals(save_every=3)))
    stopped = toy(world, stopped=4)
    try:
        run(stopped, folder / "stopped", resume=False)
        found["stopped"] = "went on"
    except KeyboardInterrupt:
        found["stopped"] = weights(stopped)
    words = ["train", "gaussian", "--sigma", "0.25", "--set", "epochs=1", "--out", str(folder / "cli"), "--json"]
    told = CliRunner().invoke(app, words)
    found["cli"] = (told.exit_code, told.stdout)
    torch.save(found, folder / f"{world.rank}.pt")


def refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except BenchError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def alone(**changes: Any) -> Task:
    return toy(ALONE, **changes)


if __name__ == "__main__":
    with few_digits():
        main(Path(sys.argv[1]), Path(sys.argv[2]))
