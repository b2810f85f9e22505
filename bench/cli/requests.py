"""From the words of `rrcm-bench run` and of plan files to run requests."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.cli.paths import beside, code_beside, subset_beside, weights_beside
from bench.data.class_order import NATURAL, TEXT, read_class_order
from bench.report.accuracy import natural_radii
from bench.runs import registry
from bench.runs.request import RunRequest
from bench.types.errors import UsageError
from bench.types.suggest import closest

EMBEDDED = Path(__file__).with_name("embedded.toml")

_LONGEST = 200  # letters of a value in a message
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


def requests(options: Mapping[str, Any], plan: Path | None) -> tuple[list[RunRequest], str | None]:
    """Run requests from the options given (None: not given), over a plan file; and the plan's name if one was used.

    Without a plan and a dataset, the embedded plan is taken: methods alone are certified on its images.
    Raises: UsageError for a plan that cannot be read or says something unknown.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if plan is None and "dataset" not in given:
        plan = EMBEDDED
    if plan is None:
        if "methods" not in given:
            raise UsageError("no --methods given; expected all, or some of those that `rrcm-bench methods` lists")
        return [_request(_placed(given, None))], None
    given = _placed(given, None)
    tables = [_embedded(given)] if plan == EMBEDDED else _read(plan)
    return [_request({**table, **given}) for table in tables], "the embedded default" if plan == EMBEDDED else str(plan)


def numbers(words: str, option: str = "--sigma", example: str = "0.25,0.5,1.0") -> list[float]:
    """Comma-separated numbers.

    Raises: UsageError for anything else.
    """
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise UsageError(f"{option} {words!r}: expected numbers with commas between, as {example}") from None


def _embedded(given: Mapping[str, Any]) -> dict[str, Any]:
    """The embedded plan, with the smaller N that methods of many passes bring along for all."""
    document = tomllib.loads(EMBEDDED.read_text(encoding="utf-8"))
    slow = document.pop("slow")
    methods = given.get("methods", document["methods"])
    named = set(methods.split(",") if isinstance(methods, str) else methods)
    return {**document, "n": slow["n"]} if named & {"all", *slow["methods"]} else document


def _read(path: Path) -> list[dict[str, Any]]:
    if path.exists() and not path.is_file():
        raise UsageError(f"plan {str(path)!r} is no regular file; expected TOML")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"plan {str(path)!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        raise UsageError(f"plan {str(path)!r} is not TOML that can be read: {error}") from None
    runs = document.pop("run", [{}])
    if not isinstance(runs, list) or not all(isinstance(r, dict) for r in runs):
        raise UsageError(f"plan {str(path)!r}: expected [[run]] tables, got run = {runs!r}")
    return [_checked({**document, **run}, path) for run in runs]


def _checked(table: dict[str, Any], path: Path) -> dict[str, Any]:
    for key, value in table.items():
        if key not in KEYS:
            hint = closest(key, KEYS, form="; did you mean {}?")
            raise UsageError(f"plan {str(path)!r}: unknown key {key!r}{hint} Known: {', '.join(KEYS)}")
        try:
            msgspec.convert(value, KEYS[key][1], strict=True)
        except (msgspec.ValidationError, OverflowError):
            raise UsageError(f"plan {str(path)!r}: {key} = {_shown(value)}; expected {KEYS[key][2]}") from None
        texts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if any("\0" in text for text in texts if isinstance(text, str)):
            raise UsageError(f"plan {str(path)!r}: {key} = {_shown(value)}; expected no zero byte")
    return _placed(table, path.parent)


def _placed(table: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
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


def _request(table: Mapping[str, Any]) -> RunRequest:
    if "methods" not in table or "dataset" not in table:
        raise UsageError("a plan needs methods and a dataset, in itself or from --methods and --dataset")
    fields = {KEYS[key][0]: value for key, value in table.items()}
    methods = fields["methods"]
    fields["methods"] = tuple(methods.split(",") if isinstance(methods, str) else methods)
    for key in ("sigmas", "radii"):
        if key in fields:
            fields[key] = tuple(float(v) for v in (fields[key] if isinstance(fields[key], list) else [fields[key]]))
    if "radii" not in fields and (fields.get("certifier") == "sequential" or fields.get("early_stop")):
        named = fields["dataset"]  # whose tables' radii these are
        fields["radii"] = registry.dataset(named).radii if registry.is_file(named) else natural_radii(named)
    for key in ("weights", "params"):
        words = fields.get(key, ())
        fields[key] = tuple(f"{k}={_word(v)}" for k, v in words.items()) if isinstance(words, dict) else tuple(words)
    if "class_order" in fields:
        fields["class_order"] = read_class_order(fields["class_order"])
    return RunRequest(**fields)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "a number without measure"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
