"""Plan files: every option of `run` may stand in one, its schema says so, and failures are told at the end."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from places import PROJECT, SUPPORT

from bench.cli.plan_file import KEYS, WHOLE, read, schema
from bench.cli.run import RunOptions
from bench.runs.execution import detach
from bench.types.errors import UsageError

TOY = f"{SUPPORT / 'toy_method.py'}:TOY"
FAULTY = f"{SUPPORT / 'faulty_method.py'}:FAULTY"
HEAD = f"methods = [{TOY!r}]\ndataset = 'digits'\nn0 = 20\nn = 1e2\nsubset = 'first:2'\nsigma = 0.5\n"


def test_every_option_of_run_is_a_key_of_a_plan() -> None:
    keys = {key if key == "set" else field for key, (field, *_) in WHOLE.items()} | KEYS.keys()
    options = {field.name for field in fields(RunOptions)} - {"plan"}
    assert {"set" if name == "params" else name for name in options} == keys


def test_the_schema_beside_the_documents_is_this_versions() -> None:
    written = json.loads((PROJECT / "docs" / "plan.schema.json").read_text(encoding="utf-8"))
    assert written == schema()


def test_the_plans_of_the_document_can_be_read(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "plans.md").read_text(encoding="utf-8")
    plans = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    assert plans
    for block in plans:
        if "[[train]]" in block:  # a study
            continue
        (tmp_path / "plan.toml").write_text(block)
        assert read(tmp_path / "plan.toml").runs
    assert set(KEYS) | set(WHOLE) <= {word.strip("`") for word in text.replace(",", " ").replace("|", " ").split()}


def test_a_whole_number_may_be_written_with_an_exponent(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(HEAD.replace("1e2", "1e5"))
    (run,) = read(tmp_path / "plan.toml").runs
    assert run["n"] == 100_000
    assert type(run["n"]) is int
    (tmp_path / "plan.toml").write_text(HEAD.replace("1e2", "1.5"))
    with pytest.raises(UsageError, match=r"n = 1\.5; expected a whole number"):
        read(tmp_path / "plan.toml")


def test_what_is_the_whole_plans_stands_before_the_runs(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        f'{HEAD}out = "here"\nbatch = 8\nslurm = {{partition = "gpu"}}\n[[run]]\nn = 50\n'
    )
    found = read(tmp_path / "plan.toml")
    assert found.whole == {"out": tmp_path / "here", "batch": "8", "slurm": ["partition=gpu"]}
    (tmp_path / "plan.toml").write_text(f"{HEAD}[[run]]\nworkers = 3\n")
    with pytest.raises(UsageError, match=r"workers stands in a \[\[run\]\]"):
        read(tmp_path / "plan.toml")


def test_options_of_the_whole_plan_are_used_and_those_given_go_over_them(cli, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "plan.toml").write_text(f'{HEAD}out = "votes"\njson = true\ndevice = "cpu"\nbatch = 7\n')
    found = cli("run", "--plan", "sub/plan.toml")
    assert [run["images"] for run in found.json["runs"]] == [2]
    (run,) = (tmp_path / "sub" / "votes").glob("*/run.json")
    assert json.loads(run.read_text())["execution"]["batch"] == 7
    assert cli("run", "--plan", "sub/plan.toml", "--out", "other").code == 0
    assert list((tmp_path / "other").glob("*/run.json"))


def test_a_plan_goes_on_where_a_run_fails_and_ends_with_its_reason(cli, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        f"{HEAD}[[run]]\nmethods = [{FAULTY!r}]\nset = {{fails = 'in predict'}}\n[[run]]\n"
        "[[run]]\nmethods = ['gaussian']\nweights = ['network=nowhere.pth']\n"
    )
    found = cli("run", "--plan", "plan.toml", "--json")
    assert found.code == 1
    assert [run["images"] for run in found.json["runs"]] == [2]
    reasons = sorted(failure["reason"] for failure in found.json["failed"])
    assert "nowhere.pth" in reasons[1]
    assert "ValueError: my own fault" in reasons[0]
    for failure in found.json["failed"]:
        assert Path(failure["log"]).is_file()
    tail = found.err.splitlines()[-3:]
    assert tail[0] == "2 of 3 runs failed:"
    assert "internal error" not in found.err
    assert "Traceback" not in found.err
    seen = cli("status", "--plan", "plan.toml", "--json")
    assert [run["state"] for run in seen.json["runs"]] == ["failed", "done"]
    stopped = cli("run", "--plan", "plan.toml", "--stop-at-first-failure", "--out", "others")
    assert stopped.code == 1
    assert not (tmp_path / "others").exists()


def test_a_complete_plan_costs_nothing(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan.toml").write_text(HEAD)
    assert cli("run", "--plan", "plan.toml").code == 0
    monkeypatch.setattr("bench.timing.dry_run.probe", lambda *_, **__: pytest.fail("probed"))
    (cost,) = cli("run", "--plan", "plan.toml", "--dry-run", "--json").json["plan"]
    assert (cost["passes"], cost["passes_fixed"], cost["seconds"]) == (0, 0, 0.0)
    assert "0 samples" in cli("run", "--plan", "plan.toml", "--dry-run").out


def test_a_run_asked_for_twice_is_computed_once(cli, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(f"{HEAD}[[run]]\n[[run]]\n")
    found = cli("run", "--plan", "plan.toml", "--json")
    assert len(found.json["runs"]) == 1
    assert "asked for twice" in found.err


def test_the_status_of_nothing_is_one_line(cli, tmp_path: Path) -> None:
    found = cli("status")
    assert (found.code, len(found.err.splitlines())) == (1, 1)
    assert cli("status", "--watch", "--json").code == 2
    assert cli("status", "--plan", "nowhere.toml").code == 2
    assert not list(tmp_path.iterdir())


def test_a_detached_driver_is_the_same_command_in_a_job(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'rrcm-bench[slurm]'")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, line in {
        "sbatch": f'cp "${{@: -1}}" {tmp_path}/script; echo Submitted batch job 17',
        "srun": "exit 1",
        "scancel": "exit 0",
        "sacct": 'echo "JobID|State|NodeList"',
    }.items():
        (commands / name).write_text(f"#!/bin/bash\n{line}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    (tmp_path / "plan.toml").write_text(
        f'{HEAD}out = "votes"\nexecutor = "slurm"\ndevice = "cuda"\nworkers = 8\ndetach = true\n'
        "[slurm]\npartition = 'gpu'\ntimeout_min = 30\ndriver_timeout_min = 600\n"
    )
    found = cli("run", "--plan", "plan.toml")
    assert found.code == 0
    assert "driver is job 17" in found.err
    lines = (tmp_path / "script").read_text().splitlines()
    assert {"#SBATCH --partition=gpu", "#SBATCH --time=600"} <= set(lines)
    assert not any("gpus" in line for line in lines)
    assert cli("run", "--detach").code == 2  # for --executor slurm alone


def test_the_driver_of_a_job_runs_the_command_where_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()  # of the user's own
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    driver = detach.Driver(("run", "--plan", "nowhere.toml"), str(tmp_path), str(PROJECT))
    with pytest.raises(RuntimeError, match="ended with 2"):
        driver()


def test_a_plan_of_another_language_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("{}")
    with pytest.raises(UsageError, match="is not TOML"):
        read(tmp_path / "plan.toml")
    assert tomllib.loads(HEAD)["n"] == 100.0
