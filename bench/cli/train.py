"""`rrcm-bench train`: a method's own training stages."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import doubt_lengths, print_json, remark, resumable, stdout
from bench.cli.paths import at_home
from bench.cli.training_cost import show_cost, with_gpus
from bench.types.plugins import plugin_errors

# Seconds that a process waits with its complaint: torchrun ends all once one has failed, so that a line of the first
# one, which all have come to, is not told by each.
LISTENING = 5.0


@contextmanager
def _one_voice() -> Iterator[None]:
    """Among several processes the first one speaks; another only where it alone has failed."""
    from bench.types.errors import BenchError

    rank = os.environ.get("RANK", "0")
    try:
        with plugin_errors():
            yield
    except BenchError as error:
        if rank == "0":
            raise
        time.sleep(LISTENING)
        remark(f"rrcm-bench: process {rank}: {error}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt as error:
        if rank == "0":
            raise
        raise typer.Exit(128 + (error.args[0] if error.args else signal.SIGINT)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """The words of `rrcm-bench train`."""

    method: options.TrainMethod
    stage: Annotated[
        str | None, typer.Argument(help="Stage, where the method has several.", show_default="the only one")
    ] = None
    dataset: options.TrainDataset = None
    data_root: options.DataRoot = None
    class_order: options.ClassOrder = None
    size: Annotated[
        int | None, options.images(help="Side of the images, pixels.", show_default="the preset's or the dataset's own")
    ] = None
    preset: Annotated[str | None, options.network(help="Named hyper-parameters.", show_default="the dataset's own")] = (
        None
    )
    sigma: options.TrainSigma = None
    init: Annotated[
        Path | None, options.network(help="Weights to start from.", show_default="none", callback=at_home)
    ] = None
    out: Annotated[
        Path | None,
        options.output(
            help="Folder of this training run.",
            show_default="results/train/METHOD-STAGE-DATASET[-sSIGMA]",
            callback=at_home,
        ),
    ] = None
    overrides: options.TrainSettings = None
    device: options.TrainDevice = "auto"
    seed: Annotated[int, options.computing(help="Seed of initialisation, order, noise and augmentation.")] = 0
    resume: Annotated[bool, options.output(help="Go on from the folder's checkpoint, if there is one.")] = True
    dry_run: options.DryRun = False
    json: options.Json = False


@_one_voice()
def train(given: TrainOptions) -> None:
    """Train a method's networks by its authors' recipe; killed, the same command resumes.

    On several GPUs: torchrun --nproc_per_node N --no-python rrcm-bench train ...; they divide the batch.
    """
    from bench.data.class_order import read_class_order
    from bench.runs import registry
    from bench.runs.execution.environment import parse_devices
    from bench.types import TrainRequest
    from bench.types.errors import UsageError
    from bench.types.limits import SIDE, SIGMA, check_seed, check_within

    check_within("--size", given.size, 1, SIDE)
    check_within("--sigma", given.sigma, *SIGMA)
    check_seed(given.seed)

    method, stage = given.method, given.stage
    found = registry.method(method)
    if not found.train:
        raise UsageError(f"{method} has no training stage; those that have: {', '.join(trainable())}")
    if stage is None and len(found.train) == 1:
        stage = next(iter(found.train))
    if stage is None or stage not in found.train:
        raise UsageError(f"{method} trains in stages: {', '.join(found.train)}; got {stage!r}")
    words = {}
    for word in given.overrides or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word!r}: expected key=value")
        words[key] = value
    suffix = "" if given.sigma is None else f"-s{given.sigma:g}"
    dataset = given.dataset or _named_in(given.preset) or "digits"
    request = TrainRequest(
        method=method,
        stage=stage,
        dataset=dataset,
        data_root=given.data_root,
        class_order=given.class_order and read_class_order(given.class_order),
        size=given.size,
        preset=given.preset or "",
        sigma=given.sigma,
        init=given.init,
        out=given.out or Path("results/train") / f"{found.name}-{stage}-{dataset}{suffix}",
        overrides=words,
        device=parse_devices(_own(given.device))[0],
        seed=given.seed,
        resume=given.resume,
        dry_run=given.dry_run,
    )
    doubt_lengths([] if given.sigma is None or os.environ.get("RANK", "0") != "0" else [given.sigma])
    if os.environ.get("RANK", "0") != "0":
        found.train[stage](request)
        _leave()
        return
    with resumable("the last checkpoint is kept, the same command goes on from it"):
        result = found.train[stage](request)
    _leave()
    if given.dry_run:
        result = with_gpus(result, request.device)
    if given.json:
        print_json(dict(result))
        return
    if "gpus" in result:
        show_cost(result)
        return
    if not given.dry_run:
        remark(f"trained  {method} {stage}  {dataset}  -> {request.out}")
    for key, value in result.items():
        stdout().print(f"{key:>24}  {value}")


def _named_in(preset: str | None) -> str | None:
    """The dataset that a preset is named after, as "imagenet-b" is."""
    from bench.data.installed import dataset_names

    return max((name for name in dataset_names() if f"{preset}-".startswith(f"{name}-")), key=len, default=None)


def _own(device: str) -> str:
    """The device of this process: among several, each takes a GPU of its own.

    Raises: UsageError where all were given the same.
    """
    import torch

    from bench.types.errors import UsageError

    local = os.environ.get("LOCAL_RANK", "0")
    if os.environ.get("WORLD_SIZE", "1") == "1" or device == "cpu" or not torch.cuda.is_available():
        return device
    if device not in ("auto", "cuda"):
        raise UsageError(f"every process needs a device of its own, got {device!r} for all; give --device auto or cpu")
    return f"cuda:{local}"


def _leave() -> None:
    """Part from the other processes, where there are any; after a failure torchrun parts them."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def trainable() -> list[str]:
    """Names of the methods that can be trained here."""
    from bench.runs import registry

    return [name for name, found in registry.methods().items() if found.train]
