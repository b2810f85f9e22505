"""What is no checkpoint is called what it is, and nothing is opened that blocks or unpacks to more than it holds."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import socket
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from weights_files import refused, saved, state

from bench.weights.checkpoints import load_tensors, sha256_of


def zip_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path.read_bytes()


def test_every_other_kind_is_named_and_none_is_to_be_fetched_again(tmp_path):
    whole = saved(tmp_path / "whole.pth", state()).read_bytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.add(tmp_path / "whole.pth")
    script = dict.fromkeys(("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"), b"\x80\x02}.")
    array = io.BytesIO()
    np.save(array, np.ones(3))
    others = {
        "gzip": ("a.pth", gzip.compress(whole)),
        "xz": ("a.pth", lzma.compress(whole)),
        "zstd": ("a.pth", b"\x28\xb5\x2f\xfd" + bytes(100)),
        "tar archive": ("a.pth.tar", tar.getvalue()),
        "zip archive with 'inside.pth'": ("a.zip", zip_of(tmp_path / "z", {"inside.pth": whole})),
        "TorchScript": ("a.pt", zip_of(tmp_path / "z", script)),
        "npz": ("a.npz", zip_of(tmp_path / "z", {"w.npy": array.getvalue()})),
        "numpy array": ("a.npy", array.getvalue()),
        "Keras": ("a.keras", zip_of(tmp_path / "z", {"config.json": "{}", "model.weights.h5": b"x"})),
        "HDF5": ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "ONNX": ("a.onnx", b"\x08\x07\x12\x07pytorch" + bytes(100)),
        "TensorFlow": ("model.ckpt.data-00000-of-00001", b"\x01\x02" * 100),
        "msgpack": ("a.ckpt", b"\x82\xa6params\x81"),
        "GGUF": ("a.gguf", b"GGUF" + bytes(100)),
        "JSON": ("config.json", b'{"architectures": ["ViT"]}'),
        "protocol 0": ("a.pkl", b"(dp0\nVa\np1\nI1\ns."),
    }
    for word, (name, data) in others.items():
        (tmp_path / name).write_bytes(data)
        assert "fetch it again" not in refused(lambda name=name: load_tensors(tmp_path / name), word), word


def test_a_zip_that_unpacks_to_more_than_it_holds_is_refused_unread(tmp_path):
    whole = saved(tmp_path / "whole.pth", {"w": torch.zeros(1_000_000)})
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    zip_of(tmp_path / "bomb.pth", members, zipfile.ZIP_DEFLATED)
    refused(lambda: load_tensors(tmp_path / "bomb.pth"), "compressed")


def test_overlapping_members_are_refused(tmp_path):
    path = tmp_path / "overlap.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(10_000))
        for i in range(1, 20):  # the directory names the same bytes again
            twin = zipfile.ZipInfo(f"a/data/{i}")
            first = archive.getinfo("a/data/0")
            for key in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, key, getattr(first, key))
            archive.filelist.append(twin)
    refused(lambda: load_tensors(path), "more than its own size")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_a_tensor_that_claims_more_than_is_stored_is_refused_at_once(tmp_path, old):
    huge = torch.zeros(1).expand(10**6, 10**6)
    refused(lambda: load_tensors(saved(tmp_path / "a.pth", {"w": huge}, old=old)), "claim")
    window = torch.zeros(10**4).as_strided((5000, 5000), (1, 1))
    refused(lambda: load_tensors(saved(tmp_path / "b.pth", {"w": window}, old=old)), "claims more numbers")
    views = {f"w{i}": torch.zeros(10**6).expand(100, 10**6) for i in range(2)}
    views |= {f"v{i}": views["w0"] for i in range(200)}
    refused(lambda: load_tensors(saved(tmp_path / "c.pth", views, old=old)), "claim")


def test_one_number_that_fills_a_tensor_is_read_as_stored(tmp_path):
    path = saved(tmp_path / "a.pth", {"w": torch.ones(1).expand(30, 40)})
    assert load_tensors(path)[0]["w"].sum() == 1200
    nan = saved(tmp_path / "b.pth", {"w": torch.tensor([float("nan")]).expand(30, 40)})
    refused(lambda: load_tensors(nan), "NaN")


def test_pipes_sockets_and_devices_are_refused_without_being_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.pth")
    refused(lambda: load_tensors(tmp_path / "pipe.pth"), "a pipe")
    refused(lambda: sha256_of(tmp_path / "pipe.pth"), "a pipe")
    refused(lambda: load_tensors(Path("/dev/zero")), "a device")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s.pth")
        refused(lambda: load_tensors(Path("s.pth")), "a socket")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "model.safetensors")
    refused(lambda: load_tensors(tmp_path / "folder"), "a pipe")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
        (lambda: torch.empty(3, device="meta"), "meta"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
        (lambda: torch.ones(3, dtype=torch.complex64), "complex"),
    ],
)
def test_what_is_no_plain_array_is_refused_by_its_kind(tmp_path, make, word):
    for content in ({"w": make()}, {"model": {"w": make(), "b": torch.ones(1)}}):
        refused(lambda c=content: load_tensors(saved(tmp_path / "a.pth", c)), word, "'w'")


def test_a_double_that_no_float32_holds_is_not_finite(tmp_path):
    refused(
        lambda: load_tensors(saved(tmp_path / "a.pth", {"w": torch.tensor([1e300], dtype=torch.float64)})), "infinity"
    )
