"""Weights and settings of a run's methods: from words to the file of each role and the value of each parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.types import Method, Param, Scalar, WeightsFile
from bench.types.errors import BenchError, MethodError, UsageError, WeightsError
from bench.weights import resolve


def assigned_roles(words: tuple[str, ...], methods: Mapping[str, Method]) -> dict[str, dict[str, str]]:
    """Each method's weights by role, from words [METHOD.]ROLE=PATH.

    Raises: UsageError for a word that no method can use.
    """
    return _assigned(words, methods, "weights", {name: [r.name for r in m.roles] for name, m in methods.items()})


def assigned_params(words: tuple[str, ...], methods: Mapping[str, Method]) -> dict[str, dict[str, str]]:
    """Each method's settings by name, from words [METHOD.]key=value.

    Raises: UsageError for a word that no method can use.
    """
    return _assigned(words, methods, "set", {name: [p.name for p in m.params] for name, m in methods.items()})


def _assigned(
    words: tuple[str, ...], methods: Mapping[str, Method], option: str, keys: Mapping[str, list[str]]
) -> dict[str, dict[str, str]]:
    """The words that are meant for each method: its own by prefix, and the bare ones that it knows."""
    own: dict[str, dict[str, str]] = {name: {} for name in methods}
    bare: dict[str, str] = {}
    for word in words:
        prefix, key, value = _split(word, methods)
        if prefix is None and option == "weights":
            _check_shared(word, key, value, [name for name, known in keys.items() if key in known], words)
        if prefix is None:
            if not any(key in known for known in keys.values()):
                listed = "; ".join(f"{name}: {', '.join(known) or 'none'}" for name, known in keys.items())
                raise UsageError(f"--{option} {word!r}: no method of this run has {key!r}; they have: {listed}")
            bare.setdefault(key, value)
        elif key not in keys[prefix]:
            raise UsageError(f"{prefix} has no {key!r}; expected one of: {', '.join(keys[prefix]) or 'none'}")
        else:
            own[prefix][key] = value
    return {name: {key: v for key, v in bare.items() if key in keys[name]} | own[name] for name in methods}


def _check_shared(word: str, key: str, value: str, users: list[str], words: tuple[str, ...]) -> None:
    """Refuse one file for several methods, whose networks are trained differently: it may be meant for one of them."""
    bare = [name for name in users if not any(other.startswith(f"{name}.{key}=") for other in words)]
    if len(bare) > 1:
        named = " ".join(f"--weights {name}.{key}={value if i == 0 else 'PATH'}" for i, name in enumerate(bare))
        raise UsageError(
            f"--weights {word!r}: {', '.join(bare)} each take their own {key!r}; say whose it is: {named} (the same "
            "path again if it is meant for all)"
        )


def _split(word: str, methods: Mapping[str, Method]) -> tuple[str | None, str, str]:
    left, equals, value = word.partition("=")
    if not equals or not left or not value:
        raise UsageError(f"{word!r}: expected [METHOD.]KEY=VALUE")
    for name, method in methods.items():
        for called in (name, method.name):  # as asked for, `file.py:NAME`, or as it calls itself
            if left.startswith(f"{called}."):
                return name, left[len(called) + 1 :], value
    if "." in left:
        raise UsageError(f"{word!r} is for {left.partition('.')[0]!r}, which is not in this run: {', '.join(methods)}")
    return None, left, value


def weights_of(
    method: Method, dataset: str, sigma: float, given: Mapping[str, str], *, random: bool, download: bool
) -> dict[str, WeightsFile]:
    """The file of each role, given or known to a catalogue; none for random networks.

    Raises: UsageError for files given to random networks; WeightsError for one that is missing.
    """
    if random:
        if given:
            raise UsageError(f"--random-weights and --weights {', '.join(given)} exclude each other; give one of them")
        return {}
    return resolve.resolve(method, dataset, sigma, given, download=download)


def params_of(
    method: Method, dataset: str, settings: Mapping[str, str], files: Mapping[str, WeightsFile]
) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """Every parameter's value: the user's word, else what the weights say of themselves, else the default.

    With it a line on each that stands for numbers: which, and whose word it is.
    Raises: UsageError for the user's words, WeightsError for the weights', MethodError for a parameter that must be
    said and is not.
    """
    said = {key: (value, file) for file in files.values() for key, value in file.params.items()}
    params: dict[str, Scalar] = {}
    sources: dict[str, str] = {}
    for param in method.params:
        if param.name in settings:
            params[param.name], sources[param.name] = convert(param, settings[param.name], dataset), "as --set says"
        elif param.name in said:
            params[param.name], sources[param.name] = _told(param, dataset, *said[param.name]), "as the weights say"
        elif method.implied is not None and param.name in (implied := method.implied(params)):
            params[param.name] = convert(param, str(implied[param.name]), dataset)
            sources[param.name] = "as the other settings imply"
        else:
            params[param.name], sources[param.name] = _default(method, param, dataset, files)
    remarks = []
    for param in method.params:
        if param.meaning is None:
            continue
        means = param.meaning(params, dataset)
        line = f"{method.name}: {param.name} {' = '.join(dict.fromkeys((str(params[param.name]), means)))}"
        line += f", {sources[param.name]}"
        if param.name in settings and param.name in said:
            line += _against(param, params, dataset, *said[param.name])
        remarks.append(line)
    return params, tuple(remarks)


def _against(param: Param, params: Mapping[str, Scalar], dataset: str, value: Scalar, file: WeightsFile) -> str:
    """Where the weights say other than the user: their words."""
    assert param.meaning is not None  # noqa: S101  asked for such parameters alone
    try:
        told = param.meaning({**params, param.name: _told(param, dataset, value, file)}, dataset)
    except BenchError:
        told = str(value)
    return "" if told == param.meaning(params, dataset) else f"; ! the weights {file.name!r} say {value}"


def _default(method: Method, param: Param, dataset: str, files: Mapping[str, WeightsFile]) -> tuple[Scalar, str]:
    """A parameter's value where nobody has said one, and whose word it is."""
    if not param.must_be_said or dataset in param.by_dataset:
        return param.default_for(dataset), f"the default on {dataset}"
    if method.roles and not files:
        return param.default, "which random weights do not mind"
    choices = [choice for choice in param.choices if _readable(param, choice, dataset)]
    raise MethodError(
        f"{method.name} on {dataset!r} needs --set {param.name}=..., which the weights do not say and which is known "
        f"for {', '.join(param.by_dataset)} only: {param.help}; expected one of {', '.join(choices)}"
    )


