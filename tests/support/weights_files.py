"""Small checkpoints and catalogues for the tests of weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch
from places import PROJECT, SHARED_FOLDER

from bench.types import Method, Param, Role
from bench.types.errors import WeightsError
from bench.weights import catalogue as catalogue_module
from bench.weights import resolve
from bench.weights.catalogue import Entry
from bench.weights.user_catalogue import as_toml

SHARED = SHARED_FOLDER / "data" / "checkpoints"
BUILT_IN = PROJECT / "methods" / "weights.toml"

TOY = Method(
    name="toy",
    title="Toy",
    cite="nobody",
    build=lambda setting: None,  # type: ignore[arg-type, return-value]
    params=(
        Param(name="arch", default="small", help="network"),
        Param(name="normaliser", default="mean_std", help="-"),
    ),
    roles=(Role("network", "the classifier"),),
    recognise=lambda role, shapes, meta: {"arch": f"width{shapes['fc.weight'][1]}"} if "fc.weight" in shapes else {},
)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("RRCM_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RRCM_BENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [])
    monkeypatch.setattr(catalogue_module, "_SAID", set())


def state(width=3):
    return {"fc.weight": torch.arange(2.0 * width).reshape(2, width), "fc.bias": torch.zeros(2)}


def saved(path, content, *, old=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def installed(monkeypatch, folder, *entries, text=None):
    """A package's catalogue with those entries, as an entry point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.toml").write_text("".join(map(as_toml, entries)) if text is None else text, encoding="utf-8")
    (folder / "pointer.py").write_text("from pathlib import Path\nWHERE = Path(__file__).with_name('weights.toml')\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "pointer", raising=False)
    point = EntryPoint(name="theirs", value="pointer:WHERE", group="rrcm_bench.weights")
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [point])


def entry(path=None, **changes):
    known = Entry(
        name="toy/digits/0.25",
        method="toy",
        role="network",
        dataset="digits",
        sigma=0.25,
        params={"arch": "small"},
        **({} if path is None else {"sha256": resolve.sha256_of(path), "bytes": path.stat().st_size}),
    )
    return replace(known, **changes)


def refused(call, *words, error=WeightsError):
    """The call's one-line error, which has all the words."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
