"""`rrcm-bench probe`: how much of the classes and of the noise is in a pre-trained network's features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from bench.cli import options
from bench.cli.output import doubt_lengths, listing, print_json, remark, resumable, stdout
from bench.cli.paths import at_home, subset_beside

PROBES = Path("results/probes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """The words of `rrcm-bench probe`."""

    method: options.OneMethod
    weights: Annotated[
        Path, options.network(help="Pre-trained network, as `train METHOD pretrain` leaves it.", callback=at_home)
    ]
    dataset: options.StripsDataset = "digits"
    data_root: options.DataRoot = None
    class_order: options.ClassOrder = None
    size: options.Size = None
    preprocessing: options.Preprocessing = None
    subset: Annotated[
        str, options.images(help="Test images, in the words of `run`; the layer is trained on all training images.")
    ] = "all"
    sigma: options.StripsSigmas = "0,0.25,0.5,1"
    epochs: Annotated[int, options.computing(help="Of the linear layer.")] = 100
    lr: Annotated[float, options.computing(help="Of the linear layer (AdamW), half a cosine down to 0.")] = 0.01
    entropy: Annotated[float, options.computing(help="Weight of the softmax's entropy in its loss.")] = 1.0
    device: options.Device = "auto"
    seed: Annotated[int, options.certificate(help="Of the noise and of the linear layer.")] = 0
    out: Annotated[Path, options.output(help="Folder of probes, each in its own.", callback=at_home)] = PROBES
    json: options.Json = False


def probe(given: ProbeOptions) -> None:
    """Train a linear layer on frozen features, test it on noisy images, and measure how far noise moves the features.

    `rrcm-bench report --table 6` shows the record beside the published rows.
    """
    from bench.cli.weights_show import made
    from bench.data.class_order import read_class_order
    from bench.data.subset import parse_subset
    from bench.report.units import percent
    from bench.runs import registry
    from bench.runs.execution.environment import parse_devices
    from bench.runs.representation.linear_probe import ProbeSettings
    from bench.runs.representation.probe import Probe, folder_of, measure
    from bench.types import RepresentRequest
    from bench.types.limits import check_seed
    from bench.weights.checkpoints import inspect

    sigmas = sigmas_of(given.sigma)
    check_settings(given)
    check_seed(given.seed)
    doubt_lengths(sigmas)
    method = registry.method(given.method)
    if method.represent is None:
        raise without(given.method, "represent", "features to probe")
    source = registry.dataset(given.dataset)
    wish = method.preprocessing.get(source.name)
    pixels = given.preprocessing or (wish if wish in source.preprocessings else None)
    order = given.class_order and read_class_order(given.class_order)
    train, test = (
        registry.open_dataset(
            given.dataset, given.data_root, given.size or method.size(source.name), split, order, pixels
        )
        for split in ("train", "test")
    )
    words, indices = parse_subset(subset_beside(given.subset, None), len(test))
    device = parse_devices(given.device)[0]
    encoder = method.represent(RepresentRequest(weights=given.weights, shape=test.shape, device=device))
    asked = Probe(
        method=registry.identity(given.method, method.name), encoder=encoder, train=train, test=test,
        dataset=registry.identity(given.dataset, source.name), subset=words, indices=indices, sigmas=sigmas,
        settings=ProbeSettings(epochs=given.epochs, lr=given.lr, entropy=given.entropy), seed=given.seed,
        device=device,
    )  # fmt: skip
    with resumable("what was measured is kept, the same command goes on from it"):
        record = measure(
            asked, given.out, training=made(inspect(given.weights)[1]), tell=lambda text: remark(f"  {text}")
        )
    if given.json:
        print_json(record)
        return
    rows = [(f"accuracy at sigma {sigma}", percent(value)) for sigma, value in record["accuracy"].items()]
    rows.append(("feature distance, noise to image", "-" if record["rfd"] is None else f"{record['rfd']:.4g}"))
    stdout().print(listing(record["note"], ("", ""), rows, words=1))
    remark(f"kept in {folder_of(asked, given.out)}; beside the published rows: rrcm-bench report --table 6")


def sigmas_of(words: str) -> tuple[float, ...]:
    """Noise levels, of which 0 is none.

    Raises: UsageError.
    """
    from bench.cli.requests import numbers
    from bench.types.errors import UsageError
    from bench.types.limits import SIGMA, check_within

    found = tuple(dict.fromkeys(numbers(words)))
    for sigma in found:
        check_within("--sigma", sigma, *((0, 0) if sigma == 0 else SIGMA))
    if len({f"{sigma:g}" for sigma in found}) < len(found):
        raise UsageError(f"--sigma {words}: expected levels that six digits tell apart")
    return found


def check_settings(given: ProbeOptions) -> None:
    """Refuse a linear layer that cannot be trained.

    Raises: UsageError.
    """
    from bench.types.limits import check_within

    check_within("--epochs", given.epochs, 1, 10**6)
    check_within("--lr", given.lr, 1e-9, 1e3)
    check_within("--entropy", given.entropy, 0, 1e3)


def without(method: str, ability: str, what: str) -> Exception:
    """The refusal of a method that has no such function, with those that have."""
    from bench.runs import registry
    from bench.types.errors import UsageError

    known = [name for name, found in registry.methods().items() if getattr(found, ability) is not None]
    return UsageError(f"{method} has no {what}; those that have: {', '.join(known) or 'none'}")
