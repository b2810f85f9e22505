"""The scale of pixels that a Hugging Face folder states beside its network: transformers' and timm's configurations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.types.errors import WeightsError

_PROCESSOR, _CONFIG = "preprocessor_config.json", "config.json"
_LARGEST = 10_000_000  # bytes


def stated_normaliser(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """Mean and deviation of pixels in [0, 1] as "m,m,m/s,s,s", None where nothing states them; and notes on it.

    Raises: WeightsError for a configuration that cannot be read.
    """
    processor = _read(folder / _PROCESSOR)
    if "image_mean" in processor or "image_std" in processor:
        factor = processor.get("rescale_factor", 1 / 255)
        plain = isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-3)
        if processor.get("do_normalize") is False:
            return None, (f"{_PROCESSOR} says that pixels are not normalised; --set normaliser=none if so",)
        if processor.get("do_rescale") is False or not plain:
            return None, (f"{_PROCESSOR} scales pixels otherwise than to [0, 1]; its normaliser was left out",)
        return _text(processor.get("image_mean"), processor.get("image_std"), _PROCESSOR), ()
    config = _read(folder / _CONFIG)
    told = config.get("pretrained_cfg", config)  # timm's, since 0.9 in a table of its own
    if isinstance(told, Mapping) and "mean" in told and "std" in told:
        return _text(told["mean"], told["std"], _CONFIG), ()
    return None, ()


def _text(mean: Any, std: Any, name: str) -> str:
    """The numbers in the words of a normaliser."""
    for numbers in (mean, std):
        if (
            not isinstance(numbers, list)
            or not 0 < len(numbers) <= 4
            or any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers)
        ):
            raise WeightsError(f"{name} has no mean and deviation of each channel, got {str(numbers)[:60]!r}; mend it")
    return "/".join(",".join(map(repr, numbers)) for numbers in (mean, std))


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise WeightsError(f"{path.name} cannot be read ({str(problem)[:80]}); fetch the folder again") from None
    return found if isinstance(found, Mapping) else {}
