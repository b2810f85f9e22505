"""What a user types and sees: one line and an exit code for every mistake, JSON alone on stdout when asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from places import PROJECT, SUPPORT

from bench.cli import doctor
from bench.cli.requests import requests
from methods.training.rng import seeded_globals

TOY = f"{(SUPPORT / 'toy_method.py')}:TOY"
SMALL = (
    "run",
    "--methods",
    TOY,
    "--dataset",
    "digits",
    "--sigma",
    "0.5",
    "--n0",
    "20",
    "--n",
    "100",
    "--subset",
    "first:4",
)


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "runs",
        "report",
        "methods",
        "datasets",
        "check",
        "doctor",
        "train",
        "weights list",
        "weights add",
        "weights verify",
    ],
)
def test_every_option_says_what_it_is(cli, command: str) -> None:
    assert cli(*command.split(), "--help").code == 0


def test_run_prints_one_json_document_and_nothing_else(cli, tmp_path: Path) -> None:
    found = cli(*SMALL, "--json", "--out", "runs")
    assert found.code == 0
    (run,) = found.json["runs"]
    assert set(run) >= {
        "digest", "path", "method", "dataset", "sigma", "n0", "n", "alpha", "images", "abstained", "accuracy", "acr",
        "samples", "seconds",
    }  # fmt: skip
    assert run["images"] == 4
    assert run["samples"] == 4 * 120
    assert set(run["accuracy"]) >= {"0.0", "0.25"}
    assert (tmp_path / run["path"] / "run.json").is_file()


def test_the_same_command_again_computes_nothing_and_says_the_same(cli) -> None:
    first, second = cli(*SMALL, "--json"), cli(*SMALL, "--json")
    assert first.json == second.json


def test_a_run_ends_with_its_table(cli) -> None:
    found = cli(*SMALL)
    assert found.code == 0
    assert "certified accuracy" in found.out
    assert "run  toy@" in found.err


def test_runs_lists_and_shows(cli) -> None:
    digest = cli(*SMALL, "--json").json["runs"][0]["digest"]
    assert [r["digest"] for r in cli("runs", "--json").json["runs"]] == [digest]
    shown = cli("runs", digest[:6], "--json").json
    assert shown["spec"]["n"] == 100
    assert shown["environment"]["packages"]["torch"]
    assert cli("runs", "ffff").code == 1


@pytest.mark.parametrize("form", ["--latex", "--markdown", "--csv", "--json"])
def test_report_prints_each_text_format(cli, form: str) -> None:
    cli(*SMALL)
    found = cli("report", form)
    assert found.code == 0
    expected = {"--latex": r"\toprule", "--markdown": "|", "--csv": "table,row", "--json": '"tables"'}[form]
    assert expected in found.out


def test_report_writes_its_figures(cli, tmp_path: Path) -> None:
    cli(*SMALL)
    assert cli("report", "--out", "made").code == 0
    assert {p.suffix for p in (tmp_path / "made").iterdir()} == {".md", ".csv", ".json", ".tex", ".png", ".pdf", ".svg"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("3", "--out", "made"), "--set size"), (("11", "--out", "made"), "t_max"), (("8",), "generate")],
)
def test_a_figure_that_is_not_to_be_had_is_refused_in_one_line(cli, words: tuple[str, ...], expected: str) -> None:
    found = cli("report", "--figure", *words)
    assert (found.code, len(found.err.splitlines())) == (1, 1)
    assert expected in found.err


def test_a_dry_run_prints_the_cost_and_writes_nothing(cli, tmp_path: Path) -> None:
    found = cli(*SMALL, "--dry-run", "--json")
    (plan,) = found.json["plan"]
    assert plan["passes"] == 4 * 120
    assert plan["seconds"] > 0
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_larger_n_counts_only_the_copies_that_are_not_kept(cli) -> None:
    assert cli(*SMALL).code == 0
    (plan,) = cli(*SMALL, "--n", "1e3", "--top-up", "auto", "--dry-run", "--json").json["plan"]
    assert (plan["passes"], plan["passes_fixed"]) == (4 * 900, 4 * 900)


@pytest.mark.parametrize("words", ["1.5", "1e99999", "1e-3", "many", "", "1_000"])
def test_samples_are_a_whole_number(cli, words: str, tmp_path: Path) -> None:
    found = cli(*SMALL, "--n", words)
    assert (found.code, len(found.err.splitlines())) == (2, 1)
    assert "whole number" in found.err
    assert not list(tmp_path.iterdir())


def test_a_plan_file_is_read_and_options_go_over_it(cli, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        f"methods = [{TOY!r}]\ndataset = 'digits'\nn0 = 20\nn = 100\nsubset = 'first:2'\n"
        "[[run]]\nsigma = [0.5]\n[[run]]\nsigma = 1.0\nset = {pause = 0.0}\n"
    )
    runs = cli("run", "--plan", "plan.toml", "--n", "50", "--json").json["runs"]
    assert [(r["sigma"], r["n"], r["images"]) for r in runs] == [(0.5, 50, 2), (1.0, 50, 2)]


def test_lengths_in_another_unit_and_the_normaliser_are_said_before_a_run(cli) -> None:
    words = ("run", "--methods", "gaussian", "--dataset", "digits", "--random-weights", "--limit", "1", "--n", "30")
    lines = cli(*words, "--alpha", "0.3", "--sigma", "64,0.5", "--early-stop", "--radii", "0,128").err.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("run "))
    doubts = [line for line in lines if "l2 length" in line]
    assert [doubt.partition(" is")[0] for doubt in doubts] == ["! sigma 64", "! radius 128"]
    assert doubts == [line for line in lines[:first] if line.startswith("! ")]
    assert lines[:first].count("note  gaussian: normaliser mean_std = 0.3059/0.3755, the default on digits") == 1


def test_all_methods_that_can_be_are_run_and_the_others_named(cli) -> None:
    how = ("--n", "50", "--n0", "10", "--limit", "1", "--random-weights", "--sigma", "1", "--batch", "50")
    found = cli("run", "--methods", "all", *how, "--json")
    planned = {run["method"] for run in found.json["runs"]}
    assert planned >= {"gaussian", "consistency", "rrcm"}
    assert "vit_gaussian" not in planned
    assert "left out  vit_gaussian" in found.err


def test_all_methods_left_out_is_a_refusal_and_no_empty_table(cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for k in range(2):
            Image.new("RGB", (40, 40)).save(tmp_path / "pictures" / name / f"{k}.png")
    for how in ((), ("--dry-run",), ("--json",)):
        found = cli("run", "--methods", "all", "--dataset", "folder", "--data-root", "pictures", *how)
        assert (found.code, found.out) == (1, "")
        assert "left out  gaussian" in found.err
        assert found.err.splitlines()[-1].startswith("rrcm-bench: no installed method can be run so on folder")
    assert not (tmp_path / "results").exists()


def test_the_list_of_methods_promises_only_what_runs(cli) -> None:
    from bench.cli.catalogue import usable
    from bench.weights.catalogue import catalogue

    for record in cli("methods", "--json").json["methods"]:
        ready, known = usable(record, catalogue())
        assert "imagenet" not in ready, record["name"]  # no network of it is shipped
        if record["name"] in ("dds", "gaussian"):
            assert (ready, known) == ("cifar10, digits", "")


def test_methods_without_a_dataset_are_run_on_the_embedded_images(cli) -> None:
    found = cli("run", "--methods", "gaussian", "--n", "50", "--limit", "2", "--sigma", "0.25", "--json")
    (run,) = found.json["runs"]
    assert (run["dataset"], run["images"], run["n"], run["random_weights"]) == ("digits", 2, 50, False)


def test_a_method_of_many_passes_brings_a_smaller_n_along_for_all() -> None:
    def planned(**given: Any) -> dict[str, int]:
        found, _ = requests(given, None)
        return {method: request.n for request in found for method in request.methods}

    alone, beside = planned(methods="gaussian"), planned(methods="gaussian,dds")
    assert beside["gaussian"] == beside["dds"] < alone["gaussian"]
    assert planned(methods="all") == {"all": beside["dds"]}
    assert planned(methods="gaussian,dds", n=7000) == {"gaussian": 7000, "dds": 7000}


def test_a_method_of_a_file_is_checked(cli) -> None:
    found = cli("check", TOY, "--json")
    assert found.code == 0
    assert all(f["ok"] for f in found.json["findings"])


@seeded_globals(1)
def test_a_method_that_breaks_its_promises_fails_the_check(cli, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\nfrom bench.types import Method\n"
        "class Bad:\n    num_classes = 10\n"
        "    def predict(self, x, noise):\n        return torch.randint(10, (len(x),))\n"
        "BAD = Method(name='bad', title='', cite='', build=lambda s: Bad())\n"
    )
    found = cli("check", "bad.py:BAD")
    assert found.code == 3
    assert "BROKEN" in found.out


MISTAKES = [
    (("run", "--methods", "nope", "--dataset", "digits"), 1, "no method named 'nope'"),
    (("run", "--methods", "gaussian", "--dataset", "nope"), 1, "no dataset named 'nope'"),
    (("run", "--sigma", "-1"), 1, "sigma must be a positive"),
    (("run", "--sigma", "half"), 2, "expected numbers"),
    (("run", "--n", "5"), 1, "smallest n that can is 10"),
    (("run", "--n", "many"), 2, "--n"),
    (("run", "--batch", "0"), 2, "expected auto or a positive number"),
    (("run", "--batch", "²"), 2, "expected auto or a positive number"),
    (("run", "--batch", "9" * 5000), 2, "letters) expected auto"),
    (("run", "--n", "9" * 5000), 2, "--n"),
    (("run", "--n", str(10**30)), 2, "of 31 digits: expected a number from"),
    (("run", "--n0", str(10**18)), 2, "--n0 1000000000000000000"),
    (("run", "--workers", str(10**9)), 2, "expected a number from 1 to"),
    (("run", "--size", "0"), 2, "--size 0: expected a number from 1"),
    (("run", "--seed", str(2**63)), 2, "64 bits"),
    (("run", "--alpha", "5e-324"), 2, "--alpha"),
    (("run", "--sigma", "1e308"), 2, "--sigma 1e+308: expected a number from"),
    (("run", "--sigma", "5e-324"), 2, "--sigma"),
    (("run", "--device", "cuda:²"), 1, "no device 'cuda:²'"),
    (("run", "--device", "cuda:" + "9" * 5000), 1, "no device"),
    (("latency", "--budget", "nan"), 2, "--budget nan"),
    (("latency", "--budget", "inf"), 2, "--budget inf"),
    (("latency", "--repeats", str(10**20)), 2, "--repeats"),
    (("latency", "--batch", "²"), 2, "--batch"),
    (("latency", "--n", str(10**30)), 2, "--n"),
    (("bench", "--budget", "inf"), 2, "--budget"),
    (("plan", "--gpus", "²"), 2, "--gpus"),
    (("plan", "--images", str(10**25)), 2, "--images"),
    (("plan", "--sigma", "nan"), 2, "--sigma"),
    (("plan", "--cost", "a=1e308"), 2, "--cost"),
    (("train", "gaussian", "--sigma", "nan"), 2, "--sigma nan"),
    (("train", "gaussian", "--sigma", "0.5", "--set", f"epochs={10**30}"), 2, "epochs"),
    (("train", "gaussian", "--sigma", "0.5", "--set", "threads=99999999"), 2, "threads must be"),
    (("report", "--table", "1", "--alpha", "nan"), 1, "alpha must lie in"),
    (("run", "--out", "a\0b"), 2, "zero byte"),
    (("run", "--device", "tpu"), 1, "no device 'tpu'"),
    (("run", "--dataset", "digits"), 2, "no --methods given"),
    (("run", "--plan", "nowhere.toml"), 2, "cannot be read"),
    (("run", "--subset", "every:3"), 1, "skip:"),
    (("run", "--set", "colour=red"), 2, "no method of this run has 'colour'"),
    (("run", "--methods", "gaussian", "--dataset", "cifar10"), 1, "--data-root"),
    (("run", "--methods", "gaussian", "--dataset", "digits", "--weights", "network=nowhere.pth"), 1, "nowhere.pth"),
    (("runs", "--runs", "nowhere"), 1, "no folder"),
    (("report",), 1, "no runs"),
    (("report", "--latex", "--csv"), 2, "several formats"),
    (("report", "--table", "99"), 1, "99"),
    (("train", "denoised"), 2, "trains in stages: classifier, denoiser"),
    (("train", "rrcm"), 2, "pretrain, finetune"),
    (("weights", "verify", "nope"), 1, "nope"),
    (("frobnicate",), 2, "No such command"),
]


IDS = [" ".join(words)[:60].replace("\0", "") for words, _, _ in MISTAKES]


@pytest.mark.parametrize(("words", "code", "text"), MISTAKES, ids=IDS)
def test_a_mistake_is_one_clear_line(cli, tmp_path: Path, words: tuple[str, ...], code: int, text: str) -> None:
    found = cli(*words)
    assert text in " ".join(found.err.replace("│", " ").split())
    assert found.code in (1, 2)
    assert found.code == code
    assert found.out == ""
    assert "Traceback" not in found.err
    assert not list(tmp_path.iterdir())


PLANS = [
    ("methods = [1, true]", "methods"),
    ("weights = [[1]]", "weights"),
    ("set = {a = [1]}", "set"),
    ("sigma = ['x']", "sigma"),
    ("sigma = [true]", "sigma"),
    ("n = 1e18", "n = 1e+18; expected a whole number"),
    ("n = " + "9" * 5000, "not TOML that can be read"),
    ("n = 0x" + "f" * 6000, "--n"),
    ("sigma = [0x" + "f" * 6000 + "]", "sigma"),
    ("a = " + "[" * 3000 + "]" * 3000, "not TOML that can be read"),
    ('data_root = "a\\u0000b"', "zero byte"),
]


@pytest.mark.parametrize(("text", "said"), PLANS, ids=[said[:20] + str(k) for k, (_, said) in enumerate(PLANS)])
def test_a_plan_of_other_types_is_one_clear_line(cli, tmp_path: Path, text: str, said: str) -> None:
    head = "" if text.startswith("methods") else 'methods = "gaussian"\n'
    (tmp_path / "plan.toml").write_text(f'{head}dataset = "digits"\n{text}\n')
    found = cli("run", "--plan", "plan.toml")
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1
    assert len(found.err) < 1000


def test_a_bug_is_said_to_be_one_and_shows_no_traceback(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("rrcm_bench_file_")]:  # of other tests
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("bench.runs.store.find_runs", {}.__getitem__)
    found = cli("runs")
    assert found.code == 1
    assert "internal error" in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize("damage", ["truncated", "code"])
def test_a_dangerous_checkpoint_is_refused_in_one_line(cli, tmp_path: Path, damage: str) -> None:
    import pickle

    import torch

    path = tmp_path / "net.pth"
    if damage == "truncated":
        torch.save({"state_dict": {"w": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:700])
    else:
        path.write_bytes(pickle.dumps({"state_dict": Mischief()}))
    found = cli("run", "--methods", "gaussian", "--dataset", "digits", "--weights", f"network={path}", "--n", "100")
    assert found.code == 1
    assert "net.pth" in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not (tmp_path / "mischief").exists()
    assert not (tmp_path / "results").exists()


class Mischief:
    def __reduce__(self):
        return (Path.touch, (Path("mischief"),))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run --dataset ci", ["cifar10"]),
        ("run --methods gaussian,rr", ["gaussian,rrcm"]),
        ("methods deno", ["denoised"]),
        ("report --table r", ["rebuttal1", "rebuttal2", "raw"]),
        ("runs 8812", ["8812b104b1"]),
        ("compare results/runs/digits-g", ["results/runs/digits-gaussian-s0.25-8812b104b1"]),
        ("weights verify rrcm/digits/0.2", ["rrcm/digits/0.25"]),
    ],
)
def test_tab_offers_what_is_installed_and_what_was_run(
    typed: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("digits-gaussian-s0.25-8812b104b1", "digits-rrcm-s0.5-e35a2e98b0"):
        (tmp_path / "results" / "runs" / name).mkdir(parents=True)
        (tmp_path / "results" / "runs" / name / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    words = f"rrcm-bench {typed}"
    shell = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_RRCM_BENCH_COMPLETE": "complete_bash"}
    program = "import atexit, sys; sys.argv = ['rrcm-bench']; from bench.cli import main\n"
    program += "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); main()"
    paths = os.pathsep.join((str(PROJECT), os.environ.get("PYTHONPATH", "")))
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, env={**os.environ, **shell, "PYTHONPATH": paths},
    )  # fmt: skip
    assert found.stdout.split() == offered
    assert found.stderr.split() == ["False"]  # Tab waits for no torch


def test_strips_show_what_denoisers_make_of_an_image(cli, tmp_path: Path) -> None:
    how = ("--images", "1", "--out", "made")
    assert cli("strips", "--methods", "denoised,dds", *how).code == 0
    assert {p.name for p in (tmp_path / "made").iterdir()} == {
        f"strips-digits-s0.50.{end}" for end in ("png", "pdf", "svg")
    }
    refused = cli("strips", "--methods", "gaussian", *how)
    assert refused.code == 2
    assert refused.err.strip().splitlines()[-1].endswith("gaussian shows no denoised pixels; leave it out of --methods")


def test_the_doctor_names_the_extra_that_installs_a_part(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.OPTIONAL, "no_such_module", ("sums", "to be told apart"))
    assert "rrcm-bench[sums]" in cli("doctor").out
