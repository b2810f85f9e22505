"""Where a pass on a GPU spends its time: kernels by class, from one profiled pass."""

from __future__ import annotations

import re
from collections.abc import Callable

# The first that a kernel's name holds, in this order: "attention" runs products too, a fused product's epilogue is its.
CLASSES = (
    ("copy", r"memcpy|memset|copy_kernel|direct_copy|nchwtonhwc|nhwctonchw|catarray|transpose"),
    ("attention", r"sdpa|flash|fmha|attention"),
    ("convolution", r"conv|fprop|implicit_gemm"),
    ("product", r"nvjet|gemm|cutlass|cublas|splitk"),
    ("normalisation", r"norm|_statistics|_merge|_apply|welford"),
    ("elementwise", r""),
)


def kernel_class(name: str) -> str:
    """What a kernel does, by its name."""
    return next(found for found, pattern in CLASSES if re.search(pattern, name.lower()))


def kernel_shares(work: Callable[[], object]) -> dict[str, float]:
    """Share of the kernels' time by class; nothing where none was seen, as on a CPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        return {}
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in seen.key_averages():
        kind = kernel_class(event.key)
        times[kind] = times.get(kind, 0.0) + float(event.self_device_time_total)
    whole = sum(times.values())
    return {kind: seconds / whole for kind, seconds in sorted(times.items()) if seconds > 0}
