"""Each way from a file to pixels against its authors' recipe, written anew with Pillow and torchvision."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import SHARED_FOLDER

from bench.data.centre_crops import CentreCrop, named_crop
from bench.data.imagenet import PREPROCESSINGS
from bench.types.errors import DataError

SIZES = [
    (500, 375),
    (375, 500),
    (333, 500),
    (256, 256),
    (224, 224),
    (457, 911),
    (900, 230),
    (97, 61),
    (449, 448),
    (1301, 1000),
]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def torchvisions(short: int, side: int, bicubic: bool) -> Callable[[Image.Image], Image.Image]:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    way = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    made: Callable[[Image.Image], Image.Image] = Compose([Resize(short, way), CenterCrop(side)])
    return made


def halved(side: int) -> Callable[[Image.Image], Image.Image]:
    """Dhariwal & Nichol 2021: means of 2x2 while twice too large, bicubic to the side, the middle of the array."""

    def crop(image: Image.Image) -> Image.Image:
        wide, high = image.size
        while wide >= 2 * side and high >= 2 * side:
            wide, high = int(wide / 2), int(high / 2)
            image = image.resize((wide, high), resample=Image.Resampling.BOX)
        factor = side / (wide if wide < high else high)
        image = image.resize((round(wide * factor), round(high * factor)), resample=Image.Resampling.BICUBIC)
        values = np.asarray(image)
        y, x = (values.shape[0] - side) // 2, (values.shape[1] - side) // 2
        return Image.fromarray(values[y : y + side, x : x + side])

    return crop


AUTHORS = {
    "resize256-crop224": torchvisions(256, 224, bicubic=False),
    "resize256-crop256": torchvisions(256, 256, bicubic=False),
    "bicubic256-crop224": torchvisions(256, 224, bicubic=True),
    "bicubic256-crop256": torchvisions(256, 256, bicubic=True),
    "short224-box-bicubic": halved(224),
    "short256-box-bicubic": halved(256),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_crops_are_their_authors_to_the_byte(name: str) -> None:
    crop = named_crop(name, PREPROCESSINGS)
    assert crop.name == name
    for size in SIZES:
        image = picture(*size)
        assert np.array_equal(np.asarray(crop.of(image)), np.asarray(AUTHORS[name](image))), size


def test_crops_of_photographs_are_their_authors_and_differ_from_each_other() -> None:
    path = SHARED_FOLDER / "data" / "imagenet" / "sample_center224_1000.tar"
    if not path.is_file():
        pytest.skip("the photographs are not here")
    with tarfile.open(path) as tar:
        photographs = [tar.extractfile(member) for member in tar.getmembers() if member.isfile()][:4]
        images = [Image.open(io.BytesIO(file.read())).convert("RGB").resize((487, 351)) for file in photographs if file]
    shown = {
        name: [np.asarray(named_crop(name, PREPROCESSINGS).of(image)) for image in images] for name in PREPROCESSINGS
    }
    for name, crops in shown.items():
        assert all(np.array_equal(a, AUTHORS[name](image)) for a, image in zip(crops, images, strict=True))
    for name in PREPROCESSINGS:
        alike = [b for b in PREPROCESSINGS if np.array_equal(shown[name][0], shown[b][0])]
        assert len(alike) == (2 if name in ("bicubic256-crop256", "short256-box-bicubic") else 1) or alike == [name]


@given(width=st.integers(8, 90), height=st.integers(8, 90), short=st.integers(8, 60), cut=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_any_bilinear_crop_is_torchvisions(width: int, height: int, short: int, cut: int) -> None:
    image = picture(width, height)
    ours = CentreCrop("resize", short, short - cut).of(image)
    assert np.array_equal(np.asarray(ours), np.asarray(torchvisions(short, short - cut, bicubic=False)(image)))


def test_another_side_keeps_the_way() -> None:
    names = {name: named_crop(name, PREPROCESSINGS).of_side(256).name for name in PREPROCESSINGS if "224" in name}
    assert names == {
        "resize256-crop224": "resize256-crop256",
        "bicubic256-crop224": "bicubic256-crop256",
        "short224-box-bicubic": "short256-box-bicubic",
    }


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="no preprocessing 'resize1-crop224'; expected one of resize256-crop224, "):
        named_crop("resize1-crop224", PREPROCESSINGS)
