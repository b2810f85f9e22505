"""Each method's own way from a file to pixels: in its spec, overruled by the user, never in another's table."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import run

from bench.data.imagenet import PREPROCESSINGS
from bench.report.grouping import groups
from bench.runs.certify import open_dataset
from bench.runs.request import RunRequest, plan
from bench.types.errors import DataError, UsageError

DIGEST = "a7328a8b882d4380208419ce2c986ef6eb468d922b8dd975e7b5456eb24b76c0"
REQUEST = RunRequest(
    methods=("gaussian",), dataset="imagenet", sigmas=(0.5,), n=100, random_weights=True, subset="first:1"
)


def tar(folder: Path, size: tuple[int, int] = (300, 280)) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (14, 15, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(values).resize(size).save(data, "JPEG")
    path = folder / "some.tar"
    with tarfile.open(path, "w:") as packed:
        member = tarfile.TarInfo("0_n01440764_tench.jpg")
        member.size = len(data.getvalue())
        packed.addfile(member, io.BytesIO(data.getvalue()))
    return path


def test_each_method_has_its_authors_way_by_default(tmp_path: Path) -> None:
    methods = ("gaussian", "rrcm", "dmae", "densepure", "dds")
    jobs = plan(replace(REQUEST, methods=methods, data_root=tar(tmp_path)))
    assert {job.spec.method: (job.spec.preprocessing, job.spec.shape[1]) for job in jobs} == {
        "gaussian": ("resize256-crop224", 224),
        "rrcm": ("short224-box-bicubic", 224),
        "dmae": ("bicubic256-crop224", 224),
        "densepure": ("bicubic256-crop256", 256),
        "dds": ("resize256-crop224", 224),
    }
    pixels = [open_dataset(job)[0].fingerprint for job in jobs]
    assert len(set(pixels)) == 4
    assert pixels[0] == pixels[4]


def test_the_user_overrules_it_for_all_and_a_size_keeps_the_way(tmp_path: Path) -> None:
    root = tar(tmp_path)
    for name in PREPROCESSINGS:
        jobs = plan(replace(REQUEST, methods=("gaussian", "densepure"), data_root=root, preprocessing=name))
        assert {job.spec.preprocessing for job in jobs} == {name}
        assert len({open_dataset(job)[0].fingerprint for job in jobs}) == 1
    [job] = plan(replace(REQUEST, methods=("dmae",), data_root=root, size=256))
    assert (job.spec.preprocessing, job.spec.shape[1]) == ("bicubic256-crop256", 256)


def test_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    root = tar(tmp_path)
    with pytest.raises(DataError, match="no --preprocessing 'x'; expected one of resize256-crop224, "):
        plan(replace(REQUEST, data_root=root, preprocessing="x"))
    with pytest.raises(DataError, match="'digits' has no --preprocessing 'resize256-crop224'; leave it out"):
        plan(replace(REQUEST, dataset="digits", preprocessing="resize256-crop224"))
    with pytest.raises(UsageError, match="bicubic256-crop224 cannot be had of these images at size 256"):
        plan(replace(REQUEST, data_root=root, preprocessing="bicubic256-crop224", size=256))


def test_images_that_are_cropped_already_stay_so_and_no_way_is_claimed(tmp_path: Path) -> None:
    root = tar(tmp_path, (224, 224))
    jobs = plan(replace(REQUEST, methods=("gaussian", "rrcm", "densepure"), data_root=root))
    assert {job.spec.preprocessing for job in jobs} == {"precropped224"}
    assert all(open_dataset(job)[0].pixels.shape == (3, 224, 224) for job in jobs)
    with pytest.raises(UsageError, match="cannot be had of these images, which are 'precropped224'"):
        plan(replace(REQUEST, data_root=root, preprocessing="resize256-crop224"))


def test_a_digest_of_before_the_choice_is_that_of_its_pixels(tmp_path: Path) -> None:
    [job] = plan(replace(REQUEST, data_root=tar(tmp_path)))
    assert job.spec.as_json()["preprocessing"] == "resize256-crop224"
    # Of the same spec, made before there was a choice.
    known = replace(job.spec, subset_fingerprint="0" * 64, params={}, weights={})
    assert known.digest() == DIGEST


def test_runs_of_other_pixels_never_share_a_table() -> None:
    one, other = run([1000, 900]), run([1000, 900], preprocessing="short224-box-bicubic")
    assert len(groups([one, other], "pa")) == 2
    captions = [group.caption() for group in groups([one, other], "pa")]
    assert sum("preprocessing short224-box-bicubic" in caption for caption in captions) == 1
