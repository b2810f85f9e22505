"""A stranger's package becomes a method by one entry point, and a stranger's file without any."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.runs import registry
from bench.testing import check_method
from bench.types import BaseClassifier, Method, Setting

# All that a stranger writes: 12 lines.
METHOD = """\
from bench.types import Method

class Brightness:
    num_classes = 2

    def __init__(self, setting):
        self.threshold = setting.params.get("threshold", 0.5)

    def predict(self, x, noise):
        return (x.flatten(1).mean(1) > self.threshold).long()

BRIGHTNESS = Method(name="brightness", title="Brightness", cite="a stranger", build=Brightness)
"""

PYPROJECT = """\
[project]
name = "stranger"
version = "1.0"

[project.entry-points."rrcm_bench.methods"]
brightness = "stranger:BRIGHTNESS"
"""


@pytest.fixture
def forgetful() -> Iterator[None]:
    """The registry's memory of entry points, emptied before and after."""
    registry._points.cache_clear()
    yield
    registry._points.cache_clear()
    for name in ("stranger", "rrcm_bench_file_mine"):
        sys.modules.pop(name, None)


@pytest.fixture
def installed(tmp_path: Path, forgetful: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an installer leaves of the package: its module, and the metadata that pyproject.toml turns into."""
    import tomllib

    project = tomllib.loads(PYPROJECT)["project"]
    (tmp_path / "stranger.py").write_text(METHOD)
    info = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items())
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def built(method: Method) -> BaseClassifier:
    return method.build(
        Setting(
            dataset="toy",
            num_classes=2,
            shape=(1, 4, 4),
            sigma=0.5,
            params={},
            weights={},
            random_weights=False,
            seed=0,
            device="cpu",
        )
    )


def test_an_installed_package_is_found_by_name_and_conforms(installed: Path) -> None:
    assert "brightness" in registry.method_names()
    assert "gaussian" in registry.method_names()  # a stranger comes beside the built-in ones, by the same door
    method = registry.method("brightness")
    assert isinstance(method, Method)
    assert method.cite == "a stranger"
    findings = check_method(built(method), (1, 4, 4), build=lambda: built(method))
    assert all(finding.ok for finding in findings), findings


def test_a_file_is_a_method_without_being_installed(tmp_path: Path, forgetful: None) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    method = registry.method(f"{tmp_path / 'mine.py'}:BRIGHTNESS")
    assert method.name == "brightness"
    assert "brightness" not in registry.method_names()


def test_the_method_is_as_short_as_promised() -> None:
    assert len([line for line in METHOD.splitlines() if line]) <= 12


@pytest.mark.parametrize("name", ["digits", "cifar10", "imagenet", "folder"])
def test_each_built_in_dataset_comes_by_its_entry_point(name: str) -> None:
    source = registry.dataset(name)
    assert source.name == name
    assert source.default_subset


def test_a_tree_that_was_never_installed_has_its_own_methods(forgetful: None, monkeypatch: pytest.MonkeyPatch) -> None:
    names = registry.method_names()
    registry._points.cache_clear()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    assert set(registry.method_names()) <= set(names)
    assert {"gaussian", "rrcm", "dds"} <= set(registry.method_names())
    assert registry.is_shipped("rrcm")  # or its runs would go by another digest
    assert registry.method("rrcm").name == "rrcm"
