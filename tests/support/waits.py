"""A mode in which work that would wait for a device fails, shown on "meta", where there are no numbers to wait for."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Refuses to send a tensor to the device while waiting for it; reading one from there fails by itself."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            self._check(func, args[0].device, kwargs.get("device"), kwargs.get("non_blocking"))
        elif func is torch.ops.aten.copy_.default:
            told = args[2] if len(args) > 2 else kwargs.get("non_blocking")
            self._check(func, args[1].device, args[0].device, told)
        return func(*args, **kwargs)

    def _check(self, func: Any, source: torch.device, target: Any, non_blocking: Any) -> None:
        if source.type == "cpu" and target is not None and torch.device(target).type == "meta" and not non_blocking:
            raise AssertionError(f"{func} waits for the device")
