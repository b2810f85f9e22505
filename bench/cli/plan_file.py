"""Plan files: which keys stand in them, read and checked, and their JSON schema; described in docs/plans.md."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from bench.cli.paths import beside, code_beside, subset_beside, weights_beside
from bench.data.class_order import NATURAL, TEXT
from bench.types.errors import UsageError
from bench.types.suggest import closest

_LONGEST = 200  # letters of a value in a message
_EXACT = 2.0**53  # a float beyond it names no one whole number
_NAMES: Any = str | list[str]
_NUMBERS: Any = float | list[float]
_WORDS: Any = dict[str, str | int | float | bool] | list[str]

# key of a plan file -> field of RunRequest, what it holds, and that in words
KEYS: dict[str, tuple[str, Any, str]] = {
    "methods": ("methods", _NAMES, "a text or a list of texts"),
    "dataset": ("dataset", str, "a text"),
    "sigma": ("sigmas", _NUMBERS, "a number or a list of numbers"),
    "n0": ("n0", int, "a whole number"),
    "n": ("n", int, "a whole number"),
    "alpha": ("alpha", float, "a number"),
    "seed": ("seed", int, "a whole number"),
    "subset": ("subset", str, "a text"),
    "limit": ("limit", int, "a whole number"),
    "data_root": ("data_root", str, "a text"),
    "weights": ("weights", _WORDS, 'a table of texts, or a list of texts such as "network=FILE"'),
    "set": ("params", _WORDS, 'a table of plain values, or a list of texts such as "key=value"'),
    "precision": ("precision", str, "a text"),
    "random_weights": ("random_weights", bool, "true or false"),
    "download": ("download", bool, "true or false"),
    "size": ("size", int, "a whole number"),
    "preprocessing": ("preprocessing", str, "a text"),
    "certifier": ("certifier", str, "a text"),
    "radii": ("radii", _NUMBERS, "a number or a list of numbers"),
    "mode": ("mode", str, "a text"),
    "beta": ("beta", float, "a number"),
    "class_order": ("class_order", str, "a text"),
    "early_stop": ("early_stop", bool, "true or false"),
}
# Those of the whole plan, which stand before the first [[run]]: one pool of workers serves all its runs.
WHOLE: dict[str, tuple[str, Any, str]] = {
    "device": ("device", str, "a text"),
    "batch": ("batch", str | int, '"auto" or a whole number'),
    "allow_slow_precision": ("allow_slow_precision", bool, "true or false"),
    "compile": ("compiling", str, '"auto", "always" or "never"'),
    "executor": ("executor", str, "a text"),
    "workers": ("workers", int, "a whole number"),
    "slurm": ("slurm", _WORDS, 'a table of plain values, or a list of texts such as "partition=gpu"'),
    "detach": ("detach", bool, "true or false"),
    "keep_going": ("keep_going", bool, "true or false"),
    "out": ("out", str, "a text"),
    "top_up": ("top_up", str, "a text"),
    "dry_run": ("dry_run", bool, "true or false"),
    "json": ("json", bool, "true or false"),
}


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan file as read: a table for each of its runs, and fields of RunOptions for all of them."""

    path: Path
    runs: list[dict[str, Any]]
    whole: Mapping[str, Any]


def read(path: Path) -> PlanFile:
    """A plan file, with its paths beside it.

    Raises: UsageError for one that cannot be read or says something unknown.
    """
    document = read_toml(path, "plan")
    runs = document.pop("run", [{}])
    if not isinstance(runs, list) or not all(isinstance(r, dict) for r in runs):
        raise UsageError(f"plan {str(path)!r}: expected [[run]] tables, got run = {runs!r}")
    whole = {key: document.pop(key) for key in WHOLE if key in document}
    for run in runs:
        if late := [key for key in run if key in WHOLE]:
            raise UsageError(
                f"plan {str(path)!r}: {late[0]} stands in a [[run]]; it is the whole plan's: put it before the first"
            )
    return PlanFile(
        path,
        [placed(checked({**document, **run}, path), path.parent) for run in runs],
        _whole(checked(whole, path, WHOLE), path.parent),
    )


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A TOML file.

    Raises: UsageError for one that cannot be read.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{what} {str(path)!r} is no regular file; expected TOML")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        raise UsageError(f"{what} {str(path)!r} is not TOML that can be read: {error}") from None


