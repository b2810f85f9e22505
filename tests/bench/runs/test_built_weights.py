"""What a stranger's method loads by itself stands in its run's digest: no rows of one network pass for another's."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from one_job import certify
from places import PROJECT, SUPPORT
from safetensors.torch import save_file

from bench.runs.built_weights import leaves
from bench.runs.request import RunRequest, plan
from bench.runs.store import read_run
from bench.types import Execution
from bench.types.errors import MethodError, SpecError
from methods.training.rng import seeded_globals

HOW = Execution(("cpu",), 20)

METHOD = """\
from functools import partial
import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from bench.types import Method, Role

FILE = {file!r}
ROLES = {roles}

class Linear:
    num_classes = 10

    def __init__(self, score):
        self.score = score

    def predict(self, x, noise):
        return self.score(x.flatten(1)).argmax(1)

def network(weight):
    net = nn.Linear(64, 10, bias=False)
    net.weight = nn.Parameter(weight)
    return net.eval().requires_grad_(False)

def attribute(setting):
    return Linear(network(torch.load(FILE)))

def container(setting):
    made = Linear(None)
    made.parts = {{3: [network(torch.load(FILE))]}}
    made.score = lambda x: made.parts[3][0](x)
    return made

def closure(setting):
    weight = torch.load(FILE).T
    return Linear(lambda x: x @ weight)

def array(setting):
    weight = np.ascontiguousarray(torch.load(FILE).numpy().T)
    return Linear(partial(lambda w, x: x @ torch.from_numpy(w), weight))

def given(setting):
    if setting.random_weights:
        return Linear(network(torch.ones(10, 64)))
    return Linear(network(torch.load(setting.weights["network"].path)["state_dict"]["weight"]))

def drawn(setting):
    return Linear(nn.Linear(64, 10).eval())

class Late(Linear):
    def predict(self, x, noise):
        if self.score is None:
            self.score = network(torch.load(FILE))
        return super().predict(x, noise)

def at_the_first_call(setting):
    return Late(None)

class Each(Linear):
    def predict(self, x, noise):
        return self.score()(x.flatten(1)).argmax(1)

def at_every_call(setting):
    return Each(lambda: network(torch.load(FILE)))

def at_every_call_by_safetensors(setting):
    return Each(lambda: network(load_file(FILE + ".safetensors")["weight"]))

def given_at_every_call(setting):
    path = setting.weights["network"].path
    return Each(lambda: network(torch.load(path)["state_dict"]["weight"]))

NET = network(torch.load(FILE)) if {at_import} else None

class Global(Linear):
    def predict(self, x, noise):
        return NET(x.flatten(1)).argmax(1)

def of_the_module(setting):
    return Global(None)

