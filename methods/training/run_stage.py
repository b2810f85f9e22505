"""Work of every stage around the loop: opening images, drawing noise, exporting weights, measuring accuracy."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.checked import CheckedDataset
from bench.data.class_order import open_source
from bench.data.installed import dataset_names, installed_dataset
from bench.types import Dataset, DatasetSource, TrainRequest
from bench.types.errors import DataError, DeviceError, UsageError
from methods.training import distributed, provenance
from methods.training.augment import THREE_VIEWS
from methods.training.distributed import ALONE, World
from methods.training.distributed_setup import EXECUTION, set_up, uncompile
from methods.training.dry_run import cost
from methods.training.export import export
from methods.training.loader import Batch, BatchLoader, load
from methods.training.loop import Task, probe, run
from methods.training.presets import Preset
from methods.training.rng import generator
from methods.training.settings import StageSettings
from methods.training.sharding import Share, current_share
from methods.training.synthetic_images import in_place_of

EVALUATED = 10_000  # images at most, spread evenly
BATCH = 500

Logits = Callable[[Tensor], Tensor]  # noisy pixels in [0, 1] -> (B, K)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """A request with its settings, images, batches and processes."""

    request: TrainRequest
    preset: Preset
    settings: StageSettings
    dataset: Dataset  # the training split
    loader: BatchLoader
    world: World = ALONE
    views: int = 1  # of an image
    synthetic: bool = False  # random images, for a dry run alone


def prepare(request: TrainRequest, preset: Preset, settings: StageSettings, *, views: int = 1) -> TrainingContext:
    """Open the training split and cut it into batches of images in one view, or in three.

    Started by torchrun, meets the other processes; each then sees its share of every batch.
    Raises: DeviceError, DataError, TrainingError where the device, the images or the sizes do not do.
    """
    if (settings.augment in THREE_VIEWS) != (views == 3):
        expected = "three views of an image" if views == 3 else "one view of an image"
        raise UsageError(
            f"{request.method} {request.stage} needs {expected}, got augment={settings.augment!r}; "
            f"three views are made by {' and '.join(THREE_VIEWS)} (--set augment=...)"
        )
    if request.device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"no CUDA device for device {request.device!r}; give --device cpu")
    world = distributed.join(request.device)
    found = None
    try:
        dataset = open_split(request, "train", settings.preprocessing)
    except DataError as error:
        # A run's cost can be told without its images.
        found = in_place_of(source_of(request), "train") if request.dry_run and request.data_root is None else None
        if found is None:
            raise
        dataset = found
        if world.leads:
            print(f"! random images in their place: {error}", file=sys.stderr)
    count = len(dataset) - settings.hold_out
    loader = BatchLoader(
        dataset=dataset,
        count=count,
        batch=settings.batch,
        augment=settings.augment,
        seed=request.seed,
        workers=settings.workers,
        device=request.device,
        shares=_shares(request, settings, world),
        on_device=settings.augment_on == "device" or (settings.augment_on == "auto" and request.device != "cpu"),
    )
    loader.check()
    return TrainingContext(
        request=request,
        preset=preset,
        settings=settings,
        dataset=dataset,
        loader=loader,
        world=world,
        views=views,
        synthetic=found is not None,
    )


def _shares(request: TrainRequest, settings: StageSettings, world: World) -> tuple[Share, ...]:
    """Shares of each batch that this process trains on.

    Raises: UsageError where the batch, or the objective, cannot be divided so.
    """
    stage, n = f"{request.method} {request.stage}", world.size * settings.accumulate
    if settings.accumulate > 1 and not settings.can_accumulate:
        raise UsageError(
            f"{stage} has a loss of the whole batch, so accumulate must be 1, got {settings.accumulate}; "
            "lower --set batch=... instead"
        )
    if world.size > 1 and not settings.can_distribute:
        raise UsageError(f"{stage} trains in one process, got {world.size}; start it without torchrun")
    if settings.batch % n:
        raise UsageError(
            f"batch must be divisible by the {world.size} processes times accumulate={settings.accumulate}, got "
            f"batch={settings.batch}; give --set batch={-(-settings.batch // n) * n}"
        )
    return tuple(Share(world.rank * settings.accumulate + i, n) for i in range(settings.accumulate))


def identity(context: TrainingContext, **more: Any) -> dict[str, Any]:
    """Settings by which two training runs are the same: all but the device and how steps are executed on it."""
    request = context.request
    words = {"method": request.method, "stage": request.stage, "dataset": request.dataset, "sigma": request.sigma}
    # Without what is as it is by default: checkpoints that are older than such a setting go on.
    own = {field.name: field.default for field in fields(context.settings)}
    values = asdict(context.settings).items()
    chosen = {key: value for key, value in values if key not in EXECUTION and value != own[key]}
    if order := getattr(context.dataset, "class_order", ""):
        words["class_order"] = order
    # Left out where it was always so, as above.
    for key in ("preprocessing", "augment_on"):
        chosen.pop(key, None)
    if context.dataset.preprocessing != "none":
        words["preprocessing"] = context.dataset.preprocessing
    if context.loader.makes_views_on_device:
        words["augment_on"] = "device"
    return {**words, "seed": request.seed, "images": context.loader.count, **chosen, **more}


def task_of(
    context: TrainingContext,
    *,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    loss: Callable[[int, Batch], Mapping[str, Tensor]],
    rate: Callable[[int], float],
    steps: int,
    hashes: Mapping[str, str] = MappingProxyType({}),
    **more: Any,
) -> Task:
    """A stage's task on the context's batches, as its settings say; `hashes`: of the weights that it starts from."""
    return Task(
        modules=modules,
        optimiser=optimiser,
        batches=context.loader.batches,
        loss=loss,
        rate=rate,
        steps=steps,
        identity=identity(context, **hashes),
        clip=context.settings.clip,
        bf16=context.settings.precision == "bf16",
        device=context.request.device,
        **more,
    )


def sigma_of(request: TrainRequest) -> float:
    """The noise level of a stage that has one.

    Raises: UsageError where it is missing or not positive.
    """
    if request.sigma is None or not 0 < request.sigma < float("inf"):
        raise UsageError(
            f"{request.method} {request.stage} needs a positive noise level in [0, 1] pixels, got {request.sigma!r}; "
            "give --sigma 0.25"
        )
    return request.sigma


def noise_like(x: Tensor, purpose: str, seed: int, step: int, *, copies: int = 1) -> Tensor:
    """Standard normals of a step.

    In the loss of a share, the share's part of what is drawn for the whole batch.
    Shapes: x (copies * B, ...), copy by copy; the result is like it.
    """
    share = current_share()
    source = generator(str(x.device), purpose, seed, step)
    drawn = torch.randn((share.whole(len(x)), *x.shape[1:]), generator=source, device=x.device, dtype=x.dtype)
    return share.take(drawn, copies)


def run_stage(
    context: TrainingContext,
    task: Task,
    tensors: Callable[[], Mapping[str, Tensor]],
    *,
    logits: Logits | None,
    meta: Mapping[str, str],
) -> dict[str, Any]:
    """Train, export and measure; or, for a dry run, estimate the cost alone.

    The accuracies are of single noisy draws, one an image; the certified ones come from the certifier.
    """
    request, settings, world = context.request, context.settings, context.world
    parameters = sum(p.numel() for group in task.optimiser.param_groups for p in group["params"])
    meta = {**origin(context), **meta}
    report: dict[str, Any] = {
        "method": request.method,
        "stage": request.stage,
        "dataset": request.dataset,
        "sigma": request.sigma,
        "preset": context.preset.name,
        "settings": asdict(settings),
        "reaches": context.preset.reaches,
        "steps": task.steps,
        "parameters": parameters,
        "world_size": world.size,
    }
    # A device needs one thread to be asked for its work; others run beside it.
    with _threads(settings.threads if request.device == "cpu" else 1), _arithmetic(request.device, settings.precision):
        if request.dry_run and world.size == 1:
            return {**report, "dry_run": True, **cost(context, task)}
        task, finish = set_up(task, settings, world)
        seen = task.identity.get("batch_norm_sees")
        if seen and world.leads:
            print(f"! batch norm sees {seen} images at a time, not the batch of {settings.batch}", file=sys.stderr)
        if request.dry_run:
            seconds = probe(task)
            speed = settings.batch * task.steps / seconds
            return {**report, "dry_run": True, "seconds": seconds, "images_per_second": speed}

        def keep(steps: int) -> None:
            """Export the weights as they are, averaged ones where there are any, and go on from those in training."""
            trained = {name: copy.deepcopy(module.state_dict()) for name, module in task.modules.items()}
            finish()
            export(weights_path(request, steps), tensors(), _with_record(context, meta, steps, task.steps))
            for name, state in trained.items():
                task.modules[name].load_state_dict(state)

        seconds = run(replace(task, keep_every=settings.keep_every, keep=keep), request.out, resume=request.resume)
        finish()
        uncompile(task.modules.values())
        # The first process writes and measures, and sends its record to the others.
        record = _export_and_measure(context, task, tensors, logits, meta) if world.leads else None
        return {**report, "seconds": seconds, **distributed.broadcast_record(record, world)}


def _export_and_measure(
    context: TrainingContext,
    task: Task,
    tensors: Callable[[], Mapping[str, Tensor]],
    logits: Logits | None,
    meta: Mapping[str, str],
) -> dict[str, Any]:
    request = context.request
    report: dict[str, Any] = {}
    path = weights_path(request)
    report["sha256"] = export(path, tensors(), _with_record(context, meta, task.steps, task.steps))
    report["weights"] = str(path)
    if logits is not None:
        for module in task.modules.values():
            module.eval()
        report |= accuracies(context, logits)
    return report


def _with_record(context: TrainingContext, meta: Mapping[str, str], steps: int, of_steps: int) -> dict[str, str]:
    return {**meta, provenance.KEY: provenance.record(context, steps, of_steps, meta)}


def weights_path(request: TrainRequest, steps: int | None = None) -> Path:
    """Path of a stage's weights file; of those after so many steps, where more follow."""
    sigma = "" if request.sigma is None else f"-{request.sigma:.2f}"
    step = "" if steps is None else f"-step{steps}"
    return request.out / f"{request.method}-{request.stage}{sigma}{step}.safetensors"


