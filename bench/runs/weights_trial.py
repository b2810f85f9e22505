"""Weights tried before they are kept: the method is built with them as a run would build it; no image is classified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.runs import registry
from bench.runs.method_settings import params_of
from bench.types import DatasetSource, Method, Setting
from bench.types.errors import DataError, MethodError
from bench.weights import resolve

ANY_SIGMA = 0.5  # of the trial, where the weights are for any


def try_weights(
    method: Method,
    dataset: str,
    weights: Mapping[str, str],
    settings: Mapping[str, str],
    *,
    sigma: float | None = None,
    data_root: Path | None = None,
    size: int | None = None,
) -> None:
    """Build the method on the CPU with these weights by role; other roles take those of the catalogue.

    `dataset` as the registry knows it; one without a shape of its own is opened.
    Raises: WeightsError for weights that are missing or do not fit the network, or what else the method refuses.
    """
    source = registry.dataset(dataset)
    shape, num_classes = _images(source, dataset, method, data_root, size)
    level = ANY_SIGMA if sigma is None else sigma
    files = resolve.resolve(method, source.name, level, weights, download=False)
    said = {key for file in files.values() for key in file.params} | settings.keys()
    # What a run will have to be told, and no weights mind: their tensors are the same under any normaliser.
    free = {p.name: str(p.default) for p in method.params if p.must_be_said and source.name not in p.by_dataset}
    named = {**{key: value for key, value in free.items() if key not in said}, **settings}
    if declined := method.declines(source.name, shape, num_classes):
        raise MethodError(f"{method.name} declines {source.name} {shape}: {declined}")
    classifier = method.build(
        Setting(
            dataset=source.name,
            num_classes=num_classes,
            shape=shape,
            sigma=level,
            params=params_of(method, source.name, named, files)[0],
            weights=files,
            random_weights=False,
            seed=0,
            device="cpu",
            tuned=False,
        )
    )
    if classifier.num_classes != num_classes:
        raise MethodError(
            f"{method.name} has {classifier.num_classes} classes with these weights, {source.name} has {num_classes}; "
            "give weights that were trained on this dataset"
        )


def _images(
    source: DatasetSource, dataset: str, method: Method, data_root: Path | None, size: int | None
) -> tuple[tuple[int, int, int], int]:
    """Shape and number of classes of the dataset's images as the method takes them."""
    side = size or method.size(source.name)
    if source.shape is not None and source.num_classes is not None:
        return (source.shape[0], side, side) if side else source.shape, source.num_classes
    if data_root is None:
        raise DataError(
            f"dataset {source.name!r} has no shape or classes of its own, which the weights must fit; give --data-root"
        )
    if size is None and side is not None and source.side is not None:
        side = source.side(data_root, "test", side)
    opened = registry.open_dataset(dataset, data_root, side, "test")
    return opened.shape, opened.num_classes
