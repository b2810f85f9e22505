"""A stranger's dataset is certified as what it is, or refused; never as another, and never pixels that are none."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_job import certify

from bench.data.checked import CheckedDataset
from bench.data.subset import pixel_fingerprint
from bench.report.accuracy import table_radii
from bench.report.grouping import groups
from bench.runs.certify import make_remote, portable
from bench.runs.registry import open_dataset
from bench.runs.request import RunRequest, plan
from bench.runs.store import Run, read_run
from bench.testing import ToyImages
from bench.types import Execution, Image
from bench.types.errors import DataError, MethodError

SHAPE = (1, 4, 4)

# Inverted digits that call themselves `NAME`; SHIFT moves their labels.
DATASET = """\
from dataclasses import dataclass, replace
from bench.data.digits import DIGITS
from bench.data.subset import pixel_fingerprint
from bench.types import DatasetSource

class Inverted:
    def __init__(self, source):
        self.source, self.name = source, {name!r}
        self.split, self.shape, self.num_classes = source.split, source.shape, source.num_classes
        self.class_names, self.notes, self.preprocessing = source.class_names, (), "inverted"

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        image = self.source[index]
        pixels = (1 - image.pixels)[:, ::-1]
        return replace(image, pixels=pixels, label=self.label(index), fingerprint=pixel_fingerprint(pixels))

    def label(self, index):
        return (self.source.label(index) + {shift}) % 10

    def digest(self, index):
        return "ab" + self.source.digest(index)

MINE = DatasetSource(name={name!r}, title="", cite="", default_subset="first:4",
                     open=lambda root, size, split: Inverted(DIGITS.open(root, size, split)))
"""

METHOD = """\
from bench.types import Method

class Bright:
    num_classes = 10

    def predict(self, x, noise):
        return (x.flatten(1).mean(1) * 10).long().clamp(0, 9)

