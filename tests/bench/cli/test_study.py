"""Studies: stages with parents, then runs; what is there is skipped, and parts made elsewhere are taken."""

from __future__ import annotations

import io
import json
import signal
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import PROJECT

from bench.cli import study_stages as stages
from bench.cli.study_file import Study, read_study
from bench.cli.study_order import parts
from bench.cli.study_parts import Archive, unpack
from bench.types.errors import StoreError, UsageError

HEAD = """dataset = "digits"
[tier.small]
part_seconds = 60
train = { set = { epochs = 1, batch = 64 } }
run = { n = 1e2, n0 = 20, subset = "first:3" }
[tier.large]
part_seconds = 500
"""
TUNED = """
[[train]]
name = "tuned"
method = "gaussian"
sigma = [0.25, 0.5]
init = "stage:base"
seconds = 20
"""
BASE = """
[[train]]
name = "base"
method = "gaussian"
sigma = [0.25, 0.5]
seconds = 25
tier.large = { seconds = 250, set = { epochs = 90 } }
"""
STAGES = TUNED + BASE
RUNS = """
[[run]]
methods = "gaussian"
sigma = [0.25, 0.5]
weights = { network = "stage:base" }
seconds = 20
"""
WEIGHTS = PROJECT / "methods" / "pretrained" / "digits"


def read(folder: Path, text: str = HEAD + STAGES + RUNS, tier: str | None = "small") -> Study:
    (folder / "study.toml").write_text(text)
    return read_study(folder / "study.toml", tier, None)


def test_parents_come_first_and_each_noise_level_has_its_own(tmp_path: Path) -> None:
    made = read(tmp_path)
    names = [item.name for item in made.items]
    assert sorted(names) == [
        "base-s0.25", "base-s0.50", "run 1-s0.25", "run 1-s0.50", "tuned-s0.25", "tuned-s0.50",
    ]  # fmt: skip
    assert all(names.index(parent) < names.index(item.name) for item in made.items for parent in item.parents)
    by_name = {item.name: item for item in made.items}
    tuned = by_name["tuned-s0.50"]
    assert tuned.parents == ("base-s0.50",)
    assert str(made.weights("base-s0.50")) in tuned.words
    assert {"--sigma", "0.5", "epochs=1", "batch=64"} <= set(tuned.words)
    run = by_name["run 1-s0.25"]
    assert run.parents == ("base-s0.25",)
    assert run.table is not None
    assert run.table["n"] == 100
    assert run.seconds == 10


def test_a_tiers_words_go_over_an_items_and_its_own_for_it_over_both(tmp_path: Path) -> None:
    by_name = {item.name: item for item in read(tmp_path, tier="large").items}
    assert "epochs=90" in by_name["base-s0.25"].words
    assert by_name["base-s0.25"].seconds == 250
    assert "--set" not in by_name["tuned-s0.25"].words


def test_parts_are_cut_by_declared_seconds_and_hold_all_in_order(tmp_path: Path) -> None:
    made = read(tmp_path)
    cut = parts(made)
    assert [item for part in cut for item in part] == list(made.items)
    assert all(sum(item.seconds or 0.0 for item in part) <= 60 for part in cut)
    assert len(cut) == 3
    with pytest.raises(UsageError, match="declares None seconds"):
        parts(read(tmp_path, HEAD + STAGES.replace("seconds = 20\n", "")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + STAGES.replace('"stage:base"', '"stage:bass"'), "names no stage"),
        (HEAD + STAGES.replace('"stage:base"', '"stage:tuned"'), "needs itself"),
        (HEAD + STAGES.replace('name = "base"', 'name = "../base"'), "expected letters"),
        (HEAD + STAGES.replace('method = "gaussian"', "epochs = 3"), "unknown key 'epochs'"),
        (HEAD + STAGES + "[[run]]\nsigma = 0.5\n", "has no methods"),
        (HEAD + STAGES.replace('name = "base"', 'name = "tuned"'), "two stages are named"),
        (HEAD + "[[train]]\nafter = 3\n", "after = 3; expected a list of names"),
    ],
)
def test_a_mistake_in_a_study_is_one_clear_line(cli, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "study.toml").write_text(text)
    found = cli("study", "study.toml", "--tier", "small", "--dry-run")
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1
    assert cli("study", "study.toml").code == 2  # which tier?


