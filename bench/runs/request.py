"""From what a user asks for to jobs that can be computed: names resolved, files found and hashed, nothing guessed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.certification.bounds import check_samples
from bench.certification.sequential import MODES
from bench.certification.stopping_rule import BETA, CERTIFIERS, RANDOMISED, is_sequential, register
from bench.data.checked import CheckedDataset
from bench.data.subset import fingerprint_of, identities, parse_subset, take
from bench.runs import registry
from bench.runs.built_weights import BUILT, built_sha256, leaves_in_use
from bench.runs.certify import Job, build
from bench.runs.execution.environment import check_precision
from bench.smoothing.noise import NOISE_VERSION
from bench.types import RADII, ClassOrder, Dataset, DatasetSource, Method, Param, RunSpec, Scalar, WeightsFile, family
from bench.types.errors import BenchError, MethodError, UsageError, WeightsError
from bench.types.limits import SIDE, check_seed, check_within
from bench.weights import resolve


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
    class_order: ClassOrder | None = None  # None: there is nothing to choose
    preprocessing: str | None = None  # None: the method's own, else the dataset's
    certifier: str = "cohen"  # or another of CERTIFIERS
    radii: tuple[float, ...] = ()  # l2; where images that may stop get verdicts
    mode: str | None = None  # "table" or "deploy", where images may stop; None: "table"
    beta: float | None = None  # of the sequential certifier; None: its own
    early_stop: bool = False  # a fixed n ends once its verdicts at the radii are forced


def plan(request: RunRequest, opened: Opened | None = None) -> list[Job]:
    """One job for each method and sigma, in that order; `opened` keeps the images for the next requests on them.

    Raises: the error of the first thing that does not fit; nothing has been written by then.
    """
    registered = check_request(request)
    methods = {name: registry.method(name) for name in request.methods}
    given, settings = assigned_roles(request.weights, methods), assigned_params(request.params, methods)
    opened = {} if opened is None else opened
    source = registry.dataset(request.dataset)
    jobs: list[Job] = []
    for name, method in methods.items():
        own = method.preprocessing.get(source.name)  # a stranger's dataset of that name has no choice
        pixels = request.preprocessing or (own if own in source.preprocessings else None)
        # The name of a way has its side in it.
        size = request.size if pixels else _side(request, source, method)
        key = (request.dataset, request.data_root, size, pixels, request.class_order, request.subset, request.limit)
        if key not in opened:
            opened[key] = _open(request, source, size, pixels)
        found = opened[key]
        dataset, words, images = found.dataset, found.words, found.images
        kind = family(dataset.name)  # whose statistics, networks and settings are these images'
        if any(role.name == BUILT for role in method.roles):
            raise MethodError(f"{name} has a role {BUILT!r}, which stands for weights of no role; name it otherwise")
        declined = method.declines(kind, dataset.shape, dataset.num_classes)
        if declined:
            raise MethodError(f"{name} declines {dataset.name} {dataset.shape}: {declined}")
        for sigma in request.sigmas:
            files = weights_of(
                method, kind, sigma, given[name], random=request.random_weights, download=request.download
            )
            params, remarks = params_of(method, kind, settings[name], files)
            spec = RunSpec(
                method=registry.identity(name, method.name),
                params=params,
                weights={r.name: resolve.identity(files[r.name]) if files else "random" for r in method.roles},
                dataset=dataset.name,
                split=dataset.split,
                subset=words,
                subset_fingerprint=found.fingerprint,
                images=len(images),
                shape=dataset.shape,
                preprocessing=dataset.preprocessing,
                sigma=sigma,
                # The sequential test of the true label selects no class.
                n0=0 if is_sequential(request.certifier) and request.mode in (None, "table") else request.n0,
                n=request.n,
                alpha=request.alpha,
                certifier=request.certifier,
                seed=request.seed,
                precision=request.precision,
                noise=NOISE_VERSION,
                class_order=dataset.class_order,
                **registered[sigma],
            )
            job = Job(
                spec=spec,
                method=name,
                dataset=request.dataset,
                data_root=request.data_root,
                size=size,
                images=images,
                indices=tuple(images),
                weights=files,
                class_order=request.class_order,
                preprocessing=pixels,
                table_radii=source.radii if registry.is_file(request.dataset) and source.radii != RADII else (),
                notes=(*dataset.notes, *(note for file in files.values() for note in file.notes), *remarks),
            )
            first = all(each.method != name for each in jobs)
            jobs.append(job if registry.is_shipped(name) else _with_built(job, method, dataset, warn=first))
    return jobs


def _with_built(job: Job, method: Method, dataset: Dataset, *, warn: bool) -> Job:
    """The job with the hash of what its method loads by itself, which no role's file stands for.

    It is built for that, once more than for the run.
    """
    found = leaves_in_use(build(job, "cpu", dataset, plain=True), dataset.shape, "cpu")
    sha256 = built_sha256(found, job.weights.values())
    if found and not method.roles and warn:
        logging.getLogger(__name__).warning(
            "! %s holds weights and declares no role: the run is known by their hash. Declare them, "
            'roles=(Role("network", "what it is"),), read setting.weights["network"].path, and give '
            "--weights network=FILE",
            job.method,
        )
    return job if sha256 is None else replace(job, spec=replace(job.spec, weights={**job.spec.weights, BUILT: sha256}))


def check_request(request: RunRequest) -> dict[float, dict[str, Any]]:
    """Refuse what no method could certify, before anything is opened: the one check of a request's numbers.

    For each sigma, the fields of the spec that a run which may stop registers before its first sample.
    """
    if not request.methods:
        raise UsageError("no method given; expected --methods a,b (see `rrcm-bench methods`)")
    if len(set(request.methods)) != len(request.methods):
        raise UsageError(f"--methods names one twice: {','.join(request.methods)}")
    if not request.sigmas or len(set(request.sigmas)) != len(request.sigmas):
        raise UsageError(f"--sigma must name each noise level once, got {list(request.sigmas)}")
    _check_certifier(request)
    registered = {}
    for sigma in request.sigmas:
        check_samples(request.n0, request.n, request.alpha, sigma)
        registered[sigma] = _registered(request, sigma)
    check_precision(request.precision)
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be at least 1 image, got {request.limit}")
    check_within("--size", request.size, 1, SIDE)
    check_seed(request.seed)
    return registered


def _check_certifier(request: RunRequest) -> None:
    """Refuse words of one certifier with the other."""
    if request.certifier not in CERTIFIERS:
        raise UsageError(f"no certifier {request.certifier!r}; expected one of: {', '.join(CERTIFIERS)}")
    if is_sequential(request.certifier) and request.early_stop:
        raise UsageError(f"--early-stop is for --certifier cohen; {request.certifier} stops by itself, leave it out")
    if request.certifier == RANDOMISED and request.early_stop:
        raise UsageError("--early-stop is for --certifier cohen: a randomised bound needs all n samples; leave it out")
    if is_sequential(request.certifier) or request.early_stop:
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
    if request.beta is not None and not is_sequential(request.certifier):
        raise UsageError("--beta is for --certifier sequential; give that too, or leave it out")


def _registered(request: RunRequest, sigma: float) -> dict[str, Any]:
    """The fields of the spec that are fixed before the first sample of a run that may stop; none of another's."""
    if not (is_sequential(request.certifier) or request.early_stop):
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


