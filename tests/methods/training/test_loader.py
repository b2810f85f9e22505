"""Batches and views: keyed, in range, and what they say they are."""

from __future__ import annotations

from itertools import islice
from typing import get_args

import numpy as np
import pytest
import torch
from equal_batches import same
from PIL import Image as Picture

from bench.data.centre_crops import CentreCrop
from bench.data.digits import DIGITS
from bench.types import Image
from bench.types.errors import TrainingError
from methods.training.augment import Name, jitter_digits, mix
from methods.training.loader import Batch, BatchLoader
from methods.training.rng import generator
from methods.training.sharding import Share


class Pictures:
    """Twenty small colour images of whole bytes."""

    name, split, shape, num_classes = "pictures", "train", (3, 16, 16), 4
    class_names = ("a", "b", "c", "d")
    preprocessing = "none"

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Image:
        pixels = np.random.default_rng(index).integers(0, 256, self.shape).astype(np.float32) / np.float32(255)
        return Image(index, pixels, index % 4, str(index))

    def label(self, index: int) -> int:
        return index % 4

    def digest(self, index: int) -> str:
        return str(index)


def feed(augment: Name, *, digits: bool = False, seed: int = 0, workers: int = 0, batch: int = 6) -> BatchLoader:
    dataset = DIGITS.open(None, None, "train") if digits else Pictures()
    return BatchLoader(
        dataset=dataset, count=20, batch=batch, augment=augment, seed=seed, workers=workers, device="cpu"
    )


def take(source: BatchLoader, first: int, count: int) -> list[Batch]:
    return list(islice(source.batches(first), count))


COLOUR = [name for name in get_args(Name) if not name.startswith("digits")]


@pytest.mark.parametrize("augment", COLOUR)
def test_colour_batches_depend_on_the_step_alone(augment: Name) -> None:
    source = feed(augment)
    from_start = take(source, 0, 5)
    assert same(from_start[3:], take(source, 3, 2))
    for batch in from_start:
        assert len(batch.views) == (3 if augment == "moco" else 1)
        for view in batch.views:
            assert view.shape == (6, 3, 16, 16)
            assert view.dtype == torch.float32
            assert 0 <= float(view.min()) <= float(view.max()) <= 1


@pytest.mark.parametrize("augment", ["digits", "digits_moco", "none"])
def test_digit_batches_depend_on_the_step_alone(augment: Name) -> None:
    source = feed(augment, digits=True)
    from_start = take(source, 0, 5)
    assert same(from_start[3:], take(source, 3, 2))
    assert not same(from_start[:1], take(feed(augment, digits=True, seed=1), 0, 1))
    assert all(0 <= float(v.min()) <= float(v.max()) <= 1 for batch in from_start for v in batch.views)


def test_the_number_of_workers_changes_nothing() -> None:
    assert same(take(feed("moco"), 1, 3), take(feed("moco", workers=2), 1, 3))


def test_feeding_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state()
    take(feed("rand_augment"), 0, 2)
    take(feed("digits_moco", digits=True), 0, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_shows_each_image_at_most_once_and_reorders() -> None:
    source = feed("none")
    epochs = [torch.cat([source.indices(3 * epoch + part) for part in range(3)]).tolist() for epoch in (0, 1)]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_no_augmentation_gives_the_stored_pixels_to_the_bit() -> None:
    for source in (feed("none"), feed("none", digits=True)):
        [batch] = take(source, 0, 1)
        for view, index in zip(batch.views[0], source.indices(0).tolist(), strict=True):
            assert np.array_equal(view.numpy(), source.dataset[index].pixels)


def test_colour_bytes_survive_the_way_through_pictures() -> None:
    [batch] = take(feed("flip"), 0, 1)
    for view, index in zip(batch.views[0], feed("flip").indices(0).tolist(), strict=True):
        pixels = Pictures()[index].pixels
        assert np.array_equal(view.numpy(), pixels) or np.array_equal(view.numpy(), pixels[:, :, ::-1])


@pytest.mark.parametrize(("augment", "digits"), [("moco", True), ("flip", True), ("digits", False)])
def test_an_augmentation_for_other_images_is_refused(augment: Name, digits: bool) -> None:
    with pytest.raises(TrainingError, match="does not fit images of shape"):
        take(feed(augment, digits=digits), 0, 1)


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(TrainingError, match="got batch=21"):
        take(feed("none", batch=21), 0, 1)


def test_a_still_jitter_moves_nothing_and_a_shift_moves_by_its_pixels() -> None:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    still = jitter_digits(x, generator("cpu", "s"), degrees=0, zoom=0, shift=0, contrast=0, blur=0)
    assert torch.allclose(still, x, atol=1e-6)
    dot = torch.zeros(200, 1, 8, 8)
    dot[:, :, 4, 4] = 1.0
    moved = jitter_digits(dot, generator("cpu", "m"), degrees=0, zoom=0, shift=1.0, contrast=0, blur=0)
    reached = moved.sum(dim=(0, 1)) > 0
    assert reached[3:6, 3:6].all()
    assert reached.sum() == 9


def test_blur_keeps_the_mean_of_an_image_away_from_its_border() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3:5, 3:5] = 1.0
    soft = jitter_digits(x, generator("cpu", "b"), degrees=0, zoom=0, shift=0, contrast=0, blur=1.0)
    assert float(soft.sum()) == pytest.approx(4.0, rel=1e-5)
    assert float(soft.max()) < 1.0


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_a_mixed_image_holds_the_share_that_its_label_says(mixup: float, cutmix: float) -> None:
    x = torch.stack([torch.zeros(1, 10, 10), torch.ones(1, 10, 10)])  # the share of class 1 is the mean
    for seed in range(50):
        mixed, p = mix(x, torch.tensor([0, 1]), generator("cpu", seed), num_classes=2, mixup=mixup, cutmix=cutmix)
        assert torch.allclose(p.sum(dim=1), torch.ones(2))
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), p[:, 1], atol=1e-6)


