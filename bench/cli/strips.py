"""`rrcm-bench strips`: what denoisers make of noisy images, as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import doubt_lengths, remark
from bench.cli.paths import at_home, subset_beside

METHODS = "denoised,dds,densepure,diffsmooth"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripsOptions:
    """The words of `rrcm-bench strips`."""

    out: Annotated[Path, typer.Option(help="Folder for strips-DATASET-sSIGMA.png, .pdf and .svg.", callback=at_home)]
    methods: options.StripsMethods = METHODS
    dataset: options.StripsDataset = "digits"
    data_root: options.DataRoot = None
    class_order: options.ClassOrder = None
    sigma: options.StripsSigmas = "0.5"
    subset: options.StripsSubset = None
    images: Annotated[int, typer.Option(help="First so many images of the subset, at most 8.")] = 5
    weights: options.Weights = None
    params: options.StripsSettings = None
    size: options.Size = None
    preprocessing: options.Preprocessing = None
    device: options.Device = "auto"
    seed: Annotated[int, typer.Option(help="Of the noise; 0 gives the first copy that `run` certifies on.")] = 0


def strips(given: StripsOptions) -> None:
    """Draw images clean, as their first noisy copy, and as each method's classifier is given them."""
    from bench.cli.requests import numbers
    from bench.data.class_order import read_class_order
    from bench.report.build import Report, write
    from bench.report.figures.denoised_images import MOST, denoised_strip, strip_figure
    from bench.report.figures.registry import Drawing
    from bench.report.units import noise_level
    from bench.runs.certify import build, open_dataset
    from bench.runs.execution.environment import parse_devices
    from bench.runs.request import RunRequest, plan
    from bench.types import Denoising
    from bench.types.errors import UsageError

    if not 1 <= given.images <= MOST:
        raise UsageError(f"--images must be 1 to {MOST}, got {given.images}; a figure of more would show nothing")
    jobs = plan(
        RunRequest(
            methods=tuple(given.methods.split(",")), dataset=given.dataset, sigmas=tuple(numbers(given.sigma)),
            data_root=given.data_root, weights=tuple(given.weights or ()), params=tuple(given.params or ()),
            subset=given.subset and subset_beside(given.subset, None),
            class_order=given.class_order and read_class_order(given.class_order), limit=given.images,
            size=given.size, preprocessing=given.preprocessing, seed=given.seed,
        )
    )  # fmt: skip
    for note in dict.fromkeys(note for job in jobs for note in job.notes):
        remark(f"note  {note}")
    doubt_lengths(job.spec.sigma for job in jobs)
    shapes = {(job.spec.shape, job.spec.preprocessing) for job in jobs}
    if len(shapes) > 1:
        pixels = ", ".join(sorted({f"{job.spec.shape[1]}, {job.spec.preprocessing}" for job in jobs}))
        raise UsageError(
            f"the methods take images of different sides or pixels ({pixels}); give --size or --preprocessing, one "
            "for all"
        )
    place = parse_devices(given.device)[0]
    pictures = []
    for level in dict.fromkeys(job.spec.sigma for job in jobs):
        some = [job for job in jobs if job.spec.sigma == level]
        source = open_dataset(some[0])
        built = {job.spec.method: build(job, place, source) for job in some}
        for name, classifier in built.items():
            if not isinstance(classifier, Denoising):
                raise UsageError(f"{name} shows no denoised pixels; leave it out of --methods")
        made = [
            denoised_strip(source[index], built, sigma=level, seed=given.seed, device=place)
            for index in some[0].indices
        ]
        name = f"strips-{given.dataset}-s{noise_level(level)}"
        title = f"{given.dataset}, sigma {noise_level(level)}: first copy"
        pictures.append(Drawing(name, title, partial(strip_figure, made, title)))
    for path in write(Report((), tuple(pictures)), given.out, ["png", "pdf", "svg"]):
        remark(f"wrote {path}")
