"""Specs and rows are read back as they were written, whatever they hold; so are folders of the first versions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_runs import HOW, SPEC

from bench.runs.records import read_row, row_line
from bench.runs.store import open_run, read_run
from bench.types import Counts, Row, RunSpec

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NAMES = st.text(ascii_lowercase, min_size=1, max_size=8)
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e100, 1e100))
FIXED = st.builds(
    RunSpec,
    method=TEXT,
    params=st.dictionaries(NAMES, SCALARS, max_size=3),
    weights=st.dictionaries(NAMES, TEXT, max_size=3),
    dataset=TEXT,
    split=TEXT,
    subset=st.sampled_from(["all", "skip:5", "first:3", "3:9"]),
    subset_fingerprint=TEXT,
    images=st.integers(1, 10**6),
    shape=st.tuples(*[st.integers(1, 1000)] * 3),
    preprocessing=TEXT,
    sigma=st.floats(1e-6, 1e6),
    n0=st.integers(0, 10**9),
    n=st.integers(1, 10**9),
    alpha=st.floats(1e-12, 0.5),
    certifier=st.just("cohen"),
    seed=st.integers(-(2**63), 2**63),
    precision=st.sampled_from(["fp32", "bf16"]),
    noise=TEXT,
    class_order=st.one_of(st.just(""), TEXT),
)


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    """Of a draw of fixed size, of one that stops early, or sequential."""
    spec = draw(FIXED)
    kind = draw(st.sampled_from(["fixed", "early", "sequential"]))
    if kind == "fixed":
        return spec
    radii = tuple(sorted(draw(st.sets(st.floats(0, 10), min_size=1, max_size=4))))
    earlier = draw(st.sets(st.integers(1, 10**9), max_size=3))
    looks = (*sorted(look for look in earlier if look < spec.n), spec.n)
    mode = draw(st.sampled_from(["table", "deploy"]))
    if kind == "early":
        return replace(spec, radii=radii, looks=looks, mode=mode)
    alphas = tuple(draw(st.lists(st.floats(0, 1e-3), min_size=len(looks), max_size=len(looks))))
    beta = draw(st.floats(0, 0.5))
    return replace(spec, certifier="sequential", radii=radii, looks=looks, alphas=alphas, beta=beta, mode=mode)


COUNTS = st.dictionaries(st.integers(0, 10**4), st.integers(1, 10**9), max_size=5).map(
    lambda d: Counts.of([*d.items()])
)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    looks = tuple(draw(st.lists(COUNTS, max_size=3)))
    return Row(
        index=draw(st.integers(0, 10**9)),
        fingerprint=draw(TEXT),
        label=draw(st.integers(0, 10**4)),
        selection=draw(COUNTS),
        estimation=sum(looks[1:], looks[0]) if looks else draw(COUNTS),
        seconds=draw(st.floats(0, 1e9)),
        looks=looks,
        stopped="" if looks else draw(st.sampled_from(["", "wrong", "forced"])),
    )


@given(specs())
@settings(max_examples=40)
def test_a_spec_is_read_back_from_the_text_that_its_digest_is_of(spec: RunSpec) -> None:
    again = RunSpec.from_json(json.loads(json.dumps(spec.as_json())))
    assert again == spec
    assert again.digest() == spec.digest()
    shuffled = dict(reversed(spec.as_json().items()))
    assert RunSpec.from_json(shuffled).digest() == spec.digest()


@given(specs(), st.data())
@settings(max_examples=25)
def test_specs_that_differ_have_other_digests(spec: RunSpec, data: st.DataObject) -> None:
    other = data.draw(specs())
    assert (spec.digest() == other.digest()) == (spec.as_json() == other.as_json())
    assert replace(spec, seed=spec.seed + 1).digest() != spec.digest()


@given(specs())
@settings(max_examples=25)
def test_a_run_folder_gives_the_spec_that_it_was_opened_with(
    tmp_path_factory: pytest.TempPathFactory, spec: RunSpec
) -> None:
    out = tmp_path_factory.mktemp("runs")
    assert read_run(open_run(out, spec, HOW, {}).path).spec == spec


@given(rows())
@settings(max_examples=40)
def test_a_row_is_read_back_from_its_line_and_from_no_other_runs(row: Row) -> None:
    digest = SPEC.digest()
    line = row_line(row, digest)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read_row(line[:-1], digest) == (row, "fits")
    assert read_row(line[:-1], replace(SPEC, seed=1).digest()) == (row, "broken")
    unsealed = json.dumps(row.as_json()).encode()  # as the first versions wrote it
    assert read_row(unsealed, digest) == (row, "none")


# ---- a folder of the first version: no seals, no number of classes --------------------------------------------------

OLD_DIGEST = "d75577d932be85b2b66ce44a445756b2ad52709ce6520b0eaa683623086ff39d"
OLD_RUN = """\
{
 "format": 1,
 "digest": "d75577d932be85b2b66ce44a445756b2ad52709ce6520b0eaa683623086ff39d",
 "created": "2026-11-21T02:48:22Z",
 "spec": {
  "method": "gaussian",
  "params": {
   "arch": "digits_resnet",
   "normaliser": "mean_std"
  },
  "weights": {
   "network": "98bce04e50499b2e1b72eb6fbe8e17666a9a9b005a3d59b44e0bbe75e29da39a"
  },
  "dataset": "digits",
  "split": "test",
  "subset": "skip:5",
  "subset_fingerprint": "45623435edce97b4c45509d75d3ca3670279c63e05f48e71d568f9927cf5cd47",
  "images": 100,
  "shape": [
   1,
   8,
   8
  ],
  "preprocessing": "none",
  "sigma": 0.5,
  "n0": 100,
  "n": 5000,
  "alpha": 0.001,
  "certifier": "cohen",
  "seed": 0,
  "precision": "fp32",
  "noise": "philox4x64-boxmuller-1"
 },
 "execution": {
  "devices": [
   "cpu"
  ],
  "batch": null
 },
 "environment": {
  "python": "3.11.7",
  "platform": "Linux-6.18.44-fc-v595-x86_64-with-glibc2.36",
  "packages": {
   "rrcm-bench": "0.1.0",
   "torch": "2.15.0",
   "torchvision": "0.29.2",
   "numpy": "2.4.6",
   "scipy": "1.17.1",
   "timm": "1.0.31",
   "diffusers": "0.42.1",
   "pillow": "13.0.0",
   "scikit-learn": "1.9.1"
  },
  "git_commit": "4d3a44bd40171d2065a7b1821e3b621c6c004265",
  "cpu": "AMD EPYC, 2 cores",
  "threads": 2,
  "devices": {
   "cpu": "AMD EPYC, 2 cores"
  },
  "cuda": "13.2",
  "cudnn": 92600,
  "precision": "fp32",
  "tf32": false,
  "cudnn_benchmark": false,
  "deterministic": false
 }
}
"""
OLD_ROWS = """\
{"index":0,"fingerprint":"554ce17e7cb40362e497157a6219f901af30ee0a6355a7502273e5dff51064d2","label":0,"selection":[[0,85],[2,1],[3,1],[4,1],[5,2],[6,6],[9,4]],"estimation":[[0,4250],[1,9],[2,40],[3,26],[4,117],[5,138],[6,194],[7,10],[8,26],[9,190]],"seconds":0.06597351600066759}
{"index":5,"fingerprint":"e0c390b89bf4b657d8c767b735ce61b556f2342262c6787dc4ea6e05eec34e83","label":5,"selection":[[3,15],[5,84],[6,1]],"estimation":[[0,83],[1,2],[2,4],[3,518],[5,4245],[6,44],[7,37],[8,12],[9,55]],"seconds":0.0686696650009253}
{"index":10,"fingerprint":"d2389e35f11bddaa2891f708cc04ac35456ff5c8e73c81560eddbd2c0ed94812","label":0,"selection":[[0,90],[5,1],[6,6],[8,2],[9,1]],"estimation":[[0,4524],[1,2],[2,16],[3,22],[4,17],[5,62],[6,210],[7,1],[8,35],[9,111]],"seconds":0.08844616500027769}
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / f"digits-gaussian-s0.5-{OLD_DIGEST[:10]}"
    folder.mkdir()
    (folder / "run.json").write_text(OLD_RUN)
    (folder / "rows-20261121T024822-8216-6f1a22.jsonl").write_text(OLD_ROWS)
    return folder


def test_a_folder_of_the_first_version_is_read_with_its_digest_and_votes(old: Path) -> None:
    run = read_run(old)
    assert run.spec.digest() == OLD_DIGEST
    assert (run.num_classes, run.unsealed, run.conflicts, run.done) == (None, 3, 0, False)
    assert [row.as_json() for row in run.rows] == [json.loads(line) for line in OLD_ROWS.splitlines()]
    assert run.rows[0].estimation[0] == 4250
    assert run.environment["packages"]["torch"] == "2.15.0"
    assert run.execution == {"devices": ["cpu"], "batch": None}


def test_a_run_of_the_first_version_goes_on_in_its_folder(old: Path) -> None:
    spec = read_run(old).spec
    assert open_run(old.parent, spec, HOW, {}, num_classes=10).path == old
    assert (old / "run.json").read_text() == OLD_RUN
