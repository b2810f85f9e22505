"""Shell completion: names of what is installed or in a folder, read without importing or opening it."""

from __future__ import annotations

from pathlib import Path

import typer

from bench.cli.paths import RUNS, at_home
from bench.types import COMPILE, EXECUTORS

PAPER_TABLES = (*map(str, range(1, 10)), "rebuttal1", "rebuttal2", "raw", "field", "probability")


def methods(incomplete: str) -> list[str]:
    """Methods, also after a comma."""
    from bench.runs.registry import method_names

    chosen, comma, last = incomplete.rpartition(",")
    return [chosen + comma + name for name in beginning_with(method_names(), last) if name not in chosen.split(",")]


def datasets(incomplete: str) -> list[str]:
    """Installed datasets."""
    from bench.runs.registry import dataset_names

    return beginning_with(dataset_names(), incomplete)


def converters(incomplete: str) -> list[str]:
    """Installed converters of checkpoints."""
    from bench.runs.registry import converter_names

    return beginning_with(converter_names(), incomplete)


def precisions(incomplete: str) -> list[str]:
    """Precisions of a run."""
    from bench.runs.execution.environment import PRECISIONS

    return beginning_with(PRECISIONS, incomplete)


def certifiers(incomplete: str) -> list[str]:
    """Certifiers."""
    from bench.certification.stopping_rule import CERTIFIERS

    return beginning_with(CERTIFIERS, incomplete)


def executors(incomplete: str) -> list[str]:
    """Executors."""
    return beginning_with(EXECUTORS, incomplete)


def compile_choices(incomplete: str) -> list[str]:
    """When to compile."""
    return beginning_with(COMPILE, incomplete)


def run_digests(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Beginnings of the digests of runs, which end the names of their folders."""
    folders = _run_folders(Path(at_home(ctx.params.get("folder")) or RUNS))
    found = [(path.name.rpartition("-")[2], path.name.rpartition("-")[0]) for path in folders]
    return [(digest, what) for digest, what in found if digest.startswith(incomplete.lower())]


def run_paths(incomplete: str) -> list[str]:
    """Run folders: in the folder typed so far, else in the usual one."""
    typed = incomplete.rpartition("/")[0]
    return beginning_with(tuple(map(str, _run_folders(Path(typed) if typed else RUNS))), incomplete)


def _run_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path.parent for path in folder.glob("*/run.json"))
    except OSError:  # nothing is offered
        return []


def paper_tables(incomplete: str) -> list[str]:
    """Tables to stand beside."""
    return beginning_with(PAPER_TABLES, incomplete)


def weights_names(incomplete: str) -> list[str]:
    """Weights of the catalogues."""
    from bench.weights.catalogue import catalogue

    return beginning_with(tuple(entry.name for entry in catalogue()), incomplete)


def beginning_with(names: tuple[str, ...], incomplete: str) -> list[str]:
    """The names that go on from what is typed."""
    return [name for name in names if name.startswith(incomplete)]
