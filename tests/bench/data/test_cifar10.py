"""CIFAR-10 is read exactly from every official form, torn files are refused, and no pickle is ever run."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from places import SHARED_FOLDER

from bench.data import cifar10, cifar_batches
from bench.data.cifar10 import CIFAR10
from bench.data.cifar_batches import RECORD, find_batch, read_batch
from bench.data.subset import parse_subset, subset_fingerprint
from bench.types.errors import DataError

EXACT = SHARED_FOLDER / "data" / "cifar10"
needs_exact = pytest.mark.skipif(not EXACT.is_dir(), reason="../shared is absent: no exact CIFAR-10 images to check")


def records(count: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).integers(0, 256, (count, RECORD), dtype=np.uint8)
    made[:, 0] %= 10
    return made


def pickled(made: np.ndarray, **changes: object) -> bytes:
    """As the official archive: protocol 2, bytes for keys."""
    content = {b"batch_label": b"made up", b"labels": made[:, 0].tolist(), b"data": np.ascontiguousarray(made[:, 1:])}
    return pickle.dumps({**content, **{key.encode(): value for key, value in changes.items()}}, protocol=2)


def as_python_2(made: np.ndarray) -> bytes:
    """The opcodes of Python 2, as in the official files: raw 8-bit strings, and NumPy's flags as 0 and 1."""

    def string(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + len(text).to_bytes(4, "little") + text

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    data = made[:, 1:].tobytes()
    kind = (
        b"cnumpy\ndtype\n"
        + string(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"|")
        + b"NNN"
        + number(-1) * 2
        + b"K\x00tb"
    )
    shape = number(len(made)) + number(RECORD - 1) + b"\x86"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R"
        b"(K\x01" + shape + kind + b"\x89" + string(data) + b"tb"
    )
    labels = b"](" + b"".join(number(int(label)) for label in made[:, 0]) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + labels + b"u."


def test_each_form_of_the_same_records_gives_the_same_images(tmp_path: Path) -> None:
    made = records(10)
    forms = {
        "py/test_batch": pickled(made),
        "py2/test_batch": as_python_2(made),
        "bin/test_batch.bin": made.tobytes(),
        "xz/test_batch_exact_first10.bin.xz": lzma.compress(made.tobytes()),
        "archive/cifar-10-batches-py/test_batch": pickled(made),
        "archive2/cifar-10-batches-bin/test_batch.bin": made.tobytes(),
        "fortran/test_batch": pickled(made, data=np.asfortranarray(made[:, 1:])),
    }
    seen = set()
    for name, data in forms.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(data)
        dataset = CIFAR10.open(tmp_path / name.split("/")[0], None, "test")
        assert len(dataset) == 10_000
        seen.add((subset_fingerprint(dataset, range(10)), tuple(dataset[i].fingerprint for i in range(10))))
        assert np.array_equal(dataset[4].pixels, made[4, 1:].reshape(3, 32, 32).astype(np.float32) / np.float32(255))
    assert len(seen) == 1


@pytest.mark.parametrize("form", ["python", "binary"])
def test_an_official_archive_is_read_without_being_unpacked(tmp_path: Path, form: str) -> None:
    made = records(10)
    folder = "cifar-10-batches-" + ("py" if form == "python" else "bin")
    end = "" if form == "python" else ".bin"
    with tarfile.open(tmp_path / f"cifar-10-{form}.tar.gz", "w:gz") as tar:
        for number in range(6):
            part = made if number == 5 else records(3, seed=number + 1)
            data = pickled(part) if form == "python" else part.tobytes()
            info = tarfile.TarInfo(f"{folder}/" + ("test_batch" if number == 5 else f"data_batch_{number + 1}") + end)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "test_batch.bin").write_bytes(made.tobytes())
    plain = CIFAR10.open(tmp_path / "plain", None, "test")
    for root in (tmp_path, tmp_path / f"cifar-10-{form}.tar.gz"):
        packed = CIFAR10.open(root, None, "test")
        assert subset_fingerprint(packed, range(10)) == subset_fingerprint(plain, range(10))
        assert CIFAR10.open(root, None, "train").label(40_000) == records(3, seed=5)[0, 0]
    assert before == sorted(path for path in tmp_path.rglob("*") if "plain" not in str(path))


def test_an_archive_that_is_no_archive_of_cifar10_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    bomb = gzip.compress(bytes(3_000_000))
    for data, message in ((b"x", "cannot be read"), (bomb, "lacks the batch"), (bomb[:-9], "cannot be read")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            CIFAR10.open(path, None, "test")


def test_an_archive_is_not_unpacked_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar_batches, "UNPACKED", 1000)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(DataError, match="unpacks to more than 1,000 bytes"):
        CIFAR10.open(path, None, "test")


