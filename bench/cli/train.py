"""`rrcm-bench train`: a method's own training stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import complete
from bench.cli.output import JSON_OPTION, print_json, remark, resumable, stdout


def train(
    method: Annotated[str, typer.Argument(help="Method, see `rrcm-bench methods`.", autocompletion=complete.methods)],
    stage: Annotated[
        str | None, typer.Argument(help="Stage, where the method has several.", show_default="the only one")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Dataset.", autocompletion=complete.datasets)] = "digits",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the dataset.", show_default="the cache")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Named hyper-parameters.", show_default="the dataset's own")
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise level, l2 in [0, 1] pixels.", show_default="none: the stage may not need it"),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Weights to start from.", show_default="none")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of this training run.", show_default="results/train/METHOD-STAGE-DATASET[-sSIGMA]"),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the preset.", show_default="none")
    ] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda:0.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of initialisation, order, noise and augmentation.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's checkpoint, if there is one.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost, and stop.")] = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Train a method's networks by its authors' recipe; killed, the same command resumes."""
    from bench import registry
    from bench.errors import UsageError
    from bench.execution.environment import parse_devices
    from bench.types import TrainRequest

    found = registry.method(method)
    if not found.train:
        raise UsageError(f"{method} has no training stage; those that have: {', '.join(trainable())}")
    if stage is None and len(found.train) == 1:
        stage = next(iter(found.train))
    if stage is None or stage not in found.train:
        raise UsageError(f"{method} trains in stages: {', '.join(found.train)}; got {stage!r}")
    words = {}
    for word in overrides or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word!r}: expected key=value")
        words[key] = value
    suffix = "" if sigma is None else f"-s{sigma:g}"
    request = TrainRequest(
        method=method,
        stage=stage,
        dataset=dataset,
        data_root=data_root,
        preset=preset or "",
        sigma=sigma,
        init=init,
        out=out or Path("results/train") / f"{method}-{stage}-{dataset}{suffix}",
        overrides=words,
        device=parse_devices(device)[0],
        seed=seed,
        resume=resume,
        dry_run=dry_run,
    )
    with resumable("the last checkpoint is kept, the same command goes on from it"):
        result = found.train[stage](request)
    if json:
        print_json(dict(result))
        return
    if not dry_run:
        remark(f"trained  {method} {stage}  {dataset}  -> {request.out}")
    for key, value in result.items():
        stdout().print(f"{key:>24}  {value}", markup=False)


def trainable() -> list[str]:
    """Names of the methods that can be trained here."""
    from bench import registry

    return [name for name, found in registry.methods().items() if found.train]
