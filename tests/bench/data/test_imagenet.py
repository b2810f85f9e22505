"""ImageNet's labels are those of the sorted wnids in every layout, and no layout is guessed."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import SHARED_FOLDER
from scipy.io import savemat

from bench.data.imagenet import IMAGENET, official_classes
from bench.types.errors import DataError

SHARED = SHARED_FOLDER / "data" / "imagenet"
TAR = SHARED / "sample_center224_1000.tar"


def jpeg(width: int = 300, height: int = 280, seed: int = 0) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def wnids() -> tuple[str, ...]:
    return official_classes()[0]


@pytest.fixture
def val(tmp_path: Path, wnids: tuple[str, ...]) -> Path:
    for label, wnid in enumerate(wnids):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        (tmp_path / "val" / wnid / f"ILSVRC2012_val_{99999 - label:08d}.JPEG").write_bytes(b"" if label else jpeg())
    return tmp_path


def test_class_folders_are_cropped_as_the_field_does(val: Path, wnids: tuple[str, ...]) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    original = Image.open(io.BytesIO(jpeg()))
    for root, size, side in ((val, None, 224), (val / "val", 224, 224), (val, 256, 256)):
        dataset = IMAGENET.open(root, size, "test")
        assert (len(dataset), dataset.preprocessing) == (1000, f"resize256-crop{side}")
        assert [dataset.label(index) for index in range(1000)] == list(range(1000))
        truth = Compose([Resize(256), CenterCrop(side), ToTensor()])(original).numpy()
        assert np.array_equal(dataset[0].pixels, truth)
        assert "order: class" in dataset.notes
    with pytest.raises(DataError, match=r"JPEG' cannot be decoded"):
        dataset[5]


def test_a_missing_class_folder_is_named(val: Path) -> None:
    folder = val / "val" / "n01443537"
    next(folder.iterdir()).unlink()
    with pytest.raises(DataError, match="n01443537' has no image"):
        IMAGENET.open(val, None, "test")
    folder.rmdir()
    with pytest.raises(DataError, match="lacks 1 of 1,000 class folders, the first 'n01443537'"):
        IMAGENET.open(val, None, "test")


def test_a_foreign_class_folder_is_named(val: Path) -> None:
    (val / "val" / "n99999999").mkdir()
    with pytest.raises(DataError, match="has the folder 'n99999999', no ImageNet-1k class"):
        IMAGENET.open(val, None, "test")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    (tmp_path / "val").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(jpeg(seed=number))
    return tmp_path


# As the file of the Kaggle challenge: an image's boxes, each with its class.
BOXES = """ImageId,PredictionString
{0},n01443537 1 2 3 4 n01443537 5 6 7 8
{1},n01440764 1 2 3 4
{2},n15075141 9 9 9 9
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val_labels.txt", "{0}.JPEG n01443537\n{1}.JPEG n01440764\n{2}.JPEG n15075141\n"),
        ("labels.txt", "{0}.JPEG 1\n{2}.JPEG 999\n{1}.JPEG 0\n"),
        ("LOC_val_solution.csv", BOXES),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_flat_folder_takes_labels_from_a_file(flat: Path, name: str, text: str, beside: bool) -> None:
    place = flat if beside else flat / "val"
    (place / name).write_text(text.format(*(f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3))))
    dataset = IMAGENET.open(flat, None, "test")
    assert [dataset.label(index) for index in range(3)] == [1, 0, 999]
    assert "order: file name" in dataset.notes
    assert dataset[2].pixels.shape == (3, 224, 224)


