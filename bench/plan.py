"""From what a user asks for to jobs that can be computed: names resolved, files found and hashed, nothing guessed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench import registry, weights
from bench.certificate import check_samples
from bench.data.subset import parse_subset, subset_fingerprint, take
from bench.errors import MethodError, UsageError
from bench.execution.environment import check_precision
from bench.limits import SIDE, check_seed, check_within
from bench.run import Job
from bench.sequential import MODES
from bench.smoothing import NOISE_VERSION
from bench.stopping import BETA, CERTIFIERS, register
from bench.types import Dataset, Method, Param, RunSpec, Scalar, WeightsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a user asks for, in the words of the command line."""

    methods: tuple[str, ...]
    dataset: str
    sigmas: tuple[float, ...] = (0.25, 0.5, 1.0)
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    seed: int = 0
    subset: str | None = None  # None: the dataset's own
    limit: int | None = None
    data_root: Path | None = None
    weights: tuple[str, ...] = ()  # "[METHOD.]ROLE=PATH"
    params: tuple[str, ...] = ()  # "[METHOD.]key=value"
    precision: str = "fp32"
    random_weights: bool = False
    download: bool = False
    size: int | None = None  # None: the method's own
    certifier: str = "cohen"  # or "sequential"
    radii: tuple[float, ...] = ()  # l2; where images that may stop get verdicts
    mode: str | None = None  # "table" or "deploy", where images may stop; None: "table"
    beta: float | None = None  # of the sequential certifier; None: its own
    early_stop: bool = False  # a fixed n ends once its verdicts at the radii are forced


def plan(request: RunRequest) -> list[Job]:
    """One job for each method and sigma, in that order.

    Raises: the error of the first thing that does not fit; nothing has been written by then.
    """
    check_request(request)
    methods = {name: registry.method(name) for name in request.methods}
    given, settings = assigned_roles(request.weights, methods), assigned_params(request.params, methods)
    opened: dict[int | None, tuple[Dataset, str, tuple[int, ...], str]] = {}
    jobs = []
    for name, method in methods.items():
        size = request.size or method.size(request.dataset)
        if size not in opened:
            opened[size] = _open(request, size)
        dataset, words, indices, fingerprint = opened[size]
        declined = method.declines(dataset.name, dataset.shape, dataset.num_classes)
        if declined:
            raise MethodError(f"{name} declines {dataset.name} {dataset.shape}: {declined}")
        for sigma in request.sigmas:
            files = weights_of(
                method, request.dataset, sigma, given[name], random=request.random_weights, download=request.download
            )
            params = params_of(method, dataset.name, settings[name], files)
            spec = RunSpec(
                method=_identity(name, method),
                params=params,
                weights={r.name: files[r.name].sha256 if files else "random" for r in method.roles},
                dataset=dataset.name,
                split=dataset.split,
                subset=words,
                subset_fingerprint=fingerprint,
                images=len(indices),
                shape=dataset.shape,
                preprocessing=dataset.preprocessing,
                sigma=sigma,
                # The sequential test of the true label selects no class.
                n0=0 if request.certifier == "sequential" and request.mode in (None, "table") else request.n0,
                n=request.n,
                alpha=request.alpha,
                certifier=request.certifier,
                seed=request.seed,
                precision=request.precision,
                noise=NOISE_VERSION,
                **_registered(request, sigma),
            )
            jobs.append(
                Job(
                    spec=spec,
                    method=name,
                    data_root=request.data_root,
                    size=size,
                    indices=indices,
                    weights=files,
                    notes=dataset.notes,
                )
            )
    return jobs


def check_request(request: RunRequest) -> None:
    """Refuse what no method could certify, before anything is opened."""
    if not request.methods:
        raise UsageError("no method given; expected --methods a,b (see `rrcm-bench methods`)")
    if len(set(request.methods)) != len(request.methods):
        raise UsageError(f"--methods names one twice: {','.join(request.methods)}")
    if not request.sigmas or len(set(request.sigmas)) != len(request.sigmas):
        raise UsageError(f"--sigma must name each noise level once, got {list(request.sigmas)}")
    _check_certifier(request)
    for sigma in request.sigmas:
        check_samples(request.n0, request.n, request.alpha, sigma)
        _registered(request, sigma)
    check_precision(request.precision)
    check_within("--size", request.size, 1, SIDE)
    check_seed(request.seed)
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be at least 1 image, got {request.limit}")


