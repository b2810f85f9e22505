"""Plain data beside the tensors is read without being made; whatever could run is refused, and does not run."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import os
import pathlib
import pickle
import subprocess
import sys
import types
import uuid

import numpy as np
import pytest
import torch
from weights_files import refused, saved, state

from bench.weights.checkpoints import load_tensors
from methods.training.rng import seeded_globals


class Colour(enum.Enum):
    RED = "red"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Settings:
    """A class of the authors' own."""

    def __init__(self):
        self.lr = 0.1


class EasyDict(dict):
    """As the package of that name: its items are set, and then its attributes."""

    def __init__(self, **words):
        super().__init__(**words)
        self.__dict__.update(words)


EasyDict.__module__ = "easydict"


@pytest.fixture
def _easydict(monkeypatch):
    module = types.ModuleType("easydict")
    module.EasyDict = EasyDict
    monkeypatch.setitem(sys.modules, "easydict", module)


PLAIN = {
    "namespace": argparse.Namespace(lr=0.1, out="/exp", nested=argparse.Namespace(a=1)),
    "numpy scalar": np.float64(92.1),
    "numpy scalars": [np.float32(1), np.int64(3), np.bool_(1), np.str_("a")],
    "numpy array": np.eye(3),
    "numpy records": np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
    "numpy object array": np.array([{"a": 1}], dtype=object),
    "numpy dtype": np.dtype("float32"),
    "numpy type": np.float32,
    "generator": np.random.default_rng(0),
    "random state": np.random.RandomState(0).get_state(),
    "defaultdict": collections.defaultdict(list, {"loss": [1.0]}),
    "defaultdict of ints": collections.defaultdict(int, {1: 2}),
    "deque": collections.deque([1, 2], maxlen=5),
    "counter": collections.Counter({60: 1}),
    "path": pathlib.Path("/exp/run"),
    "windows path": pathlib.PureWindowsPath("C:/exp"),
    "datetime": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "timedelta": datetime.timedelta(hours=3),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "namespace object": types.SimpleNamespace(a=1),
    "enumeration": Colour.RED,
    "flags": Flags.A | Flags.B,
    "uuid": uuid.UUID(int=3),
    "range": range(3),
    "slice": slice(1, 2),
    "complex": 1j,
    "bytes": b"\x80\x00",
    "torch version": torch.__version__,
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "easydict": None,  # made in the test
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.usefixtures("_easydict")
def test_plain_data_beside_the_tensors_moves_none_of_them(tmp_path, name, old):
    value = EasyDict(lr=0.1, nested=EasyDict(a=1)) if name == "easydict" else PLAIN[name]
    for content in ({"state_dict": state(), "beside": value, "epoch": 3}, {**state(), "beside": value}):
        tensors, _ = load_tensors(saved(tmp_path / "a.pth", content, old=old))
        assert {k: v.tolist() for k, v in tensors.items()} == {k: v.tolist() for k, v in state().items()}


class Calls:
    """Pickled as a call of that function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("place", ["beside", "within"])
@seeded_globals(1)
def test_no_function_is_called_whatever_its_arguments(tmp_path, place, old):
    here = tmp_path / "exploded"
    bombs = [
        (Calls(os.system, f"touch {here}"), "system"),
        (Calls(os.mkdir, str(here)), "mkdir"),
        (Calls(eval, f"open({str(here)!r}, 'w')"), "eval"),
        (Calls(exec, f"open({str(here)!r}, 'w')"), "exec"),
        (Calls(open, str(here), "w"), "open"),
        (Calls(getattr, Colour, "RED"), "getattr"),
        (Calls(__import__, "antigravity"), "__import__"),
        (Calls(subprocess.Popen, f"touch {here}"), "Popen"),
        (Calls(subprocess.getoutput, f"touch {here}"), "getoutput"),
        (Calls(pathlib.Path.touch, pathlib.Path(here)), "getattr"),
        (Calls(np.load, str(here)), "numpy.load"),
        (Calls(torch.load, str(here)), "torch.serialization.load"),
        (Calls(torch.hub.load, "a/b"), "torch.hub.load"),
        (Calls(pickle.loads, b""), "pickle.loads"),
        (Settings(), "Settings"),
        (torch.nn.Linear(1, 1), "Linear"),
        (functools.partial(os.mkdir, str(here)), "partial"),
    ]
    for bomb, word in bombs:
        content = {"state_dict": state(), "x": bomb} if place == "beside" else {"state_dict": {**state(), "x": bomb}}
        file = saved(tmp_path / "a.pth", content, old=old)
        refused(lambda file=file: load_tensors(file), "holds code, refused", word)
        assert not here.exists()


def test_a_stub_that_is_called_changed_and_called_again_does_nothing(tmp_path):
    """A pickle written by hand: the stubs' own classes and states are given to one another."""
    for text in (
        b"cargparse\nNamespace\n(cnumpy\ndtype\ntRcargparse\nNamespace\n(tR}X\x01\x00\x00\x00aK\x01sb.",
        b"cargparse\nNamespace\n}X\x08\x00\x00\x00__call__K\x01sb.",  # a state for the class itself
        b"c__builtin__\nlist\n(c__builtin__\nset\ntR.",
    ):
        (tmp_path / "a.pth").write_bytes(b"\x80\x02" + text)
        refused(lambda: load_tensors(tmp_path / "a.pth"))
    assert argparse.Namespace(a=1).a == 1
    assert np.dtype("f4").itemsize == 4


def test_what_was_let_in_for_one_file_is_shut_out_afterwards(tmp_path):
    file = saved(tmp_path / "a.pth", {"state_dict": state(), "args": argparse.Namespace(a=1)})
    load_tensors(file)
    with pytest.raises(pickle.UnpicklingError, match=r"argparse\.Namespace"):
        torch.load(file, weights_only=True)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_newer_pickle_is_refused_by_its_protocol(tmp_path, protocol):
    torch.save({"state_dict": state()}, tmp_path / "a.pth", pickle_protocol=protocol)
    if protocol == 3:  # the same opcodes, but for bytes
        assert load_tensors(tmp_path / "a.pth")[0].keys() == state().keys()
    else:
        refused(lambda: load_tensors(tmp_path / "a.pth"), f"protocol {protocol}", "torch.save")


def test_a_pickle_of_numpy_arrays_is_not_called_damaged(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": np.ones(2)}, protocol=2))
    assert "fetch it again" not in refused(lambda: load_tensors(tmp_path / "a.pkl"), "torch.save did not write")