def test_ilsvrc_ids_are_refused_with_the_reason(flat: Path) -> None:
    (flat / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n171\n")
    with pytest.raises(DataError, match="counts classes by ILSVRC ids, which are not the labels of any network"):
        IMAGENET.open(flat, None, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("490\n361\n171\n", "line 1: expected 'filename wnid' or 'filename label'"),
        ("a.JPEG n00000000\n", "line 1: expected 'filename wnid'"),
        ("a.JPEG 1000\n", "line 1: expected 'filename wnid'"),
        ("ILSVRC2012_val_00000001.JPEG 1\n", "has no label for 'ILSVRC2012_val_00000002.JPEG'"),
        ("a.JPEG 1\na.JPEG 2\n", "line 2: 'a.JPEG' has another label above"),
        ("a.JPEG 1\nb.JPEG n01440764\n", "mixes wnids and numbers"),
        ("".join(f"{number}.JPEG {number % 999 + 1}\n" for number in range(2000)), "seems to count from 1"),
    ],
)
def test_a_label_file_that_cannot_be_right_is_refused(flat: Path, text: str, message: str) -> None:
    (flat / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        IMAGENET.open(flat, None, "test")


def test_two_label_files_are_refused(flat: Path) -> None:
    (flat / "labels.txt").write_text("a.JPEG 1\n")
    (flat / "val" / "val_labels.txt").write_text("a.JPEG 1\n")
    with pytest.raises(DataError, match="keep one of the two"):
        IMAGENET.open(flat, None, "test")


def test_kaggles_tree_is_found_from_its_root_and_below(tmp_path: Path, wnids: tuple[str, ...]) -> None:
    inner = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    inner.mkdir(parents=True)
    names = [f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3)]
    for seed, name in enumerate(names):
        (inner / f"{name}.JPEG").write_bytes(jpeg(seed=seed))
    (tmp_path / "LOC_val_solution.csv").write_text(BOXES.format(*names))
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} a name\n" for wnid in wnids))
    for root in (tmp_path, tmp_path / "ILSVRC", inner.parent, inner):
        dataset = IMAGENET.open(root, None, "test")
        assert [dataset.label(index) for index in range(3)] == [1, 0, 999]
        assert any("LOC_val_solution.csv, by wnid" in note for note in dataset.notes)


@pytest.mark.parametrize("table", ["map_clsloc.txt", "meta.mat"])
def test_the_official_tar_takes_ids_by_the_table_of_the_kit(tmp_path: Path, wnids: tuple[str, ...], table: str) -> None:
    members = {f"ILSVRC2012_val_{number:08d}.JPEG": jpeg(seed=number) for number in (2, 1, 4)}
    path = tar_of(tmp_path / "ILSVRC2012_img_val.tar", members)
    kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n1000\n7\n490\n")
    with pytest.raises(DataError, match="counts classes by ILSVRC ids, which are not the labels of any network"):
        IMAGENET.open(path, None, "test")
    # Here id k stands for the class k from the end; the ids above 1000 are no classes of the challenge.
    ids = {str(k + 1): wnid for k, wnid in enumerate(reversed(wnids))}
    if table == "map_clsloc.txt":
        (kit / table).write_text("".join(f"{wnid} {number} name\n" for number, wnid in ids.items()))
    else:
        kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
        rows = [(float(number), wnid, "name") for number, wnid in {**ids, "1001": "n99999999"}.items()]
        savemat(kit / table, {"synsets": np.array(rows, dtype=kind)})
    dataset = IMAGENET.open(tmp_path, None, "test")
    assert [dataset.label(index) for index in range(3)] == [999, 0, 510]
    assert dataset.preprocessing == "resize256-crop224"
    (kit / table).write_bytes((kit / table).read_bytes()[:400])
    with pytest.raises(DataError, match=r"no table of synsets|does not give each"):
        IMAGENET.open(path, None, "test")


