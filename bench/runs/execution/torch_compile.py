"""A forward pass through torch.compile, where that is worth trying, answers alike, and is faster on this machine."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.runs.built_weights import networks
from bench.runs.clock import clock_for, fastest
from bench.runs.execution.cuda_graphs import Untouched, kind_of
from bench.runs.execution.kernels import runs_fused
from bench.smoothing.voting import autocast
from bench.types import ALWAYS, NEVER, BaseClassifier, Noise
from bench.types.cache_folder import cache_folder
from bench.types.classifier import Around, is_replayable
from bench.types.errors import FAULTS

if TYPE_CHECKING:
    from torch import Tensor, nn

PAYS = 1.02  # faster by less is not worth other roundings
UNLIKE = 0.01  # share of a pass's labels that may differ: ties, for sums are formed in another order
ROUNDS = 4  # each way, in turns
WORTH = 20  # times the seconds of compiling: less work is not compiled by itself
# Seconds of compiling: some, and some for each layer. Measured: 19 s for ViT-B on a CUDA device, 3 to 24 s for small
# networks on an idle CPU (results/bench).
BASE_SECONDS, LAYER_SECONDS = 5.0, 0.15
CPU_SECONDS = 3.0  # times that: its C++ compiler takes 18 to 63 s on two busy cores
REPEATED = 4  # blocks of one kind in a row that are compiled as one, once
MOST_WEIGHTS = 0.8  # that they must hold for the rest to be left as it is

Work = Callable[["Tensor"], "Tensor"]
Compile = Callable[[Work, Sequence["nn.Module"]], Work]


@dataclass(slots=True)
class Compiled(Around):
    """A classifier whose full passes are compiled; all others go the ordinary way.

    Compiled passes round otherwise than ordinary ones, as another device does: of copies that tie, some change sides.
    """

    run: Work
    kind: tuple[object, ...]  # of a full pass
    replayable: bool = True

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """The labels, (B,) int64."""
        return self.run(x) if kind_of(x) == self.kind else self.inner.predict(x, noise)


def compiled(
    classifier: BaseClassifier,
    copies: Callable[[], Tensor],
    *,
    asked: str,
    planned: float,
    device: str,
    precision: str,
    compiler: Compile | None = None,
) -> tuple[BaseClassifier, str]:
    """The classifier, its full passes compiled where `asked` (COMPILE) has it and it proves faster; what came of it.

    `copies` gives those of one full pass, (B, C, H, W); `planned` is how many are to be classified in all.
    """
    import torch

    reason = _beforehand(classifier, asked, device, precision)
    if reason or not planned:
        if asked == ALWAYS and planned:
            logging.getLogger(__name__).warning("torch.compile: not used, %s", reason)
        return classifier, f"not used, {reason or 'nothing is left to classify'}"
    x, blocks = copies(), repeated_blocks(classifier)
    expected = expected_seconds(classifier, blocks) * (CPU_SECONDS if device == "cpu" else 1.0)
    with torch.inference_mode(), autocast(torch.device(device).type, precision):
        plain = partial(classifier.predict, noise=Untouched())
        if asked != ALWAYS:
            plain(x)
            seconds = fastest(clock_for(device), partial(plain, x), 2) / len(x) * planned
            if seconds < WORTH * expected:
                return classifier, (
                    f"not used, {seconds:.0f} s of work are less than {WORTH} times the {expected:.0f} s that "
                    "compiling is expected to take"
                )
        words = "torch.compile: tried on passes of %d copies, in %.0f s or so"
        logging.getLogger(__name__).warning(words, len(x), expected)
        run, said = _tried(plain, x, device, partial(compiler or by_torch, plain, blocks))
        kind = kind_of(x)
    logging.getLogger(__name__).warning("torch.compile: %s", said)
    return (classifier if run is None else Compiled(classifier, run, kind)), said


def _beforehand(classifier: BaseClassifier, asked: str, device: str, precision: str) -> str:
    """Why it is not even tried; empty where it is."""
    if asked == NEVER:
        return "not asked for"
    if not is_replayable(classifier):
        return "this method draws noise of its own in a pass"
    if asked == ALWAYS:
        return ""
    if runs_fused(classifier):
        return "its network runs by fused kernels"
    if device == "cpu" and precision == "fp32":
        return "float32 on a CPU is what the votes of other devices are compared with"
    return ""


def _tried(plain: Work, x: Tensor, device: str, compile_it: Callable[[], Work]) -> tuple[Work | None, str]:
    """The compiled pass, None where it does not pay; and what came of it."""
    clock = clock_for(device)
    labels = plain(x)
    began = clock.now()
    try:
        run = _outside_inference_mode(compile_it(), x)
        unlike = float((run(x) != labels).double().mean())
        spent = clock.now() - began
        # In turns, so that a slow moment of the machine hits both.
        turns = [tuple(clock.time(partial(way, x)).wall for way in (plain, run)) for _ in range(ROUNDS)]
    except (*FAULTS, NotImplementedError, OSError, ImportError) as error:
        lines = str(error).split("\n")[:2]  # of torch's own errors the first names the backend alone
        return None, f"not used, it failed: {' '.join(lines).strip() or type(error).__name__}"
    gain = min(before for before, _ in turns) / min(after for _, after in turns)
    what = f"passes of {len(x)} copies are {gain:.2f} times as fast, {spent:.0f} s to compile"
    if unlike > UNLIKE:
        return None, f"not used, {unlike:.1%} of its labels differ"
    return (None, f"not used, {what}") if gain < PAYS else (run, what)


def repeated_blocks(classifier: BaseClassifier) -> list[nn.Module]:
    """Blocks of one kind in a row, where they hold most of the weights: compiled once, and the rest not at all."""
    from torch import nn

    nets = networks(classifier)
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()  # a block's own parts are no rows of blocks
    for container in (part for net in nets for part in net.modules()):
        if not isinstance(container, nn.ModuleList | nn.Sequential) or container in inside:
            continue
        ((kind, count),) = Counter(map(type, container)).most_common(1) or ((None, 0),)
        row = [child for child in container if type(child) is kind and any(True for _ in child.children())]
        if count >= REPEATED and len(row) == count:
            found += row
            inside.update(part for child in row for part in child.modules())
    held = sum(weight.numel() for block in found for weight in block.parameters())
    whole = sum(weight.numel() for net in nets for weight in net.parameters())
    changed = any("forward" in vars(block) for block in found)  # by somebody who wants it so
    return found if found and held >= MOST_WEIGHTS * whole and not changed else []


def expected_seconds(classifier: BaseClassifier, blocks: Sequence[nn.Module]) -> float:
    """Seconds that compiling takes, about, with nothing in the cache."""
    kinds: dict[object, nn.Module] = {
        (type(block), tuple(weight.shape for weight in block.parameters())): block for block in blocks
    }
    parts = list(kinds.values()) or networks(classifier)
    layers = sum(not any(True for _ in part.children()) for whole in parts for part in whole.modules())
    return BASE_SECONDS + LAYER_SECONDS * layers


def by_torch(work: Work, blocks: Sequence[nn.Module]) -> Work:
    """The work, compiled at its first call for one shape: its repeated blocks, or all of it where there are none.

    Half precision is rounded where ordinary passes round it.
    """
    import torch

    # Each check of a result is told as a broken graph, and a machine without a GPU that it has none.
    for name in ("torch._dynamo", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Beside what else can be made again: by default it lies in a folder of temporary files.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    make = partial(torch.compile, dynamic=False, options={"emulate_precision_casts": True})
    if not blocks:
        made: Work = make(work)
        return made
    return by_block(work, blocks, make)


def by_block(work: Work, blocks: Sequence[nn.Module], make: Callable[[Any], Any]) -> Work:
    """The work with each block's forward compiled while it runs, and as it was for every other pass."""
    forwards = [make(block.forward) for block in blocks]

    def run(x: Tensor) -> Tensor:
        try:
            for block, forward in zip(blocks, forwards, strict=True):
                block.forward = forward
            return work(x)
        finally:
            for block in blocks:
                with suppress(AttributeError):
                    del block.forward

    return run


def _outside_inference_mode(work: Work, x: Tensor) -> Work:
    """The work on a copy of what it is given: torch.compile takes no tensors that were made in inference mode."""
    import torch

    with torch.inference_mode(mode=False), torch.no_grad():
        buffer = torch.empty_like(x)

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode(mode=False), torch.no_grad():
            buffer.copy_(x)
            return work(buffer)

    return run