MINE = Method(name="mine", title="", cite="", build={build}, roles=tuple(Role(r, "") for r in ROLES))
"""


def save(path: Path, seed: int) -> torch.Tensor:
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(seed))
    torch.save(weight, path)
    save_file({"weight": weight}, f"{path}.safetensors")
    return weight


def request(folder: Path, build: str, roles: tuple[str, ...] = ()) -> RunRequest:
    code = METHOD.format(
        file=str(folder / "own.pt"), build=build, roles=repr(roles), at_import=build == "of_the_module"
    )
    (folder / "mine.py").write_text(code)
    return RunRequest(
        methods=(f"{folder / 'mine.py'}:MINE",), dataset="digits", sigmas=(0.5,), n0=10, n=20, subset="first:2"
    )


HELD = ["attribute", "container", "closure", "array", "of_the_module", "at_the_first_call"]


@pytest.mark.parametrize("build", [*HELD, "at_every_call", "at_every_call_by_safetensors"])
@seeded_globals(1)
def test_another_file_under_the_same_path_is_another_run(tmp_path: Path, build: str) -> None:
    asked = request(tmp_path, build)
    specs = []
    for seed in (1, 2, 1):
        save(tmp_path / "own.pt", seed)
        (job,) = plan(asked)
        specs.append(job.spec)
    first, other, again = (spec.digest() for spec in specs)
    assert first == again != other
    assert set(specs[0].weights) == {"built"}
    assert not specs[0].random_weights


@pytest.mark.parametrize("build", ["attribute", "at_every_call"])
@seeded_globals(1)
def test_a_network_that_changes_between_plan_and_run_is_refused_before_a_row(tmp_path: Path, build: str) -> None:
    save(tmp_path / "own.pt", 1)
    (job,) = plan(request(tmp_path, build))
    save(tmp_path / "own.pt", 2)
    with pytest.raises(SpecError, match=r"built weights with sha256 \w{10}, the run's have \w{10}"):
        certify(job, HOW, tmp_path / "out", lambda run, worker: None, lambda row: None)
    assert not (tmp_path / "out").exists()


def test_a_network_drawn_from_the_global_generator_is_refused(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        (job,) = plan(request(tmp_path, "drawn"))
        with pytest.raises(SpecError, match=r"drawn from Setting\.seed"):
            certify(job, HOW, tmp_path / "out", lambda run, worker: None, lambda row: None)


@seeded_globals(1)
def test_what_a_role_covers_is_known_by_its_file_alone(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": save(tmp_path / "own.pt", 4)}}, tmp_path / "given.pt")
    asked = replace(request(tmp_path, "given", ("network",)), weights=(f"network={tmp_path / 'given.pt'}",))
    (job,) = plan(asked)
    assert set(job.spec.weights) == {"network"}
    assert certify(job, HOW, tmp_path / "out", lambda run, worker: None, lambda row: None).done
    (job,) = plan(replace(asked, methods=request(tmp_path, "given_at_every_call", ("network",)).methods))
    assert set(job.spec.weights) == {"network"}
    # A role declared and another file read instead
    (job,) = plan(replace(asked, methods=request(tmp_path, "attribute", ("network",)).methods))
    assert set(job.spec.weights) == {"network"}  # the same numbers, wherever they lie
    save(tmp_path / "own.pt", 5)
    assert set(plan(asked)[0].spec.weights) == {"network", "built"}


def test_a_method_without_weights_keeps_its_digest(tmp_path: Path) -> None:
    toy = SUPPORT / "toy_method.py"
    (job,) = plan(replace(request(tmp_path, "attribute"), methods=(f"{toy}:TOY",)))
    assert job.spec.weights == {}


@seeded_globals(1)
def test_who_loads_weights_without_a_role_is_told_once_how_to_declare_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "own.pt", 1)
    with caplog.at_level(logging.WARNING):
        plan(replace(request(tmp_path, "attribute"), sigmas=(0.25, 0.5)))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("! ")
    assert 'Role("network"' in said
    assert "\n" not in said


@seeded_globals(1)
def test_the_example_of_the_readme_is_covered_by_its_role(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    source = torch.Generator().manual_seed(6)
    weights = {"1.weight": torch.randn(10, 64, generator=source), "1.bias": torch.zeros(10)}
    torch.save(weights, tmp_path / "network.pt")
    asked = replace(request(tmp_path, "given"), weights=(f"network={tmp_path / 'network.pt'}",))
    (tmp_path / "mine.py").write_text(text.partition("```python\n")[2].partition("```")[0])
    (job,) = plan(asked)
    assert set(job.spec.weights) == {"network"}
    assert not caplog.records
    assert certify(job, HOW, tmp_path / "out", lambda run, worker: None, lambda row: None).done


def test_the_name_of_the_hash_is_no_role(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="role 'built'"):
        plan(request(tmp_path, "attribute", ("built",)))


@seeded_globals(1)
def test_one_changed_bit_of_any_tensor_changes_what_is_held() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).half()
    net.register_buffer("scale", torch.ones(2, dtype=torch.complex64), persistent=False)

    class Holder:
        num_classes = 2

        def __init__(self) -> None:
            self.net = net

    before = leaves(Holder())
    assert len(before) == len([*net.parameters(), *net.buffers()])
    for tensor in (*net.parameters(), *net.buffers()):
        data = tensor.data.view(torch.uint8) if tensor.dim() else tensor.data.reshape(1).view(torch.uint8)
        data[0] ^= 1
        assert leaves(Holder()) != before
        data[0] ^= 1
    assert leaves(Holder()) == before


@seeded_globals(1)
def test_another_tree_of_a_compiled_type_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        """\
import pickle
from pathlib import Path

import torch
from bench.types import Method


class Tree:
    num_classes = 10

    def __init__(self, setting):
        self.tree = pickle.loads((Path(__file__).parent / "tree.pkl").read_bytes())

    def predict(self, x, noise):
        return torch.from_numpy(self.tree.predict(x.flatten(1).numpy()))


MINE = Method(name="tree", title="", cite="", build=Tree)
"""
    )
    import pickle

    from sklearn.tree import DecisionTreeClassifier

    images = torch.rand(40, 64, generator=torch.Generator().manual_seed(1)).numpy()
    digests = []
    for shift in (0, 1, 0):
        made = DecisionTreeClassifier(random_state=0).fit(images, [(i + shift * (i % 3)) % 10 for i in range(40)])
        (tmp_path / "tree.pkl").write_bytes(pickle.dumps(made))
        (job,) = plan(replace(request(tmp_path / "..", "attribute"), methods=(f"{tmp_path / 'mine.py'}:MINE",)))
        digests.append(job.spec.digest())
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("declared", [True, False])
@seeded_globals(1)
def test_a_replaced_checkpoint_of_the_readmes_recipe_is_a_new_run(
    cli, tmp_path: Path, caplog: pytest.LogCaptureFixture, declared: bool
) -> None:
    code = (PROJECT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    words = ["run", "--methods", "mine.py:MINE", "--dataset", "digits", "--sigma", "0.5", "--n", "20", "--limit", "2"]
    if declared:
        words += ["--weights", "network=network.pt"]
    else:  # the recipe without its role: the file is loaded inside `build`
        code = code.replace('setting.weights["network"].path', '"network.pt"')
        code = code.replace(', roles=(Role("network", "a linear layer"),)', "")
    (tmp_path / "mine.py").write_text(code)
    runs, rows = [], []
    for label in (3, 7, 3):
        bias = torch.nn.functional.one_hot(torch.tensor(label), 10) * 100.0
        torch.save({"1.weight": torch.zeros(10, 64), "1.bias": bias}, tmp_path / "network.pt")
        found = cli(*words, "--json")
        assert found.code == 0, found.err
        (run,) = found.json["runs"]
        runs.append(run["digest"])
        rows.append({tuple(vote) for row in read_run(Path(run["path"])).rows for vote in row.estimation.votes})
    assert runs[0] == runs[2] != runs[1]
    assert rows == [{(3, 20)}, {(7, 20)}, {(3, 20)}]
    assert ("declares no role" in caplog.text) != declared