def test_other_forms_pass_as_official_only_where_they_hold_the_official_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records(200)
    values = made[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for name, value in (("BATCH", 200), ("FIRST", 50)):
        monkeypatch.setattr(cifar10, name, value)
    first, labels = hashlib.sha256(made[:50].tobytes()).hexdigest(), hashlib.sha256(made[:, 0].tobytes()).hexdigest()
    monkeypatch.setitem(cifar10.FIRST_SHA256, "test", first)
    monkeypatch.setitem(cifar10.LABELS_SHA256, "test", labels)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "test_batch.bin").write_bytes(made.tobytes())
    plain = subset_fingerprint(CIFAR10.open(tmp_path / "plain", None, "test"), range(200))
    np.savez(tmp_path / "a.npz", x_test=values, y_test=made[:, 0])
    np.savez(tmp_path / "b.npz", x_test=values.astype(np.float32) / np.float32(255), y_test=made[:, 0])
    for name in ("a.npz", "b.npz"):
        dataset = CIFAR10.open(tmp_path / name, None, "test")
        assert subset_fingerprint(dataset, range(200)) == plain
        assert "is no official file" in dataset.notes[0]
    noisy = values.copy()
    noisy[7, 0, 0, 0] ^= 1
    for images, classes, message in (
        (noisy, made[:, 0], "pixels differ, as those of a JPEG or a corrupted copy; open it as --dataset folder"),
        (values[::-1], made[::-1, 0], "pixels or labels differ"),
        (values[:150], made[:150, 0], "it has 150; open it as --dataset folder"),
    ):
        np.savez(tmp_path / "c.npz", x_test=images, y_test=classes)
        with pytest.raises(DataError, match=message):
            CIFAR10.open(tmp_path / "c.npz", None, "test")


