"""A job, computed: its missing images are drawn, counted and stored, one row each."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.certification.stopping_rule import fits
from bench.data.checked import CheckedDataset
from bench.runs import registry
from bench.runs.batch_size import CPU_BATCHES, auto_batch
from bench.runs.batcher import Batcher
from bench.runs.built_weights import BUILT, built_sha256, leaves_in_use
from bench.runs.execution.cuda_graphs import replayed
from bench.runs.execution.environment import environment, ready_process
from bench.runs.execution.kernels import kernels
from bench.runs.execution.torch_compile import compiled
from bench.runs.image_state import Counted, Unit
from bench.runs.locks import drawing
from bench.runs.passes import PassQueue, count_units
from bench.runs.records import unlike
from bench.runs.seals import amend, seal_rows
from bench.runs.store import RUN_FILE, RowWriter, Run, folder_name, open_run, read_run, sweep
from bench.smoothing.noise import NOISE_VERSION, SELECT, NoiseKey
from bench.smoothing.philox import noisy
from bench.types import (
    NEVER,
    BaseClassifier,
    ClassOrder,
    Dataset,
    Execution,
    Row,
    RunSpec,
    Setting,
    WeightsFile,
    family,
)
from bench.types.errors import DataError, DeviceError, MethodError, SpecError, StoreError, WeightsError
from bench.weights.resolve import sha256_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run ready to be computed: what is measured, and where its parts are on this machine. Picklable."""

    spec: RunSpec
    method: str  # as the registry knows it; spec.method is the same for an installed one
    dataset: str  # likewise
    data_root: Path | None
    size: int | None
    images: Mapping[int, tuple[int, str]]  # label and digest of each, by index: what the subset's fingerprint is of
    indices: tuple[int, ...]
    weights: Mapping[str, WeightsFile]
    class_order: ClassOrder | None = None  # as it was asked for
    preprocessing: str | None = None  # to open with; images that are cropped already stay as they are
    notes: tuple[str, ...] = ()  # what the user should know of the images, and of the normaliser
    table_radii: tuple[float, ...] = ()  # l2, of a stranger's dataset that states them: no report can ask for its file
    given: Mapping[int, Row] = field(default_factory=dict)  # top-up: rows of fewer copies, by index; theirs are kept
    made_from: Mapping[str, Any] | None = None  # where these are from, as the record of the run has it


def open_dataset(job: Job) -> CheckedDataset:
    """The job's images, opened again from what was asked for; none of them can be another than was planned.

    Raises: DataError where it is another dataset by now, or on this machine.
    """
    spec = job.spec
    found = registry.open_dataset(job.dataset, job.data_root, job.size, spec.split, job.class_order, job.preprocessing)
    for what in ("name", "split", "shape", "preprocessing", "class_order"):
        now, planned = getattr(found, what), spec.dataset if what == "name" else getattr(spec, what)
        if now != planned:
            raise DataError(
                f"dataset {job.dataset!r} has {what} {now!r}, the run was planned with {planned!r}; "
                "its file was changed, or is another on this machine: start the run again"
            )
    return replace(found, planned=job.images)


def build(job: Job, device: str, dataset: Dataset, *, plain: bool = False) -> BaseClassifier:
    """The job's base classifier on a device; `plain`: in float32 and as its authors run it, whatever the run's own.

    Raises: what the method's own builder raises on purpose; MethodError if it does not classify the dataset's classes.
    """
    spec = job.spec
    classifier = registry.method(job.method).build(
        Setting(
            dataset=family(spec.dataset),
            num_classes=dataset.num_classes,
            shape=dataset.shape,
            sigma=spec.sigma,
            params=spec.params,
            weights=job.weights,
            random_weights=spec.random_weights,
            seed=spec.seed,
            device=device,
            precision="fp32" if plain else spec.precision,
            tuned=not plain,
        )
    )
    if classifier.num_classes != dataset.num_classes:
        raise MethodError(
            f"{spec.method} has {classifier.num_classes} classes, {spec.dataset} has {dataset.num_classes}; "
            "give weights that were trained on this dataset"
        )
    return classifier


