"""FLOP and bytes of one copy by stage, counted from shapes, without numbers where the method can be built so.

FLOP are 2 x MAC of matrix products and convolutions, attention counted. Bytes are those of eager execution: every
operator reads its inputs and writes its results once, whatever a cache or a fused kernel would save.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.smoothing.noise import MethodNoise, NoiseKey
from bench.smoothing.philox import normals
from bench.timing.records import STAGES, Work
from bench.timing.stages import denoisers, marked
from bench.types import BaseClassifier
from bench.types.errors import FAULTS

if TYPE_CHECKING:
    from torch import nn
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

HALF = ("bf16", "fp16")


def count(classifier: BaseClassifier, shape: tuple[int, int, int], device: str, precision: str) -> Work:
    """What one copy costs.

    What depends on the batch is told from what does not, the weights, by passes of one and of two copies.
    Differs: counted in float32; half precision halves the bytes, as if nothing stayed in float32.
    """
    import torch

    x = torch.zeros(1, *shape, device=device)
    with torch.no_grad():
        found = denoisers(lambda: classifier.predict(x, MethodNoise(0, 0, 1, device)), shape)
    one, two = (_stages(classifier, found, shape, device, batch) for batch in (1, 2))
    size = 0.5 if precision in HALF else 1.0
    grown = {stage: max(0.0, two[1][stage] - one[1][stage]) for stage in STAGES}
    return Work(
        flops={stage: one[0][stage] for stage in STAGES},
        bytes={stage: size * grown[stage] for stage in STAGES},
        pass_bytes={stage: size * max(0.0, one[1][stage] - grown[stage]) for stage in STAGES},
        convolution=one[2],
    )


def _stages(
    classifier: BaseClassifier, found: tuple[nn.Module, ...], shape: tuple[int, int, int], device: str, batch: int
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """FLOP and bytes of one forward pass, and of the FLOP those of convolutions, by stage."""
    import torch

    flops, moved, convolved = (dict.fromkeys(STAGES, 0.0) for _ in range(3))
    x = torch.zeros(batch, *shape, device=device)
    key = NoiseKey(0, "counting", 1.0, "counting").philox("smoothing")
    traffic = _traffic()
    now, since = "noise", (0.0, 0.0, 0.0)

    def switch(stage: str) -> None:
        nonlocal now, since
        by_operator = counter.get_flop_counts().get("Global", {})
        convolutions = math.fsum(count for operator, count in by_operator.items() if "convolution" in str(operator))
        total = float(counter.get_total_flops()), float(traffic.total), convolutions  # type: ignore[attr-defined]
        flops[now] += total[0] - since[0]
        moved[now] += total[1] - since[1]
        convolved[now] += total[2] - since[2]
        now, since = stage, total

    with marked(classifier, found, switch) as wrapped, _counter() as counter, traffic:
        eps = normals(key, 0, 0, batch, shape, device)
        labels = wrapped.predict(eps.mul_(1.0).add_(x), MethodNoise(0, 0, batch, device))
        torch.zeros(classifier.num_classes + 1, dtype=torch.int64, device=device).scatter_add_(
            0, labels.clamp(min=0), torch.ones_like(labels)
        )
        switch("count")
    return {s: v / batch for s, v in flops.items()}, moved, {s: v / batch for s, v in convolved.items()}


@contextmanager
def _counter() -> Iterator[FlopCounterMode]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The CPU's flash attention is in no register of countable operations; the plain one is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def _traffic() -> TorchDispatchMode:
    """A mode that adds up the bytes of every operator that is not a view."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if not _is_view(func):
                for leaf in tree_leaves((args, kwargs or {}, result)):
                    if isinstance(leaf, Tensor):
                        self.total += leaf.numel() * leaf.element_size()
            return result

    return Traffic()  # type: ignore[no-untyped-call]


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    alias = returns[0].alias_info if returns else None
    return alias is not None and not alias.is_write


def total(make: Callable[[], BaseClassifier], shape: tuple[int, int, int], device: str) -> int | None:
    """FLOP of a copy in all, from one pass: a third of the time of `count`; None as of `countable`, or for none."""
    import torch

    try:
        classifier = make()
        with _counter() as counter:
            classifier.predict(torch.zeros(1, *shape, device=device), MethodNoise(0, 0, 1, device))
    except FAULTS:
        return None
    return counter.get_total_flops() or None


def countable(
    make: Callable[[], BaseClassifier], shape: tuple[int, int, int], device: str, precision: str
) -> Work | None:
    """The work of a copy; None where a stranger's method cannot be built or run so, as without numbers."""
    try:
        return count(make(), shape, device, precision)
    except FAULTS:
        return None
