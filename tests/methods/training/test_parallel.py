"""Several processes, micro-batches, averages, compilation and bf16: what they must not change, and what they do."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import _few_digits  # noqa: F401 - a fixture of this module
from interrupted import whole_and_parts
from places import SUPPORT
from safetensors.torch import load_file
from torch import Tensor, nn
from two_processes import (
    BATCH,
    LONG,
    REFUSED,
    SHORT,
    STEPS,
    Toy,
    alone,
    asked,
    first_gradients,
    request,
    train_in_float64,
    weights,
)
from typer.testing import CliRunner

from bench.cli import train
from bench.cli.app import app
from bench.types.errors import TrainingError, UsageError
from methods.nets.architectures import build_network
from methods.nets.vit import time_token_vit
from methods.training import classical, distributed_setup, rrcm
from methods.training.distributed import World, join, sync_batch_norms
from methods.training.loop import CHECKPOINT, METRICS, Intervals, Task, run
from methods.training.rng import seeded_globals
from methods.training.run_stage import noise_like
from methods.training.sharding import Share, current_share, use_share


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"steps": "2", "batch": "32", "warmup_steps": "1"}
    out = tmp_path_factory.mktemp("init")
    return Path(rrcm.pretrain(request(out, None, changes, stage="pretrain", sigma=None))["weights"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, init: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of two processes, and what each of them found."""
    folder = tmp_path_factory.mktemp("pair")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(SUPPORT / "two_processes.py"), str(folder), str(init)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


Pair = tuple[Path, list[dict[str, Any]]]


def told(folder: Path) -> dict[str, float]:
    return json.loads((folder / METRICS).read_text().splitlines()[-1])


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Largest difference of two weights."""
    assert left.keys() == right.keys()
    return max(float((left[key].double() - right[key].double()).abs().max()) for key in left)


@pytest.mark.parametrize(
    "name", ["pretrain", "pretrain_cached", "finetune", "finetune_accumulated", "gaussian", "smoothmix"]
)
def test_two_processes_train_the_network_of_one(name: str, pair: Pair, init: Path, tmp_path: Path) -> None:
    folder, (first, second) = pair
    _, ours = train_in_float64(name, tmp_path, init)
    report, theirs = first[name]
    assert_same_losses(told(tmp_path), told(folder / name))
    assert distance(ours, theirs) < 1e-10
    assert distance(theirs, second[name][1]) == 0
    assert report["world_size"] == 2
    assert report == second[name][0] | {"seconds": report["seconds"]}


def test_two_processes_train_the_ensemble_of_one(pair: Pair, init: Path, tmp_path: Path) -> None:
    with seeded_globals("members"):  # reading them back draws the weights that theirs replace
        _, ours = train_in_float64("boosting", tmp_path, init)
    assert distance(ours, pair[1][0]["boosting"][1]) < 1e-10


def assert_same_losses(one: dict[str, float], other: dict[str, float]) -> None:
    assert one.keys() == other.keys()
    for key in one.keys() - {"seconds"}:
        assert other[key] == pytest.approx(one[key], rel=1e-11), key


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, init: Path) -> Path:
    """The folder of four processes, the last of which was killed in the end."""
    folder = tmp_path_factory.mktemp("four")
    command = [sys.executable, str(SUPPORT / "four_processes.py"), str(folder), str(init)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert (folder / "0.txt").exists(), done.stderr
    return folder


def test_two_and_four_processes_have_pretrained_the_network_of_one_at_step_fifty(
    pair: Pair, four: Path, init: Path, tmp_path: Path
) -> None:
    _, ours = train_in_float64("pretrain", tmp_path, init, **LONG)
    one = told(tmp_path)
    assert one["step"] == 50
    for folder in (pair[0] / "long", four / "pretrain"):
        assert_same_losses(one, told(folder))
        (file,) = folder.glob("*.safetensors")
        assert distance(ours, load_file(file)) < 1e-10


def test_a_killed_process_ends_the_others_with_one_line(four: Path) -> None:
    for rank in range(3):
        line = (four / f"{rank}.txt").read_text()
        assert line.startswith("TrainingError: another of the 4 processes has ended")
        assert "\n" not in line
    assert not (four / "3.txt").exists()


def relative(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Largest difference of two gradients, as a share of the larger's length."""
    assert left.keys() == right.keys()
    return max(float((left[k] - right[k]).norm() / right[k].norm().clamp_min(1e-12)) for k in left)


