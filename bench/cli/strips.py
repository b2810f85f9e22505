"""`rrcm-bench strips`: what denoisers make of noisy images, as pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import completion
from bench.cli.output import doubt_lengths, remark
from bench.cli.paths import CLASS_ORDER, DATA_ROOT, at_home, subset_beside

METHODS = "denoised,dds,densepure,diffsmooth"


def strips(
    out: Annotated[Path, typer.Option(help="Folder for strips-DATASET-sSIGMA.png, .pdf and .svg.", callback=at_home)],
    methods: Annotated[
        str, typer.Option(help="Methods that denoise, with commas between.", autocompletion=completion.methods)
    ] = METHODS,
    dataset: Annotated[str, typer.Option(help="Whose images.", autocompletion=completion.datasets)] = "digits",
    data_root: Annotated[Path | None, DATA_ROOT] = None,
    class_order: Annotated[str | None, CLASS_ORDER] = None,
    sigma: Annotated[str, typer.Option(help="Noise levels, l2 in [0, 1] pixels, with commas between.")] = "0.5",
    subset: Annotated[str | None, typer.Option(help="As for `run`.", show_default="the dataset's own")] = None,
    images: Annotated[int, typer.Option(help="First so many images of the subset, at most 8.")] = 5,
    weights: Annotated[list[str] | None, typer.Option(help="[METHOD.]ROLE=PATH.", show_default="the catalogue")] = None,
    params: Annotated[list[str] | None, typer.Option("--set", help="[METHOD.]key=value.", show_default="none")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crop, pixels.", show_default="the method's own")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda:0.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the noise; 0 gives the first copy that `run` certifies on.")] = 0,
) -> None:
    """Draw images clean, as their first noisy copy, and as each method's classifier is given them."""
    from bench.cli.requests import numbers
    from bench.data.class_order import read_class_order
    from bench.report.build import Report, write
    from bench.report.figures.denoised_images import MOST, denoised_strip, offers_pixels, strip_figure
    from bench.report.figures.registry import Drawing
    from bench.report.units import noise_level
    from bench.runs.certify import build, open_dataset
    from bench.runs.execution.environment import parse_devices
    from bench.runs.request import RunRequest, plan
    from bench.types.errors import UsageError

    if not 1 <= images <= MOST:
        raise UsageError(f"--images must be 1 to {MOST}, got {images}; a figure of more would show nothing")
    jobs = plan(
        RunRequest(
            methods=tuple(methods.split(",")), dataset=dataset, sigmas=tuple(numbers(sigma)), data_root=data_root,
            weights=tuple(weights or ()), params=tuple(params or ()), subset=subset and subset_beside(subset, None),
            class_order=class_order and read_class_order(class_order), limit=images, size=size, seed=seed,
        )
    )  # fmt: skip
    for note in dict.fromkeys(note for job in jobs for note in job.notes):
        remark(f"note  {note}")
    doubt_lengths(job.spec.sigma for job in jobs)
    shapes = {(job.spec.shape, job.spec.preprocessing) for job in jobs}
    if len(shapes) > 1:
        sides = ", ".join(sorted({str(job.spec.shape[1]) for job in jobs}))
        raise UsageError(f"the methods take images of different sides ({sides}); give --size, one for all")
    place = parse_devices(device)[0]
    pictures = []
    for level in dict.fromkeys(job.spec.sigma for job in jobs):
        some = [job for job in jobs if job.spec.sigma == level]
        source = open_dataset(some[0])
        built = {job.spec.method: build(job, place, source) for job in some}
        for name, classifier in built.items():
            if not offers_pixels(classifier):
                raise UsageError(f"{name} shows no denoised pixels; leave it out of --methods")
        made = [denoised_strip(source[index], built, sigma=level, seed=seed, device=place) for index in some[0].indices]
        name, title = f"strips-{dataset}-s{noise_level(level)}", f"{dataset}, sigma {noise_level(level)}: first copy"
        pictures.append(Drawing(name, title, partial(strip_figure, made, title)))
    for path in write(Report((), tuple(pictures)), out, ["png", "pdf", "svg"]):
        remark(f"wrote {path}")
