"""From the words of `rrcm-bench run` and of plan files to run requests."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.cli.paths import beside, code_beside, subset_beside, weights_beside
from bench.data.class_order import NATURAL, TEXT, read_class_order
from bench.errors import UsageError
from bench.plan import RunRequest
from bench.report.accuracy import natural_radii

EMBEDDED = Path(__file__).with_name("embedded.toml")

# key of a plan file -> field of RunRequest, and its TOML type
KEYS: dict[str, tuple[str, tuple[type, ...]]] = {
    "methods": ("methods", (list, str)),
    "dataset": ("dataset", (str,)),
    "sigma": ("sigmas", (list, float, int)),
    "n0": ("n0", (int,)),
    "n": ("n", (int,)),
    "alpha": ("alpha", (float,)),
    "seed": ("seed", (int,)),
    "subset": ("subset", (str,)),
    "limit": ("limit", (int,)),
    "data_root": ("data_root", (str,)),
    "class_order": ("class_order", (str,)),
    "weights": ("weights", (dict, list)),
    "set": ("params", (dict, list)),
    "precision": ("precision", (str,)),
    "random_weights": ("random_weights", (bool,)),
    "download": ("download", (bool,)),
    "size": ("size", (int,)),
    "certifier": ("certifier", (str,)),
    "radii": ("radii", (list, float, int)),
    "mode": ("mode", (str,)),
    "beta": ("beta", (float,)),
    "early_stop": ("early_stop", (bool,)),
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"plan {str(path)!r} is not TOML: {error}") from None
    runs = document.pop("run", [{}])
    if not isinstance(runs, list) or not all(isinstance(r, dict) for r in runs):
        raise UsageError(f"plan {str(path)!r}: expected [[run]] tables, got run = {runs!r}")
    return [_checked({**document, **run}, path) for run in runs]


def _checked(table: dict[str, Any], path: Path) -> dict[str, Any]:
    for key, value in table.items():
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"plan {str(path)!r}: unknown key {key!r}{hint} Known: {', '.join(KEYS)}")
        types = KEYS[key][1]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(
                f"plan {str(path)!r}: {key} = {value!r}; expected {' or '.join(t.__name__ for t in types)}"
            )
    return _placed(table, path.parent)


def _placed(table: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The table with every path as it is meant: beside a plan in that folder, else from where the command runs."""

    def names() -> frozenset[str]:
        from bench.catalogue import catalogue

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
        fields["radii"] = natural_radii(fields["dataset"])  # those of the dataset's tables
    for key in ("weights", "params"):
        words = fields.get(key, ())
        fields[key] = tuple(f"{k}={_word(v)}" for k, v in words.items()) if isinstance(words, dict) else tuple(words)
    if "class_order" in fields:
        fields["class_order"] = read_class_order(fields["class_order"])
    return RunRequest(**fields)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