@dataclass(slots=True)
class ImageCertifier:
    """A worker: the network on its device, the images, and how to draw; it learns which batch fits the memory."""

    spec: RunSpec
    classifier: BaseClassifier
    dataset: Dataset
    device: str
    batch: int
    given: Mapping[int, Row] = field(default_factory=dict)  # rows of fewer copies, which are taken over
    compile: str = ""  # what was asked of torch.compile, and what came of it
    kernels: tuple[str, ...] = ()  # what its networks say of theirs

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """One row an image, each as soon as it is there."""
        batcher = Batcher(
            spec=self.spec,
            classifier=self.classifier,
            device=self.device,
            batch=self.batch,
            shrunk=self._shrink,
            given=self.given,
        )
        yield from batcher.rows(self.dataset[index] for index in indices)

    def __call__(self, index: int) -> Row:
        """All of one image, alone."""
        return next(self.rows([index]))

    def count(self, units: Sequence[Unit]) -> list[Counted]:
        """The votes on units of any images."""
        ready_process(self.spec.precision)  # a worker of many jobs may have counted in another arithmetic meanwhile
        queue: PassQueue[int] = PassQueue(
            spec=self.spec, classifier=self.classifier, device=self.device, batch=self.batch, shrunk=self._shrink
        )
        return count_units(units, queue, self.dataset)

    def _shrink(self, batch: int) -> None:
        # Logged, not printed: a worker process has no progress bar to print around.
        logging.getLogger(__name__).warning(
            "! out of memory on %s: going on with a batch of %d, which moves no vote", self.device, batch
        )
        self.batch = batch


def make_worker(
    job: Job, device: str, batch: int | None, *, compiling: str = NEVER, images: float = 0
) -> ImageCertifier:
    """A function from an index to that image's row, with the network on `device`.

    `images` is how many of them it is to draw, about: compiling must be worth it (COMPILE).
    """
    import torch

    ready_process(job.spec.precision)
    _check_code(job)
    dataset = open_dataset(job)
    classifier = build(job, device, dataset)
    _check_built(job, dataset, classifier, device)
    copies = batch or auto_batch(job.spec, classifier, device)
    # After the search: what was recorded for a batch that is not taken would keep its memory.
    spec = job.spec

    def pass_of_copies() -> Tensor:
        image = dataset[job.indices[0]]
        key = NoiseKey(spec.seed, "compiling", spec.sigma, SELECT).philox("smoothing")
        return noisy(torch.from_numpy(image.pixels).to(device), spec.sigma, key, 0, copies)

    classifier, said = compiled(
        classifier,
        pass_of_copies,
        asked=compiling,
        planned=images * (spec.n0 + spec.n),
        device=device,
        precision=spec.precision,
    )
    said = NEVER if compiling == NEVER else f"{compiling}: {said}"
    return ImageCertifier(
        spec, replayed(classifier, device), dataset, device, copies, job.given, said, kernels(classifier)
    )


def _check_code(job: Job) -> None:
    """Refuse another file of a stranger's method than the one that was planned."""
    now = registry.identity(job.method, registry.method(job.method).name)
    if now != job.spec.method:
        raise MethodError(
            f"method {job.method!r} is {now} here, the run was planned with {job.spec.method}; "
            "its file was changed, or is another on this machine: start the run again"
        )


def _check_built(job: Job, dataset: Dataset, classifier: BaseClassifier, device: str) -> None:
    """Refuse another network than the one that was planned, where no file of a role stands for it."""
    if registry.is_shipped(job.method):
        return
    files, planned = job.weights.values(), job.spec.weights.get(BUILT)
    if built_sha256(leaves_in_use(classifier, dataset.shape, device), files) == planned:
        return
    # Laid out for its device or precision, perhaps: then it is equal where it was hashed for the plan.
    plain = leaves_in_use(build(job, "cpu", dataset, plain=True), dataset.shape, "cpu")
    if (found := built_sha256(plain, files)) != planned:
        raise SpecError(
            f"{job.spec.method} built weights with sha256 {(found or 'none')[:10]}, the run's have "
            f"{(planned or 'none')[:10]}: its rows would not be of one run; give it the weights as they were, loaded "
            "from a file that stays as it is or drawn from Setting.seed"
        )


def certify_here(
    job: Job,
    execution: Execution,
    out: Path,
    on_start: Callable[[Run, ImageCertifier], None],
    on_row: Callable[[Row], None],
) -> Run:
    """Compute what the job's folder under `out` still lacks, in this process, on its only device; the run as it stands.

    The network is built before the folder is made: a job that cannot run leaves nothing behind. Interrupted at any
    moment, the same call goes on from the rows that are there, and ends with the same votes.
    """
    there = read_run(out / folder_name(job.spec)) if (out / folder_name(job.spec) / RUN_FILE).exists() else None
    worker = make_worker(
        job, execution.devices[0], execution.batch, compiling=execution.compile, images=len(missing(job, there))
    )
    here = environment(execution.devices, job.spec.precision)
    here |= {"compile": worker.compile, "kernels": list(worker.kernels)}
    opened = partial(
        open_run, out, job.spec, execution, here, worker.dataset.num_classes, job.table_radii, job.made_from
    )
    run = opened()
    if not missing(job, run):
        on_start(run, worker)
        return sealed(run)
    with drawing(run.path):
        run = opened()  # as it stands now that no other process draws it
        sweep(run.path)
        on_start(run, worker)
        todo = missing(job, run)
        if not todo:
            return sealed(run)
        note_origin(job, run)
        with RowWriter(run.path, job.spec.digest()) as writer:
            for row in worker.rows(todo):
                check_row(job, run, row)
                writer.append(row)
                on_row(row)
        return seal_rows(read_run(run.path))