def test_chunks_in_two_processes_have_the_loss_and_gradients_of_the_whole_batch(pair: Pair, tmp_path: Path) -> None:
    folder, (first, second) = pair
    ours = first_gradients(tmp_path / "whole")
    chunked = first_gradients(tmp_path / "chunked", micro_batch="8")
    assert relative(first["gradients"], ours) < 1e-5
    assert 0 < relative(chunked, ours) < 1e-5
    assert distance(first["gradients"], second["gradients"]) == 0
    for other in (folder / "cached", tmp_path / "chunked"):
        assert told(other)["loss"] == pytest.approx(told(tmp_path / "whole")["loss"], rel=1e-6)


def test_the_weights_of_two_processes_have_moved(pair: Pair, init: Path) -> None:
    before = {f"base_model.{key}": value for key, value in load_file(init).items()}
    after = pair[1][0]["finetune_accumulated"][1]
    shared = sorted(before.keys() & after.keys())
    assert len(shared) > 10
    assert distance({k: before[k] for k in shared}, {k: after[k] for k in shared}) > 1e-3


def test_batch_norms_that_each_see_their_own_images_train_another_network(pair: Pair) -> None:
    _, (first, _) = pair
    assert distance(first["gaussian"][1], first["gaussian_apart"][1]) > 1e-3
    assert set(first["gaussian"][1]) == set(first["gaussian_apart"][1])


def test_only_the_first_process_writes(pair: Pair) -> None:
    folder, _ = pair
    assert sorted(file.name for file in (folder / "gaussian").iterdir()) == [
        CHECKPOINT,
        "gaussian-train-0.25.safetensors",
        METRICS,
    ]
    steps = [json.loads(line)["step"] for line in (folder / "gaussian" / METRICS).read_text().splitlines()]
    assert steps == [5]


def test_nan_in_one_process_stops_both_and_the_last_checkpoint_stays(pair: Pair) -> None:
    folder, found = pair
    for each in found:
        assert each["spoilt"].startswith("TrainingError: the loss must stay finite, got nan at step 5; stopped")
        assert "\n" not in each["spoilt"]
    kept = torch.load(folder / "spoilt" / CHECKPOINT, weights_only=True)
    assert kept["step"] == 3
    assert all(torch.isfinite(value).all() for value in kept["modules"]["net"].values())


def test_a_signal_to_one_process_stops_both_after_the_same_step(pair: Pair, tmp_path: Path) -> None:
    folder, (first, second) = pair
    assert distance(first["stopped"], second["stopped"]) == 0
    assert torch.load(folder / "stopped" / CHECKPOINT, weights_only=True)["step"] == 5
    whole, rest = alone(), alone()
    run(whole, tmp_path, resume=False)
    run(rest, folder / "stopped", resume=True)  # in one process now: how many there are is no part of a run
    assert distance(weights(whole), weights(rest)) < 1e-6


def test_what_cannot_be_divided_is_refused_by_both_in_the_same_line(pair: Pair) -> None:
    expected = {
        "indivisible": "divisible by the 2 processes times accumulate=1, got batch=255; give --set batch=256",
        "odd_mixing": "must be of even length, got batch=90 in 2 shares",
    }
    assert expected.keys() == REFUSED.keys()
    for name, words in expected.items():
        lines = {found[name] for found in pair[1]}
        assert len(lines) == 1
        (line,) = lines
        assert line.startswith("UsageError: ")
        assert words in line
        assert "\n" not in line


def test_a_dry_run_of_two_processes_tells_their_number_and_speed(pair: Pair) -> None:
    report = pair[1][0]["dry_run"]
    assert report["world_size"] == 2
    assert report["images_per_second"] * report["seconds"] == pytest.approx(64 * report["steps"])
    assert not (pair[0] / "dry").exists()


def test_the_command_gives_one_record_of_both_processes(pair: Pair) -> None:
    _, (first, second) = pair
    code, out = first["cli"]
    assert code == 0
    report = json.loads(out)
    assert report["world_size"] == 2
    assert Path(report["weights"]).is_file()
    assert 0 <= report["test_accuracy"] <= 1
    assert second["cli"] == (0, "")