def test_packed_images_are_checked_by_the_wnids_in_their_names(tmp_path: Path, wnids: tuple[str, ...]) -> None:
    good = {"n01443537_1.cls": b"1", "n01443537_1.jpg": jpeg(), "x.cls": b"999", "x.jpg": jpeg()}
    dataset = IMAGENET.open(tar_of(tmp_path / "imagenet1k-validation-00.tar", good), None, "test")
    assert [dataset.label(index) for index in range(2)] == [1, 999]
    assert "order: file" in dataset.notes
    for changes, message in (
        ({"n01443537_1.cls": b"2"}, "says label 2, but n01443537 is class 1"),
        ({"x.cls": b"1000"}, "has labels up to 1000"),
    ):
        tar_of(tmp_path / "imagenet1k-validation-00.tar", {**good, **changes})
        with pytest.raises(DataError, match=message):
            IMAGENET.open(tmp_path, None, "test")


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_tar_is_read_in_place_in_the_order_of_its_names(tmp_path: Path) -> None:
    small = {"s/001_n01443537_goldfish.jpg": jpeg(224, 224, 1), "s/000_n01440764_tench.jpg": jpeg(224, 224, 2)}
    dataset = IMAGENET.open(tar_of(tmp_path / "s.tar", small), None, "test")
    assert (dataset.preprocessing, len(dataset)) == ("precropped224", 2)
    assert [dataset.label(0), dataset.label(1)] == [0, 1]
    truth = np.asarray(Image.open(io.BytesIO(jpeg(224, 224, 2)))).transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(dataset[0].pixels, truth)
    with pytest.raises(DataError, match="is cropped to 224x224 already, got size 256"):
        IMAGENET.open(tmp_path / "s.tar", 256, "test")


def test_images_of_two_kinds_of_preprocessing_are_not_mixed(tmp_path: Path) -> None:
    mixed = {"000_n01440764_a.jpg": jpeg(224, 224), "001_n01443537_b.jpg": jpeg(300, 280)}
    dataset = IMAGENET.open(tar_of(tmp_path / "m.tar", mixed), None, "test")
    with pytest.raises(DataError, match=r"001_n01443537_b.jpg' is 300x280, the others are 224x224"):
        dataset[1]
    originals = {"000_n01440764_a.jpg": jpeg(300, 280)}
    dataset = IMAGENET.open(tar_of(tmp_path / "o.tar", originals), None, "test")
    assert (dataset.preprocessing, dataset[0].pixels.shape) == ("resize256-crop224", (3, 224, 224))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"490_n01440764_tench.jpg": b"x"}, "says label 490, but n01440764 is class 0"),
        ({"000_n00000000_x.jpg": b"x"}, "says label 0, but n00000000 is no ImageNet-1k class"),
        ({"tench.jpg": b"x"}, "needs labels"),
        ({"readme.txt": b"x"}, "holds no image"),
    ],
)
def test_a_tar_whose_names_lie_is_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        IMAGENET.open(tar_of(tmp_path / "t.tar", members), None, "test")


def test_a_compressed_or_broken_tar_is_refused(tmp_path: Path) -> None:
    packed = tar_of(tmp_path / "t.tar.gz", {"000_n01440764_a.jpg": jpeg(224, 224)}, "w:gz")
    (tmp_path / "t.tar").write_bytes(b"no tar at all" * 100)
    for path in (packed, tmp_path / "t.tar"):
        with pytest.raises(DataError, match="is not a readable uncompressed tar"):
            IMAGENET.open(path, None, "test")


def test_what_is_no_imagenet_is_refused_in_one_line(tmp_path: Path) -> None:
    for root, size, split, message in (
        (None, None, "test", "needs --data-root"),
        (tmp_path / "absent", None, "test", "does not exist"),
        (tmp_path, None, "test", "neither class folders"),
        (tmp_path, 128, "test", "cropped to 224 or 256"),
        (tmp_path, None, "dev", "splits 'test'"),
        (tmp_path, None, "train", "has no folder 'train'"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            IMAGENET.open(root, size, split)
        assert "\n" not in str(caught.value)


def test_the_sample_has_one_image_a_class_in_label_order(wnids: tuple[str, ...]) -> None:
    if not TAR.is_file():
        pytest.skip("../shared is absent: no ImageNet crops to read")
    index = json.loads((SHARED / "imagenet_class_index.json").read_text())
    assert [index[str(label)][0] for label in range(1000)] == list(wnids)
    dataset = IMAGENET.open(TAR, None, "test")
    assert [dataset.label(position) for position in range(1000)] == list(range(1000))
    for position in (0, 1, 500, 999):
        assert dataset[position].pixels.shape == (3, 224, 224)
    assert dataset.class_names[0].startswith("tench")
