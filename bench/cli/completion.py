"""What the shell offers after Tab: names of what is installed, read without importing it."""

from __future__ import annotations


def methods(incomplete: str) -> list[str]:
    """Methods, also after a comma."""
    from bench.runs.registry import method_names

    return _after_comma(incomplete, method_names())


def datasets(incomplete: str) -> list[str]:
    """Datasets."""
    from bench.runs.registry import dataset_names

    return [name for name in dataset_names() if name.startswith(incomplete)]


def converters(incomplete: str) -> list[str]:
    """Converters of checkpoints."""
    from bench.runs.registry import converter_names

    return [name for name in converter_names() if name.startswith(incomplete)]


def precisions(incomplete: str) -> list[str]:
    """Precisions of a run."""
    from bench.runs.execution.environment import PRECISIONS

    return [name for name in PRECISIONS if name.startswith(incomplete)]


def certifiers(incomplete: str) -> list[str]:
    """Certifiers of a run."""
    from bench.certification.stopping_rule import CERTIFIERS

    return [name for name in CERTIFIERS if name.startswith(incomplete)]


def executors(incomplete: str) -> list[str]:
    """Executors of a run."""
    from bench.types import EXECUTORS

    return [name for name in EXECUTORS if name.startswith(incomplete)]


def _after_comma(incomplete: str, names: tuple[str, ...]) -> list[str]:
    chosen, comma, last = incomplete.rpartition(",")
    return [chosen + comma + name for name in names if name.startswith(last) and name not in chosen.split(",")]
