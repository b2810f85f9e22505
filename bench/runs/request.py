"""From what a user asks for to jobs that can be computed: names resolved, files found and hashed, nothing guessed.

A method's weights and settings: method_settings.
"""

from __future__ import annotations

import logging
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
from bench.runs.method_settings import assigned_params, assigned_roles, params_of, weights_of
from bench.smoothing.noise import NOISE_VERSION
from bench.types import RADII, ClassOrder, Dataset, DatasetSource, Method, RunSpec, family
from bench.types.errors import MethodError, UsageError
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
    radii: tuple[float, ...] | None = ()  # l2; where images that may stop get verdicts; None: as the dataset's tables
    mode: str | None = None  # "table" or "deploy", where images may stop; None: "table"
    beta: float | None = None  # of the sequential certifier; None: its own
    early_stop: bool = False  # a fixed n ends once its verdicts at the radii are forced


def plan(request: RunRequest, opened: Opened | None = None) -> list[Job]:
    """One job for each method and sigma, in that order; `opened` keeps the images for the next requests on them.

    Raises: the error of the first thing that does not fit; nothing has been written by then.
    """
    if request.radii is None:
        request = replace(request, radii=registry.table_radii(request.dataset))
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
        radii=request.radii or (),
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