def test_weights_trained_elsewhere_are_dropped_in_and_a_failing_stage_takes_its_children_alone(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys; sys.exit('rrcm-bench: no setting ' + ' '.join(sys.argv))"
    monkeypatch.setattr(stages, "own_command", lambda words: [sys.executable, "-c", script, *words])
    failing = """
[[train]]
name = "bad"
method = "gaussian"
sigma = 0.5
set = { no_such_setting = 1 }
[[train]]
name = "child"
method = "gaussian"
sigma = 0.5
init = "stage:bad"
"""
    made = read(tmp_path, HEAD + BASE + failing + RUNS.replace("[0.25, 0.5]", "0.25"))
    made.weights("x").parent.mkdir(parents=True)
    for sigma in ("0.25", "0.50"):
        made.weights(f"base-s{sigma}").write_bytes((WEIGHTS / f"gaussian-{sigma}.safetensors").read_bytes())
    found = cli("study", "study.toml", "--tier", "small", "--json")
    assert found.code == 1
    states = {item["name"]: item["state"] for item in found.json["items"]}
    assert states == {
        "base-s0.25": "done", "base-s0.50": "done", "bad-s0.50": "failed", "child-s0.50": "waiting",
        "run 1-s0.25": "done",
    }  # fmt: skip
    assert "no_such_setting" in found.err
    assert "waits for bad-s0.50" in found.err
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    seen = cli("study", "study.toml", "--tier", "small", "--status", "--json")
    assert seen.json == found.json
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_stage_is_the_train_command_and_leaves_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read(tmp_path)
    item = next(item for item in made.items if item.name == "base-s0.25")
    script = (
        "import json, pathlib, sys; out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1]); out.mkdir();"
        "(out / 'w').write_bytes(b'weights'); print('step 1', file=sys.stderr);"
        "print(json.dumps({'weights': str(out / 'w'), 'words': sys.argv[1:]}))"
    )
    monkeypatch.setattr(stages, "own_command", lambda words: [sys.executable, "-c", script, *words])
    assert stages.train_stages(made, [item]) == []
    assert made.weights(item.name).read_bytes() == b"weights"
    record = json.loads(made.weights(item.name).with_suffix(".json").read_text())
    assert record["result"]["words"][:2] == ["train", "gaussian"]
    assert (made.state / "train" / item.name / "log.txt").read_text() == "step 1\n"


def test_ctrl_c_lets_a_stage_end_by_itself_and_sigterm_ends_it() -> None:
    class Process:
        ended: tuple[str, ...] = ()

        def wait(self, _seconds: float) -> None:
            self.ended += ("by itself",)

        def terminate(self) -> None:
            self.ended += ("terminated",)

        def poll(self) -> int | None:
            return 0 if self.ended else None

    for error, ended in (
        (KeyboardInterrupt(signal.SIGINT), ("by itself",)),
        (KeyboardInterrupt(signal.SIGTERM), ("terminated", "by itself")),
    ):
        each = SimpleNamespace(process=Process(), held=ExitStack())
        stages._end([each], error)  # type: ignore[list-item]
        assert each.process.ended == ended


def test_stages_run_side_by_side_after_their_parents_and_stop_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A base at sigma 0.25 ends only once that of 0.5 has begun; a tuned one of 0.5 only by a signal.
    script = f"""
import json, pathlib, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
name, folder = out.parent.name, out.parent.parent
out.mkdir(exist_ok=True)
(out / "begun").write_text("")
while name == "base-s0.25" and not (folder / "base-s0.50" / "run" / "begun").is_file() or name == "tuned-s0.50":
    time.sleep(0.01)
if "--init" in words:
    assert pathlib.Path(words[words.index("--init") + 1]).is_file()
print(json.dumps({{"weights": {str(WEIGHTS / "gaussian-0.25.safetensors")!r}}}))
"""
    monkeypatch.setattr(stages, "own_command", lambda words: [sys.executable, "-c", script, *words])
    made = read(tmp_path, HEAD + TUNED.replace("seconds = 20", "") + BASE, "small")
    trained: list[str] = []
    items = [item for item in made.items if item.trains]

    class Clock:
        """Over once all has ended that can."""

        @staticmethod
        def monotonic() -> float:
            return 1000.0 if len(trained) == 3 else 0.0

        @staticmethod
        def sleep(_seconds: float) -> None:
            real.sleep(0.01)

    real = stages.time
    monkeypatch.setattr(stages, "time", Clock)
    failures = stages.train_stages(made, items, jobs=2, deadline=100.0, ended=lambda item: trained.append(item.name))
    assert sorted(trained) == ["base-s0.25", "base-s0.50", "tuned-s0.25"]
    assert [(failure.what, failure.reason.partition(";")[0]) for failure in failures] == [
        ("tuned-s0.50", "stopped at the time limit")
    ]
    assert not made.weights("tuned-s0.50").exists()
    # Another time: nothing is begun whose declared seconds are more than is left.
    for name in ("base-s0.25", "tuned-s0.25"):
        made.weights(name).unlink()
    rest = [item for item in items if item.name != "tuned-s0.50"]
    failures = stages.train_stages(made, rest, jobs=2, deadline=1010.0)
    assert {failure.what: failure.reason.partition(":")[0] for failure in failures} == {
        "base-s0.25": "not begun", "tuned-s0.25": "waits for base-s0.25",
    }  # fmt: skip
    assert "there  base-s0.50" in capsys.readouterr().err


def test_an_archive_in_pieces_gives_back_what_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.cli.study_parts.PIECE", 4000)
    state, out = tmp_path / "state", tmp_path / "out"
    archive = Archive(out, "part-1", state)
    for number in range(4):
        made = state / "weights" / f"{number}.safetensors"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(bytes([number]) * (1500 + 1000 * number))
        archive.add([made])
        other = tmp_path / f"other-{number}"
        unpack(out, other)  # whole after every stage
        assert len(list((other / "weights").iterdir())) == number + 1
    assert all(path.stat().st_size <= 4000 for path in out.iterdir())
    assert archive.files == len(list(out.iterdir())) > 3
    for path in (state / "weights").iterdir():
        assert (tmp_path / "other-3" / "weights" / path.name).read_bytes() == path.read_bytes()
    (tmp_path / "other-3" / "weights" / "0.safetensors").write_bytes(b"own")
    unpack(out, tmp_path / "other-3")
    assert (tmp_path / "other-3" / "weights" / "0.safetensors").read_bytes() == b"own"
    with pytest.raises(StoreError, match="no part-K"):
        unpack(tmp_path, tmp_path / "other-3")
    (out / "part-1.tar.00").write_bytes(b"x" * 4000)
    with pytest.raises(StoreError, match="cannot be read"):
        unpack(out, tmp_path / "other-4")


def test_a_member_of_an_archive_leads_nowhere_else(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "part-1.tar.00").write_bytes(content.getvalue())
    with pytest.raises(StoreError, match="cannot be read"):
        unpack(tmp_path / "in", tmp_path / "state")
    assert not (tmp_path / "outside").exists()


def test_the_study_of_the_document_can_be_read(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "plans.md").read_text(encoding="utf-8")
    (block,) = (part.partition("```")[0] for part in text.split("```toml\n")[1:] if "[[train]]" in part)
    made = read(tmp_path, block)
    assert len(made.items) == 6
    assert len(parts(made)) == 1


def test_a_part_with_words_of_the_command_line_leaves_an_archive(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"import json;print(json.dumps({{'weights': {str(WEIGHTS / 'gaussian-0.25.safetensors')!r}}}))"
    monkeypatch.setattr(stages, "own_command", lambda words: [sys.executable, "-c", script, *words])
    own = BASE.replace('name = "base"', 'name = "own"\ninherits = false')
    (tmp_path / "study.toml").write_text(
        HEAD.replace("epochs = 1, batch = 64 }", "batch = 64 }, half = true") + BASE + own
    )
    words = ("study", "study.toml", "--tier", "small", "--part", 1, "--jobs", 2, "--set", "steps=7", "--out", "out")
    late = cli(*words, "--seconds", 3)
    assert late.code == 1
    assert "base-s0.25: not begun: 25 s declared, 3 s left" in late.err
    assert cli(*words, "--seconds", 1000, "--json").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"part-1.tar.00"}
    unpack(tmp_path / "out", tmp_path / "taken")
    full = (WEIGHTS / "gaussian-0.25.safetensors").stat().st_size
    half = (tmp_path / "taken" / "weights" / "base-s0.25.safetensors").stat().st_size
    assert half < 0.6 * full
    record = json.loads((tmp_path / "taken" / "weights" / "base-s0.50.json").read_text())
    assert "steps=7" in record["words"]
    assert "batch=64" in record["words"]
    made = read_study(tmp_path / "study.toml", "small", None, settings=("steps=7",))
    alone = next(item for item in made.items if item.name == "own-s0.25")
    assert not alone.half
    assert "--set" not in alone.words
    again = cli(*words, "--set", "steps=8")
    assert again.code == 0
    assert "there  base-s0.25, trained by other settings" in again.err
    unpack(tmp_path / "out", tmp_path / "later")  # a part that is gone on with leaves all of it
    assert (tmp_path / "later" / "weights" / "base-s0.25.safetensors").is_file()


@pytest.mark.parametrize("tier", ["cpu", "gpu-small", "gpu", "try"])
def test_the_study_of_cifar10_keeps_its_limits(tier: str) -> None:
    made = read_study(PROJECT / "results" / "cifar10-small" / "study.toml", tier, None)
    train = [item for item in made.items if item.trains]
    seconds = sum(item.seconds or 0.0 for item in train) / made.jobs
    assert all(item.seconds for item in made.items)
    if tier == "cpu":
        assert max(item.seconds or 0.0 for item in train) <= 1800
        assert seconds + sum(item.seconds or 0.0 for item in made.items if not item.trains) <= 28_800
    elif tier.startswith("gpu"):
        assert seconds <= 2700
        assert made.part_seconds is not None
        assert made.part_seconds <= 600
        assert {item.name for item in train if item.name.startswith("boosting")} <= {"boosting-s0.25", "boosting-s0.50"}
        if tier == "gpu-small":
            cut = [{item.name.partition("-s0")[0] for item in part if item.trains} for part in parts(made)]
            assert cut[0] >= {
                "rrcm-pretrain",
                "moco-pretrain",
                "unet",
                "rrcm",
                "moco",
                "denoiser",
                "boosting",
                "rrcm-long",
            }
            assert not any(cut[2:])
