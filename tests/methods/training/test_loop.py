"""The loop: exact resumption, safe checkpoints, honest metrics, refusals."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.types.errors import TrainingError
from methods.training import loop
from methods.training.loop import CHECKPOINT, METRICS, Intervals, Task, probe, run
from methods.training.rng import generator, seed_of, seeded_globals

STEPS = 12


def toy(*, bad_step: int | None = None, interrupt: int | None = None, **settings: object) -> Task:
    """A linear network on keyed noise, with everything a real stage has: momentum, batch norm, an averaged target."""
    with seeded_globals("toy"):
        net, target = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), nn.Linear(8, 1)
    optimiser = torch.optim.AdamW([{"params": list(net.parameters()), "base_lr": 0.01}], lr=0.01)

    def batches(step: int) -> Iterator[Tensor]:
        while True:
            yield torch.randn(16, 4, generator=generator("cpu", "toy data", step))
            step += 1

    def loss(step: int, x: Tensor) -> Mapping[str, Tensor]:
        if step == interrupt:
            signal.raise_signal(signal.SIGINT)
        fit = (net(x) - x.sum(dim=1, keepdim=True)).square().mean()
        return {"loss": fit * float("nan") if step == bad_step else fit, "fit": fit}

    def after(step: int) -> None:
        with torch.no_grad():
            target.weight.lerp_(net[2].weight, 0.1 / (step + 1))

    return Task(
        modules={"net": net, "target": target},
        optimiser=optimiser,
        batches=batches,
        loss=loss,
        rate=lambda step: 1 / (1 + step),
        after=after,
        steps=STEPS,
        identity={"lr": 0.01, **settings},
        clip=1.0,
        clip_from=2,
    )


def weights(task: Task) -> dict[str, Tensor]:
    return {f"{name}.{key}": v for name, module in task.modules.items() for key, v in module.state_dict().items()}


def assert_same(left: Task, right: Task) -> None:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_stopping_and_resuming_changes_no_bit(tmp_path: Path, stop: int) -> None:
    whole, first, second = toy(), toy(), toy()
    run(whole, tmp_path / "whole", resume=False)
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path / "parts", resume=False, intervals=Intervals(stop_after=stop))
    run(second, tmp_path / "parts", resume=True)
    assert_same(whole, second)
    lines = [metrics_without_time(tmp_path / folder) for folder in ("whole", "parts")]
    assert lines[0] == lines[1]


def metrics_without_time(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_ctrl_c_saves_the_step_in_progress_and_can_be_resumed(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    whole, cut, rest = toy(), toy(interrupt=4), toy()
    run(whole, tmp_path / "whole", resume=False)
    with pytest.raises(KeyboardInterrupt):
        run(cut, tmp_path / "cut", resume=False)
    assert torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)["step"] == 5
    assert signal.getsignal(signal.SIGINT) is before
    run(rest, tmp_path / "cut", resume=True)
    assert_same(whole, rest)


def test_a_killed_run_goes_on_from_its_last_checkpoint_and_tells_each_step_once(tmp_path: Path) -> None:
    whole, rest = toy(), toy()
    run(whole, tmp_path / "whole", resume=False, intervals=Intervals(log_every=1))
    with pytest.raises(KeyboardInterrupt):
        run(toy(), tmp_path / "cut", resume=False, intervals=Intervals(log_every=1, stop_after=6))
    with (tmp_path / "cut" / METRICS).open("a") as metrics:  # what a run wrote after its last checkpoint
        metrics.write('{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    run(rest, tmp_path / "cut", resume=True, intervals=Intervals(log_every=1))
    assert_same(whole, rest)
    assert metrics_without_time(tmp_path / "whole") == metrics_without_time(tmp_path / "cut")


def test_metrics_are_means_since_the_line_before(tmp_path: Path) -> None:
    run(toy(), tmp_path / "fine", resume=False, intervals=Intervals(log_every=1))
    run(toy(), tmp_path / "coarse", resume=False, intervals=Intervals(log_every=6))
    fine = [line["loss"] for line in metrics_without_time(tmp_path / "fine")]
    coarse = metrics_without_time(tmp_path / "coarse")
    assert [line["step"] for line in coarse] == [6, 12]
    assert [line["loss"] for line in coarse] == pytest.approx([np.mean(fine[:6]), np.mean(fine[6:])])
    assert coarse[-1]["lr"] == pytest.approx(0.01 / 12)


def test_a_diverged_loss_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="finite, got nan at step 7"):
        run(toy(bad_step=7), tmp_path, resume=False, intervals=Intervals(save_every=5))
    record = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert record["step"] == 5
    assert all(torch.isfinite(v).all() for v in record["modules"]["net"].values())


class DyingImages(torch.utils.data.Dataset[Tensor]):
    """Images whose worker is killed at the eighth, as the system kills one for memory."""

    def __getitem__(self, index: int) -> Tensor:
        if index == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.ones(16, 4)

    def __len__(self) -> int:
        return 100


def test_a_worker_that_is_killed_is_one_clear_line_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    def batches(_step: int) -> Iterator[Tensor]:
        source = generator("cpu", "dying images")
        return iter(
            torch.utils.data.DataLoader(
                DyingImages(), batch_size=None, num_workers=1, prefetch_factor=1, generator=source
            )
        )

    with pytest.raises(TrainingError, match=r"worker that decodes images died: .*--set workers=.*--resume") as caught:
        run(dataclasses.replace(toy(), batches=batches), tmp_path, resume=False, intervals=Intervals(save_every=2))
    assert "\n" not in str(caught.value)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] in (4, 6, 8)


@pytest.mark.parametrize("stop", [None, 5])
def test_losses_that_are_read_late_are_the_same(
    stop: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = toy(), toy()
    run(early, tmp_path / "early", resume=False, intervals=Intervals(log_every=4))
    monkeypatch.setattr(loop, "READ_AT_ONCE", ())  # as on a GPU
    if stop:
        with pytest.raises(KeyboardInterrupt):
            run(toy(), tmp_path / "late", resume=False, intervals=Intervals(log_every=4, stop_after=stop))
    run(late, tmp_path / "late", resume=True, intervals=Intervals(log_every=4))
    assert_same(early, late)
    assert metrics_without_time(tmp_path / "early") == metrics_without_time(tmp_path / "late")


def test_a_diverged_loss_that_is_read_late_spoils_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "READ_AT_ONCE", ())
    with pytest.raises(TrainingError, match="finite, got nan at step 7"):
        run(toy(bad_step=7), tmp_path, resume=False, intervals=Intervals(save_every=5))
    record = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert record["step"] == 5
    assert all(torch.isfinite(v).all() for v in record["modules"]["net"].values())


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(toy(), tmp_path, resume=False)
    with pytest.raises(TrainingError, match="already holds a training run; give --resume"):
        run(toy(), tmp_path, resume=False)
    finished = toy()
    run(finished, tmp_path, resume=True)  # nothing left to do, and the weights are there
    whole = toy()
    run(whole, tmp_path / "again", resume=False)
    assert_same(finished, whole)


def test_resuming_with_other_settings_names_them(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(toy(batch=16), tmp_path, resume=False, intervals=Intervals(stop_after=3))
    with pytest.raises(TrainingError, match="batch=16 there, 32 here"):
        run(toy(batch=32), tmp_path, resume=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainingError, match="cannot read the checkpoint") as caught:
        run(toy(), tmp_path, resume=True)
    assert "\n" not in str(caught.value)


DAMAGE = {
    "a step beyond the last": ("step", STEPS + 1),
    "a step before the first": ("step", -1),
    "a text for a step": ("step", "3"),
    "sums of nan": ("sums", {"loss": float("nan")}),
    "settings that are no JSON": ("settings", "{"),
    "settings that are a list": ("settings", "[]"),
    "settings without end": ("settings", "[" * 100_000),
    "no modules": ("modules", {}),
    "modules of other shapes": ("modules", {"net": {"0.weight": torch.zeros(2)}, "target": {}}),
    "an optimiser of nothing": ("optimiser", {}),
    "an optimiser of another kind": ("optimiser", {"state": [], "param_groups": 3}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_checkpoint_of_other_content_is_one_clear_line(tmp_path: Path, what: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(toy(), tmp_path, resume=False, intervals=Intervals(stop_after=3))
    key, value = DAMAGE[what]
    record = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    torch.save({**record, key: value}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError) as caught:
        run(toy(), tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_moments_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(toy(), tmp_path, resume=False, intervals=Intervals(stop_after=3))
    record = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    record["optimiser"]["state"][0]["exp_avg"] = torch.zeros(7)
    torch.save(record, tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="does not fit this run"):
        run(toy(), tmp_path, resume=True)


def test_a_checkpoint_sets_no_rate(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(toy(), tmp_path, resume=False, intervals=Intervals(stop_after=3))
    record = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    record["optimiser"]["param_groups"][0] |= {"base_lr": 1e9, "weight_decay": float("nan"), "betas": "x"}
    torch.save(record, tmp_path / CHECKPOINT)
    resumed, whole = toy(), toy()
    run(resumed, tmp_path, resume=True)
    run(whole, tmp_path / "whole", resume=False)
    assert_same(resumed, whole)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    class Mischief:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps({"format": 1, "modules": Mischief()}))
    torch.save({"format": 1, "modules": Mischief()}, tmp_path / "as-torch-writes")
    for made in (CHECKPOINT, "as-torch-writes"):
        (tmp_path / CHECKPOINT).write_bytes((tmp_path / made).read_bytes())
        with pytest.raises(TrainingError, match="cannot read the checkpoint"):
            run(toy(), tmp_path, resume=True)
    assert not (tmp_path / "executed").exists()


def test_sigterm_is_remembered_until_the_step_is_saved(tmp_path: Path) -> None:
    task = toy()

    def loss(step: int, x: Tensor) -> Mapping[str, Tensor]:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return task.loss(step, x)

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(dataclasses.replace(task, loss=loss), tmp_path, resume=False)
    assert stopped.value.args == (signal.SIGTERM,)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 3


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot make the folder"):
        run(toy(), tmp_path / "file" / "run", resume=False)


def test_clipping_begins_where_it_is_told(tmp_path: Path) -> None:
    run(toy(), tmp_path, resume=False, intervals=Intervals(log_every=1))
    clipped = ["grad_norm" in line for line in metrics_without_time(tmp_path)]
    assert clipped == [False, False] + [True] * (STEPS - 2)


def test_a_probe_writes_nothing_and_grows_with_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seconds = probe(toy())
    assert seconds > 0
    assert list(tmp_path.iterdir()) == []
    assert probe(dataclasses.replace(toy(), steps=STEPS * 100_000)) > seconds


def test_progress_goes_to_stderr_in_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(toy(), tmp_path, resume=False, intervals=Intervals(log_every=6))
    out, err = capsys.readouterr()
    assert out == ""
    assert f"step {STEPS}/{STEPS}" in err
    assert "s left" in err


def test_borrowed_generators_are_given_back() -> None:
    def state() -> tuple[object, ...]:
        legacy = np.random.get_state()[1]  # noqa: NPY002
        return random.getstate(), tuple(legacy.tolist()), torch.get_rng_state().tolist()

    def drawn() -> tuple[float, ...]:
        with seeded_globals("a", 1):
            return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    before = state()
    first = drawn()
    assert state() == before
    assert drawn() == first


def test_keys_that_differ_in_any_word_give_other_seeds() -> None:
    keys = [("a", 1, 2), ("a", 12), ("a1", 2), ("a", "1", 2), ("a", 1.0, 2), ("a", 2, 1)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