def _side(request: RunRequest, source: DatasetSource, method: Method) -> int | None:
    """The side to open images at: as asked for, else as the method likes where that enlarges none of them."""
    if request.size is not None:
        return request.size
    liked = method.size(source.name)
    return liked if liked is None or source.side is None else source.side(request.data_root, "test", liked)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The images of a request at one size."""

    dataset: CheckedDataset
    words: str
    images: Mapping[int, tuple[int, str]]
    fingerprint: str


Opened = dict[tuple[object, ...], _Opened]  # by what was asked for


def _open(request: RunRequest, source: DatasetSource, size: int | None, pixels: str | None) -> _Opened:
    dataset = registry.open_dataset(request.dataset, request.data_root, size, "test", request.class_order, pixels)
    if request.preprocessing not in (None, dataset.preprocessing):
        sized = f" at size {size}" if size else ""
        raise UsageError(
            f"--preprocessing {request.preprocessing} cannot be had of these images{sized}, which are "
            f"{dataset.preprocessing!r}; leave one of the two out, or give the original files"
        )
    words, indices = parse_subset(request.subset or source.default_subset, len(dataset))
    if request.limit is not None and request.limit < len(indices):
        words, indices = f"{words},limit:{request.limit}", take(indices, request.limit)
    images = identities(dataset, indices)
    return _Opened(dataset, words, images, fingerprint_of(images))


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