@pytest.mark.parametrize(("rank", "words"), [("0", ""), ("1", "process 1: gaussian train needs a positive")])
def test_a_process_that_alone_has_failed_says_which_it_is(
    rank: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(train, "LISTENING", 0.0)
    told = CliRunner().invoke(app, ["train", "gaussian", "--out", str(tmp_path / "run")])
    assert words in told.stderr
    # The first process's error goes on to the one place that prints it.
    assert isinstance(told.exception, UsageError if rank == "0" else SystemExit)
    assert told.exit_code != 0


def test_processes_that_cannot_meet_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match=r"cannot meet the other 1 processes .*torchrun") as caught:
        join("cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(TrainingError, match=r"WORLD_SIZE must be a whole number, .* got 'two'"):
        join("cpu")


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_have_the_gradient_of_the_whole_batch(accumulate: int, tmp_path: Path) -> None:
    whole, parts = alone(), alone(accumulate=accumulate)
    run(whole, tmp_path / "whole", resume=False)
    run(parts, tmp_path / "parts", resume=False)
    assert 0 < distance(weights(whole), weights(parts)) < 1e-6
    assert distance(weights(whole), weights(alone())) > 0.1
    assert told(tmp_path / "parts")["loss"] == pytest.approx(told(tmp_path / "whole")["loss"], rel=1e-6)


@pytest.mark.parametrize(("batch", "of"), [(12, 1), (12, 2), (12, 3), (12, 4), (256, 8), (2, 2), (9, 3)])
def test_shares_are_equal_and_make_up_the_batch(batch: int, of: int) -> None:
    slots = [Share(i, of).slots(batch) for i in range(of)]
    assert {len(s) for s in slots} == {batch // of}
    assert sorted(torch.cat(slots).tolist()) == list(range(batch))
    if batch // of % 2 == 0:  # mixing pairs an image with the one that stands in its place in reverse
        assert all(torch.equal(s.flip(0), batch - 1 - s) for s in slots)


def test_noise_of_a_share_is_what_its_images_get_in_the_whole_batch() -> None:
    whole = noise_like(torch.zeros(3 * 8, 2, 5), "noise", 7, 11, copies=3).view(3, 8, 2, 5)
    for index in range(4):
        with use_share(Share(index, 4)):
            part = noise_like(torch.zeros(3 * 2, 2, 5), "noise", 7, 11, copies=3).view(3, 2, 2, 5)
        assert torch.equal(part, whole[:, Share(index, 4).slots(8)])
    assert current_share() == Share()


def test_an_accumulated_stage_on_a_network_without_batch_norm_is_the_same_run(init: Path, tmp_path: Path) -> None:
    _, whole = train_in_float64("finetune", tmp_path / "whole", init)
    _, parts = train_in_float64("finetune", tmp_path / "parts", init, accumulate="4")
    assert distance(whole, parts) < 1e-10
    assert_same_losses(told(tmp_path / "whole"), told(tmp_path / "parts"))


def test_accumulation_is_part_of_a_run_only_where_batch_norm_notices_it(tmp_path: Path) -> None:
    changes = {**SHORT, "epochs": "2"}
    first = asked("gaussian", tmp_path, tmp_path)
    classical.gaussian(dataclasses.replace(first, overrides=changes))
    again = dataclasses.replace(first, overrides={**changes, "workers": "0", "compile": "false"}, resume=True)
    assert classical.gaussian(again)["steps"] == 10
    with pytest.raises(TrainingError, match=r"batch_norm_sees=None there, 16 here"):
        classical.gaussian(dataclasses.replace(again, overrides={**changes, "accumulate": "4"}))


def test_a_loss_of_the_whole_batch_refuses_micro_batches(tmp_path: Path) -> None:
    wrong = request(tmp_path / "run", None, {"accumulate": "2"}, stage="pretrain", sigma=None)
    with pytest.raises(UsageError, match="so accumulate must be 1, got 2") as caught:
        rrcm.pretrain(wrong)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"accumulate": "0"}, "accumulate must be at least 1, got 0"),
        ({"accumulate": "3"}, "batch must be divisible by the 1 processes times accumulate=3, got batch=64"),
        ({"ema": "1"}, "ema is a decay below 1"),
        ({"ema": "-0.5"}, "ema must be at least 0"),
        ({"compile": "yes"}, "compile must be one of auto, never, true, false, graphs, got 'yes'"),
        ({"checkpoint": "true"}, "this network has none; leave --set checkpoint out"),
        ({"can_accumulate": "true"}, "has no setting 'can_accumulate'"),
    ],
)
def test_a_wrong_arrangement_is_refused(setting: dict[str, str], words: str, tmp_path: Path) -> None:
    wrong = request(tmp_path / "run", None, {**SHORT, **setting}, method="gaussian", stage="train")
    with pytest.raises((UsageError, TrainingError), match=words):
        classical.gaussian(wrong)


