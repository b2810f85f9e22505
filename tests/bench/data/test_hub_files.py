"""Datasets as Hugging Face's and torchvision's libraries leave them on a disk open as they lie there."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torchvision.datasets
from PIL import Image
from pyarrow import ipc
from scipy.io import savemat

from bench.data.folder import FOLDER
from bench.types import Dataset
from bench.types.errors import DataError

LABELS = [2, 0, 1, 1, 0]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def check(dataset: Dataset, images: np.ndarray, labels: list[int] = LABELS) -> None:
    """Shapes: images (N, H, W, C)."""
    assert [dataset.label(index) for index in range(len(dataset))] == labels
    for index in range(len(dataset)):
        image = dataset[index]
        assert np.array_equal(image.pixels, images[index].transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def arrow(path: Path, images: np.ndarray, labels: list[int], names: list[str] | None, kind: str = "stream") -> Path:
    """As `Dataset.save_to_disk` writes: a stream of record batches, features in the schema's metadata."""
    cells = [{"bytes": png(image), "path": f"{k}.png"} for k, image in enumerate(images)]
    table = pyarrow.table({"image": cells, "label": labels})
    if names:
        features = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": features})})
    path.parent.mkdir(parents=True, exist_ok=True)
    open_writer = ipc.new_stream if kind == "stream" else ipc.new_file
    with path.open("wb") as file, open_writer(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_a_saved_dataset_of_hugging_face_opens_in_the_order_of_its_parts(tmp_path: Path, kind: str) -> None:
    images = values(5, 6, 6, 3)
    names = ["emu", "cat", "dog"]
    for part, at in enumerate((slice(0, 3), slice(3, 5))):
        arrow(tmp_path / "test" / f"data-0000{part}-of-00002.arrow", images[at], LABELS[at], names, kind)
        arrow(tmp_path / "train" / f"data-0000{part}-of-00002.arrow", images[at], LABELS[at], names, kind)
    arrow(tmp_path / "test" / "cache-1f3a.arrow", images[:1], [0], names)  # as `map` leaves it
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    (tmp_path / "test" / "state.json").write_text('{"_data_files": []}')
    dataset = FOLDER.open(tmp_path, None, "test")
    assert dataset.class_names == ("emu", "cat", "dog")
    check(dataset, images)
    assert len(FOLDER.open(tmp_path / "train" / "data-00001-of-00002.arrow", None, "test")) == 2


def test_a_dataset_saved_by_its_indices_is_refused(tmp_path: Path) -> None:
    arrow(tmp_path / "data-00000-of-00001.arrow", values(5, 6, 6, 3), LABELS, None)
    (tmp_path / "state.json").write_text('{"_indices_data_files": [{"filename": "indices.arrow"}]}')
    with pytest.raises(DataError, match=r"flatten_indices\(\)"):
        FOLDER.open(tmp_path, None, "test")


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_damaged_arrow_file_is_refused(tmp_path: Path, cut: float) -> None:
    file = arrow(tmp_path / "test.arrow", values(5, 6, 6, 3), LABELS, None)
    data = file.read_bytes()
    file.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(DataError, match=r"test.arrow") as caught:
        FOLDER.open(tmp_path, None, "test")
    assert "\n" not in str(caught.value)


def test_arrow_images_that_are_only_paths_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"image": [{"bytes": None, "path": "a.png"}] * 2, "label": [0, 1]},
                          schema=pyarrow.schema({"image": pyarrow.struct({"bytes": pyarrow.binary(),
                                                                          "path": pyarrow.string()}),
                                                 "label": pyarrow.int64()}))  # fmt: skip
    with (tmp_path / "test.arrow").open("wb") as file, ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="holds no image"):
        FOLDER.open(tmp_path, None, "test")