def _check_certifier(request: RunRequest) -> None:
    """Refuse words of one certifier with the other."""
    if request.certifier not in CERTIFIERS:
        raise UsageError(f"no certifier {request.certifier!r}; expected one of: {', '.join(CERTIFIERS)}")
    if request.certifier == "sequential" and request.early_stop:
        raise UsageError(
            "--early-stop is for --certifier cohen; the sequential certifier stops by itself, leave it out"
        )
    if request.certifier == "sequential" or request.early_stop:
        if not request.radii:
            raise UsageError("no radii given; a run that may stop needs --radii, as 0,0.25,0.5,0.75,1.0")
        if request.mode not in (None, *MODES):
            raise UsageError(f"no mode {request.mode!r}; expected one of: {', '.join(MODES)}")
    elif request.radii or request.mode is not None:
        given = "--radii" if request.radii else "--mode"
        raise UsageError(
            f"{given} is for runs that may stop; give --certifier sequential or --early-stop too, or leave it out: "
            "n samples an image give every radius"
        )
    if request.beta is not None and request.certifier != "sequential":
        raise UsageError("--beta is for --certifier sequential; give that too, or leave it out")


def _registered(request: RunRequest, sigma: float) -> dict[str, Any]:
    """The fields of the spec that are fixed before the first sample of a run that may stop; none of another's."""
    if not (request.certifier == "sequential" or request.early_stop):
        return {}
    made = register(
        request.certifier,
        sigma=sigma,
        radii=request.radii,
        n=request.n,
        alpha=request.alpha,
        beta=BETA if request.beta is None else request.beta,
        mode=request.mode or "table",
    )
    return {own.name: getattr(made, own.name) for own in fields(made)}


def _open(request: RunRequest, size: int | None) -> tuple[Dataset, str, tuple[int, ...], str]:
    dataset = registry.open_dataset(request.dataset, request.data_root, size, "test")
    words, indices = parse_subset(request.subset or registry.dataset(request.dataset).default_subset, len(dataset))
    if request.limit is not None and request.limit < len(indices):
        words, indices = f"{words},limit:{request.limit}", take(indices, request.limit)
    return dataset, words, indices, subset_fingerprint(dataset, indices)


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
    return weights.resolve(method, dataset, sigma, given, download=download)


def _identity(name: str, method: Method) -> str:
    """A method's name in the spec; a stranger's file goes by its hash, for its code is part of what is measured."""
    if ".py:" not in name:
        return name
    code = Path(name.rpartition(":")[0]).read_bytes()
    return f"{method.name}@{hashlib.sha256(code).hexdigest()[:10]}"


def params_of(
    method: Method, dataset: str, settings: Mapping[str, str], files: Mapping[str, WeightsFile]
) -> dict[str, Scalar]:
    """Every parameter's value: the user's word, else what the weights say of themselves, else the default."""
    said = {key: value for file in files.values() for key, value in file.params.items()}
    params: dict[str, Scalar] = {}
    for param in method.params:
        default = param.default_for(dataset)
        if param.name in settings:
            params[param.name] = convert(param, settings[param.name])
        elif param.name in said:
            params[param.name] = convert(param, str(said[param.name]))
        else:
            params[param.name] = default
    return params


def convert(param: Param, text: str) -> Scalar:
    """A parameter's value from its text, by the type of its default.

    Raises: UsageError with the values that it takes.
    """
    kind = type(param.default)
    value: Scalar
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


def _split(word: str, methods: Mapping[str, Method]) -> tuple[str | None, str, str]:
    left, equals, value = word.partition("=")
    if not equals or not left or not value:
        raise UsageError(f"{word!r}: expected [METHOD.]KEY=VALUE")
    for name in methods:
        if left.startswith(f"{name}."):
            return name, left[len(name) + 1 :], value
    if "." in left:
        raise UsageError(f"{word!r} is for {left.partition('.')[0]!r}, which is not in this run: {', '.join(methods)}")
    return None, left, value