def tried_here(job: Job, batch: int | None) -> ImageCertifier:
    """The job built on this machine's CPU, for what can be refused and to be looked at before devices are asked for.

    Where the CPU has not the arithmetic of the run, as others may, in float32.
    """
    copies = batch or CPU_BATCHES[0]
    try:
        return make_worker(job, "cpu", copies)
    except DeviceError:
        return make_worker(replace(job, spec=replace(job.spec, precision="fp32")), "cpu", copies)


def portable(job: Job) -> Job:
    """The job for a process that was started in another folder: every path in it is absolute."""
    weights = {
        role: replace(file, path=file.path.absolute(), parts=tuple(part.absolute() for part in file.parts))
        for role, file in job.weights.items()
    }
    return replace(
        job,
        method=_absolute(job.method),
        dataset=_absolute(job.dataset),
        data_root=job.data_root and job.data_root.absolute(),
        weights=weights,
        given={},  # the driver adds what is drawn to them
    )


def _absolute(name: str) -> str:
    """A stranger's `file.py:NAME` as it is found from any folder."""
    file, colon, attribute = name.rpartition(":")
    return f"{Path(file).absolute()}{colon}{attribute}" if registry.is_file(name) else name


def make_remote(
    job: Job, device: str, batch: int | None, *, compiling: str = NEVER, images: float = 0
) -> ImageCertifier:
    """A worker on a machine that may have other files and versions than the one that planned the job.

    Raises: SpecError for another source of noise; WeightsError for other weights under the same path.
    """
    if job.spec.noise != NOISE_VERSION:
        raise SpecError(
            f"a worker makes noise {NOISE_VERSION!r}, the run is of {job.spec.noise!r}; "
            "install the same version of rrcm-bench on every machine"
        )
    for role, file in job.weights.items():
        found = [sha256_of(part) for part in file.parts or (file.path,)]
        sha256 = hashlib.sha256("\n".join(found).encode()).hexdigest() if file.parts else found[0]
        if sha256 != file.sha256:
            raise WeightsError(
                f"weights {role} in {str(file.path)!r}: sha256 is {sha256[:10]} on a worker, expected "
                f"{file.sha256[:10]}; give a path that all machines share"
            )
    return make_worker(job, device, batch, compiling=compiling, images=images)


def missing(job: Job, run: Run | None) -> list[int]:
    """Images of the job that the run has no row of.

    Raises: StoreError for rows of other images.
    """
    there = {row.index: row.label for row in run.rows} if run else {}
    for index, label in there.items():
        if index not in job.images or job.images[index][0] != label:
            planned = f"label {job.images[index][0]}" if index in job.images else "no such image in the subset"
            raise StoreError(
                f"{str(run.path) if run else ''!r} holds a row of image {index} with label {label}, the dataset has "
                f"{planned}; the row was edited, or is of other images: restore the file, or move it away whole"
            )
    return [index for index in job.indices if index not in there]


def check_row(job: Job, run: Run, row: Row) -> None:
    """Refuse a row that the run could not be read with."""
    planned = job.images.get(row.index)
    if planned is None or planned[0] != row.label:
        expected = f"label {planned[0]}" if planned else "an image of the subset"
        raise DataError(
            f"a worker gave a row of image {row.index} with label {row.label}, expected {expected}; it was not stored"
        )
    wrong = unlike(row, None, run.num_classes) if fits(job.spec, row) else f"sample sizes of image {row.index}"
    if wrong:
        raise StoreError(f"a worker gave a row that is not of the run: {wrong}; it was not stored")


def sealed(run: Run) -> Run:
    """A complete run, sealed if its last process was killed before that; a folder that cannot be written stays so."""
    with suppress(StoreError):
        return seal_rows(run)
    return run


def note_origin(job: Job, run: Run) -> None:
    """Write down where the first votes are from, in a run that was begun by drawing all copies."""
    if job.made_from and not run.made_from and not run.unsealed:
        amend(run, {"made_from": job.made_from})
