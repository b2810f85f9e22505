"""`weights add` keeps what a method can load, under names that look-ups ask for; `weights remove` takes it back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from places import PROJECT
from safetensors.torch import load_file

from bench.weights.cache import cache_dir
from bench.weights.catalogue import user_catalogue
from methods.training.rng import seeded_globals

SHIPPED = PROJECT / "methods" / "pretrained" / "digits" / "gaussian-0.50.safetensors"
ADD = ("weights", "add", "lab/net", "net.pt", "--method", "gaussian", "--dataset", "digits")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RRCM_BENCH_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RRCM_BENCH_CACHE", str(tmp_path / "cache"))
    weights = {f"module.{name}": tensor + 0 for name, tensor in load_file(SHIPPED).items()}
    torch.save({"arch": "digits_resnet", "state_dict": weights}, tmp_path / "net.pt")
    return tmp_path


def nothing_kept() -> bool:
    return not user_catalogue().exists() and not cache_dir().exists()


@seeded_globals(1)
def test_what_was_added_is_taken_by_the_next_run_and_no_longer_once_removed(cli, home: Path) -> None:
    run = ("run", "--methods", "gaussian", "--dataset", "digits", "--sigma", "0.75", "--n", "20", "--limit", "1")
    before = cli(*run)
    assert before.code == 1
    assert "needs weights" in before.err
    assert cli(*ADD, "--sigma", "0.75").code == 0
    assert cli(*run).code == 0
    removed = cli("weights", "remove", "lab/net")
    assert removed.code == 0
    assert str(cache_dir()) in "".join(removed.out.splitlines())  # which a narrow terminal breaks
    assert not list(cache_dir().iterdir())
    assert cli(*run).err == before.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--dataset", "cifar10"), "expected the tensors of 'digits_resnet'"),
        (("--dataset", "didgits"), "no dataset named 'didgits'"),
        (("--arch", "cifar_resnet20"), "expected the tensors of 'cifar_resnet20'"),
        (("--method", "denoised", "--role", "denoiser"), "expected the tensors of 'ffdnet_digits'"),
        (("--method", "stability", "--dataset", "folder"), "give --data-root"),
        (("--weights", "other=net.pt"), "no method of this run has 'other'"),
    ],
)
@seeded_globals(1)
def test_what_the_method_cannot_load_is_refused_and_nothing_kept(
    cli, home: Path, change: tuple[str, ...], said: str
) -> None:
    found = cli(*ADD, *change)
    assert found.code in (1, 2)
    assert said in found.err
    assert found.err.count("\n") == 1
    assert nothing_kept()


@seeded_globals(1)
def test_a_network_of_another_number_of_classes_is_refused(cli, home: Path) -> None:
    weights = torch.load(home / "net.pt")["state_dict"]
    weights = {name: tensor[:7] if name.startswith("module.fc.") else tensor for name, tensor in weights.items()}
    torch.save(weights, home / "net.pt")
    found = cli(*ADD)
    assert found.code == 1
    assert "number of classes" in found.err
    assert nothing_kept()


@seeded_globals(1)
def test_removing_leaves_comments_and_other_entries_as_they_are(cli, home: Path) -> None:
    shutil.copy(home / "net.pt", home / "other.pt")
    assert cli(*ADD).code == 0
    with user_catalogue().open("a") as file:
        file.write('# kept for the paper\nnote = "see [1]"\n\n[[weights]]\nname = "broken"\nsigma = nan\n')
    before = user_catalogue().read_text()
    assert cli("weights", "add", "lab/second", "other.pt", *ADD[4:], "--sigma", "0.3").code == 0
    assert user_catalogue().read_text().startswith(before)
    assert cli("weights", "remove", "lab/second").code == 0
    assert user_catalogue().read_text().rstrip() == before.rstrip()
    assert len(list(cache_dir().iterdir())) == 1  # the first entry is of the same file


@pytest.mark.parametrize("name", ["gaussian/digits/0.50", "nothing"])
def test_only_what_was_added_can_be_removed(cli, home: Path, name: str) -> None:
    found = cli("weights", "remove", name)
    assert found.code == 1
    assert "only what you added can be removed" in found.err