def _readable(param: Param, choice: str, dataset: str) -> bool:
    try:
        convert(param, choice, dataset)
    except UsageError:
        return False
    return True


def _told(param: Param, dataset: str, value: Scalar, file: WeightsFile) -> Scalar:
    """A parameter's value in the words of a file of weights, which are about the dataset that it was trained on."""
    try:
        return convert(param, str(value), dataset, file.trained_on)
    except UsageError as refusal:
        reason = str(refusal).removeprefix("--set ")
        raise WeightsError(f"weights {file.name!r} say {reason}; give --set {param.name}=... to overrule") from None


def convert(param: Param, text: str, dataset: str, told_on: str = "") -> Scalar:
    """A parameter's value from its text, by the type of its default; `told_on`: the dataset of whose words it is.

    Raises: UsageError with the values that it takes.
    """
    kind = type(param.default)
    value: Scalar
    if param.read is not None:
        try:
            return param.read(text, dataset, told_on or dataset)
        except BenchError as refusal:
            raise UsageError(f"--set {param.name}={text!r}: {refusal}") from None
    try:
        if kind is bool:
            value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        else:
            value = kind(text)
    except (ValueError, KeyError):
        expected = "true or false" if kind is bool else f"a {kind.__name__}"
        raise UsageError(f"--set {param.name}={text!r}: expected {expected} ({param.help})") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"--set {param.name}={text!r}: expected a finite number ({param.help})")
    if param.choices and str(value) not in param.choices:
        raise UsageError(f"--set {param.name}={text!r}: expected one of {', '.join(param.choices)}")
    return value
