"""Claims that every method must meet, tried on a method from outside; the certifier itself is not tested here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.runs.built_weights import networks
from bench.runs.execution.cuda_graphs import Untouched
from bench.smoothing.noise import ESTIMATE, MethodNoise, NoiseKey
from bench.types import BaseClassifier
from bench.types.classifier import is_replayable
from bench.types.errors import FAULTS, first_line

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim about a method, and whether it held."""

    claim: str
    ok: bool
    detail: str  # what came instead; where it held: empty, or why the trial could hardly fail


REPEATABLE = "equal x and equal noise give equal labels"
BATCH_SPLIT = "a label does not depend on the batch that its copy is in"
REBUILT = "building it again gives the same labels"

COPIES = 8  # of the batches that the claims compare; small, since a method may hold a large network


def check_method(
    classifier: BaseClassifier,
    shape: tuple[int, int, int],
    *,
    device: str = "cpu",
    build: Callable[[], BaseClassifier] | None = None,
) -> list[Finding]:
    """Whether a classifier keeps the protocol that its certificates rest on, claim by claim.

    A claim that holds here is not proved: it is tried on one small batch of noisy random images. `build` makes the
    same classifier anew; with it, reproducible building is a claim too.
    """
    trial = _Trial(classifier, shape, device, build)
    claims: list[tuple[str, Callable[[_Trial], str]]] = [
        ("labels are int64 of shape (B,) in [0, num_classes)", _labels),
        (REPEATABLE, _repeatable),
        (BATCH_SPLIT, _batch_split),
        ("one copy alone is a batch too", _single),
        ("pixels far outside [0, 1] are accepted", _far),
        ("the input is left as it was", _input_kept),
        ("global random generators are left as they were", _generators_kept),
        ("no gradient is kept", _no_gradient),
        ("every network is in eval mode", _eval_mode),
    ]
    if is_replayable(classifier):
        claims.append(("what says that it can be replayed draws no noise of its own", _replayable))
    if build is not None:
        claims.append((REBUILT, _rebuilt))
    findings = [_finding(trial, claim, check) for claim, check in claims]
    if not findings[0].ok or len(set(trial.predict().tolist())) > 1:
        return findings
    weak = f"weakly tried: all {COPIES} labels are equal"
    return [replace(f, detail=weak) if f.ok and f.claim in (REPEATABLE, BATCH_SPLIT, REBUILT) else f for f in findings]


@dataclass(slots=True)
class _Trial:
    classifier: BaseClassifier
    shape: tuple[int, int, int]
    device: str
    build: Callable[[], BaseClassifier] | None

    def copies(self, sigma: float = 0.5) -> Tensor:
        import torch

        source = torch.Generator().manual_seed(0)
        # Eight images from dark to bright, not eight copies of one: labels that are all equal would hide what differs.
        brightness = torch.linspace(0, 1, COPIES).reshape(-1, 1, 1, 1)
        images = (brightness + 0.5 * (torch.rand(COPIES, *self.shape, generator=source) - 0.5)).clamp(0, 1)
        return (images + sigma * torch.randn(COPIES, *self.shape, generator=source)).to(self.device)

    def predict(self, first: int = 0, last: int = COPIES, *, x: Tensor | None = None) -> Tensor:
        import torch

        key = NoiseKey(0, "check", 0.5, ESTIMATE).philox("method")
        x = self.copies() if x is None else x
        with torch.inference_mode():  # as the certifier calls it
            return self.classifier.predict(x[first:last], MethodNoise(key, first, last - first, self.device))


def _finding(trial: _Trial, claim: str, check: Callable[[_Trial], str]) -> Finding:
    try:
        detail = check(trial)
    except FAULTS as error:
        detail = f"raised {type(error).__name__}: {first_line(error)}"
    return Finding(claim, not detail, detail)


def _labels(trial: _Trial) -> str:
    classes: Any = trial.classifier.num_classes
    if type(classes) is not int or classes < 1:
        return f"num_classes is {classes!r}"
    return _unlike_labels(trial.predict(), COPIES, trial.classifier.num_classes)


def _unlike_labels(labels: Any, copies: int, classes: int) -> str:
    import torch

    if not isinstance(labels, torch.Tensor):
        return f"got a {type(labels).__name__}"
    if labels.dtype != torch.int64 or labels.shape != (copies,):
        return f"got {labels.dtype} of shape {tuple(labels.shape)} for {copies} copies"
    if outside := sorted({int(label) for label in labels if not 0 <= label < classes}):
        return f"got labels {outside}"
    return ""


def _repeatable(trial: _Trial) -> str:
    return _differing(trial.predict(), trial.predict())


def _batch_split(trial: _Trial) -> str:
    import torch

    whole = trial.predict()
    for cut in (3, 1):
        if detail := _differing(whole, torch.cat([trial.predict(0, cut), trial.predict(cut)])):
            return f"{COPIES} copies against {cut} + {COPIES - cut}: {detail}"
    return ""


def _replayable(trial: _Trial) -> str:
    import torch

    expected = trial.predict()
    with torch.inference_mode():
        return _differing(expected, trial.classifier.predict(trial.copies(), Untouched()))


def _single(trial: _Trial) -> str:
    return _unlike_labels(trial.predict(0, 1), 1, trial.classifier.num_classes)


def _far(trial: _Trial) -> str:
    return _unlike_labels(trial.predict(x=trial.copies(sigma=5.0)), COPIES, trial.classifier.num_classes)


def _input_kept(trial: _Trial) -> str:
    x = trial.copies()
    before = x.clone()
    trial.predict(x=x)
    changed = int((x != before).flatten(1).any(1).sum())
    return f"{changed} of {COPIES} copies were changed in place" if changed else ""


def _generators_kept(trial: _Trial) -> str:
    before = _generators(trial.device)
    trial.predict()
    if trial.build is not None:
        trial.build()
    after = _generators(trial.device)
    moved = [name for name in before if before[name] != after[name]]
    return f"{' and '.join(moved)} moved; draw from `noise` instead, and build from Setting.seed" if moved else ""


def _generators(device: str) -> dict[str, Any]:
    import random

    import numpy as np
    import torch

    state: Any = np.random.get_state()  # noqa: NPY002 - the legacy global one is what is watched
    found = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": (state[1].tobytes(), *state[2:]),
        "random": random.getstate(),
    }
    if device.startswith("cuda"):
        found["torch.cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return found


def _no_gradient(trial: _Trial) -> str:
    labels = trial.predict()
    if labels.requires_grad:
        return "the labels require a gradient"
    held = sum(p.grad is not None for network in networks(trial.classifier) for p in network.parameters())
    return f"{held} parameters hold a gradient" if held else ""


def _eval_mode(trial: _Trial) -> str:
    trial.predict()
    training = [
        type(part).__name__ for network in networks(trial.classifier) for part in network.modules() if part.training
    ]
    return f"{len(training)} modules are in training mode, the first a {training[0]}; call eval()" if training else ""


def _rebuilt(trial: _Trial) -> str:
    if trial.build is None:
        return "there is nothing to build it with"
    again = _Trial(trial.build(), trial.shape, trial.device, None)
    return _differing(trial.predict(), again.predict())


def _differing(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
    where = (one != other).nonzero().flatten().tolist()
    return f"{len(where)} of {len(one)} labels differ, the first at copy {where[0]}" if where else ""
