"""`rrcm-bench strips`: what denoisers make of noisy images, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bench.cli import options
from bench.cli.output import doubt_lengths, print_json, remark
from bench.cli.paths import at_home, subset_beside

if TYPE_CHECKING:
    from bench.report.figures.denoised_images import Strip

METHODS = "denoised,dds,densepure,diffsmooth"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripsOptions:
    """The words of `rrcm-bench strips`."""

    out: Annotated[Path, options.output(help="Folder for strips-DATASET-sSIGMA.png, .pdf and .svg.", callback=at_home)]
    methods: options.StripsMethods = METHODS
    dataset: options.StripsDataset = "digits"
    data_root: options.DataRoot = None
    class_order: options.ClassOrder = None
    sigma: options.StripsSigmas = "0.5"
    subset: options.StripsSubset = None
    images: Annotated[int, options.images(help="First so many images of the subset, at most 8.")] = 5
    weights: options.Weights = None
    params: options.StripsSettings = None
    size: options.Size = None
    preprocessing: options.Preprocessing = None
    device: options.Device = "auto"
    seed: Annotated[int, options.certificate(help="Of the noise; 0 gives the first copy that `run` certifies on.")] = 0
    json: options.Json = False


def strips(given: StripsOptions) -> None:
    """Draw images clean, as their first noisy copy, and as each method's classifier is given them."""
    from bench.cli.requests import numbers
    from bench.data.class_order import read_class_order
    from bench.report.build import Report, write
    from bench.report.figures.denoised_images import MOST, denoised_strip, shown_ranges, strip_figure
    from bench.report.figures.registry import Drawing
    from bench.report.tables.table import slug
    from bench.report.units import noise_level
    from bench.runs.certify import build, open_dataset
    from bench.runs.execution.environment import parse_devices
    from bench.runs.request import RunRequest, plan
    from bench.types import Denoising, family
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
    pictures, records = [], []
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
        dataset = family(some[0].spec.dataset)
        name = f"strips-{slug(dataset)}-s{noise_level(level)}"
        title = f"{dataset}, sigma {noise_level(level)}: first copy"
        for method, (low, high) in shown_ranges(made).items():
            remark(
                f"note  {method} at sigma {noise_level(level)}: pixels {low:.2f} to {high:.2f}, shown by that range; "
                "one trained through its classifier need not give back what people see"
            )
        pictures.append(Drawing(name, title, partial(strip_figure, made, title)))
        records.append(strips_record(made, level))
    paths = write(Report((), tuple(pictures)), given.out, ["png", "pdf", "svg"])
    for path in paths:
        remark(f"wrote {path}")
    if given.json:
        print_json({"dataset": given.dataset, "strips": records, "files": [str(path) for path in paths]})


def strips_record(made: Sequence[Strip], sigma: float) -> dict[str, Any]:
    """What is in a figure, as plain values: of each picture the range of its pixels."""
    from bench.report.figures.denoised_images import shown_ranges

    own = shown_ranges(made)
    pictures = [
        {
            "image": int(strip.title.removeprefix("image ")),
            "picture": what,
            "least": float(pixels.min()),
            "most": float(pixels.max()),
            "shown": list(own.get(what, (0.0, 1.0))),
        }
        for strip in made
        for what, pixels in strip.pictures
    ]
    return {"sigma": sigma, "pictures": pictures}
