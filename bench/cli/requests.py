"""From the words of `rrcm-bench run` and of plan files to run requests."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.certification.stopping_rule import is_sequential
from bench.cli.plan_file import KEYS, PlanFile, as_words, placed
from bench.data.class_order import read_class_order
from bench.runs.request import RunRequest
from bench.types.errors import UsageError

EMBEDDED = Path(__file__).with_name("embedded.toml")


def requests(options: Mapping[str, Any], plan: PlanFile | None) -> tuple[list[RunRequest], str | None]:
    """Run requests from the options given (None: not given), over a plan file; and the plan's name if one was used.

    Without a plan and a dataset, the embedded plan is taken: methods alone are certified on its images.
    Raises: UsageError where neither says what is to be certified.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if plan is None and "dataset" in given and "methods" not in given:
        raise UsageError("no --methods given; expected all, or some of those that `rrcm-bench methods` lists")
    given = placed(given, None)
    if plan is not None:
        return [request_of({**table, **given}) for table in plan.runs], str(plan.path)
    if "dataset" not in given:
        return [request_of({**_embedded(given), **given})], "the embedded default"
    return [request_of(given)], None


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


def request_of(table: Mapping[str, Any]) -> RunRequest:
    """The request of a table, whose paths are placed.

    Raises: UsageError for one without methods or dataset.
    """
    if "methods" not in table or "dataset" not in table:
        raise UsageError("a plan needs methods and a dataset, in itself or from --methods and --dataset")
    fields = {KEYS[key][0]: value for key, value in table.items()}
    methods = fields["methods"]
    fields["methods"] = tuple(methods.split(",") if isinstance(methods, str) else methods)
    for key in ("sigmas", "radii"):
        if key in fields:
            fields[key] = tuple(float(v) for v in (fields[key] if isinstance(fields[key], list) else [fields[key]]))
    if "radii" not in fields and (is_sequential(fields.get("certifier", "")) or fields.get("early_stop")):
        fields["radii"] = None
    for key in ("weights", "params"):
        fields[key] = tuple(as_words(fields.get(key, ())))
    if "class_order" in fields:
        fields["class_order"] = read_class_order(fields["class_order"])
    return RunRequest(**fields)
