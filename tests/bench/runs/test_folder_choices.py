"""A folder's choices reach the run: the side that it is opened at, the order of its classes, and the digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench.runs.certify import Job, open_dataset
from bench.runs.request import RunRequest, plan
from bench.types.errors import DataError

REQUEST = RunRequest(methods=("gaussian",), dataset="folder", sigmas=(0.5,), n=100, random_weights=True)


def planned(root: Path, side: tuple[int, int] = (32, 32), names: tuple[str, ...] = ("a", "b"), **change: object) -> Job:
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", side, (shade * 9, 0, 0)).save(root / name / "0.png")
    return plan(replace(REQUEST, data_root=root, **change))[0]


def test_small_pictures_stay_as_stored_and_large_ones_are_cropped(tmp_path: Path) -> None:
    small = planned(tmp_path / "small")
    assert (small.spec.shape, small.spec.preprocessing) == ((3, 32, 32), "none")
    assert open_dataset(small)[0].pixels.shape == (3, 32, 32)
    large = planned(tmp_path / "large", (300, 260))
    assert (large.spec.shape, large.spec.preprocessing) == ((3, 224, 224), "resize224-crop224")
    asked = planned(tmp_path / "small", size=224)
    assert (asked.spec.shape, asked.spec.preprocessing) == ((3, 224, 224), "resize224-crop224")


def test_a_small_picture_among_large_ones_asks_for_a_size(tmp_path: Path) -> None:
    planned(tmp_path, (300, 260))
    Image.new("RGB", (32, 32)).save(tmp_path / "b" / "1.png")
    with pytest.raises(DataError, match=r"b/1.png' is 32x32; give --size K"):
        plan(replace(REQUEST, data_root=tmp_path))


def test_the_order_of_classes_is_in_the_digest_where_it_was_chosen(tmp_path: Path) -> None:
    names = ("class1", "class10", "class2")
    orders: tuple[object, ...] = ("natural", "text", ("class1", "class2", "class10"), ("class2", "class1", "class10"))
    natural, text, listed, other = (planned(tmp_path / "x", names=names, class_order=order) for order in orders)
    assert [job.spec.class_order for job in (natural, text, listed)] == ["natural", "text", "natural"]
    assert listed.spec.digest() == natural.spec.digest()
    assert len({job.spec.digest() for job in (natural, text, other)}) == 3
    assert [open_dataset(job).label(1) for job in (natural, text, other)] == [2, 1, 2]
    plain = planned(tmp_path / "y")
    assert "class_order" not in plain.spec.as_json()
    assert planned(tmp_path / "y", class_order="natural").spec.digest() == plain.spec.digest()


def test_a_dataset_of_one_order_takes_no_other(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'digits' has its classes in one order; leave --class-order out"):
        plan(replace(REQUEST, dataset="digits", class_order="text"))
