"""Methods, datasets and converters by name: entry points, or `file.py:NAME` for a stranger's own."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache, lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.data.checked import CheckedDataset
from bench.data.class_order import open_source
from bench.data.installed import natural_radii
from bench.runs.own_code import code_sha256
from bench.types import ClassOrder, DatasetSource, Method
from bench.types.errors import BenchError, DataError, MethodError, WeightsError
from bench.types.plugins import FILE_MODULE, entry_points, unpacked
from bench.types.suggest import closest

if TYPE_CHECKING:
    from bench.weights.convert import Converter

METHODS, DATASETS = "rrcm_bench.methods", "rrcm_bench.datasets"
CONVERTERS = "rrcm_bench.converters"


def method_names() -> tuple[str, ...]:
    """Names of all installed methods, without importing them."""
    return tuple(sorted(_points(METHODS)))


def dataset_names() -> tuple[str, ...]:
    """Names of all installed datasets, without importing them."""
    return tuple(sorted(_points(DATASETS)))


def methods() -> dict[str, Method]:
    """All installed methods by name."""
    return {name: method(name) for name in method_names()}


def method(name: str) -> Method:
    """The method of that name, or the one in `file.py:NAME`.

    Raises: MethodError with the closest names.
    """
    found = _find(name, METHODS, "method", MethodError)
    if not isinstance(found, Method):
        raise MethodError(f"method {name!r} must be a bench.types.Method, got {type(found).__name__}")
    _check_name(name, found.name, METHODS, MethodError)
    return found


def dataset(name: str) -> DatasetSource:
    """The dataset of that name, or the one in `file.py:NAME`.

    Raises: DataError with the closest names.
    """
    found = _find(name, DATASETS, "dataset", DataError)
    if not isinstance(found, DatasetSource):
        raise DataError(f"dataset {name!r} must be a bench.types.DatasetSource, got {type(found).__name__}")
    _check_name(name, found.name, DATASETS, DataError)
    return found


def table_radii(name: str) -> tuple[float, ...]:
    """The radii at which tables on the dataset of that name, or the one in `file.py:NAME`, are printed.

    Raises: DataError.
    """
    return dataset(name).radii if is_file(name) else natural_radii(name)


def converter_names() -> tuple[str, ...]:
    """Names of all installed converters of checkpoints, without importing them."""
    return tuple(sorted(_points(CONVERTERS)))


def converter(name: str) -> Converter:
    """The converter of that name, or the one in `file.py:NAME`.

    Raises: WeightsError with the closest names.
    """
    found = _find(name, CONVERTERS, "converter", WeightsError)
    if not callable(found):
        raise WeightsError(f"converter {name!r} must be a function of tensors by name, got {type(found).__name__}")
    return cast("Converter", found)


@lru_cache(maxsize=2)
def open_dataset(
    name: str,
    root: Path | None,
    size: int | None,
    split: str,
    class_order: ClassOrder | None = None,
    preprocessing: str | None = None,
) -> CheckedDataset:
    """A split of the dataset of that name, images cropped to `size` and checked; the last ones opened are kept.

    It goes by the name of its source, in a stranger's file with the hash of the code; not by what opening it gives.
    Opening ImageNet reads its list of 50 000 files: the plan and each of its runs share one.
    Raises: DataError.
    """
    source = dataset(name)
    opened = open_source(source, root, size, split, class_order, preprocessing)
    return CheckedDataset(opened, identity(name, source.name))


def is_file(name: str) -> bool:
    """Whether a name is a stranger's `file.py:NAME`."""
    return ".py:" in name


def is_shipped(method: str) -> bool:
    """Whether a method comes with this package, whose methods read no file but those of their roles."""
    point = _points(METHODS).get(method)
    if point is None or point.dist is None:
        return point is not None and point in unpacked(METHODS)
    return point.dist.name == "rrcm-bench"


def identity(name: str, own: str) -> str:
    """A method's or dataset's name in a spec: a stranger's file goes by its hash, for its code is what is measured.

    `own` is what it calls itself.
    """
    if not is_file(name):
        return name
    return f"{own}@{code_sha256(Path(name.rpartition(':')[0]))[:10]}"


def _check_name(name: str, own: Any, group: str, error: type[BenchError]) -> None:
    """Refuse a name that cannot stand in a spec, and an entry point that calls its value otherwise than it does itself.

    Weights, runs and latencies are looked up by the value's own name.
    """
    if not isinstance(own, str) or not own or not own.isprintable():
        raise error(f"{name!r}: expected text as its name, got {own!r}")
    if not is_file(name) and own != name:
        raise error(
            f"{name!r} ({_points(group)[name].value}) calls itself {own!r}; its entry point must have that name, or "
            "weights and runs of the one would not be found under the other"
        )


def _find(name: str, group: str, kind: str, error: type[BenchError]) -> Any:
    if is_file(name):
        return _from_file(name, kind, error)
    points = _points(group)
    if name not in points:
        hint = closest(name, points)
        raise error(f"no {kind} named {name!r}.{hint} Known: {', '.join(sorted(points))}; or give file.py:NAME")
    try:
        return points[name].load()
    except (ImportError, AttributeError) as broken:
        raise error(f"{kind} {name!r} ({points[name].value}) cannot be imported: {broken}") from broken


def _from_file(name: str, kind: str, error: type[BenchError]) -> Any:
    text, _, attribute = name.rpartition(":")
    path = Path(text)
    if not path.is_file():
        raise error(f"no file {text!r} for {kind} {name!r}; expected file.py:NAME")
    module_name = f"{FILE_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise error(f"{text!r} is not a Python file; expected file.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # so that its classes can be pickled to worker processes
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as broken:
        raise error(f"{text!r} cannot be imported: {broken}") from broken
    if not hasattr(module, attribute):
        raise error(f"{text!r} has no {attribute!r}; expected file.py:NAME with a {kind} of that name")
    return getattr(module, attribute)


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
