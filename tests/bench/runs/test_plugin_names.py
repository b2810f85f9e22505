"""A plug-in out of a file goes by the name in its value: in runs, latency records, weights and reports alike."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from bench.runs import registry
from bench.runs.store import read_run
from bench.types.errors import MethodError
from bench.weights.catalogue import user_catalogue
from methods.training.rng import seeded_globals

CODE = """\
import torch
from bench.data.digits import DIGITS
from bench.types import DatasetSource, Method, Role


class Mine:
    num_classes = 10

    def __init__(self, setting):
        assert setting.dataset == "my-digits"
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).to(setting.device).eval()
        if not setting.random_weights:
            self.net.load_state_dict(torch.load(setting.weights["network"].path, map_location=setting.device))

    def predict(self, x, noise):
        return self.net(x).argmax(1)


MINE = Method(name="mine", title="Mine", cite="me", build=Mine, roles=(Role("network", "a linear layer"),))
DATA = DatasetSource(
    name="my-digits", title="", cite="", default_subset="first:4", open=DIGITS.open, num_classes=10, shape=(1, 8, 8)
)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RRCM_BENCH_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(CODE)
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(1))
    torch.save({"1.weight": weight, "1.bias": torch.zeros(10)}, tmp_path / "net.pt")
    return tmp_path


WHAT = ("--methods", "own.py:MINE", "--dataset", "own.py:DATA", "--sigma", "0.5", "--n", "100")


@seeded_globals(1)
def test_the_latency_of_an_own_method_joins_its_runs(cli, home: Path) -> None:
    given = ("--weights", "mine.network=net.pt")
    assert cli("run", *WHAT, *given).code == 0
    timed = cli("latency", *WHAT, *given, "--repeats", "2", "--out", "l.jsonl", "--device", "cpu", "--json")
    assert timed.code == 0, timed.err
    report = cli("report", "--latency", "l.jsonl", "--json")
    assert report.code == 0, report.err
    (table,) = report.json["tables"]
    place = [column["key"] for column in table["columns"]].index("latency-measured")
    assert all(row[place]["value"] > 0 for row in table["rows"])


@seeded_globals(1)
def test_weights_of_an_own_method_are_found_once_added(cli, home: Path) -> None:
    added = cli("weights", "add", "lab/mine", "net.pt", "--method", "own.py:MINE", "--dataset", "own.py:DATA")
    assert added.code == 0, added.err
    (entry,) = tomllib.loads(user_catalogue().read_text())["weights"]
    assert (entry["method"], entry["dataset"]) == ("mine", "my-digits")
    found = cli("run", *WHAT, "--json")
    assert found.code == 0, found.err
    assert read_run(Path(found.json["runs"][0]["path"])).spec.weights == {"network": entry["sha256"]}


def test_an_entry_point_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("other", "methods.noise_trained:GAUSSIAN", registry.METHODS)
    monkeypatch.setattr(registry, "_points", lambda group: {"other": point})
    with pytest.raises(MethodError, match=r"'other' .* calls itself 'gaussian'"):
        registry.method("other")
