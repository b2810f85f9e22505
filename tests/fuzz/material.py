"""Sound files of every kind that commands read, small, and the same bytes wherever they are made."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.runs.certify import make_worker
from bench.runs.request import RunRequest, plan
from bench.runs.store import RowWriter, open_run
from bench.timing.latency.store import append
from bench.timing.records import DeviceFacts, LatencyRecord, Work
from bench.types import Execution
from tests.fuzz import child, packed
from tests.fuzz.commands import STATED, TRAIN
from tests.support.published_logs import cohen, simulated, ten_columns, without_index

METHOD = """\
import torch
from bench.types import Method, Param, Role


class Mine:
    num_classes = 10

    def predict(self, x, noise):
        return (x.flatten(1).sum(1) + noise.randn()).long() % 10


PARAMS = (Param(name="k", default=1, help="-"),)
MINE = Method(name="mine", title="Mine", cite="me", build=lambda setting: Mine(), params=PARAMS)
"""
DATASET = """\
import numpy as np
from bench.types import DatasetSource, Image


class Two:
    name = "two"
    split = "test"
    shape = (1, 8, 8)
    num_classes = 2
    class_names = ("a", "b")
    notes = ()
    preprocessing = "none"

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Image(index, np.full((1, 8, 8), index / 2, np.float32), index, self.digest(index))

    def label(self, index):
        return index

    def digest(self, index):
        return f"{index:064d}"


D = DatasetSource(
    name="two", title="", cite="", default_subset="all", open=lambda root, size, split: Two(), num_classes=2,
    shape=(1, 8, 8),
)
"""
# Whoever imports it without being asked to by name leaves a file.
EVIL = "open('imported-by-name', 'w').close()\n"
PLAN = """\
methods = ["gaussian"]
dataset = "digits"
sigma = [0.5]
n0 = 20
n = 100
alpha = 0.001
seed = 0
subset = "first:1"
set = { normaliser = "mean_std" }
precision = "fp32"
certifier = "cohen"
[[run]]
[[run]]
sigma = 1.0
limit = 1
"""
CATALOGUE = """\
[[weights]]
name = "mine/digits/0.50"
method = "gaussian"
role = "network"
dataset = "digits"
sigma = 0.5
params = { arch = "digits_resnet", normaliser = "mean_std" }
default = true
url = "https://example.org/net.pth"
sha256 = "98bce04e50499b2e1b72eb6fbe8e17666a9a9b005a3d59b44e0bbe75e29da39a"
also = []
bytes = 318632
licence = "none"
source = "here"
note = "mine"
"""
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"methods": ("gaussian",)},
    "other": {"methods": ("consistency",)},
    "sequential": {"methods": ("gaussian",), "certifier": "sequential", "radii": (0.0, 0.25), "n": 400},
    "early": {"methods": ("gaussian",), "early_stop": True, "radii": (0.0, 0.25)},
}


def make(folder: Path, command: Callable[..., int]) -> None:
    """Write all of it; `command` runs one command of the command line in `folder`."""
    folder.mkdir()
    (folder / "mine.py").write_text(METHOD)
    (folder / "two.py").write_text(DATASET)
    (folder / "evil.py").write_text(EVIL)
    (folder / "plan.toml").write_text(PLAN)
    (folder / "weights.toml").write_text(CATALOGUE)
    (folder / "here.txt").write_text("0\n1\n")
    (folder / "a-folder").mkdir()
    runs(folder)
    logs(folder)
    pictures(folder / "pictures")
    batches(folder / "cifar")
    # pyarrow starts threads, with which no process may be forked
    assert child.wait(child.start(lambda: packed.make(folder / "packed") or 0, folder), 60.0) == 0
    checkpoints(folder)
    assert command("logs", "import", "log.txt", *STATED[:-1], "imported") == 0
    assert command(*TRAIN, "--out", "trained") == 0


def runs(folder: Path) -> None:
    """Runs of three of four images, as a killed command leaves them, by name."""
    for name, changes in RUNS.items():
        asked = {"dataset": "digits", "sigmas": (0.5,), "n0": 20, "n": 100, "subset": "first:4", **changes}
        (job,) = plan(RunRequest(**asked))
        worker = make_worker(job, "cpu", 50)
        paper_tables = {"packages": {"torch": "2"}, "devices": {"cpu": "a"}}
        run = open_run(folder / name, job.spec, Execution(("cpu",), 50), paper_tables)
        with RowWriter(run.path) as writer:
            for index in job.indices[:3]:
                writer.append(replace(worker(index), seconds=0.5))
    spec = job.spec.as_json()
    device = DeviceFacts(
        name="a device", kind="cpu", profile="", threads=1, peak_flops_s=1e12, peak_bytes_s=1e12, peak_origin="made up"
    )
    timed = LatencyRecord(
        spec_digest=job.spec.digest(), spec=spec, created="2026-01-01T00:00:00Z", device=device, environment={},
        clock="perf_counter", batch=50, batch_from="searched", curve=((50, 10.0), (100, None)), n0=20, n=100,
        copies=120, seconds=(1.0, 1.5, 1.25), wall=(1.0, 1.5, 1.25), warmup=(1.0,), steady=True, setup_s=0.5,
        stages={"noise": 0.001, "classify": 0.01}, work=Work({"classify": 1e6}, {"classify": 1e6}, {"classify": 1e3}),
    )  # fmt: skip
    append(folder / "latency.jsonl", [timed, replace(timed, n0=0, n=60, copies=60)])


def logs(folder: Path) -> None:
    """Logs of three layouts, and a .mat of MACER's."""
    from scipy.io import savemat

    rows = simulated(60, n=1000, seed=1)
    for name, text in (("log", cohen(rows)), ("ten", ten_columns(rows)), ("bare", without_index(rows))):
        (folder / f"{name}.txt").write_text(text)
    savemat(folder / "macer.mat", {"hard": [r if y == p else -1.0 for _, y, p, r, _ in rows]})
    raw = (folder / "macer.mat").read_bytes()
    (folder / "macer.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + raw[116:])  # its header holds the date
    savemat(folder / "packed.mat", {"hard": [r for *_, r, _ in rows], "other": {"a": [1.0, "b"]}}, do_compression=True)


def pictures(folder: Path) -> None:
    """Two classes of two pictures."""
    from PIL import Image

    for shade, name in enumerate(("a", "b")):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (shade * 40, number * 20, 255)).save(folder / name / f"{number}.png")