def idx(path: Path, array: np.ndarray, *, packed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
    if packed:
        with gzip.open(path.with_name(f"{path.name}.gz"), "wb") as file:
            file.write(header + array.tobytes())
    else:
        path.write_bytes(header + array.tobytes())


@pytest.mark.parametrize("form", ["plain", "packed", "both"])
@pytest.mark.parametrize("root", ["", "MNIST", "MNIST/raw"])
def test_mnists_files_give_torchvisions_images(tmp_path: Path, form: str, root: str) -> None:
    raw, images = tmp_path / "MNIST" / "raw", values(5, 28, 28)
    for packed in {"plain": [False], "packed": [True], "both": [False, True]}[form]:
        for split in ("t10k", "train"):
            idx(raw / f"{split}-images-idx3-ubyte", images, packed=packed)
            idx(raw / f"{split}-labels-idx1-ubyte", np.array(LABELS, np.uint8), packed=packed)
    check(FOLDER.open(tmp_path / root, None, "test"), images[..., None])
    if form == "plain":
        theirs = torchvision.datasets.MNIST(tmp_path, train=False)
        assert np.array_equal(theirs.data.numpy(), images)
        assert theirs.targets.tolist() == LABELS


def test_svhns_files_give_torchvisions_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = values(5, 32, 32, 3), np.array([[2], [10], [1], [1], [10]], np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})
    check(FOLDER.open(tmp_path, None, "test"), images)
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.SVHN(tmp_path, split="test")
    assert np.array_equal(theirs.data, images.transpose(0, 3, 1, 2))
    assert theirs.labels.tolist() == LABELS


def test_stl10s_files_give_torchvisions_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, images = tmp_path / "stl10_binary", values(5, 96, 96, 3)
    folder.mkdir()
    (folder / "test_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
    (folder / "test_y.bin").write_bytes((np.array(LABELS, np.uint8) + 1).tobytes())
    (folder / "class_names.txt").write_text("a\nb\nc\n")
    check(FOLDER.open(tmp_path, None, "test"), images)
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.STL10(tmp_path, split="test")
    assert np.array_equal(theirs.data, images.transpose(0, 3, 1, 2))
    assert theirs.labels.tolist() == LABELS


def test_cifar100s_files_open_by_the_fine_labels(tmp_path: Path) -> None:
    folder, images = tmp_path / "cifar-100-python", values(5, 32, 32, 3)
    folder.mkdir()
    rows = images.transpose(0, 3, 1, 2).reshape(5, -1)
    content = {b"data": rows, b"fine_labels": LABELS, b"coarse_labels": [0] * 5}
    (folder / "test").write_bytes(pickle.dumps(content, protocol=2))
    check(FOLDER.open(tmp_path, None, "test"), images)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(), "no labels beside it"),
        (lambda raw: idx(raw / "t10k-labels-idx1-ubyte", np.zeros(4, np.uint8)), "5 images and 4 labels"),
        (lambda raw: (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03"), "no file of bytes in 3 axes"),
        (lambda raw: (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\xff" * 12), "no file of bytes"),
        (lambda raw: (raw / "t10k-images-idx3-ubyte").write_bytes(
            (raw / "t10k-images-idx3-ubyte").read_bytes()[:-1]), "says that it has 3,920 bytes, and has 3,919"),
        (lambda raw: idx(raw.parents[1] / "KMNIST" / "raw" / "t10k-images-idx3-ubyte", values(5, 28, 28)),
         "of two datasets"),
    ],
)  # fmt: skip
def test_a_damaged_download_is_refused_in_one_line(tmp_path: Path, change, said: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx(raw / "t10k-images-idx3-ubyte", values(5, 28, 28))
    idx(raw / "t10k-labels-idx1-ubyte", np.array(LABELS, np.uint8))
    change(raw)
    with pytest.raises(DataError, match=said) as caught:
        FOLDER.open(tmp_path, None, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"not a mat file", b"MATLAB 5.0 MAT-file" + b"\0" * 200])
def test_a_mat_file_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "test_32x32.mat").write_bytes(data)
    with pytest.raises(DataError, match=r"test_32x32\.mat"):
        FOLDER.open(tmp_path, None, "test")
