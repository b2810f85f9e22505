"""Copies of many images share a forward pass, and no row can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from both_stages import both_stages
from report_runs import run as run_by_hand
from scipy.special import ndtri
from timeless import timeless

from bench.certification.stopping_rule import register
from bench.runs.batcher import WAITING, YOUNG_BATCHES, Batcher
from bench.runs.image_state import Counted, Unit
from bench.runs.passes import PassQueue, count_units, passes_ahead
from bench.smoothing.noise import ESTIMATE, NoiseKey, PackedNoise
from bench.smoothing.voting import Segment, draw, draw_packed
from bench.types import Image, RunSpec
from bench.types.errors import DeviceError, MethodError

BATCH = 1024


class Threshold:
    """Class 1 where a copy's first pixel is positive; with `own`, its own noise flips some of the labels."""

    num_classes = 2

    def __init__(self, own: float = 0.0, room: int = 1 << 30) -> None:
        self.own, self.room = own, room

    def predict(self, x, noise):
        if len(x) > self.room:
            raise torch.OutOfMemoryError(f"no room for {len(x)} copies")
        if not self.own:
            return (x.flatten(1)[:, 0] > 0).long()
        noise.randn(3)  # a method may call as often as it likes
        return (x.flatten(1)[:, 0] + self.own * noise.randn(2)[:, 1] > 0).long()


def spec_of(certifier: str = "sequential", n: int = 2000, mode: str = "table", n0: int = 0) -> RunSpec:
    radii = (0.0, 0.25, 0.5, 0.75, 1.0)
    made = register(certifier, sigma=0.5, radii=radii, n=n, alpha=0.001, beta=0.001, mode=mode)
    own = {"radii": made.radii, "looks": made.looks, "alphas": made.alphas, "beta": made.beta, "mode": mode}
    return replace(run_by_hand([]).spec, certifier=certifier, sigma=0.5, n=n, n0=n0, **own)


def image(index: int, p: float) -> Image:
    """Smoothed at sigma 0.5, its class is 1 with probability p."""
    return Image(index, np.full((1, 1, 1), 0.5 * ndtri(p), dtype=np.float32), 1, f"image-{index}")


def batcher(spec: RunSpec, batch: int, classifier: Threshold | None = None, ahead: int = 0) -> Batcher:
    return Batcher(spec=spec, classifier=classifier or Threshold(0.2), device="cpu", batch=batch, ahead=ahead)


IMAGES = [image(k, p) for k, p in enumerate((0.02, 0.4, 0.5, 0.55, 0.7, 0.84, 0.9, 0.98, 0.999, 1 - 1e-9))]


def test_a_packed_pass_gives_each_segment_the_votes_that_it_has_alone() -> None:
    classifier = Threshold(0.3)
    segments = [
        Segment(torch.from_numpy(each.pixels), NoiseKey(3, each.fingerprint, 0.5, ESTIMATE), 17 * each.index, copies)
        for each, copies in zip(IMAGES[2:7], (1, 40, 7, 100, 3), strict=True)
    ]
    alone = [draw(classifier, s.x, key=s.key, n=s.copies, batch=1000, first=s.first) for s in segments]
    assert draw_packed(classifier, segments).counts() == alone


def test_a_packed_methods_own_noise_is_that_of_each_copy_alone() -> None:
    class Recorder(Threshold):
        def predict(self, x, noise):
            self.seen = [noise.randn(2, 3), noise.randn()]
            assert isinstance(noise, PackedNoise)
            return super().predict(x, noise)

    def seen(segments: Sequence[Segment]) -> list[torch.Tensor]:
        classifier = Recorder()
        draw_packed(classifier, segments)
        return classifier.seen

    segments = [Segment(torch.zeros(1, 2, 2), NoiseKey(0, name, 0.5, ESTIMATE), 5, 4) for name in "ab"]
    together, first, second = seen(segments), seen(segments[:1]), seen(segments[1:])
    assert [t.shape for t in together] == [(8, 2, 3), (8,)]
    for both, a, b in zip(together, first, second, strict=True):
        assert torch.equal(both, torch.cat([a, b]))


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(),
        spec_of(mode="deploy", n0=100),
        spec_of("cohen", 500, n0=100),
        spec_of("cohen", 500, mode="deploy", n0=30),
    ],
    ids=["sequential", "sequential-deploy", "early", "early-deploy"],
)
def test_neither_batch_nor_order_nor_company_moves_a_row(spec: RunSpec) -> None:
    reference = timeless(row for each in IMAGES for row in batcher(spec, 5000).rows([each]))
    assert len(reference) == len(IMAGES)
    assert {row.estimation.n for row in reference} != {spec.n}
    for batch in (37, 256):
        for ahead in (0, 1, 3):
            assert timeless(batcher(spec, batch, ahead=ahead).rows(IMAGES)) == reference
    assert timeless(batcher(spec, 256).rows(IMAGES[::-1])) == reference