def test_mixing_shares_follow_their_beta_law() -> None:
    x = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    shares = [
        float(mix(x, torch.tensor([0, 1]), generator("cpu", s), num_classes=2, mixup=0.8, cutmix=0.0)[1][0, 0])
        for s in range(2000)
    ]
    from scipy.stats import kstest

    assert kstest(shares, "beta", args=(0.8, 0.8)).pvalue > 1e-6  # one false alarm in a million; the seeds are fixed


class Photographs:
    """Twelve pictures of several sizes, of which the images are centre crops."""

    name, split, shape, num_classes = "photographs", "train", (3, 16, 16), 4
    class_names, preprocessing = ("a", "b", "c", "d"), "short16-box-bicubic"
    crop = CentreCrop("box-bicubic", 16, 16)

    def __len__(self) -> int:
        return 12

    def decoded(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(index)
        small = Picture.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        return np.asarray(small.resize((20 + 7 * index, 90 - 5 * index), Picture.Resampling.BICUBIC))

    def __getitem__(self, index: int) -> Image:
        pixels = np.asarray(self.crop.of(Picture.fromarray(self.decoded(index)))).transpose(2, 0, 1)
        return Image(index, pixels.astype(np.float32) / np.float32(255), index % 4, str(index))

    def label(self, index: int) -> int:
        return index % 4

    def digest(self, index: int) -> str:
        return str(index)


def photographs(
    augment: Name, *, on_device: bool, workers: int = 0, shares: tuple[Share, ...] = (Share(),)
) -> BatchLoader:
    return BatchLoader(
        dataset=Photographs(), count=12, batch=6, augment=augment, seed=0, workers=workers, device="cpu", shares=shares,
        on_device=on_device,
    )  # fmt: skip


@pytest.mark.parametrize("augment", COLOUR)
def test_a_device_makes_the_views_that_workers_make(augment: Name) -> None:
    for ours, theirs in zip(
        take(photographs(augment, on_device=True), 1, 3), take(photographs(augment, on_device=False), 1, 3), strict=True
    ):
        assert torch.equal(ours.labels, theirs.labels)
        for view, other in zip(ours.views, theirs.views, strict=True):
            assert view.dtype == other.dtype == torch.float32
            assert view.shape == other.shape == (6, 3, 16, 16)
            assert float((view - other).abs().mean()) < 1 / 255


@pytest.mark.parametrize("on_device", [True, False])
def test_neither_pieces_nor_workers_nor_shares_change_a_view(on_device: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = take(photographs("moco", on_device=on_device), 0, 2)
    monkeypatch.setattr("methods.training.loader.PIECE", 2)
    halves = (Share(0, 2), Share(1, 2))
    parts = take(photographs("moco", on_device=on_device, workers=2, shares=halves), 0, 4)
    for step, batch in enumerate(whole):
        for number, share in enumerate(halves):
            part = parts[2 * step + number]
            assert torch.equal(part.labels, share.take(batch.labels))
            # Pictures that are resized beside others are summed in another order.
            for view, of in zip(part.views, batch.views, strict=True):
                assert float((view - share.take(of)).abs().max()) <= 1.01 / 255


def test_an_epoch_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, drawn = feed("none", seed=99), []
    shuffle = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *words, **more: drawn.append(words) or shuffle(*words, **more))
    for step in range(6):
        source.indices(step)
    assert len(drawn) == 2
