"""The networks to be measured: named in targets.toml, built as a run builds them, and as their authors run them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.runs import registry
from bench.timing.latency.request import Item, LatencyRequest, prepare
from bench.types import BaseClassifier, RunSpec, Scalar, Setting
from bench.types.errors import UsageError, WeightsError
from bench.types.suggest import closest

_FILE = Path(__file__).with_name("targets.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One network, by method and dataset."""

    name: str
    method: str
    dataset: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    weights: str = ""  # "ROLE=NAME" of the catalogue; empty: its default
    only: str = ""  # "cuda": left out on other devices unless it is named


@dataclass(slots=True, eq=False)
class Built:
    """A target ready to run, with the same weights each time."""

    spec: RunSpec
    setting: Setting
    make: Callable[..., BaseClassifier]  # it, with some of the settings changed
    _tuned: BaseClassifier | None

    @property
    def tuned(self) -> BaseClassifier:
        """As a run has it."""
        if self._tuned is None:
            self._tuned = self.make()
        return self._tuned

    def release(self) -> None:
        """Let go of the network, to be built again where it is asked for: of a large one there is no room for two."""
        self._tuned = None

    def exact(self) -> BaseClassifier:
        """Tuned for fp32."""
        return self.tuned if self.spec.precision == "fp32" else self.make(precision="fp32")

    def half(self) -> BaseClassifier:
        """Tuned for bf16."""
        return self.tuned if self.spec.precision == "bf16" else self.make(precision="bf16")

    def plain(self) -> BaseClassifier:
        """As its authors run it."""
        return self.make(precision="fp32", tuned=False)


def targets(names: str | None = None, device: str = "") -> tuple[Target, ...]:
    """The targets of those names, with commas between; without any, all that are meant for the device.

    Raises: UsageError for a name that is none.
    """
    known = {row["name"]: Target(**row) for row in tomllib.loads(_FILE.read_text(encoding="utf-8"))["target"]}
    if names is None:
        return tuple(target for target in known.values() if device.startswith(target.only))
    wanted = names.split(",")
    for name in wanted:
        if name not in known:
            raise UsageError(f"no network named {name!r} to measure.{closest(name, known)} Known: {', '.join(known)}")
    return tuple(known[name] for name in wanted)


def build(target: Target, *, sigma: float, precision: str, device: str) -> Built:
    """The target's classifier.

    Raises: as `bench.timing.latency.request.prepare`.
    """
    method = registry.method(target.method)
    named = (target.weights,) if target.weights else ()
    request = LatencyRequest(dataset=target.dataset, sigma=sigma, precision=precision, weights=named)
    item = Item(method=target.method, title=target.name, n=request.n, params=target.params)

    def first(request: LatencyRequest) -> tuple[RunSpec, Setting, BaseClassifier]:
        spec, setting = prepare(request, item, method)
        return spec, setting, method.build(replace(setting, device=device))

    try:
        spec, setting, tuned = first(request)
    except WeightsError:  # of what a file says of itself, or of its tensors
        spec, setting, tuned = first(replace(request, random_weights=True, weights=()))

    def made(**changes: Any) -> BaseClassifier:
        return method.build(replace(setting, device=device, **changes))

    return Built(spec, setting, made, tuned)