def checked(
    table: Mapping[str, Any],
    path: Path,
    keys: Mapping[str, tuple[str, Any, str]] = KEYS,
    what: str = "plan",
) -> dict[str, Any]:
    """A table whose keys are known and whose values are of their types; 1e5 is a whole number.

    Raises: UsageError.
    """
    found = {}
    for key, value in table.items():
        if key not in keys:
            hint = closest(key, keys, form="; did you mean {}?")
            raise UsageError(f"{what} {str(path)!r}: unknown key {key!r}{hint} Known: {', '.join(keys)}")
        _, kind, words = keys[key]
        if kind is int and isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
            value = int(value)
        try:
            msgspec.convert(value, kind, strict=True)
        except (msgspec.ValidationError, OverflowError):
            raise UsageError(f"{what} {str(path)!r}: {key} = {_shown(value)}; expected {words}") from None
        texts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if any("\0" in text for text in texts if isinstance(text, str)):
            raise UsageError(f"{what} {str(path)!r}: {key} = {_shown(value)}; expected no zero byte")
        found[key] = value
    return found


def placed(table: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The table with every path as it is meant: beside a plan in that folder, else from where the command runs."""

    def names() -> frozenset[str]:
        from bench.weights.catalogue import catalogue

        return frozenset(entry.name for entry in catalogue())

    def weights(words: Any) -> Any:
        if isinstance(words, dict):
            return {
                k: weights_beside(f"={v}", folder, names)[1:] if isinstance(v, str) else v for k, v in words.items()
            }
        return [weights_beside(word, folder, names) if isinstance(word, str) else word for word in words]

    def methods(words: Any) -> Any:
        named = words.split(",") if isinstance(words, str) else words
        return [code_beside(name, folder) if isinstance(name, str) else name for name in named]

    place: dict[str, Callable[[Any], Any]] = {
        "data_root": lambda words: Path(beside(str(words), folder)),
        "class_order": lambda words: words if words in (NATURAL, TEXT) else beside(words, folder),
        "subset": lambda words: subset_beside(words, folder),
        "dataset": lambda words: code_beside(words, folder),
        "methods": methods,
        "weights": weights,
    }
    return {key: place[key](value) if key in place else value for key, value in table.items()}


def as_words(value: Any) -> list[str]:
    """A table of plain values as texts KEY=VALUE; a list of texts as it is."""
    return [f"{k}={_word(v)}" for k, v in value.items()] if isinstance(value, dict) else list(value)


def _whole(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found = {WHOLE[key][0]: value for key, value in table.items()}
    if "out" in found:
        found["out"] = Path(beside(found["out"], folder))
    if found.get("top_up", "auto") != "auto":
        found["top_up"] = beside(found["top_up"], folder)
    if "slurm" in found:
        found["slurm"] = as_words(found["slurm"])
    if "batch" in found:
        found["batch"] = str(found["batch"])
    return found


def schema() -> dict[str, Any]:
    """The JSON schema of a plan file; its texts are those of the command's options."""
    told = _helps()

    def table(name: str, keys: Mapping[str, tuple[str, Any, str]], more: list[Any]) -> Any:
        fields: list[Any] = [
            (key, Annotated[kind, msgspec.Meta(description=told.get(field) or told.get(key, ""))], None)
            for key, (field, kind, _) in keys.items()
        ]
        return msgspec.defstruct(name, [*fields, *more], forbid_unknown_fields=True)

    run = table("Run", KEYS, [])
    runs = Annotated[list[run], msgspec.Meta(description="Runs; what stands before them holds for each.")]  # type: ignore[valid-type]
    made: dict[str, Any] = msgspec.json.schema(table("Plan", {**KEYS, **WHOLE}, [("run", runs, [])]))
    for definition in made["$defs"].values():
        for held in definition["properties"].values():
            held.pop("default", None)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "A plan of rrcm-bench run --plan"
    return made


def _helps() -> dict[str, str]:
    """What each option of `run` says of itself."""
    from typing import get_type_hints

    from bench.cli.run import RunOptions

    found = {}
    for name, hint in get_type_hints(RunOptions, include_extras=True).items():
        if get_origin(hint) is Annotated:
            found[name] = str(get_args(hint)[1].help)
    return found


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "a number without measure"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
