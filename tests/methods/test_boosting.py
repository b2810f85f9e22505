"""Boosting: what an ensemble answers, by a slow loop over copies; and which files it takes or refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.testing import check_method
from bench.types import Scalar, Setting, WeightsFile
from bench.types.errors import MethodError, UsageError, WeightsError
from bench.weights.resolve import resolve
from methods.boosting import BOOSTING
from methods.nets.architectures import build_network
from methods.nets.voting import AGGREGATES, Ensemble
from methods.noise_trained import GAUSSIAN

K = 5


class NoNoise:
    """A source of randomness for methods that must not draw from it."""

    def randn(self, *shape: int) -> Tensor:
        raise AssertionError("a deterministic method drew noise")


class Linear(nn.Module):
    """Logits of a random plane; counts the copies that it saw."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(2 * torch.randn(12, K, generator=torch.Generator().manual_seed(seed)))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return x.flatten(1) @ self.weight


class Fixed(nn.Module):
    """The same logits for every copy."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


X = torch.randn(400, 1, 3, 4, generator=torch.Generator().manual_seed(9))


def ensemble(members: Sequence[nn.Module], aggregate: str = "logits", consensus: int = 0) -> Ensemble:
    return Ensemble(members, num_classes=K, device="cpu", aggregate=aggregate, consensus=consensus)


def slow(members: Sequence[Linear], aggregate: str, consensus: int) -> list[int]:
    """One copy at a time, in numpy."""
    labels = []
    for copy in X.flatten(1).double().numpy():
        logits = [copy @ member.weight.detach().double().numpy() for member in members]
        favoured = [int(z.argmax()) for z in logits]
        if consensus and len(set(favoured[:consensus])) == 1:
            labels.append(favoured[0])
            continue
        total = np.zeros(K)
        for z in logits:
            if aggregate == "logits":
                total += z
            elif aggregate == "softmax":
                total += np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            else:
                total[z.argmax()] += 1
        labels.append(int(total.argmax()))
    return labels


@pytest.mark.parametrize("consensus", [0, 2, 3, 4])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_an_ensemble_answers_as_a_loop_over_copies_and_members(aggregate: str, consensus: int) -> None:
    members = [Linear(seed) for seed in range(4)]
    fast = ensemble(members, aggregate, consensus).predict(X, NoNoise())
    assert fast.dtype == torch.int64
    assert fast.tolist() == slow(members, aggregate, consensus)


def test_the_aggregates_differ_somewhere() -> None:
    members = [Linear(seed) for seed in range(4)]
    labels = {aggregate: tuple(ensemble(members, aggregate).predict(X, NoNoise()).tolist()) for aggregate in AGGREGATES}
    assert len(set(labels.values())) == 3
    assert ensemble(members, "logits", 2).predict(X, NoNoise()).tolist() != list(labels["logits"])


def test_tied_votes_go_to_the_lowest_class() -> None:
    tied = ensemble([Fixed(0, 0, 0, 9, 0), Fixed(0, 9, 0, 0, 0), Fixed(0, 0, 0, 0, 9)], "votes")
    assert set(tied.predict(X, NoNoise()).tolist()) == {1}


def test_one_loud_member_wins_by_logits_and_loses_by_probabilities_and_votes() -> None:
    members = [Fixed(50, 0, 0, 0, 0), Fixed(0, 0, 9, 0, 0), Fixed(0, 0, 9, 0, 0)]
    assert [int(ensemble(members, a).predict(X, NoNoise())[0]) for a in AGGREGATES] == [0, 2, 2]


def test_the_rest_of_the_members_see_only_what_the_first_disagree_on() -> None:
    members = [Linear(seed) for seed in (0, 1, 2)]
    ensemble(members, consensus=2).predict(X, NoNoise())
    favoured = [(X.flatten(1) @ member.weight).argmax(1) for member in members]
    assert [member.seen for member in members] == [400, 400, int((favoured[0] != favoured[1]).sum())]
    assert 0 < members[2].seen < 400


def test_equal_members_always_agree_and_answer_as_one() -> None:
    members = [Linear(0), Linear(0), Linear(1)]
    labels = ensemble(members, consensus=2).predict(X, NoNoise())
    assert torch.equal(labels, (X.flatten(1) @ members[0].weight).argmax(1))
    assert members[2].seen == 0


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(MethodError, match="finite numbers, got nan or inf for 400 of 400"):
        ensemble([Linear(0), Fixed(float("nan"), 0, 0, 0, 0)]).predict(X, NoNoise())


@pytest.mark.parametrize("senseless", [{"aggregate": "mean"}, {"consensus": 1}, {"consensus": 3}])
def test_senseless_ensembles_are_refused(senseless: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        ensemble([Linear(0), Linear(1)], **senseless)  # type: ignore[arg-type]


# ---- the method ------------------------------------------------------------------------------------------------------


def setting(files: dict[str, WeightsFile] | None = None, **params: Scalar) -> Setting:
    values: dict[str, Scalar] = {param.name: param.default_for("digits") for param in BOOSTING.params}
    if files:
        values |= dict(files["members"].params)
    return Setting(
        dataset="digits", num_classes=10, shape=(1, 8, 8), sigma=0.25, params={**values, **params},
        weights=files or {}, random_weights=files is None, seed=0, device="cpu",
    )  # fmt: skip


def networks(count: int, arch: str = "digits_resnet") -> list[nn.Module]:
    made = []
    for seed in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made.append(build_network(arch, num_classes=10, shape=(1, 8, 8)).eval())
    return made


def packed(path: Path, members: Sequence[nn.Module], numbers: Sequence[int] | None = None) -> Path:
    numbers = numbers or range(len(members))
    tensors = {f"{i}.{k}": v for i, m in zip(numbers, members, strict=True) for k, v in m.state_dict().items()}
    save_file(tensors, path)
    return path


def released(folder: Path, members: Sequence[nn.Module], seeds: Sequence[int]) -> str:
    for seed, member in zip(seeds, members, strict=True):
        state = {f"1.{k}": v for k, v in member.state_dict().items()}
        content = {"epoch": 150, "arch": "digits_resnet", "state_dict": state, "optimizer": {}}
        torch.save(content, folder / f"checkpoint-{seed}.pth.tar")
    return str(folder / "checkpoint-{member}.pth.tar")


def given(text: str, sigma: float = 0.25) -> dict[str, WeightsFile]:
    return resolve(BOOSTING, "digits", sigma, {"members": text}, download=False)


DIGITS = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(4))


def expected(members: Sequence[nn.Module]) -> Tensor:
    with torch.no_grad():
        return torch.stack([member(DIGITS) for member in members]).sum(dim=0).argmax(dim=1)


def test_the_members_keep_the_protocol() -> None:
    for consensus in (0, 2):
        made = setting(consensus=consensus)
        findings = check_method(BOOSTING.build(made), (1, 8, 8), build=lambda made=made: BOOSTING.build(made))
        assert [finding for finding in findings if not finding.ok] == []


def test_random_members_differ_from_each_other() -> None:
    first, second = BOOSTING.build(setting(members=2)).network  # type: ignore[attr-defined]
    assert not torch.equal(first[1].conv1.weight, second[1].conv1.weight)


def test_a_packed_file_gives_the_sum_of_its_networks(tmp_path: Path) -> None:
    members = networks(3)
    files = given(str(packed(tmp_path / "three.safetensors", members)))
    assert files["members"].params == {"arch": "digits_resnet"}
    labels = BOOSTING.build(setting(files, members=3, normaliser="none")).predict(DIGITS, NoNoise())
    assert torch.equal(labels, expected(members))
    two = BOOSTING.build(setting(files, members=2, normaliser="none")).predict(DIGITS, NoNoise())
    assert torch.equal(two, expected(members[:2]))
    assert not torch.equal(two, labels)


def test_released_files_are_taken_together_in_the_order_of_their_seeds(tmp_path: Path) -> None:
    members = networks(3)
    files = given(released(tmp_path, members, [9, 70, 100]))
    file = files["members"]
    assert [part.name for part in file.parts] == [f"checkpoint-{seed}.pth.tar" for seed in (9, 70, 100)]
    assert file.params == {"arch": "digits_resnet"}
    made = setting(files, members=3, consensus=2, normaliser="none")
    pack = given(str(packed(tmp_path / "pack.safetensors", members)))
    as_packed = setting(pack, members=3, consensus=2, normaliser="none")
    assert torch.equal(
        BOOSTING.build(made).predict(DIGITS, NoNoise()), BOOSTING.build(as_packed).predict(DIGITS, NoNoise())
    )


def test_the_hash_of_many_files_moves_with_each_of_them_and_with_their_order(tmp_path: Path) -> None:
    members = networks(3)
    text = released(tmp_path, members, [1, 2, 3])
    hashes = [given(text)["members"].sha256]
    released(tmp_path, [members[0], members[2], members[1]], [1, 2, 3])
    hashes.append(given(text)["members"].sha256)
    released(tmp_path, members[:1], [3])
    hashes.append(given(text)["members"].sha256)
    assert len(set(hashes)) == 3


def test_sigma_and_member_stand_in_one_path(tmp_path: Path) -> None:
    (tmp_path / "0.25").mkdir()
    released(tmp_path / "0.25", networks(2), [0, 1])
    assert len(given(str(tmp_path / "{sigma}" / "checkpoint-{member}.pth.tar"))["members"].parts) == 2


def test_a_member_that_is_missing_is_noticed(tmp_path: Path) -> None:
    files = given(released(tmp_path, networks(4), range(4)))
    with pytest.raises(WeightsError, match=r"expected 5 members, got 4; .*--set members=4"):
        BOOSTING.build(setting(files))
    gap = given(str(packed(tmp_path / "gap.safetensors", networks(3), [0, 1, 3])))
    with pytest.raises(WeightsError, match="members 0 to 3, number 2 is missing"):
        BOOSTING.build(setting(gap))
    with pytest.raises(WeightsError, match="expected files of that form, found none"):
        given(str(tmp_path / "nothing-{member}.pth"))


def test_a_single_network_is_no_ensemble(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    save_file(networks(1)[0].state_dict(), path)
    with pytest.raises(WeightsError, match=r"several networks in one file .* got one; give a path with \{member\}"):
        BOOSTING.build(setting(given(str(path))))


def test_a_member_of_another_architecture_is_named(tmp_path: Path) -> None:
    odd = [*networks(2), *networks(1, "cifar_resnet20")]
    with pytest.raises(WeightsError, match="member 2"):
        BOOSTING.build(setting(given(released(tmp_path, odd, range(3))), members=3))


def test_members_come_out_from_under_their_trainers_wrapper(tmp_path: Path) -> None:
    members = networks(2)
    for i, member in enumerate(members):
        state = {f"model.net.{k}": v for k, v in member.state_dict().items()}
        torch.save({"state_dict": {**state, "criterion.weight": torch.ones(3)}}, tmp_path / f"{i}.ckpt")
    files = given(str(tmp_path / "{member}.ckpt"))
    assert files["members"].params == {"arch": "digits_resnet"}
    labels = BOOSTING.build(setting(files, members=2, normaliser="none")).predict(DIGITS, NoNoise())
    assert torch.equal(labels, expected(members))


def test_many_files_are_refused_where_a_role_is_one_file(tmp_path: Path) -> None:
    text = str(tmp_path / "{member}.pth")
    with pytest.raises(UsageError, match=r"'network' of gaussian is one file; leave \{member\} out"):
        resolve(GAUSSIAN, "digits", 0.25, {"network": text}, download=False)
    with pytest.raises(UsageError, match=r"expected \{member\} once"):
        given(text + "{member}")


def test_what_the_files_say_counts_where_all_say_the_same(tmp_path: Path) -> None:
    for i, normaliser in enumerate(("none", "half")):
        state = networks(1)[0].state_dict()
        save_file(state, tmp_path / f"a{i}.safetensors", metadata={"normaliser": "none"})
        save_file(state, tmp_path / f"b{i}.safetensors", metadata={"normaliser": normaliser})
    assert given(str(tmp_path / "a{member}.safetensors"))["members"].params["normaliser"] == "none"
    assert "normaliser" not in given(str(tmp_path / "b{member}.safetensors"))["members"].params


@pytest.mark.parametrize(
    ("params", "words"), [({"consensus": 6}, "2 to 5"), ({"consensus": 1}, "2 to 5"), ({"members": 0}, "at least 1")]
)
def test_senseless_numbers_are_refused(params: dict[str, Scalar], words: str) -> None:
    with pytest.raises(MethodError, match=words):
        BOOSTING.build(setting(**params))


def test_without_weights_the_role_is_named() -> None:
    with pytest.raises(WeightsError, match=r"role 'members' are missing; give a file, or a path with \{member\}"):
        BOOSTING.build(replace(setting(), random_weights=False))
