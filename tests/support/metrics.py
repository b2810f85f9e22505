"""The metrics of a training, a record a step, as its folder keeps them."""

from __future__ import annotations

import json
from pathlib import Path

from methods.training.loop import METRICS


def metrics_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
