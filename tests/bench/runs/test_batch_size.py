"""The batch is what fits and what is fastest, by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.runs.batch_size import CUDA_HALVINGS, CUDA_SEARCH_SECONDS, fastest_below, fastest_on_cpu, largest_batch
from bench.runs.clock import ThreadClock
from bench.smoothing.noise import SELECT, NoiseKey
from bench.types.errors import DeviceError


class Device:
    """Passes that take as long as it says; a first pass of a batch, which chooses its algorithms, 10 s longer."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds, self.now, self.seen = seconds, 0.0, []

    def draws(self, *, n: int, batch: int) -> None:
        assert n % batch == 0
        self.now += n // batch * self.seconds(batch) + (10.0 if batch not in self.seen else 0.0)
        self.seen.append(batch)


@pytest.mark.parametrize(
    ("seconds", "largest", "best"),
    [
        (lambda batch: 1e-3 + 1e-5 * batch, 1024, 1024),  # launches cost: the larger the better
        (lambda batch: 1e-4 * batch, 1024, 64),  # all alike: the smallest that was tried
        (lambda batch: (1e-4 if batch <= 256 else 2e-4) * batch + 2e-3, 1024, 256),  # beyond a cache
        (lambda batch: 1e-2 * batch, 512, 4),  # heavy: of 64 on, which take less than a second
        (lambda batch: 1e-2 * batch + 0.1, 512, 64),
        (lambda batch: 3.0 * batch, 2, 1),  # a single copy takes that long
        (lambda batch: 1e-4 * batch, 4, 1),
        (lambda batch: 1e-4, 1, 1),
    ],
    ids=["launches", "alike", "cache", "heavy", "heavy launches", "heaviest", "few", "one"],
)
def test_the_smallest_batch_is_taken_that_is_as_fast_as_any(
    seconds: Callable[[int], float], largest: int, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(seconds)
    monkeypatch.setattr("time.perf_counter", lambda: device.now)
    assert fastest_below(device.draws, largest) == best
    assert max(device.seen) == largest
    fast_enough = max(batch for batch in device.seen if batch == 1 or seconds(batch) <= CUDA_SEARCH_SECONDS)
    assert min(device.seen) >= fast_enough >> CUDA_HALVINGS
    assert all(device.seen.count(batch) <= 2 for batch in device.seen if seconds(batch) > 1.0)


@pytest.mark.parametrize("interrupted", [16, 32, 64, 512])
def test_what_else_runs_does_not_choose_the_batch_of_one_thread(
    interrupted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(lambda batch: 1e-4 + 1e-5 * batch)
    lost = 0.0

    def draws(*, n: int, batch: int) -> None:
        nonlocal lost
        device.draws(n=n, batch=batch)
        lost += 0.1 if batch >= interrupted else 0.0

    monkeypatch.setattr("time.thread_time", lambda: device.now)
    monkeypatch.setattr("time.perf_counter", lambda: device.now + lost)
    device.seen = [1 << k for k in range(13)]  # no algorithm is chosen on a CPU
    rate, batch = fastest_on_cpu(draws, ThreadClock())
    assert batch == 512  # of the next two none is faster by 5 %
    assert rate == pytest.approx(batch / device.seconds(batch))


def test_work_of_other_threads_is_timed_by_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(lambda batch: 1e-4 + 1e-5 * batch)
    asked = 0

    def draws(*, n: int, batch: int) -> None:
        nonlocal asked
        device.draws(n=n, batch=batch)
        asked += 1

    monkeypatch.setattr("time.thread_time", lambda: 1e-6 * asked)  # of handing the copies over
    monkeypatch.setattr("time.perf_counter", lambda: device.now)
    device.seen = [1 << k for k in range(13)]
    rate, batch = fastest_on_cpu(draws, ThreadClock())
    assert batch == 512
    assert rate == pytest.approx(batch / device.seconds(batch))


def test_a_batch_that_fits_once_and_then_not_is_not_taken() -> None:
    import torch

    seen: list[int] = []

    def draws(*, n: int, batch: int) -> None:
        seen.append(batch)
        if batch > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert fastest_below(draws, 64) <= 16
    assert seen[:3] == [64, 32, 16]

    def full(*, n: int, batch: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        fastest_below(full, 4)


def test_the_search_begins_at_what_fits() -> None:
    import torch

    class Room:
        num_classes = 2

        def predict(self, x, noise):
            if len(x) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return torch.zeros(len(x), dtype=torch.int64)

    x, key = torch.zeros(1, 2, 2), NoiseKey(0, "batch search", 0.5, SELECT)
    assert largest_batch(Room(), x, key=key, start=4096, precision="fp32") == 64
    assert largest_batch(Room(), x, key=key, start=32, precision="fp32") == 32
    Room.predict = lambda self, x, noise: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(DeviceError, match="one copy of shape"):
        largest_batch(Room(), x, key=key, start=8, precision="fp32")
