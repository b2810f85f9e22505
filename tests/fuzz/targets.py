"""All kinds of mutants, and how many of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.fuzz.commands import Mutant, options
from tests.fuzz.foreign import checkpoints, data, published
from tests.fuzz.own_files import catalogues, datasets, methods, plans
from tests.fuzz.stored import imports, latencies, row_files, run_files, training

# Damages something in a folder of sound files, and says which command is to read it.
Target = Callable[[Random, Path], Mutant]

# How many of a hundred mutants are of each kind.
TARGETS: dict[Target, int] = {
    options: 22,
    plans: 7,
    catalogues: 6,
    methods: 9,
    datasets: 7,
    run_files: 10,
    row_files: 9,
    imports: 6,
    latencies: 5,
    checkpoints: 8,
    published: 6,
    data: 4,
    training: 1,
}


def schedule(count: int) -> Iterator[Target]:
    """Kinds in that proportion, evenly spread."""
    owed = dict.fromkeys(TARGETS, 0)
    for _ in range(count):
        for target, share in TARGETS.items():
            owed[target] += share
        due = max(owed, key=lambda target: owed[target])
        owed[due] -= sum(TARGETS.values())
        yield due