def test_a_rows_votes_are_the_first_copies_of_its_stage() -> None:
    for row in batcher(spec_of(), 100).rows(IMAGES):
        own = IMAGES[row.index]
        key = NoiseKey(0, own.fingerprint, 0.5, ESTIMATE)
        whole = draw(Threshold(0.2), torch.from_numpy(own.pixels), key=key, n=row.estimation.n, batch=999)
        assert row.estimation == whole
        assert sum(look.n for look in row.looks) == whole.n


@dataclass
class Supply:
    """Images handed out one by one, counting how many are out."""

    images: Sequence[Image]
    out: int = 0
    most: int = 0

    def __iter__(self) -> Iterator[Image]:
        for each in self.images:
            self.out += 1
            self.most = max(self.most, self.out)
            yield each


def published_like(count: int) -> list[Image]:
    """Images as a network on ImageNet has them: many easy, many wrong, a few beside a radius."""
    generator = np.random.default_rng(5)
    z = np.where(generator.random(count) < 0.35, generator.normal(-1.5, 1.0, count), generator.normal(2.2, 1.6, count))
    return [image(k, float(p)) for k, p in enumerate(np.clip([0.5 * math.erfc(-v / math.sqrt(2)) for v in z], 0, 1))]


@pytest.mark.parametrize("ahead", [0, 1])
def test_at_most_three_in_a_hundred_places_of_a_batch_of_1024_stay_empty(ahead: int) -> None:
    own = batcher(spec_of(n=100_000), BATCH, Threshold(), ahead)
    supply = Supply(published_like(500))
    rows = []
    for row in own.rows(supply):
        rows.append(row)
        supply.out -= 1
    taken = np.sort([row.estimation.n for row in rows])
    assert own.copies == taken.sum()
    assert own.slots == own.passes * BATCH
    # The distribution is the hard one: a few images take half, and a batch for each image would be mostly empty.
    assert taken[-25:].sum() > 0.4 * taken.sum()
    alone = sum(BATCH * math.ceil(look.n / BATCH) for row in rows for look in row.looks)
    assert alone > 1.5 * own.copies
    assert 1 - own.copies / own.slots <= 0.03
    # Nor are all hard images under way at once, whose samples a killed run would lose.
    assert supply.most <= WAITING + 1 + (YOUNG_BATCHES + ahead) * BATCH // 50


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_pass_that_does_not_fit_is_drawn_again_in_smaller_ones(ahead: int) -> None:
    reference = timeless(batcher(spec_of(), 256).rows(IMAGES))
    told: list[int] = []
    cramped = batcher(spec_of(), 256, Threshold(0.2, room=40), ahead)
    cramped.shrunk = told.append
    assert timeless(cramped.rows(IMAGES)) == reference
    assert told == [128, 64, 32]
    assert cramped.copies == sum(row.estimation.n for row in reference)  # nothing counted twice


def test_a_packed_copy_that_does_not_fit_by_itself_ends_in_one_line() -> None:
    with pytest.raises(DeviceError, match="one copy of shape"):
        list(batcher(spec_of(), 4, Threshold(room=0)).rows(IMAGES))


