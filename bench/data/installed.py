"""Installed datasets by name, each a value that states its facts; a stranger's file is none of them."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from bench.types import RADII, DatasetSource, family
from bench.types.errors import DataError
from bench.types.plugins import entry_points

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "rrcm_bench.datasets"


def dataset_names() -> tuple[str, ...]:
    """Names of all installed datasets, without importing them."""
    return tuple(sorted(_points()))


def installed_dataset(name: str) -> DatasetSource | None:
    """The installed dataset of a name, which a stored file may give: for any other it is None, and imports no code.

    Raises: DataError for one that is broken.
    """
    point = _points().get(name)
    if point is None:
        return None
    try:
        found = point.load()
    except (ImportError, AttributeError) as broken:
        raise DataError(f"dataset {name!r} ({point.value}) cannot be imported: {broken}") from broken
    if not isinstance(found, DatasetSource):
        raise DataError(f"dataset {name!r} must be a bench.types.DatasetSource, got {type(found).__name__}")
    return found


def natural_radii(dataset: str) -> tuple[float, ...]:
    """The radii at which tables on that dataset are printed: as it states where it is installed, else RADII."""
    source = installed_dataset(family(dataset))
    return source.radii if source else RADII


def installed_datasets() -> dict[str, DatasetSource]:
    """All installed datasets by name; one that is broken is left out, with a warning."""
    found: dict[str, DatasetSource] = {}
    for name in dataset_names():
        try:
            source = installed_dataset(name)
        except DataError as broken:
            logging.getLogger(__name__).warning("! left out: %s", broken)
            continue
        if source is not None:
            found[name] = source
    return found


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(GROUP)}
