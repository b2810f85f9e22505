"""`rrcm-bench generate`: images sampled from the features of a pre-trained network."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bench.cli import options
from bench.cli.output import print_json, remark
from bench.cli.paths import at_home
from bench.cli.probe import sigmas_of, without

if TYPE_CHECKING:
    from bench.report.figures.denoised_images import Strip

RECORD = "generated.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """The words of `rrcm-bench generate`."""

    method: options.OneMethod
    weights: Annotated[
        Path,
        options.network(help="Generator, as `train dds diffusion --set condition=rrcm` leaves it.", callback=at_home),
    ]
    encoder: Annotated[Path, options.network(help="Pre-trained network that it was trained with.", callback=at_home)]
    out: Annotated[
        Path, options.output(help="Folder for the pictures (PNG, PDF, SVG) and generated.json.", callback=at_home)
    ]
    dataset: options.StripsDataset = "digits"
    data_root: options.DataRoot = None
    images: Annotated[int, options.images(help="Of the grid, from noise alone (form of Figure 7).")] = 64
    rows: Annotated[
        int, options.images(help="Test images whose noisy features images are sampled from (form of Figure 8).")
    ] = 6
    sigma: Annotated[
        str, options.certificate(help="Noise of those, l2 in [0, 1] pixels, with commas between; 0: none.")
    ] = "0,0.25,0.5,1,2,40"
    distance: Annotated[
        int, options.images(help="Images behind the Frechet distances from the training split; 0: none is measured.")
    ] = 1000
    steps: Annotated[int, options.computing(help="Of the sampler.")] = 50
    device: options.Device = "auto"
    seed: Annotated[int, options.certificate(help="Of all that is sampled.")] = 0
    json: options.Json = False


def generate(given: GenerateOptions) -> None:
    """Sample images from features of noise alone and of noisy test images, and measure how far they are from real ones.

    The distances are in pixels and in the encoder's own features: neither is FID, whose features are Inception's.
    """
    from bench.report.build import Report, write
    from bench.report.figures.denoised_images import MOST as ROWS
    from bench.report.figures.denoised_images import strip_figure
    from bench.report.figures.generated import MOST, mosaic_figure
    from bench.report.figures.registry import Drawing
    from bench.report.tables.table import slug
    from bench.runs import registry
    from bench.runs.execution.environment import environment, parse_devices
    from bench.runs.representation.generation import distances, samples
    from bench.types import GenerateRequest, RepresentRequest
    from bench.types.atomic_file import atomic_write
    from bench.types.limits import IMAGES, check_seed, check_within
    from bench.weights.checkpoints import sha256_of_network

    check_within("--images", given.images, 1, MOST)
    check_within("--rows", given.rows, 1, ROWS)
    if given.distance:
        check_within("--distance", given.distance, 2, IMAGES)
    check_seed(given.seed)
    sigmas = sigmas_of(given.sigma)
    method = registry.method(given.method)
    if method.generate is None or method.represent is None:
        raise without(given.method, "generate", "features to generate from")
    device, side = parse_devices(given.device)[0], method.size(given.dataset)
    train, test = (registry.open_dataset(given.dataset, given.data_root, side, split) for split in ("train", "test"))
    check_within("--rows", given.rows, 1, len(test))
    generator = method.generate(
        GenerateRequest(
            weights=given.weights, encoder=given.encoder, shape=test.shape, steps=given.steps, seed=given.seed,
            device=device,
        )
    )  # fmt: skip
    made = samples(generator, max(given.images, given.distance), lambda text: remark(f"  {text}"))
    words = f"{slug(given.dataset)}, {given.steps} steps of the sampler; ours, small"
    drawn = [
        Drawing(
            "samples",
            "images from features of noise",
            partial(mosaic_figure, made[: given.images].numpy(), f"sampled from features of noise alone\n{words}"),
        ),
        Drawing(
            "levels",
            "images from features of noisy images",
            partial(
                strip_figure,
                _strips(generator, test, given.rows, sigmas),
                f"sampled from features of images with noise: {words}",
            ),
        ),
    ]
    found: list[dict[str, Any]] = []
    if given.distance:
        encoder = method.represent(RepresentRequest(weights=given.encoder, shape=test.shape, device=device))
        found = distances(made[: given.distance], train, test, encoder, device, lambda text: remark(f"  {text}"))
    record = {
        "format": 1,
        "method": registry.identity(given.method, method.name),
        "dataset": given.dataset,
        "weights": {"generator": sha256_of_network(given.weights), "encoder": sha256_of_network(given.encoder)},
        "images": given.images,
        "rows": given.rows,
        "sigmas": list(sigmas),
        "steps": given.steps,
        "seed": given.seed,
        "frechet": found,
        "environment": environment((device,), "fp32"),
    }
    for path in write(Report((), tuple(drawn)), given.out, ["png", "pdf", "svg"]):
        remark(f"wrote {path}")
    atomic_write(given.out / RECORD, json_format.dumps(record, indent=1, allow_nan=False) + "\n")
    remark(f"wrote {given.out / RECORD}")
    if given.json:
        print_json(record)
    else:
        _show(found)


def _strips(generator: Any, test: Any, rows: int, sigmas: tuple[float, ...]) -> list[Strip]:
    """A row for each test image: itself, then what is sampled from its features at each noise."""
    import numpy as np
    import torch

    from bench.report.figures.denoised_images import Strip
    from bench.runs.representation.generation import along_levels

    images = [test[index] for index in range(rows)]
    pixels = torch.from_numpy(np.stack([image.pixels for image in images]))
    made = along_levels(generator, pixels, sigmas)
    return [
        Strip(
            f"image {image.index}",
            (
                ("image", image.pixels),
                *((f"sigma {sigma:g}", part[k].numpy()) for sigma, part in zip(sigmas, made, strict=True)),
            ),
        )
        for k, image in enumerate(images)
    ]


def _show(found: list[dict[str, Any]]) -> None:
    from bench.cli.output import listing, stdout

    if not found:
        return
    one = found[0]
    rows = [(each["space"], str(each["width"]), f"{each['distance']:.4g}", f"{each['floor']:.4g}") for each in found]
    title = (
        f"Frechet distance of {one['generated']:,} generated images from {one['reference']:,} training images "
        f"(floor: of {one['others']:,} test images); not FID"
    )
    stdout().print(listing(title, ("space", "width", "distance", "floor"), rows, words=1))
