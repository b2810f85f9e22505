"""Presets of each training stage (presets/*.toml), and --set over them; no training."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from bench.types import TrainRequest
from bench.types.errors import UsageError
from bench.types.suggest import closest
from methods.training.settings import AT_LEAST_ONE, StageSettings

FOLDER = Path(__file__).with_name("presets")
_MOST = 10**12  # of any setting: more steps, or a larger batch, no machine sees the end of
_THREADS = 1024  # torch dies of a hundred million
SCOPE = ("method", "stage", "dataset")
HEAD = ("name", *SCOPE, "reaches")

Settings = TypeVar("Settings", bound=StageSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named recipe and what it should reach."""

    name: str
    method: str
    stage: str
    dataset: str
    reaches: str  # the number to compare with, and its source
    values: Mapping[str, Any]  # its own over those below it: of its bases, or of its members' method
    sigma: Mapping[str, Mapping[str, Any]]  # what differs by noise level, "0.25" -> values


def presets(method: str, stage: str) -> tuple[Preset, ...]:
    """Recipes of a stage, in the order of their file: a data set's first is its default."""
    bases, entries = read_folder()
    return tuple(
        _whole(bases, entries, entry) for entry in entries if (entry["method"], entry["stage"]) == (method, stage)
    )


def _whole(bases: list[dict[str, Any]], entries: list[dict[str, Any]], entry: Mapping[str, Any]) -> Preset:
    values, sigma = below(bases, entries, entry)
    own, by_sigma = own_values(entry), entry.get("sigma", {})
    # What a preset says for all noise levels counts before what is below it for one.
    kept = {level: {key: v for key, v in part.items() if key not in own} for level, part in sigma.items()}
    return Preset(
        **{key: entry[key] for key in HEAD},
        values={**values, **own},
        sigma={
            level: {**kept.get(level, {}), **by_sigma.get(level, {})} for level in dict.fromkeys((*kept, *by_sigma))
        },
    )


def below(
    bases: list[dict[str, Any]], entries: list[dict[str, Any]], entry: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """Settings that a preset builds on: for all noise levels, and by level.

    Those of its bases; or, where it trains members by another method's `loss`, that method's preset of the same name,
    else its first of the data set.
    """
    loss = own_values(entry).get("loss")
    if loss is None:
        return base_values(bases, entry), {}
    known = [e for e in entries if (e["method"], e["stage"], e["dataset"]) == (loss, "train", entry["dataset"])]
    member = _whole(bases, entries, next((e for e in known if e["name"] == entry["name"]), known[0]))
    return member.values, member.sigma


def read_folder() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All [[base]] tables and all [[preset]] tables, in the order of the files' names."""
    files = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.toml"))]
    bases, entries = ([table for file in files for table in file.get(kind, ())] for kind in ("base", "preset"))
    return bases, entries


def base_values(bases: Iterable[Mapping[str, Any]], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the bases give to a preset: those of all that name nothing but its method, stage and data set."""
    values: dict[str, Any] = {}
    for base in bases:
        if all(base.get(key, entry[key]) == entry[key] for key in SCOPE):
            values |= {key: value for key, value in base.items() if key not in SCOPE}
    return values


def own_values(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a preset states itself, for all noise levels."""
    return {key: value for key, value in entry.items() if key not in (*HEAD, "sigma")}


def resolve_settings(kind: type[Settings], request: TrainRequest) -> tuple[Preset, Settings]:
    """The preset of a request, and its settings at the request's noise level with --set applied.

    An empty preset name, or "default", means the data set's first.
    Raises: UsageError for an unknown preset, key or value.
    """
    preset = find_preset(request)
    by_sigma = preset.sigma.get(f"{request.sigma:g}", {}) if request.sigma is not None else {}
    values = {**preset.values, **by_sigma}
    hints = get_type_hints(kind)
    types = {field.name: hints[field.name] for field in fields(kind)}
    for key, text in request.overrides.items():
        if key not in types:
            guess = closest(key, types)
            raise UsageError(
                f"{request.method} {request.stage} has no setting {key!r}.{guess} Known: {', '.join(sorted(types))}"
            )
        values[key] = _parse(key, str(text), types[key])
    settings = kind(**values)
    _check(settings)
    if settings.precision == "auto":
        settings = replace(settings, precision="bf16" if request.device.startswith("cuda") else "fp32")
    return preset, settings


def find_preset(request: TrainRequest) -> Preset:
    """The preset that a request names; members of another loss (--set loss=...) are that method's own, as many.

    Raises: UsageError for an unknown one.
    """
    preset = _named(request)
    loss = request.overrides.get("loss")
    if "loss" not in preset.values or loss in (None, preset.values["loss"]):
        return preset
    bases, entries = read_folder()
    if (loss, "train", preset.dataset) not in {tuple(entry[key] for key in SCOPE) for entry in entries}:
        return preset  # whose settings refuse the loss
    head = {key: getattr(preset, key) for key in HEAD}
    return _whole(bases, entries, {**head, "loss": loss, "members": preset.values["members"]})


def _named(request: TrainRequest) -> Preset:
    known = presets(request.method, request.stage)
    fitting = [preset for preset in known if preset.dataset == request.dataset]
    if request.preset in ("", "default"):
        if not fitting:
            names = ", ".join(f"{preset.name} ({preset.dataset})" for preset in known)
            raise UsageError(
                f"{request.method} {request.stage} has no preset for {request.dataset!r}; give one by --preset. "
                f"Known: {names}"
            )
        return fitting[0]
    for preset in known:
        if preset.name == request.preset:
            return preset
    names = ", ".join(preset.name for preset in known)
    raise UsageError(f"no preset named {request.preset!r} for {request.method} {request.stage}. Known: {names}")


def _parse(key: str, text: str, kind: Any) -> Any:
    more = ""
    choices = get_args(kind)
    if int in choices:  # a number, or a word in its place
        words = [word for part in choices for word in get_args(part)]
        if text in words:
            return text
        kind, choices = int, ()
        more = f" or {', '.join(words)}"
    if choices:
        if text not in choices:
            raise UsageError(f"--set {key} must be one of {', '.join(choices)}, got {text!r}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"--set {key} must be true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        expected = {int: "a whole number", float: "a number"}[kind] + more
        raise UsageError(f"--set {key} must be {expected}, got {text!r}") from error


def _check(settings: StageSettings) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, str | bool):
            continue
        least = 1 if field.name in AT_LEAST_ONE and field.default != 0 else 0
        most = _THREADS if field.name in ("threads", "workers") else _MOST
        if not least <= value <= most:
            raise UsageError(
                f"{field.name} must be at least {least}, got {value!r}, and at most {most:g}; "
                f"change it by --set {field.name}=..."
            )
    if settings.ema >= 1:
        raise UsageError(f"ema is a decay below 1, such as 0.999, or 0 for none, got {settings.ema!r}")
