"""All kinds of mutants, and how many of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.fuzz.commands import Mutant, options
from tests.fuzz.foreign import checkpoints, data, published
from tests.fuzz.own_files import catalogues, datasets, methods, plans
from tests.fuzz.packed import class_orders, given_weights, old_runs, packed
from tests.fuzz.stored import imports, latencies, row_files, run_files, training

# Damages something in a folder of sound files, and says which command is to read it.
Target = Callable[[Random, Path], Mutant]

# How many of a hundred mutants are of each kind.
TARGETS: dict[Target, int] = {
    options: 16,
    plans: 6,
    catalogues: 5,
    methods: 7,
    datasets: 5,
    run_files: 8,
    row_files: 9,
    imports: 5,
    latencies: 4,
    checkpoints: 8,
    published: 5,
    data: 4,
    packed: 8,
    class_orders: 2,
    given_weights: 4,
    old_runs: 3,
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
