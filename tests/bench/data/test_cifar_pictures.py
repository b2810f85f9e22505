"""CIFAR-10 from one JPEG a picture: in order, with its labels, and told apart from the exact pixels."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import SHARED_FOLDER

from bench.data import cifar10
from bench.data.cifar10 import CIFAR10
from bench.types.errors import DataError

JPEGS = SHARED_FOLDER / "data" / "cifar10" / "jpeg_test_official_order.tar.xz"
LABELS = np.arange(6, dtype=np.uint8)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A test split of six images, but for the tests of the real one."""
    if "real" not in request.node.name:
        monkeypatch.setattr(cifar10, "BATCH", 6)
        monkeypatch.setitem(cifar10.LABELS_SHA256, "test", hashlib.sha256(LABELS.tobytes()).hexdigest())


def jpeg(index: int, side: int = 32) -> bytes:
    values = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((side, side)).save(file, "JPEG")
    return file.getvalue()


def named(form: str = "{}_{}.jpg") -> dict[str, bytes]:
    return {form.format(f"{k:05d}", k): jpeg(k) for k in reversed(range(6))}


def packed(path: Path, files: Mapping[str, bytes], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"test/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", ["tar.xz", "tar", "folder", "file"])
def test_every_form_gives_the_same_images_in_order(tmp_path: Path, form: str) -> None:
    root = tmp_path
    if form == "folder":
        (tmp_path / "test").mkdir()
        for name, data in named().items():
            (tmp_path / "test" / name).write_bytes(data)
    else:
        suffix = "tar" if form == "tar" else "tar.xz"
        path = packed(tmp_path / f"jpeg_test.{suffix}", named(), "w:" if form == "tar" else "w:xz")
        root = path if form == "file" else tmp_path
    found = CIFAR10.open(root, None, "test")
    assert (len(found), found.preprocessing) == (6, "jpeg")
    assert "JPEG" in found.notes[0]
    for k in range(6):
        assert found[k].label == k
        shown = np.asarray(Image.open(io.BytesIO(jpeg(k)))).transpose(2, 0, 1)
        assert np.array_equal(found[k].pixels, shown.astype(np.float32) / np.float32(255))


def test_labels_may_stand_in_a_file_beside_them(tmp_path: Path) -> None:
    packed(tmp_path / "jpeg_test.tar.xz", named("{}.jpg"))
    with pytest.raises(DataError, match=r"no label in its name; give 'labels_test\.u8'"):
        CIFAR10.open(tmp_path, None, "test")
    (tmp_path / "labels_test.u8").write_bytes(LABELS.tobytes())
    assert [CIFAR10.open(tmp_path, None, "test").label(k) for k in range(6)] == list(range(6))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda files: files.pop("00003_3.jpg"), "lacks 1 of 6 images, first 3"),
        (lambda files: files.update({"00007_1.jpg": jpeg(0)}), "expected each of 0 to 5 once"),
        (lambda files: files.update({"0003_3.jpg": jpeg(0)}), "expected each of 0 to 5 once"),
        (lambda files: files.update({"cat.jpg": jpeg(0)}), "is not named INDEX_LABEL.jpg"),
        (lambda files: files.update({"00003_3.jpg": jpeg(3, 31)}), "is 31x31; expected 32x32"),
        (lambda files: files.update({"00003_3.jpg": jpeg(3)[:200]}), "cannot be decoded"),
        (lambda files: files.update({"00003_4.jpg": files.pop("00003_3.jpg")}), "official test labels"),
    ],
)
def test_what_is_not_the_whole_set_is_refused(tmp_path: Path, change, told: str) -> None:  # type: ignore[no-untyped-def]
    files = named()
    change(files)
    packed(tmp_path / "jpeg_test.tar.xz", files)
    with pytest.raises(DataError, match=told) as caught:
        CIFAR10.open(tmp_path, None, "test")
    assert "\n" not in str(caught.value)


def test_a_torn_tar_and_labels_of_others_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "jpeg_test.tar.xz", named())
    (tmp_path / "labels_test.u8").write_bytes(LABELS[::-1].tobytes())
    with pytest.raises(DataError, match=r"says label 5, 'labels_test\.u8' says 0"):
        CIFAR10.open(tmp_path, None, "test")
    (tmp_path / "labels_test.u8").unlink()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"jpeg_test\.tar\.xz' cannot be read: "):
        CIFAR10.open(path, None, "test")


def test_the_real_test_images_are_read_with_their_labels() -> None:
    if not JPEGS.is_file():
        pytest.skip("the JPEGs are not here")
    found = CIFAR10.open(JPEGS, None, "test")
    truth = (JPEGS.parent / "labels_test.u8").read_bytes()
    assert [found.label(k) for k in range(0, 10_000, 97)] == list(truth[::97])
    exact = CIFAR10.open(JPEGS.parent, None, "test")  # a part of the exact ones goes before all of the others
    assert exact.preprocessing == "none"
    off = np.stack([found[k].pixels - exact[k].pixels for k in range(0, 1000, 50)])
    assert 0 < float(np.sqrt((off**2).mean())) < 0.05
