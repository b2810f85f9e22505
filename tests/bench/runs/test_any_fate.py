"""Workers die, join, run out of memory and answer in any order, as hypothesis likes: rows are those of the slow way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_job import dispatch
from report_runs import run as run_by_hand
from scipy.special import ndtri
from timeless import timeless

from bench.certification.stopping_rule import register
from bench.runs.batcher import Batcher
from bench.runs.certify import ImageCertifier
from bench.runs.execution.dispatch import ATTEMPTS, MAX_ASKED, Task, TaskResult
from bench.runs.image_state import ImageState
from bench.smoothing.noise import NoiseKey
from bench.smoothing.voting import draw
from bench.types import Image, Noise, Row, RunSpec

SIGMA = 0.5
RADII = (0.0, 0.25, 0.5)


class Threshold:
    """Class 1 where a copy's only pixel and noise of its own are positive; no room for more copies than some."""

    num_classes = 2

    def __init__(self, room: int = 10**6) -> None:
        self.room = room

    def predict(self, x: torch.Tensor, noise: Noise) -> torch.Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError(f"no room for {len(x)} copies")
        return (x.flatten(1)[:, 0] + 0.2 * noise.randn(2)[:, 1] > 0).long()


class Images:
    """Smoothed, their class is 1 with probabilities from hopeless to certain."""

    name, split, shape, num_classes, class_names, notes, preprocessing = "", "", (1, 1, 1), 2, (), (), ""
    chances = (0.02, 0.55, 0.8, 0.97, 0.9999)

    def __len__(self) -> int:
        return len(self.chances)

    def __getitem__(self, index: int) -> Image:
        pixels = np.full((1, 1, 1), SIGMA * ndtri(self.chances[index]), dtype=np.float32)
        return Image(index, pixels, self.label(index), f"image-{index}")

    def label(self, index: int) -> int:
        return 1

    def digest(self, index: int) -> str:
        return f"stored-{index}"


IMAGES = Images()


def spec_of(certifier: str, mode: str, *, stops: bool = True) -> RunSpec:
    spec = replace(run_by_hand([]).spec, certifier=certifier, sigma=SIGMA, n0=20, n=200)
    if not stops:
        return spec
    made = register(certifier, sigma=SIGMA, radii=RADII, n=200, alpha=0.001, beta=0.001, mode=mode)
    return replace(spec, radii=made.radii, looks=made.looks, alphas=made.alphas, beta=made.beta, mode=mode)


SPECS = {
    "fixed": spec_of("cohen", "", stops=False),
    "early": spec_of("cohen", "table"),
    "sequential": spec_of("sequential", "table"),
    "deploy": spec_of("sequential", "deploy"),
}


@cache
def slowly(name: str) -> list[Row]:
    """Image by image, each unit that it asks for drawn alone: neither batcher nor dispatch."""
    rows = []
    for index in range(len(IMAGES)):
        image, state, reason = IMAGES[index], ImageState(SPECS[name], index), None
        while reason is None:
            for unit in state.take(10**6):
                key = NoiseKey(SPECS[name].seed, image.fingerprint, SIGMA, unit.stage)
                pixels = torch.from_numpy(image.pixels)
                counts = draw(Threshold(), pixels, key=key, n=unit.copies, batch=10**6, first=unit.first)
                state.add(unit, counts, 0.0)
            reason = state.decide(image.label)
        rows.append(state.row(image.fingerprint, image.label, reason))
    return rows


def counted(worker: ImageCertifier, task: Task) -> TaskResult:
    """Its votes; the time is made up: tasks are cut by it, and must be the same when an example is repeated."""
    votes = worker.count(task.units)
    return TaskResult(task.number, tuple(replace(each, seconds=each.unit.copies / 40) for each in votes))


@dataclass
class Mortal:
    """Workers in this process, to whom happens what `choose` says, whenever the driver waits for them."""

    spec: RunSpec
    choose: Callable[[st.SearchStrategy], int]
    alive: list[ImageCertifier] = field(default_factory=list)
    held: list[tuple[ImageCertifier, Task]] = field(default_factory=list)
    late: list[TaskResult] = field(default_factory=list)
    events: int = 0

    def __post_init__(self) -> None:
        self.join()

    @property
    def workers(self) -> int:
        return len(self.alive)

    @property
    def batch(self) -> int:
        return max(worker.batch for worker in self.alive)

    def room(self) -> int:
        return MAX_ASKED * len(self.alive) - len(self.held)

    def join(self) -> None:
        room, batch = self.choose(st.sampled_from([25, 90, 10**6])), self.choose(st.sampled_from([30, 64, 500]))
        self.alive.append(ImageCertifier(self.spec, Threshold(room), IMAGES, "cpu", batch))

    def send(self, task: Task) -> None:
        busy = [worker for worker, _ in self.held]
        self.held.append((min(self.alive, key=lambda worker: sum(worker is other for other in busy)), task))

    def receive(self) -> list[TaskResult]:
        self.events += 1
        event = self.choose(st.integers(0, 9)) if self.events < 60 else 9
        if event == 0 and len(self.alive) < 4:
            self.join()
        elif event == 1:
            return self.die()
        elif event == 2 and self.late:
            return [self.late.pop()]
        elif event == 3:
            return []  # nothing has come
        if not self.held:
            return []
        worker, task = self.held.pop(self.choose(st.integers(0, len(self.held) - 1)))
        result = counted(worker, task)
        if event == 4:
            self.late.append(result)  # it will come again
        return [result]

    def die(self) -> list[TaskResult]:
        """One worker, with all that it holds; its votes may still come, after others have counted the same."""
        victim = self.alive[self.choose(st.integers(0, len(self.alive) - 1))]
        its = [task for worker, task in self.held if worker is victim]
        if any(task.lost + 2 > ATTEMPTS - 1 for task in its):
            return []  # one more would be held to be the copies' fault
        if its:
            self.late.append(counted(victim, its[0]))
        self.alive = [worker for worker in self.alive if worker is not victim]
        self.held = [(worker, task) for worker, task in self.held if worker is not victim]
        if not self.alive:
            self.join()
        return [TaskResult(task.number, None) for task in its]


@given(st.sampled_from(sorted(SPECS)), st.permutations(range(len(IMAGES))), st.data())
@settings(max_examples=30)
def test_no_fate_of_the_workers_moves_a_row(name: str, order: list[int], data: st.DataObject) -> None:
    pool = Mortal(SPECS[name], data.draw)
    found = dispatch(SPECS[name], order, pool, lambda index: (IMAGES.label(index), IMAGES.digest(index)))
    assert timeless(found) == slowly(name)


@given(
    st.sampled_from(sorted(SPECS)),
    st.permutations(range(len(IMAGES))),
    st.integers(20, 300),
    st.sampled_from([25, 90, 10**6]),
    st.integers(0, 3),
)
@settings(max_examples=15)
def test_no_batch_and_no_memory_moves_a_row(name: str, order: list[int], batch: int, room: int, ahead: int) -> None:
    spec = SPECS[name]
    batcher = Batcher(spec=spec, classifier=Threshold(room), device="cpu", batch=batch, ahead=ahead)
    assert timeless(batcher.rows(IMAGES[index] for index in order)) == slowly(name)