def test_binary_records_that_are_not_the_official_ones_are_noted(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(records(1_017).tobytes())
    assert "not the official ones" in CIFAR10.open(tmp_path, None, "test").notes[1]


def test_training_batches_stand_in_their_official_places(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(records(number, seed=number).tobytes())
    train = CIFAR10.open(tmp_path, None, "train")
    assert len(train) == 50_000
    assert train.digest(20_002) != train.digest(20_001)
    assert train[40_004].label == records(5, seed=5)[4, 0]
    with pytest.raises(DataError, match="image 20003 is not in these files, which hold 0 to 0 and 10000 to 10001 and"):
        train[20_003]
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match="lacks the batch 'data_batch_3'"):
        CIFAR10.open(tmp_path, None, "train")


def test_an_index_that_a_partial_file_lacks_is_refused_and_noted(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(records(10).tobytes())
    dataset = CIFAR10.open(tmp_path, None, "test")
    assert dataset.notes == ("test_batch.bin holds images 0 to 9, not a complete batch of 10000",)
    for ask in (dataset.__getitem__, dataset.label, dataset.digest):
        with pytest.raises(DataError, match="image 10 is not in these files, which hold 0 to 9 of 10000"):
            ask(10)
    with pytest.raises(DataError, match="has images 0 to 9999, got index -1"):
        dataset[-1]


def test_a_complete_file_with_another_checksum_is_used_but_noted(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickled(records(10_000)))
    notes = CIFAR10.open(tmp_path, None, "test").notes
    assert len(notes) == 2
    assert "not the official file: md5" in notes[0]
    assert "not 1000 of each class" in notes[1]


class Malicious:
    """What an attacker would put in a pickle: a call, made as soon as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["labels", "data", "extra"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, where: str) -> None:
    mark = tmp_path / "owned"
    data = pickled(records(10), **{where: Malicious(mark)})
    pickle.loads(data)
    assert mark.exists()  # the file is armed
    mark.rmdir()
    (tmp_path / "test_batch").write_bytes(data)
    with pytest.raises(DataError, match=r"asks for the global '(posix|nt).mkdir'"):
        CIFAR10.open(tmp_path, None, "test")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"\x80\x02cos\nsystem\nU\x04true\x85R.", "asks for the global 'os.system'"),
        (b"\x80\x02c__builtin__\neval\nU\x011\x85R.", "asks for the global"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "asks for the global 'numpy.load'"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "asks for the codec 'rot13'"),
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "asks for the array type b'O'"),
        (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "is not a CIFAR-10 python batch"),
        (b"\x80\x02}.", "is not a CIFAR-10 python batch"),
        (b"\x80\x02]q\x01", "is not a CIFAR-10 python batch"),
        (b"", "is not a CIFAR-10 python batch"),
        (b"hello", "is not a CIFAR-10 python batch"),
    ],
)
def test_a_foreign_pickle_is_refused_in_one_line(tmp_path: Path, opcodes: bytes, message: str) -> None:
    (tmp_path / "test_batch").write_bytes(opcodes)
    with pytest.raises(DataError, match=message) as caught:
        CIFAR10.open(tmp_path, None, "test")
    assert "\n" not in str(caught.value)


def test_a_cut_pickle_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = pickled(records(3))
    for end in range(0, len(whole), 331):
        (tmp_path / "test_batch").write_bytes(whole[:end])
        with pytest.raises(DataError, match="is not a CIFAR-10 python batch"):
            CIFAR10.open(tmp_path, None, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [1, 2]}, "'labels' list as long as its 3 images"),
        ({"labels": [1, 2, 10]}, "has label 10; expected 0 to 9"),
        ({"labels": [1, 2, -1]}, "no integers from 0 to 9"),
        ({"labels": [1, 2, "cat"]}, "no integers from 0 to 9"),
        ({"data": np.zeros((3, 1024), np.uint8)}, "no 'data' of N x 3072 bytes"),
        ({"data": np.zeros(3072, np.uint8)}, "no 'data' of N x 3072 bytes"),
        ({"data": np.zeros((3, 3072), np.float32)}, "asks for the array type"),
        ({"data": [1, 2, 3]}, "is not a CIFAR-10 python batch"),
    ],
)
def test_a_pickle_of_other_content_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    (tmp_path / "test_batch").write_bytes(pickled(records(3), **changes))
    with pytest.raises(DataError, match=message):
        CIFAR10.open(tmp_path, None, "test")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("test_batch.bin", records(2).tobytes()[:-1], "is torn: 1 records of 3073 bytes and 3072 bytes more"),
        ("test_batch.bin", b"", "holds 0 records; expected 1 to 10000"),
        ("test_batch.bin", records(10_001).tobytes(), "holds more than 10000 records"),
        ("test_batch.bin", b"\x0a" + bytes(3072), "has label 10; expected 0 to 9"),
        ("test_batch_part.bin.xz", lzma.compress(records(2).tobytes())[:-40], "cannot be read"),
        ("test_batch_part.bin.xz", records(1).tobytes(), "cannot be read"),
    ],
)
def test_a_damaged_binary_file_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        CIFAR10.open(tmp_path, None, "test")


def test_two_files_for_one_batch_are_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(records(2).tobytes())
    (tmp_path / "test_batch_more.bin").write_bytes(records(3).tobytes())
    with pytest.raises(DataError, match=r"2 files for test_batch: test_batch.bin, test_batch_more.bin; keep one"):
        CIFAR10.open(tmp_path, None, "test")


def test_missing_images_say_both_ways_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("RRCM_BENCH_DOWNLOAD", raising=False)
    with pytest.raises(DataError, match=r"--data-root .*RRCM_BENCH_DOWNLOAD=1"):
        CIFAR10.open(None, None, "test")
    with pytest.raises(DataError, match="has no CIFAR-10 batch; expected 'test_batch'"):
        CIFAR10.open(tmp_path, None, "test")
    with pytest.raises(DataError, match="is no folder"):
        CIFAR10.open(tmp_path / "absent", None, "test")
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "test_batch.bin").write_bytes(records(2).tobytes())
    assert CIFAR10.open(None, None, "test").label(1) == records(2)[1, 0]


@pytest.mark.parametrize(("size", "split"), [(224, "test"), (None, "val")])
def test_another_size_or_split_is_refused(tmp_path: Path, size: int | None, split: str) -> None:
    with pytest.raises(DataError, match="cifar10"):
        CIFAR10.open(tmp_path, size, split)


@needs_exact
def test_the_exact_test_images_serve_the_first_500() -> None:
    dataset = CIFAR10.open(EXACT, None, "test")
    words, indices = parse_subset("first:500", len(dataset))
    assert (words, len(dataset), len(indices)) == ("first:500", 10_000, 500)
    assert len(dataset.notes) == 1  # that it is a part, and not that its pixels are others
    truth = (EXACT / "labels_test.u8").read_bytes()
    assert bytes(dataset.label(index) for index in range(1017)) == truth[:1017]
    assert len(subset_fingerprint(dataset, indices)) == 64
    with pytest.raises(DataError, match="which hold 0 to 1016 of 10000"):
        subset_fingerprint(dataset, parse_subset("skip:20", len(dataset))[1])


@needs_exact
def test_the_exact_images_look_like_independent_jpegs_of_the_same_index() -> None:
    from PIL import Image

    dataset = CIFAR10.open(EXACT, None, "test")
    with tarfile.open(EXACT / "jpeg_test_official_order.tar.xz") as tar:
        for index in range(40):
            member = tar.next()
            assert member is not None
            file = tar.extractfile(member)
            assert file is not None
            jpeg = np.asarray(Image.open(io.BytesIO(file.read())), dtype=np.float32).transpose(2, 0, 1) / 255
            errors = [float(np.abs(dataset[other].pixels - jpeg).mean()) for other in range(40)]
            assert int(np.argmin(errors)) == index
            assert errors[index] < 13 / 255


@needs_exact
def test_the_exact_training_labels_are_the_official_ones() -> None:
    truth = (EXACT / "labels_train.u8").read_bytes()
    for number, count in ((2, 1017), (5, 1017)):
        path = find_batch(EXACT, f"data_batch_{number}")
        assert path is not None
        labels = read_batch(path, f"data_batch_{number}").labels.tobytes()
        assert labels == truth[(number - 1) * 10_000 :][:count]
