"""A path means the same in a plan and on the command line: ~ is home, and a plan's paths are beside the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli.paths import at_home
from bench.cli.plan_file import read
from bench.cli.requests import requests
from bench.runs import registry
from bench.runs.request import RunRequest, check_request
from bench.types.errors import UsageError
from bench.weights.resolve import catalogue


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, the folder that commands run in, and a plan's, each with a file of its own."""
    for name in ("home", "here", "plans"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.pth").write_bytes(b"x")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def asked(places: Path, plan: str, **options: object) -> RunRequest:
    path = places / "plans" / "plan.toml"
    path.write_text(f'methods = "gaussian"\ndataset = "folder"\n{plan}')
    return requests(options, read(path))[0][0]


def test_the_paths_of_a_plan_are_beside_it(places: Path) -> None:
    (places / "plans" / "order.txt").write_text("b\na\n")
    plan = """data_root = "data"
subset = "file:list.txt"
class_order = "order.txt"
weights = ["network=x.pth", "gaussian.network=sub/net-{sigma}.pth"]
"""
    found, beside = asked(places, plan), places / "plans"
    assert found.data_root == beside / "data"
    assert found.subset == f"file:{beside / 'list.txt'}"
    assert found.class_order == ("b", "a")
    assert found.weights == (f"network={beside / 'x.pth'}", f"gaussian.network={beside / 'sub/net-{sigma}.pth'}")
    table = asked(places, '[weights]\nnetwork = "x.pth"\n"gaussian.network" = "/abs/y.pth"\n')
    assert table.weights == (f"network={beside / 'x.pth'}", "gaussian.network=/abs/y.pth")


def test_home_is_written_out_in_both(places: Path) -> None:
    plan = 'data_root = "~/data"\nsubset = "file:~/l.txt"\nweights = ["network=~/x.pth"]\nclass_order = "text"\n'
    options = {"data_root": Path("~/data"), "subset": "file:~/l.txt", "weights": ["network=~/x.pth"]}
    home = places / "home"
    for found in (asked(places, plan), asked(places, "", **options)):
        assert found.data_root == home / "data"
        assert found.subset == f"file:{home / 'l.txt'}"
        assert found.weights == (f"network={home / 'x.pth'}",)
    assert at_home([Path("~/a"), Path("b")]) == [home / "a", Path("b")]
    with pytest.raises(UsageError, match="no such home folder"):
        at_home(Path("~nobody-here/a"))


def test_options_over_a_plan_stay_where_the_command_runs(places: Path) -> None:
    options = {"data_root": Path("data"), "subset": "file:l.txt", "weights": ["network=x.pth"]}
    found = asked(places, 'data_root = "other"\n', **options)
    assert (found.data_root, found.subset, found.weights) == (Path("data"), "file:l.txt", ("network=x.pth",))


def test_a_name_of_the_catalogue_is_no_path(places: Path) -> None:
    name = catalogue()[0].name
    assert asked(places, f'weights = ["network={name}"]\n').weights == (f"network={name}",)
    assert asked(places, 'subset = "skip:2"\n').subset == "skip:2"


def test_strangers_files_in_a_plan_are_beside_it(places: Path) -> None:
    plan = places / "plans" / "other.toml"
    plan.write_text('methods = ["mine.py:A", "gaussian"]\ndataset = "data.py:B"\n')
    found = requests({}, read(plan))[0][0]
    assert found.methods == (f"{places / 'plans' / 'mine.py'}:A", "gaussian")
    assert found.dataset == f"{places / 'plans' / 'data.py'}:B"


@pytest.mark.parametrize("size", [0, -1, 10**9])
def test_a_size_that_no_image_can_have_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=r"--size .*expected a number from 1 to 4096"):
        check_request(RunRequest(methods=("gaussian",), dataset="folder", size=size))


def test_a_dataset_in_a_file_has_the_radii_that_it_states(places: Path) -> None:
    (places / "here" / "mine.py").write_text(
        "from bench.types import DatasetSource\n"
        "D = DatasetSource(name='imagenet', title='', cite='', default_subset='all', open=None, radii=(0.0, 0.1))\n"
    )
    given = {"methods": "gaussian", "dataset": "mine.py:D", "certifier": "sequential"}
    assert requests(given, None)[0][0].radii is None  # those of the dataset's tables
    own, installed = (registry.table_radii(name) for name in ("mine.py:D", "imagenet"))
    assert (own, installed) == ((0.0, 0.1), (0.0, 0.5, 1.0, 1.5, 2.0, 2.5))
