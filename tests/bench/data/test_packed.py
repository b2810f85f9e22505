"""Datasets in a few large files open as they were downloaded, with their own labels; no size in them is believed."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.folder import FOLDER
from bench.types import Dataset
from bench.types.errors import DataError


def pixels(count: int, side: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def parquet(
    path: Path, values: np.ndarray, labels: list[object], names: list[str] | None = None, **names_of: str
) -> Path:
    import pyarrow
    from pyarrow import parquet as files

    image, label = names_of.get("image", "image"), names_of.get("label", "label")
    cells = [{"bytes": png(value), "path": f"{k}.png"} for k, value in enumerate(values)]
    table = pyarrow.table({image: cells, label: labels})
    if names:
        features = {"features": {label: {"names": names, "_type": "ClassLabel"}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": features})})
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(table, path, row_group_size=2)
    return path


def labels_of(dataset: Dataset) -> list[int]:
    return [dataset.label(index) for index in range(len(dataset))]


def same_pixels(dataset: Dataset, values: np.ndarray) -> bool:
    truth = values.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return all(np.array_equal(dataset[index].pixels, truth[index]) for index in range(len(values)))


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "label"), ("img", "fine_label")])
def test_parquet_has_its_labels_and_their_names(tmp_path: Path, image: str, label: str) -> None:
    values = pixels(5)
    for part, span in enumerate((slice(0, 3), slice(3, 5))):
        path = tmp_path / "data" / f"test-{part:05d}-of-00002.parquet"
        parquet(path, values[span], [2, 0, 1, 1, 0][span], ["zebra", "ant", "bee"], image=image, label=label)
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", values[:1], [0], ["zebra", "ant", "bee"])
    dataset = FOLDER.open(tmp_path, None, "test")
    assert labels_of(dataset) == [2, 0, 1, 1, 0]
    assert dataset.class_names == ("zebra", "ant", "bee")  # as the file numbers them, not sorted
    assert same_pixels(dataset, values)
    (tmp_path / "data" / "test-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="lack part 0"):
        FOLDER.open(tmp_path, None, "test")


def test_a_parquet_column_of_names_is_ordered_as_class_folders_are(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", pixels(3), ["class10", "class2", "class1"])
    with pytest.raises(DataError, match="give --class-order"):
        FOLDER.open(path, None, "test")
    assert labels_of(FOLDER.open(path, None, "test", "natural")) == [2, 1, 0]
    assert labels_of(FOLDER.open(path, None, "test", "text")) == [1, 2, 0]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([-1, -1], ["a", "b"], "a test set without labels cannot be certified"),
        ([0, 2], ["a", "b"], "has the label 2; expected numbers from 0 on to 1"),
        ([None, 1], ["a", "b"], "has the label None"),
        ([0.5, 1.0], None, "has the label 0.5"),
        ([1, 2], None, "do they count from 0"),
        ([0, 2], None, "none is 1: how many classes"),
    ],
)
def test_labels_that_cannot_be_right_are_refused(
    tmp_path: Path, labels: list[object], names: list[str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        FOLDER.open(parquet(tmp_path / "x.parquet", pixels(2), labels, names), None, "test")


def test_a_file_of_names_says_how_many_classes_numbers_are_of(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", pixels(2), [1, 3])
    dataset = FOLDER.open(path, None, "test", ("a", "b", "c", "d", "e"))
    assert (dataset.num_classes, labels_of(dataset)) == (5, [1, 3])
    with pytest.raises(DataError, match="leave --class-order out"):
        FOLDER.open(path, None, "test", "natural")


def test_shards_of_a_webdataset_are_read_in_order_of_their_numbers(tmp_path: Path) -> None:
    values = pixels(4)
    for number in (0, 1):
        members: dict[str, bytes] = {"._junk.cls": b"7"}
        for k in (2 * number, 2 * number + 1):
            members |= {
                f"s/{k:03d}.cls": str(k % 2).encode(),
                f"s/{k:03d}.json": b"{}",
                f"s/{k:03d}.png": png(values[k]),
            }
        shard(tmp_path / f"x-val-{number + 9}.tar", members)  # 9 before 10
    dataset = FOLDER.open(tmp_path, None, "test")
    assert labels_of(dataset) == [0, 1, 0, 1]
    assert same_pixels(dataset, values)
    shard(tmp_path / "x-val-12.tar", {"a.cls": b"0", "a.png": png(values[0])})
    with pytest.raises(DataError, match="lack part 11"):
        FOLDER.open(tmp_path, None, "test")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": b"x", "b.png": b"x", "b.cls": b"0"}, "has an image but no .cls of 'a'"),
        ({"a.cls": b"1", "b.png": b"x", "b.cls": b"0"}, "has a .cls but no image of 'a'"),
        ({"a.png": b"x", "a.jpg": b"x", "a.cls": b"0"}, "two images of 'a'"),
        ({"a.png": b"x", "a.cls": b"\xff"}, "no class in 'a.cls'"),
        ({"a.png": b"x", "a.cls": b"0", "b.png": b"x", "b.cls": b"cat"}, "both numbers and names"),
        ({"a.png": b"x"}, "has no classes; expected a webdataset"),
    ],
)
def test_a_shard_with_a_piece_missing_is_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FOLDER.open(shard(tmp_path / "x.tar", members), None, "test")


@pytest.mark.parametrize("names", [("x_test", "y_test"), ("test_images", "test_labels"), ("images", "labels")])
def test_arrays_are_taken_in_either_layout(tmp_path: Path, names: tuple[str, str]) -> None:
    values, labels = pixels(4), np.array([[1], [0], [1], [0]])
    np.savez_compressed(tmp_path / "a.npz", **{names[0]: values, names[1]: labels, "other": np.zeros(3)})
    np.savez(tmp_path / "b.npz", **{names[0]: values.transpose(0, 3, 1, 2), names[1]: labels.ravel()})
    (tmp_path / "c").mkdir()
    np.save(tmp_path / "c" / f"{names[0]}.npy", values)
    np.save(tmp_path / "c" / f"{names[1]}.npy", labels)
    np.savez(tmp_path / "d.npz", **{names[0]: values.astype(np.float64) / 255, names[1]: labels})
    for name in ("a.npz", "b.npz", "c", f"c/{names[0]}.npy", "d.npz"):
        dataset = FOLDER.open(tmp_path / name, None, "test")
        assert labels_of(dataset) == [1, 0, 1, 0]
        assert same_pixels(dataset, values)


def test_the_folder_of_cifar10c_gives_the_array_that_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([0, 1, 2]))
    for seed, name in enumerate(("fog", "gaussian_noise")):
        np.save(tmp_path / f"{name}.npy", pixels(3, 32, seed))
    assert same_pixels(FOLDER.open(tmp_path / "gaussian_noise.npy", None, "test"), pixels(3, 32, 1))
    with pytest.raises(DataError, match=r"give --data-root one .npy with labels.npy beside it"):
        FOLDER.open(tmp_path, None, "test")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((2, 4, 4, 3), 255.0), [0, 1], r"floats from 255 to 255; expected them in \[0, 1\]"),
        (np.full((2, 4, 4, 3), -0.5), [0, 1], "floats from -0.5"),
        (np.full((2, 4, 4, 3), np.nan), [0, 1], "floats from nan"),
        (np.zeros((2, 4, 4, 3), np.int64), [0, 1], "is int64; expected uint8"),
        (np.zeros((2, 3, 4, 3), np.uint8), [0, 1], "expected .* C 1 or 3"),
        (np.zeros((2, 48), np.uint8), [0, 1], "expected .* C 1 or 3"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1, 2], "expected one whole number for each of 2 images"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0.0, 1.0], "expected one whole number"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, -1], "label -1"),
        (np.array([None, None]), [0, 1], "expected an array of numbers"),
    ],
)
def test_arrays_that_are_no_images_are_refused(
    tmp_path: Path, images: np.ndarray, labels: list[object], message: str
) -> None:
    np.savez(tmp_path / "x.npz", images=images, labels=np.array(labels))
    with pytest.raises(DataError, match=message):
        FOLDER.open(tmp_path / "x.npz", None, "test")


def test_an_array_that_claims_more_than_its_file_holds_is_refused_at_once(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 32, 32, 3)})
    labels = io.BytesIO()
    np.save(labels, np.zeros(3, np.int64))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(1000))
        archive.writestr("labels.npy", labels.getvalue())
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "images.npy").write_bytes(header.getvalue())
    (tmp_path / "y" / "labels.npy").write_bytes(labels.getvalue())
    for name in ("x.npz", "y"):
        with pytest.raises(DataError, match="claims 3,072,000,000,000,000 bytes"):
            FOLDER.open(tmp_path / name, None, "test")


@pytest.mark.parametrize("kind", ["parquet", "npz", "npy", "tar"])
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path, kind: str) -> None:
    values, labels = pixels(4), [0, 1, 0, 1]
    whole = tmp_path / f"whole.{kind}"
    if kind == "parquet":
        parquet(whole, values, list(labels))
    elif kind == "npz":
        np.savez(whole, images=values, labels=labels)
    elif kind == "npy":
        np.save(whole, values)
        np.save(tmp_path / "labels.npy", labels)
    else:
        shard(
            whole,
            {
                f"{k}.{end}": data
                for k in range(4)
                for end, data in (("cls", b"01"[k % 2 :][:1]), ("png", png(values[k])))
            },
        )
    data = whole.read_bytes()
    used = len(data.rstrip(b"\0")) if kind == "tar" else len(data)
    cut = tmp_path / f"cut.{kind}"
    for end in range(0, used, max(1, used // 12)):
        cut.write_bytes(data[:end])
        with pytest.raises(DataError) as caught:
            FOLDER.open(cut, 6, "test")[3]
        assert "\n" not in str(caught.value)


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(pixels(1)[0]))
    odd = tmp_path / "b" / "2.png"
    os.mkfifo(odd)
    with pytest.raises(DataError, match=r"2.png' is no regular file"):
        FOLDER.open(tmp_path, None, "test")
    odd.unlink()
    odd.symlink_to(odd)
    with pytest.raises(DataError, match=r"2.png' is no regular file"):
        FOLDER.open(tmp_path, None, "test")
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(DataError, match="is no folder"):
        FOLDER.open(tmp_path / "x.npz", None, "test")


def test_files_of_two_kinds_are_not_guessed_between(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", pixels(2), [0, 1])
    shard(tmp_path / "x.tar", {"a.cls": b"0", "a.png": b"x"})
    with pytest.raises(DataError, match=r"holds \.parquet and \.tar files"):
        FOLDER.open(tmp_path, None, "test")