def origin(context: TrainingContext) -> dict[str, str]:
    """Metadata of a weights file: by what it was trained, and on what."""
    request = context.request
    words = {"preset": context.preset.name, "seed": str(request.seed), "dataset": request.dataset}
    words |= {"method": request.method, "stage": request.stage}
    if order := getattr(context.dataset, "class_order", ""):
        words["class_order"] = order
    if context.dataset.preprocessing != "none":
        words["preprocessing"] = context.dataset.preprocessing
    return words if request.sigma is None else {**words, "sigma": str(request.sigma)}


def noisy_accuracy(
    logits: Logits, dataset: Dataset, span: Sequence[int], *, sigma: float, seed: int, device: str
) -> float:
    """Share of images, each with one draw of noise, that get their class."""
    spaced = span[:: max(1, -(-len(span) // EVALUATED))]
    right = torch.zeros((), dtype=torch.int64, device=device)
    for block, first in enumerate(range(0, len(spaced), BATCH)):
        images, labels = _images(dataset, spaced[first : first + BATCH])
        x = images.to(device, non_blocking=True)
        x = x + sigma * noise_like(x, f"evaluate {dataset.split}", seed, block)
        with torch.inference_mode():
            right += (logits(x).argmax(dim=1) == labels.to(device, non_blocking=True)).sum()
    return int(right) / len(spaced)


def _images(dataset: Dataset, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and labels (B,) of some indices."""
    if isinstance(chosen, range) and getattr(dataset, "has_blocks", False):
        images, labels = load(dataset, chosen[-1] - chosen[0] + 1, chosen[0])
        return images[:: chosen.step], labels[:: chosen.step]
    pairs = [load(dataset, 1, index) for index in chosen]
    return torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs])


def accuracies(context: TrainingContext, logits: Logits) -> dict[str, float | None]:
    """Shares of images that one noisy draw each gets right; of clean ones where the stage has no noise.

    Training images, and held-out ones where there are any, else test images.
    """
    request, sigma = context.request, context.request.sigma or 0.0

    def measured(dataset: Dataset, span: range) -> float:
        return noisy_accuracy(logits, dataset, span, sigma=sigma, seed=request.seed, device=request.device)

    count, total = context.loader.count, len(context.dataset)
    report: dict[str, float | None] = {"train_accuracy": measured(context.dataset, range(count))}
    if count < total:
        # Settings are being chosen: the test split stays out of sight.
        return {**report, "hold_out_accuracy": measured(context.dataset, range(count, total)), "test_accuracy": None}
    try:
        test = open_split(request, "test", context.settings.preprocessing)
        return {**report, "test_accuracy": measured(test, range(len(test)))}
    except DataError:  # a folder of training images alone is fine to train on
        return {**report, "test_accuracy": None}


def open_split(request: TrainRequest, split: str, preprocessing: str = "") -> Dataset:
    """A split of the request's data set; photographs in the crops of that name, where it has a choice of them."""
    source = source_of(request)
    # A preset may be used on other images than its own; what a user asks for is not left out.
    wanted = source.preprocessings or "preprocessing" in request.overrides
    pixels = preprocessing or None if wanted else None
    opened = open_source(source, request.data_root, request.size, split, request.class_order, pixels)
    # Training needs no fingerprints, which would cost a hash of each image in each epoch.
    return CheckedDataset(opened, request.dataset, fingerprints=False)


def source_of(request: TrainRequest) -> DatasetSource:
    """The request's data set, unopened.

    Raises: UsageError for an unknown one.
    """
    source = installed_dataset(request.dataset)
    if source is None:
        raise UsageError(f"no data set named {request.dataset!r}. Known: {', '.join(dataset_names())}")
    return source


@contextmanager
def _arithmetic(device: str, precision: str) -> Iterator[None]:
    """On CUDA, TF32 for what autocast leaves in float32, and the fastest convolutions; with fp32, plain float32."""
    if not device.startswith("cuda"):
        yield
        return
    convolution = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), convolution.allow_tf32, convolution.benchmark
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    convolution.allow_tf32, convolution.benchmark = precision != "fp32", True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        _, convolution.allow_tf32, convolution.benchmark = before


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