def test_the_exported_average_is_what_a_slow_sum_gives(tmp_path: Path) -> None:
    task, decay, history = alone(), 0.8, []
    settings = settings_of({"ema": str(decay)})
    task = dataclasses.replace(task, after=lambda _step: history.append(weights(task)))
    slow = {key: value.double() for key, value in weights(task).items()}
    made, finish = distributed_setup.set_up(task, settings, task.world)
    run(made, tmp_path, resume=False)
    finish()
    for step, now in enumerate(history):
        d = min(decay, (1 + step) / (10 + step))
        slow = {key: d * slow[key] + (1 - d) * now[key].double() for key in slow}
    assert len(history) == STEPS
    assert distance(weights(task), slow) < 1e-6
    assert distance(weights(task), history[-1]) > 1e-2


def settings_of(changes: dict[str, str]) -> Any:
    from methods.training.presets import resolve_settings
    from methods.training.settings import Classical

    wanted = request(Path(), None, {**SHORT, "batch": str(BATCH), **changes}, method="gaussian", stage="train")
    return resolve_settings(Classical, wanted)[1]


def test_a_run_with_averaged_weights_resumes_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = request(tmp_path, None, {**SHORT, "ema": "0.9"}, method="gaussian", stage="train")
    whole, parts = whole_and_parts(classical.gaussian, wanted, tmp_path, monkeypatch)
    assert whole["sha256"] == parts["sha256"]
    record = torch.load(tmp_path / "whole" / CHECKPOINT, weights_only=True)["modules"]
    assert set(record) == {"network", "network.averaged"}
    exported = load_file(whole["weights"])
    assert distance(exported, record["network.averaged"]) == 0
    assert distance(exported, record["network"]) > 1e-3


def test_compilation_changes_no_name_and_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed_setup, "BACKEND", "eager")  # traced, not translated: needs no compiler
    plain = alone()
    settings = settings_of({"compile": "true"})
    made, _ = distributed_setup.set_up(alone(), settings, plain.world)
    run(plain, tmp_path / "plain", resume=False)
    run(made, tmp_path / "made", resume=False)
    assert made.modules["net"]._compiled_call_impl is not None
    assert distance(weights(plain), weights(made)) < 1e-6
    names = [torch.load(tmp_path / f / CHECKPOINT, weights_only=True)["modules"]["net"] for f in ("plain", "made")]
    assert names[0].keys() == names[1].keys()


def test_compilation_reaches_the_features_of_pre_training(
    init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[object] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> object:
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(distributed_setup, "BACKEND", backend)
    _, plain = train_in_float64("pretrain", tmp_path / "plain", init)
    assert not traced
    _, made = train_in_float64("pretrain", tmp_path / "made", init, compile="true", ema="0.5")
    assert len(traced) >= 2
    assert plain.keys() == made.keys()
    assert told(tmp_path / "made")["loss"] == pytest.approx(told(tmp_path / "plain")["loss"], rel=1e-3)


def test_a_missing_compiler_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_graph: object, _inputs: object) -> None:
        raise RuntimeError("no compiler found\nand more")

    monkeypatch.setattr(distributed_setup, "BACKEND", broken)
    made, _ = distributed_setup.set_up(alone(), settings_of({"compile": "true"}), alone().world)
    with pytest.raises(TrainingError, match="compile=true needs a compiler") as caught:
        run(made, tmp_path, resume=False)
    assert "\n" not in str(caught.value)


