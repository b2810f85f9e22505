"""No step of any stage waits for the device or copies to it while it works, shown without one: on "meta"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from waits import Waits

from bench.types import TrainRequest
from methods.training import (
    classical,
    denoised_finetune,
    denoising,
    diffusion,
    dmae,
    macer,
    rng,
    rrcm,
    run_stage,
    smoothadv,
    smoothmix,
    stability,
    train_classifier,
)
from methods.training.checkpoints import RunState
from methods.training.distributed import ALONE
from methods.training.distributed_setup import set_up
from methods.training.loader import Batch
from methods.training.loop import Task, stepper

Stage = Callable[[TrainRequest], Mapping[str, Any]]
STAGES: dict[str, tuple[Stage, str, str, dict[str, str]]] = {
    "gaussian": (classical.gaussian, "gaussian", "train", {}),
    "consistency": (classical.consistency, "consistency", "train", {}),
    "smoothadv": (smoothadv.train, "smoothadv", "train", {}),
    "smoothadv ddn": (smoothadv.train, "smoothadv", "train", {"attack": "ddn", "attack_steps": "2"}),
    "macer": (macer.train, "macer", "train", {}),
    "smoothmix": (smoothmix.train, "smoothmix", "train", {"clean_after": "1"}),
    "stability": (stability.train, "stability", "train", {}),
    "classifier": (denoising.train_clean_classifier, "denoised", "classifier", {}),
    "denoiser": (denoising.train_denoiser, "denoised", "denoiser", {"objective": "stab"}),
    "diffusion": (diffusion.diffusion, "dds", "diffusion", {}),
    "dds": (denoised_finetune.finetune, "dds", "finetune", {}),
    "dmae": (dmae.finetune, "dmae", "finetune", {"augment": "digits", "normaliser": "half"}),
    "pretrain": (rrcm.pretrain, "rrcm", "pretrain", {}),
    "moco": (rrcm.pretrain, "rrcm", "pretrain", {"objective": "moco"}),
}
AUTOCAST = torch.autocast
WITHOUT_SIGMA = ("classifier", "diffusion", "pretrain", "moco")
USERS = (train_classifier, denoising, diffusion, dmae, rrcm, denoised_finetune)


class _CaughtError(Exception):
    def __init__(self, context: run_stage.TrainingContext, task: Task) -> None:
        super().__init__()
        self.context, self.task = context, task


def _catch(context: run_stage.TrainingContext, task: Task, *_words: object, **_more: object) -> None:
    raise _CaughtError(context, task)


def _generator(device: str, *words: int | str | float) -> torch.Generator | None:
    return None if device == "meta" else rng.generator(device, *words)


def _autocast(device: str, **words: Any) -> AbstractContextManager[object]:
    return nullcontext() if device == "meta" else AUTOCAST(device, **words)


@pytest.mark.parametrize("name", STAGES)
def test_a_step_neither_waits_for_the_device_nor_reads_from_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, method, stage, chosen = STAGES[name]
    for module in USERS:
        monkeypatch.setattr(module, "run_stage", _catch)
    for module in (run_stage, smoothadv):
        monkeypatch.setattr(module, "generator", _generator)
    monkeypatch.setattr(torch, "autocast", _autocast)
    preset = "cifar10-small" if method == "dmae" else ""  # which has none for digits
    request = TrainRequest(
        method=method, stage=stage, dataset="digits", data_root=None, preset=preset,
        sigma=None if name in WITHOUT_SIGMA else 0.25, init=None, out=tmp_path,
        overrides={"batch": "4", "steps": "20", "clip": "1.0", **chosen}, device="meta", seed=0, resume=False,
        dry_run=False,
    )  # fmt: skip
    with pytest.raises(_CaughtError) as caught:
        train(request)
    context = caught.value.context
    task, _ = set_up(caught.value.task, replace(context.settings, ema=0.99), ALONE)
    views = tuple(torch.rand(4, 1, 8, 8, device="meta") for _ in range(context.views))
    batch = Batch(views, torch.zeros(4, dtype=torch.int64, device="meta"))
    with stepper(task, RunState()) as (take, _losses), Waits():
        for step in range(2):
            take(step, iter([batch]))


@pytest.mark.parametrize(
    "work",
    [
        lambda x: torch.tensor(3.0).to(x.device),
        lambda x: x.copy_(torch.zeros(3)),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.tolist(),
    ],
)
def test_what_waits_is_found_out(work: Callable[[Tensor], object]) -> None:
    with Waits(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        work(torch.zeros(3, device="meta"))
