"""Images that the device holds whole: the same views as those that are made one by one, wherever a run goes on."""

from __future__ import annotations

from itertools import islice
from typing import get_args

import numpy as np
import pytest
import torch
from equal_batches import same
from torch import Tensor
from waits import Waits

from bench.data.arrays import ArrayDataset
from bench.data.checked import CheckedDataset
from bench.types.errors import DataError
from methods.training import loader, resident
from methods.training.augment import Name
from methods.training.block_draws import MOST, draw_views
from methods.training.loader import BatchLoader, load
from methods.training.rng import generator
from methods.training.sharding import Share
from methods.training.views import recipe

MADE = [name for name in get_args(Name) if name in MOST]


def colours(*, top: int = 255, missing: bool = False) -> CheckedDataset:
    values = np.random.default_rng(0).integers(0, top + 1, (40, 3, 16, 16), dtype=np.uint8)
    covered = (range(20), range(30, 50)) if missing else (range(40),)
    source = ArrayDataset(
        name="colours", split="train", values=values, labels=np.arange(40) % 4, top=top, class_names=tuple("abcd"),
        length=covered[-1].stop, covered=covered,
    )  # fmt: skip
    return CheckedDataset(source, "colours", fingerprints=False)


def feed(augment: Name, *, shares: tuple[Share, ...] = (Share(),), on_device: bool = True) -> BatchLoader:
    return BatchLoader(
        dataset=colours(), count=38, batch=8, augment=augment, seed=5, workers=0, device="cpu", shares=shares,
        on_device=on_device,
    )  # fmt: skip


@pytest.mark.parametrize("size", [(16, 16), (20, 50), (7, 7)])
@pytest.mark.parametrize("name", MADE)
def test_draws_of_many_pictures_are_those_of_single_ones(name: Name, size: tuple[int, int]) -> None:
    made = recipe(name, size[0])
    assert made is not None
    ours = draw_views(name, size[0], size, 7, range(3, 5), 150)
    single = [
        [draw.as_numbers() for draw in made.draw(*size, generator("cpu", "view", 7, step, slot))]
        for step in (3, 4)
        for slot in range(150)
    ]
    assert np.array_equal(ours, np.array(single, dtype=np.float64))


def test_a_region_that_is_never_found_is_the_central_one_of_single_draws() -> None:
    size = (4, 90)  # of every second picture no region of that ratio is found
    made = recipe("strong", 4)
    assert made is not None
    single = [made.draw(*size, generator("cpu", "view", 0, 0, slot))[0] for slot in range(60)]
    assert sum(draw.left == 42 and draw.height == 4 for draw in single) > 5
    assert np.array_equal(draw_views("strong", 4, size, 0, range(1), 60)[:, 0], [draw.as_numbers() for draw in single])


@pytest.mark.parametrize("augment", [name for name in MADE if name != "none"])
def test_resident_views_are_those_of_the_stream(augment: Name) -> None:
    source = feed(augment)
    assert source.resident
    assert same(list(islice(source.batches(3), 4)), list(islice(source._streamed(3), 4)))


@pytest.mark.parametrize("augment", ["flip", "crop_flip"])
def test_where_nothing_is_resized_the_device_and_workers_agree_to_the_bit(augment: Name) -> None:
    workers = feed(augment, on_device=False)
    assert not workers.resident
    assert same(list(islice(feed(augment).batches(0), 3)), list(islice(workers.batches(0), 3)))


def test_neither_the_block_nor_where_a_run_goes_on_changes_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(islice(feed("moco").batches(0), 12))
    monkeypatch.setattr(resident, "PICTURES", 24)  # blocks of 3 steps, epochs of 4
    for first in (0, 1, 5):
        parts = list(islice(feed("moco").batches(first), 6))
        for part, of in zip(parts, whole[first:], strict=False):
            assert torch.equal(part.labels, of.labels)
            for view, other in zip(part.views, of.views, strict=True):
                assert float((view - other).abs().max()) <= 1.01 / 255  # summed in another order
        assert same(parts, list(islice(feed("moco").batches(0), first, first + 6)))


def test_shares_are_parts_of_the_whole_batch() -> None:
    halves = (Share(0, 2), Share(1, 2))
    [whole] = islice(feed("crop_flip").batches(2), 1)
    parts = list(islice(feed("crop_flip", shares=halves).batches(2), 2))
    for share, part in zip(halves, parts, strict=True):
        assert torch.equal(part.labels, share.take(whole.labels))
        assert torch.equal(part.views[0], share.take(whole.views[0]))


@pytest.mark.parametrize("augment", ["crop_flip", "moco"])
def test_no_step_waits_for_the_device(augment: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(dataset: object, count: int, device: str) -> tuple[Tensor, Tensor]:
        del dataset, device
        shape = (count, 3, 16, 16)
        return torch.empty(shape, dtype=torch.uint8, device="meta"), torch.empty(
            count, dtype=torch.int64, device="meta"
        )

    monkeypatch.setattr(resident, "_resident", held)
    loader._epoch_order.cache_clear()
    on_meta = BatchLoader(
        dataset=colours(), count=38, batch=8, augment=augment, seed=5, workers=0, device="meta", on_device=True
    )
    with Waits():
        found = list(islice(on_meta.batches(0), 9))
    assert found[-1].views[0].shape == (8, 3, 16, 16)


@pytest.mark.parametrize("top", [255, 16])
def test_a_block_is_its_images_to_the_bit(top: int) -> None:
    dataset = colours(top=top)
    images, labels = load(dataset, 7, 5)
    for at, index in enumerate(range(5, 12)):
        assert np.array_equal(images[at].numpy(), dataset[index].pixels)
        assert int(labels[at]) == dataset[index].label


def test_a_block_across_missing_images_is_refused() -> None:
    dataset = colours(missing=True)
    assert load(dataset, 20, 30)[0].shape == (20, 3, 16, 16)
    with pytest.raises(DataError, match="image 20 is not in these files"):
        load(dataset, 15, 18)


def test_a_block_of_wrong_pixels_or_labels_is_refused() -> None:
    dataset = colours()
    dataset.source.labels[3] = 9  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="image 3: expected a label from 0 to 3"):
        load(dataset, 10, 0)
    bright = colours(top=255)
    bright.source.top = 100  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"image 0: expected pixels within \[0, 1\]"):
        load(bright, 10, 0)