class Deep(nn.Module):
    """A network with blocks, as a transformer has."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Toy(nn.Linear(4, 4), nn.Tanh()) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.blocks(x)
        return made


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at that of a block's input
@pytest.mark.parametrize("asked", ["auto", "graphs"])
@pytest.mark.parametrize("works", [True, False])
def test_networks_are_compiled_where_that_pays_and_where_a_compiler_works(
    works: bool, asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_for: list[object] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> object:
        asked_for.append(graph)
        if not works:
            raise RuntimeError("no compiler found\nand more")
        return graph.forward

    monkeypatch.setattr(distributed_setup, "BACKEND" if asked == "auto" else "GRAPHS", backend)
    with seeded_globals("deep"):
        net = Deep()
    task = dataclasses.replace(
        alone(), modules={"net": net}, loss=lambda _step, x: {"loss": net(x).sum()}, device="cuda"
    )
    x = torch.ones(3, 4)
    expected = net(x).sum()
    short = distributed_setup.compiled_loss(dataclasses.replace(task, steps=10), settings_of({}))
    never = distributed_setup.compiled_loss(dataclasses.replace(task, steps=10**6), settings_of({"compile": "never"}))
    assert short is never is task.loss
    on_cpu = distributed_setup.compiled_loss(
        dataclasses.replace(task, device="cpu"), settings_of({"compile": "graphs"})
    )
    assert on_cpu is task.loss
    loss = distributed_setup.compiled_loss(dataclasses.replace(task, steps=10**6), settings_of({"compile": asked}))
    for step in range(2):
        assert float(loss(step, x)["loss"].detach()) == pytest.approx(float(expected.detach()))
    assert asked_for
    told_so = capsys.readouterr().err
    assert ("goes on without" in told_so) is not works
    assert told_so.count("\n") == (0 if works else 1)
    distributed_setup.uncompile([net])
    assert not [part for part in net.modules() if part._compiled_call_impl is not None]


def compiled_parts(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, *, steps: int = 10**6, quick: bool = False
) -> set[str]:
    """Names of the parts of a network that a run on CUDA would compile."""
    chosen: list[nn.Module] = []
    monkeypatch.setattr(distributed_setup, "_compiled_modules", lambda modules, *_: chosen.extend(modules))
    task = dataclasses.replace(alone(), modules={"net": network}, device="cuda", steps=steps)
    distributed_setup.compiled_loss(task, settings_of({}), quick=quick)
    if not quick:
        assert distributed_setup.compiles_whole(task, settings_of({})) == any(part is network for part in chosen)
    return {name for name, part in network.named_modules() if any(part is each for each in chosen)}


@seeded_globals(0)
def test_what_a_long_run_compiles_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    vit = time_token_vit("tiny", image_size=8, in_channels=1)
    blocks = {f"blocks.{place}" for place in range(len(vit.blocks))}
    assert compiled_parts(vit, monkeypatch) == {*blocks, "tokens", "class_token"}
    with torch.device("meta"):
        large = build_network("resnet50", num_classes=10, shape=(3, 64, 64))
        small = build_network("cifar_resnet110", num_classes=10, shape=(3, 32, 32))
    assert compiled_parts(large, monkeypatch) == {""}
    assert compiled_parts(large, monkeypatch, steps=9999) == compiled_parts(small, monkeypatch) == set()
    assert compiled_parts(large, monkeypatch, quick=True) == set()
    assert compiled_parts(vit, monkeypatch, quick=True) == compiled_parts(vit, monkeypatch, steps=9999) != set()
    sync_batch_norms(large, World(rank=0, size=2))
    assert compiled_parts(large, monkeypatch) == set()


def test_bf16_computes_in_bf16_on_a_cpu_and_keeps_float32_weights(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []
    with seeded_globals("bf16"):
        net = nn.Linear(4, 1)

    def loss(_step: int, x: Tensor) -> dict[str, Tensor]:
        y = net(x)
        seen.append(y.dtype)
        return {"loss": y.float().square().mean()}

    optimiser = torch.optim.SGD([{"params": list(net.parameters()), "base_lr": 0.1}], lr=0.1)
    for bf16 in (False, True):
        task = Task(
            modules={"net": net}, optimiser=optimiser, batches=lambda _step: iter([torch.ones(2, 4)] * 2), loss=loss,
            rate=lambda _step: 1.0, steps=1, identity={}, bf16=bf16,
        )  # fmt: skip
        run(task, tmp_path / str(bf16), resume=False, intervals=Intervals())
    assert seen == [torch.float32, torch.bfloat16]
    assert net.weight.dtype == torch.float32