def test_a_packed_label_that_is_no_class_is_refused() -> None:
    class Beyond(Threshold):
        def predict(self, x, noise):
            return super().predict(x, noise) * 7

    with pytest.raises(MethodError, match=r"labels in \[0, 2\)"):
        list(batcher(spec_of(), 64, Beyond()).rows(IMAGES))


def test_a_gpu_is_given_its_next_pass_before_the_votes_of_this_one_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[tuple[int, int]] = []  # copies of a pass, and passes that were under way before it
    start = PassQueue.start

    def watched(self, work):
        begun.append((sum(unit.copies for _, unit in work), self.under_way))
        return start(self, work)

    monkeypatch.setattr(PassQueue, "start", watched)
    images = published_like(100)
    list(batcher(spec_of(n=10_000), 256, Threshold(), passes_ahead("cuda:0")).rows(images))
    assert {under_way for _, under_way in begun} == {0, 1}
    # Only full ones: what is in hand may ask for more copies, to fill it.
    assert all(copies == 256 for copies, under_way in begun if under_way)
    assert sum(under_way for _, under_way in begun) > 0.8 * len(begun)
    begun.clear()
    list(batcher(spec_of(), 256, Threshold(), passes_ahead("cpu")).rows(images))
    assert {under_way for _, under_way in begun} == {0}


def test_units_are_counted_alike_with_passes_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Images(list):
        def digest(self, index):
            return f"stored-{index}"

    units = [Unit(k, ESTIMATE, 5 * k, copies) for k, copies in enumerate((700, 3, 90, 256, 1, 512))]
    units.append(Unit(0, ESTIMATE, 2000, 40))

    def counted(room: int = 1 << 30) -> list[Counted]:
        queue = PassQueue(spec=spec_of(), classifier=Threshold(0.2, room), device="cpu", batch=256)
        made = count_units(units, queue, Images(IMAGES))
        return [replace(each, seconds=0.0) for each in made]

    reference = counted()
    monkeypatch.setattr("bench.runs.passes.passes_ahead", lambda _device: 2)
    assert counted() == reference
    assert counted(room=100) == reference
    assert [each.counts.n for each in reference] == [unit.copies for unit in units]


def test_rows_of_a_fixed_n_are_the_draws_of_both_stages_in_full_batches_and_in_order() -> None:
    spec = replace(run_by_hand([]).spec, sigma=0.5, n0=70, n=900)
    for room in (1 << 30, 100):  # where 256 copies do not fit, smaller passes make the same votes
        made = batcher(spec, 256, Threshold(0.2, room))
        rows = list(made.rows(IMAGES))
        assert [row.index for row in rows] == list(range(len(IMAGES)))
        for row, own in zip(rows, IMAGES, strict=True):
            x = torch.from_numpy(own.pixels)
            alone = both_stages(
                Threshold(0.2), x, seed=spec.seed, fingerprint=own.fingerprint, sigma=0.5, n0=70, n=900, batch=999
            )
            assert (row.selection, row.estimation) == alone
        if room > 256:
            assert made.passes == -(-len(IMAGES) * 970 // 256)  # all full but the last


def test_a_fixed_n_begins_no_image_before_the_ones_in_hand_leave_room_in_a_batch() -> None:
    spec = replace(run_by_hand([]).spec, sigma=0.5, n0=100, n=5000)
    begun: list[int] = []

    def images() -> Iterator[Image]:
        for own in IMAGES:
            begun.append(own.index)
            yield own

    for count, row in enumerate(batcher(spec, 256).rows(images())):
        assert row.index == count
        assert len(begun) <= count + 2


@pytest.mark.gpu
def test_packed_rows_of_a_gpu_are_those_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    expected = timeless(batcher(spec_of(), 256, Threshold()).rows(IMAGES))
    made = Batcher(spec=spec_of(), classifier=Threshold(), device="cuda:0", batch=256)
    for ours, theirs in zip(timeless(made.rows(IMAGES)), expected, strict=True):
        # The normals of two devices differ in their last bits: of thousands of copies hardly one changes sides.
        assert (ours.index, ours.estimation.n, ours.stopped) == (theirs.index, theirs.estimation.n, theirs.stopped)
        assert abs(ours.estimation[1] - theirs.estimation[1]) <= 2
