"""Training of a classifier on noisy images, but for the loss, which is each method's own.

The authors of SmoothAdv, Consistency and SmoothMix cut a batch of B images into m mini-batches of B / m images, each in
m noisy copies, with an optimiser step for each: here `batch` is B / m, so that a step sees as many copies, and an epoch
has as many steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from bench.types import TrainRequest
from bench.weights.checkpoints import load_tensors, sha256_of_network
from bench.weights.wrappers import strip_prefixes
from methods.nets.architectures import build_network
from methods.nets.load_weights import load_state
from methods.nets.normalisers import Normaliser
from methods.nets.recognition import COUNTER
from methods.training import schedules
from methods.training.loader import Batch
from methods.training.optimisers import adamw, parameters_of, sgd
from methods.training.presets import resolve_settings
from methods.training.rng import seeded_globals
from methods.training.run_stage import Logits, noise_like, prepare, run_stage, task_of
from methods.training.settings import ClassifierSettings, Denoising

HEADS = ("fc.", "linear.", "head.")  # of the networks that `build_network` knows

Loss = Callable[[int, Batch], dict[str, Tensor]]
Kind = TypeVar("Kind", bound=ClassifierSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyClassifier:
    """A network in training and its noise, as a method's loss uses them."""

    network: nn.Module
    logits: Logits  # the network behind its normaliser
    sigma: float
    seed: int
    steps_per_epoch: float  # a fraction where a budget of steps is given
    num_classes: int

    def epoch(self, step: int) -> int:
        """The epoch of a step, from 0."""
        return int(step // self.steps_per_epoch)

    def warmup_share(self, step: int, epochs: int) -> float:
        """Share of a strength that grows by the epoch: 1 / epochs in the first, 1 in the last of them and after."""
        return min(1.0, (self.epoch(step) + 1) / max(epochs, 1))

    def noises(self, x: Tensor, copies: int, step: int) -> Tensor:
        """The step's noise, (M, B, C, H, W), scaled by sigma."""
        like = x.new_empty((copies * len(x), *x.shape[1:]))
        drawn = noise_like(like, "noise", self.seed, step, copies=copies)
        return self.sigma * drawn.view(copies, *x.shape)

    def copies(self, x: Tensor, noises: Tensor) -> Tensor:
        """Logits of noisy copies, (M, B, K), in one pass."""
        return self.logits((x + noises).flatten(0, 1)).view(*noises.shape[:2], -1)


def train_classifier(
    request: TrainRequest,
    kind: type[Kind],
    objective: Callable[[NoisyClassifier, Kind], Loss],
    *,
    sigma: float,
    check: Callable[[Kind, tuple[int, ...]], None] = lambda _settings, _shape: None,
) -> dict[str, Any]:
    """Train a network of the preset by an objective, from random weights or from those of `request.init`.

    `check` refuses settings that do not fit the shape of the images.
    Differs: an epoch's last incomplete batch is left out.
    Raises: UsageError, DataError, WeightsError, TrainingError.
    """
    preset, settings = resolve_settings(kind, request)
    context = prepare(request, preset, settings)
    shape, num_classes = context.dataset.shape, context.dataset.num_classes
    check(settings, shape)
    with seeded_globals("initialise", request.seed):
        network = build_network(settings.arch, num_classes=num_classes, shape=shape)
    init = {} if request.init is None else {"init": init_from(network, request.init, settings.arch)}
    network = network.to(request.device).train()
    normalise = Normaliser(settings.normaliser, request.dataset, channels=shape[0]).to(request.device)

    def logits(x: Tensor) -> Tensor:
        answer: Tensor = network(normalise(x))
        return answer

    steps, per_epoch = schedules.length(settings.epochs, context.loader.steps_per_epoch, settings.steps)
    classifier = NoisyClassifier(
        network=network,
        logits=logits,
        sigma=sigma,
        seed=request.seed,
        steps_per_epoch=per_epoch,
        num_classes=num_classes,
    )
    make = sgd if settings.optimiser == "sgd" else adamw
    task = task_of(
        context,
        modules={"network": network},
        optimiser=make(parameters_of(network), lr=settings.lr, weight_decay=settings.weight_decay),
        loss=objective(classifier, settings),
        rate=rate(settings, per_epoch),
        steps=steps,
        hashes=init,
    )
    meta = {"arch": settings.arch, "normaliser": settings.normaliser, **init}
    return run_stage(context, task, network.state_dict, logits=logits, meta=meta)


def rate(settings: ClassifierSettings | Denoising, per_epoch: float) -> Callable[[int], float]:
    """Share of the learning rate by the step."""

    def share(step: int) -> float:
        if settings.decay == "step":
            return schedules.step_decay(step // per_epoch, every=settings.lr_every, gamma=settings.lr_gamma)
        return schedules.warmup_cosine(step / per_epoch, warmup=settings.warmup_epochs, total=settings.epochs)

    return share


def init_from(network: nn.Module, path: Path, arch: str) -> str:
    """Fill a network from a file, its last layer only where it has as many classes; the file's sha256.

    Raises: WeightsError for weights of another network.
    """
    tensors = strip_prefixes(load_tensors(path)[0])
    wanted = network.state_dict()
    state = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    differing = {
        name
        for name, tensor in wanted.items()
        if name.startswith(HEADS) and getattr(state.get(name), "shape", None) != tensor.shape
    }
    if differing:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}
        state |= {name: tensor for name, tensor in wanted.items() if name.startswith(HEADS)}
    load_state(
        network,
        state,
        str(path),
        lambda name, expected, came: (
            f"expected those of {arch!r} with {name!r} of shape {expected}, got {came}; "
            "give --init FILE of that network, or leave it out"
        ),
    )
    return sha256_of_network(path)