BRIGHT = Method(name="bright", title="", cite="", build=lambda setting: Bright())
"""


def written(folder: Path, name: str = "digits", shift: int = 0) -> RunRequest:
    (folder / "data.py").write_text(DATASET.format(name=name, shift=shift))
    (folder / "method.py").write_text(METHOD)
    return RunRequest(
        methods=(f"{folder / 'method.py'}:BRIGHT",), dataset=f"{folder / 'data.py'}:MINE", sigmas=(0.5,), n0=10, n=20
    )


def computed(request: RunRequest, out: Path, devices: tuple[str, ...] = ("cpu",)) -> Run:
    return certify(plan(request)[0], Execution(devices, 20), out, lambda run, worker: None, lambda row: None)


def test_a_dataset_that_borrows_a_name_is_certified_on_its_own_images(tmp_path: Path) -> None:
    request = written(tmp_path)
    mine, official = computed(request, tmp_path), computed(replace(request, dataset="digits"), tmp_path)
    assert mine.spec.dataset.startswith("digits@")
    assert official.spec.dataset == "digits"
    assert {row.fingerprint for row in mine.rows}.isdisjoint(row.fingerprint for row in official.rows)
    assert len(groups([mine, official], "pa")) == 2  # no table ranks them together


def test_a_worker_elsewhere_opens_the_dataset_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = written(tmp_path)
    whole = computed(request, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    job = portable(plan(replace(request, dataset="data.py:MINE", methods=("method.py:BRIGHT",)))[0])
    monkeypatch.chdir("/")
    worker = make_remote(pickle.loads(pickle.dumps(job)), "cpu", 20)
    assert [replace(worker(row.index), seconds=0.0) for row in whole.rows] == [
        replace(row, seconds=0.0) for row in whole.rows
    ]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../up", "..", ".hidden", "n" * 3000, "cifar10"])
def test_no_name_leads_out_of_the_folder_of_runs(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run = computed(written(tmp_path, name), out)
    assert run.done
    assert run.path.parent == out
    assert run.path.name[0] not in ".-"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "__pycache__"] == ["out"]


@pytest.mark.parametrize("file", ["data.py", "method.py"])
def test_code_that_changes_after_the_plan_is_refused(tmp_path: Path, file: str) -> None:
    job = plan(written(tmp_path))[0]
    with (tmp_path / file).open("a") as code:
        code.write("# another version\n")
    open_dataset.cache_clear()
    with pytest.raises((DataError, MethodError), match="the run was planned with"):
        certify(job, Execution(("cpu",), 20), tmp_path / "out", lambda run, worker: None, lambda row: None)
    assert not (tmp_path / "out").exists()


def test_images_that_change_after_the_plan_are_refused(tmp_path: Path) -> None:
    job = plan(written(tmp_path))[0]
    moved = replace(job, images={i: (label, digest[::-1]) for i, (label, digest) in job.images.items()})
    with pytest.raises(DataError, match="image 0: its label or file changed since the run was planned"):
        certify(moved, Execution(("cpu",), 20), tmp_path, lambda run, worker: None, lambda row: None)
    assert not list(tmp_path.glob("*/rows*"))


class Odd(ToyImages):
    """Toy images of which one thing is wrong."""

    odd: Any

    def __getitem__(self, index: int) -> Image:
        return self.odd(super().__getitem__(index))


def odd(change: Any) -> CheckedDataset:
    images = Odd(4, SHAPE, name="odd")
    images.odd = change
    return CheckedDataset(images, "odd@12")


def pixels(made: Any) -> Any:
    def change(image: Image) -> Image:
        new = made(image.pixels.copy())
        valid = isinstance(new, np.ndarray) and new.dtype == np.float32
        return replace(image, pixels=new, fingerprint=pixel_fingerprint(new) if valid else "")

    return change


def with_first(value: float) -> Any:
    def change(x: np.ndarray) -> np.ndarray:
        x[0, 0, 0] = value
        return x

    return pixels(change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pixels(lambda x: x * np.float32(255)), "within [0, 1]"),
        (with_first(-7), "got -7 to"),
        (with_first(float("nan")), "not finite"),
        (with_first(float("inf")), "not finite"),
        (with_first(1.0000002), "within [0, 1]"),
        (pixels(lambda x: (x * 255).astype(np.uint8)), "got uint8 of shape (1, 4, 4)"),
        (pixels(lambda x: x.astype(np.float64)), "got float64"),
        (pixels(lambda x: x.astype(">f4").view(">f4")), "got >f4"),
        (pixels(lambda x: x[:, :3]), "of shape (1, 3, 4)"),
        (pixels(lambda x: x.tolist()), "got list"),
        (lambda image: replace(image, label=2), "a label from 0 to 1, a whole number, got 2"),
        (lambda image: replace(image, label=-1), "got -1"),
        (lambda image: replace(image, label=1.0), "got 1.0"),
        (lambda image: replace(image, label=True), "got True"),
        (lambda image: replace(image, label="1"), "got '1'"),
        (lambda image: replace(image, index=3), "calls itself image 3"),
        (lambda image: replace(image, fingerprint="0" * 64), "is not that of its pixels"),
    ],
)
def test_an_image_that_is_none_is_refused_with_its_index(change: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        odd(change)[2]
    assert str(caught.value).startswith("dataset odd@12, image 2: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pixels_that_torch_could_not_take_as_they_are_arrive_whole() -> None:
    import torch

    def awkward(x: np.ndarray) -> np.ndarray:
        x.flags.writeable = False
        return x[:, ::-1]

    image = odd(pixels(awkward))[1]
    expected = ToyImages(4, SHAPE)[1].pixels[:, ::-1]
    assert np.array_equal(torch.from_numpy(image.pixels).numpy(), expected)


def test_whole_numbers_of_numpy_are_labels() -> None:
    image = odd(lambda image: replace(image, label=np.uint8(image.label)))[0]
    assert type(image.label) is int


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (4, 4)}, "expected a shape (C, H, W)"),
        ({"shape": (1, 4.0, 4)}, "expected a shape (C, H, W)"),
        ({"shape": (0, 4, 4)}, "expected a shape (C, H, W)"),
        ({"num_classes": 0}, "num_classes of at least 1, got 0"),
        ({"num_classes": "10"}, "num_classes of at least 1, got '10'"),
        ({"split": None}, "expected text as its split"),
        ({"preprocessing": "a\x1b[2J"}, "expected text as its preprocessing"),
    ],
)
def test_a_dataset_that_does_not_say_what_it_is_is_refused(change: dict[str, Any], words: str) -> None:
    images = ToyImages(4, SHAPE)
    for key, value in change.items():
        setattr(images, key, value)
    with pytest.raises(DataError) as caught:
        CheckedDataset(images, "odd@12")
    assert words in str(caught.value)


def test_a_report_prints_a_stranger_s_dataset_at_the_radii_that_its_file_states(tmp_path: Path) -> None:
    request = written(tmp_path)
    path = tmp_path / "data.py"
    (plain,) = plan(request)
    path.write_text(path.read_text().replace("MINE = DatasetSource(", "MINE = DatasetSource(radii=(0, 0.1, 0.2), "))
    (job,) = plan(request)
    assert (plain.table_radii, job.table_radii) == ((), (0.0, 0.1, 0.2))
    run = certify(job, Execution(("cpu",), 20), tmp_path / "out", lambda run, worker: None, lambda row: None)
    path.unlink()  # no report reads it
    assert table_radii(read_run(run.path)) == (0.0, 0.1, 0.2)
    assert "radii" not in run.spec.as_json()
