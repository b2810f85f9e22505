"""What a user asks the profiler for, and the spec and setting of each row; nothing is built or opened here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.certification.bounds import check_samples
from bench.runs import registry
from bench.runs.execution.environment import check_precision
from bench.runs.method_settings import assigned_params, assigned_roles, params_of, weights_of
from bench.smoothing.noise import NOISE_VERSION
from bench.timing.latency import paper
from bench.timing.workload import FINGERPRINT
from bench.types import Method, RunSpec, Scalar, Setting, WeightsFile
from bench.types.errors import BenchError, DataError, MethodError, UsageError, WeightsError
from bench.types.limits import REPEATS, SAMPLES, SECONDS, SIDE, check_seed, check_within, digits
from bench.weights.resolve import identity

CERTIFIER = "cohen"  # the whole of N is always drawn: what a sequential certifier saves depends on the images


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRequest:
    """What is to be timed, and how."""

    dataset: str
    sigma: float = 0.5
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    seed: int = 0
    size: int | None = None
    precision: str = "fp32"
    batch: str = "auto"  # "auto", "paper" or a number
    repeats: int = 6
    budget_s: float = 120.0  # a method
    random_weights: bool = False
    weights: tuple[str, ...] = ()  # "[METHOD.]ROLE=PATH"
    params: tuple[str, ...] = ()  # "[METHOD.]key=value"
    shared: bool = False  # go on beside other processes on the GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row to be timed."""

    method: str
    title: str
    n: int
    params: Mapping[str, Scalar] = field(default_factory=dict)  # over the request's, and what its weights must say
    any_weights: bool = False  # random ones unless the request gives some: its time does not depend on them
    batch: int | None = None  # over the request's
    key: str = ""  # of the published row it stands beside


def check(request: LatencyRequest) -> None:
    """Refuse what cannot be timed, before anything is built."""
    check_samples(request.n0, request.n, request.alpha, request.sigma)
    check_precision(request.precision)
    check_within("--size", request.size, 1, SIDE)
    if request.repeats < 2:
        raise UsageError(f"--repeats {request.repeats}: expected at least 2, and 4 to compare two probes")
    check_within("--repeats", request.repeats, 2, REPEATS)
    if not request.budget_s > 0:
        raise UsageError(f"--budget {request.budget_s:g}: expected seconds above 0 for each method")
    check_within("--budget", request.budget_s, 0, SECONDS)
    check_seed(request.seed)
    if request.batch not in ("auto", "paper") and not 1 <= (digits(request.batch) or 0) <= SAMPLES:
        raise UsageError(f"--batch {request.batch!r}: expected auto, paper, or a positive number of copies")


def items(request: LatencyRequest, methods: tuple[str, ...]) -> tuple[Item, ...]:
    """One row a method, at the request's n."""
    return tuple(Item(method=name, title=name, n=request.n) for name in methods)


def paper_items(table: int) -> tuple[Item, ...]:
    """The rows of a published table, at its N and batches."""
    return tuple(
        Item(
            method=row.method,
            title=row.title,
            n=row.n,
            params=row.params,
            any_weights=True,
            batch=row.batch,
            key=row.key,
        )
        for row in paper.rows(table)
    )


def prepare(
    request: LatencyRequest, item: Item, method: Method, beside: Mapping[str, Method] | None = None
) -> tuple[RunSpec, Setting]:
    """What is timed, on one synthetic image of the dataset's shape: no dataset is opened.

    `beside`: all methods of the request by name, which its words may be for.
    Raises: DataError for a dataset of no fixed shape, MethodError for images that the method declines, WeightsError
    for weights that are missing or of another network than the item's, UsageError for a word that no method can use.
    """
    source = registry.dataset(request.dataset)
    if source.shape is None or source.num_classes is None:
        known = ", ".join(name for name in registry.dataset_names() if registry.dataset(name).shape is not None)
        raise DataError(f"dataset {request.dataset!r} has no shape of its own to time; expected one of {known}")
    side = request.size or method.size(source.name)
    shape = (source.shape[0], side, side) if side else source.shape
    if declined := method.declines(source.name, shape, source.num_classes):
        raise MethodError(f"{item.method} declines {source.name} {shape}: {declined}")
    methods = {item.method: method, **(beside or {})}
    given = assigned_roles(request.weights, methods)[item.method]
    random = request.random_weights or (item.any_weights and not given)
    files = _files(request, source.name, method, given, random=random)
    settings = assigned_params(request.params, methods)[item.method]
    _check_network(item, settings, files)
    settings |= {key: str(value) for key, value in item.params.items()}
    params, _ = params_of(method, source.name, settings, files)
    spec = RunSpec(
        method=registry.identity(item.method, method.name),
        params=params,
        weights={r.name: identity(files[r.name]) if files else "random" for r in method.roles},
        dataset=registry.identity(request.dataset, source.name),
        split="none",
        subset="one synthetic image",
        subset_fingerprint=FINGERPRINT,
        images=1,
        shape=shape,
        preprocessing="none",
        sigma=request.sigma,
        n0=request.n0,
        n=item.n,
        alpha=request.alpha,
        certifier=CERTIFIER,
        seed=request.seed,
        precision=request.precision,
        noise=NOISE_VERSION,
    )
    setting = Setting(
        dataset=source.name,
        num_classes=source.num_classes,
        shape=shape,
        sigma=request.sigma,
        params=params,
        weights=files,
        random_weights=random,
        seed=request.seed,
        device="cpu",
        precision=request.precision,
        timed_alone=True,
    )
    return spec, setting


def _check_network(item: Item, settings: Mapping[str, str], files: Mapping[str, WeightsFile]) -> None:
    """Refuse another network than the item names, in its place."""
    for key, value in item.params.items():
        if settings.get(key, str(value)) != str(value):
            raise UsageError(f"{item.title} is {key} {value}, got --set {key}={settings[key]}; leave it out")
        for file in files.values():
            if str(file.params.get(key, value)) != str(value):
                raise WeightsError(
                    f"{item.title} is {key} {value}, the weights {file.name!r} are of {file.params[key]}; leave them "
                    "out: the time does not depend on them"
                )


def _files(
    request: LatencyRequest, dataset: str, method: Method, given: Mapping[str, str], *, random: bool
) -> dict[str, WeightsFile]:
    try:
        return weights_of(method, dataset, request.sigma, given, random=random, download=False)
    except UsageError:
        raise
    except BenchError as error:
        raise type(error)(f"{error}; or --random-weights: the time does not depend on them") from None


def batch_of(request: LatencyRequest, item: Item) -> tuple[int | None, str]:
    """The batch that was asked for, None to search for it, and whose it is."""
    if request.batch == "auto":
        return None, "searched"
    if request.batch == "paper":
        return item.batch or paper.batch(request.dataset, item.method), "paper"
    return int(request.batch), "given"
