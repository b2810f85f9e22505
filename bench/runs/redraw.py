"""Rows of a stored run, drawn again here: from its own spec, with weights that have its hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from bench.data.checked import CheckedDataset
from bench.data.class_order import NATURAL, TEXT
from bench.data.subset import identities
from bench.runs import registry
from bench.runs.certify import ImageCertifier, Job, make_worker
from bench.runs.execution.environment import environment
from bench.runs.store import Run
from bench.smoothing.noise import NOISE_VERSION
from bench.types import ClassOrder, Method, Row, RunSpec, WeightsFile, family
from bench.types.errors import DataError, DeviceError, MethodError, SpecError, WeightsError
from bench.weights import resolve


def chosen(rows: Sequence[Row], count: int, seed: int) -> list[int]:
    """Indices of some rows at random, ascending; all where there are no more."""
    return sorted(row.index for row in Random(seed).sample(list(rows), min(count, len(rows))))  # noqa: S311


def weights_files(spec: RunSpec, method: Method, given: Mapping[str, str]) -> dict[str, WeightsFile]:
    """The files of a run's weights on this machine: those given, or those of its hashes that the catalogue knows.

    Raises: WeightsError where one is not here, or is another.
    """
    if spec.random_weights:
        return {}
    named = {role.name: name for role in method.roles if (name := _known_as(spec.weights.get(role.name, ""), method))}
    files = resolve.resolve(method, family(spec.dataset), spec.sigma, {**named, **given}, download=False)
    for role, file in files.items():
        found, expected = resolve.identity(file), spec.weights.get(role, "")
        if found != expected:
            raise WeightsError(
                f"weights {role}: the run's have sha256 {expected[:10] or 'unknown'}, here is {found[:10]} "
                f"({file.name!r}); give --weights {role}=PATH"
            )
    return files


def redrawing(
    run: Run,
    indices: Sequence[int],
    *,
    method: str | None = None,
    dataset: str | None = None,
    data_root: Path | None = None,
    class_order: ClassOrder | None = None,
    weights: Mapping[str, str] | None = None,
) -> Job:
    """A job that draws some rows of a run again.

    `method`, `dataset`: the `file.py:NAME` of a stranger's, which a run does not know.
    Raises: WeightsError where its weights are not here; another BenchError for images, code or noise that are not.
    """
    spec = run.spec
    if spec.noise != NOISE_VERSION:
        raise SpecError(f"the run is of noise {spec.noise!r}, this version makes {NOISE_VERSION!r}; use the run's own")
    name = _stranger(spec.method, method, "method", MethodError)
    found = registry.method(name)
    if (now := registry.identity(name, found.name)) != spec.method:
        raise MethodError(f"the run is of {spec.method}, {name!r} is {now} here; give the file as it was")
    files = weights_files(spec, found, weights or {})
    source = _stranger(spec.dataset, dataset, "dataset", DataError)
    order = class_order or (spec.class_order if spec.class_order in (NATURAL, TEXT) else None)
    opened, size = _opened(spec, source, data_root, order)
    if outside := [index for index in indices if index >= len(opened)]:
        raise DataError(f"the run has image {outside[0]}, {spec.dataset} here has {len(opened)}; give --data-root")
    return Job(
        spec=spec,
        method=name,
        dataset=source,
        data_root=data_root,
        size=size,
        images=identities(opened, indices),
        indices=tuple(indices),
        weights=files,
        class_order=order,
    )


def redrawer(job: Job, device: str, batch: int | None) -> tuple[ImageCertifier, Job]:
    """A worker that draws the job, and the job: in fp32 where this device has not the run's arithmetic."""
    try:
        return make_worker(job, device, batch), job
    except DeviceError:
        if job.spec.precision == "fp32":
            raise
        plain = replace(job, spec=replace(job.spec, precision="fp32"))
        return make_worker(plain, device, batch), plain


def changes(run: Run, device: str, precision: str) -> list[str]:
    """What is otherwise here than where a run was drawn, a line each."""
    here = environment((device,), precision)
    pairs: dict[str, tuple[Any, Any]] = {
        "precision": (run.spec.precision, precision),
        "device": (_devices(run.environment), _devices(here)),
    }
    before = run.environment.get("packages", {})
    for package in ("rrcm-bench", "torch", "numpy"):
        pairs[package] = before.get(package), here["packages"].get(package)
    pairs["commit"] = run.environment.get("git_commit"), here["git_commit"]
    return [
        f"{what}: {old or 'not recorded'}, here {new or 'none'}" for what, (old, new) in pairs.items() if old != new
    ]


def opened_as(spec: RunSpec, data_root: Path | None) -> CheckedDataset:
    """An installed dataset as a run has certified it.

    Raises: DataError.
    """
    order = spec.class_order if spec.class_order in (NATURAL, TEXT) else None
    return _opened(spec, _stranger(spec.dataset, None, "dataset", DataError), data_root, order)[0]


def _devices(known: Mapping[str, Any]) -> str:
    workers = [str(each.get("device", "")) for each in known.get("workers", ())]
    return ", ".join(sorted(set(filter(None, workers or map(str, known.get("devices", {}).values())))))


def _known_as(identity: str, method: Method) -> str:
    """The catalogue's name of a file by its hash, where it has one."""
    sha256, _, key = identity.partition("#")
    same = [entry for entry in resolve.catalogue() if sha256 and sha256 in (entry.sha256, *entry.also)]
    best = next(iter(sorted(same, key=lambda entry: entry.method != method.name)), None)
    if best is None:
        return ""
    return f"{best.name}#{key}" if key and key != best.key else best.name


def _stranger(own: str, given: str | None, kind: str, error: type[MethodError | DataError]) -> str:
    """The name that the registry knows a run's method or dataset by."""
    if given is not None or "@" not in own:
        return given or own
    raise error(f"the run's {kind} {own} is in a file of its user; give --{kind} FILE.py:NAME")


def _opened(spec: RunSpec, name: str, root: Path | None, order: ClassOrder | None) -> tuple[CheckedDataset, int | None]:
    """The run's dataset, at the size of its images."""
    opened = registry.open_dataset(name, root, None, spec.split, order)
    if opened.shape == spec.shape:
        return opened, None
    size = spec.shape[-1]
    return registry.open_dataset(name, root, size, spec.split, order), size