def batches(folder: Path) -> None:
    """CIFAR-10's test set of made up pictures: the binary version and the pickled one."""
    import pickle

    made = np.random.default_rng(0).integers(0, 256, (30, 3073), dtype=np.uint8)
    made[:, 0] %= 10
    (folder / "binary").mkdir(parents=True)
    (folder / "binary" / "test_batch.bin").write_bytes(made.tobytes())
    (folder / "pickled").mkdir()
    content = {b"batch_label": b"made up", b"labels": made[:, 0].tolist(), b"data": np.ascontiguousarray(made[:, 1:])}
    (folder / "pickled" / "test_batch").write_bytes(pickle.dumps(content, protocol=2))


def checkpoints(folder: Path) -> None:
    """The shipped network for digits: safetensors, torch's zip and torch's older format."""
    import torch
    from safetensors.torch import load_file, save_file

    import methods

    shipped = Path(methods.__file__).parent / "pretrained" / "digits" / "gaussian-0.50.safetensors"
    state = load_file(shipped)
    save_file(state, folder / "net.safetensors")
    torch.save({"epoch": 3, "arch": "digits_resnet", "state_dict": state}, folder / "net.pth")
    torch.save({"state_dict": state}, folder / "old.pth", _use_new_zipfile_serialization=False)
    with (
        zipfile.ZipFile(folder / "net.pth") as stored,
        zipfile.ZipFile(folder / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in stored.namelist():
            packed.writestr(zipfile.ZipInfo(member), stored.read(member), zipfile.ZIP_DEFLATED)
