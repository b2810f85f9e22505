"""Every `--json` document, key by key: what scripts read is changed on purpose or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import published_logs
import pytest
from encoder_files import encoder_file, generator_file
from json_documents import TABLE
from places import PROJECT, SUPPORT

from bench.cli import main
from bench.cli.app import app
from bench.runs.store import find_runs
from bench.timing import device_peaks
from methods.training.rng import seeded_globals

TOY = f"{SUPPORT / 'toy_method.py'}:TOY"
SMALL = "--dataset digits --sigma 0.5 --n0 20 --n 100 --subset first:4"
COMMANDS = {
    "run": f"run --methods {TOY} {SMALL}",
    "run, sequential": f"run --methods {TOY} {SMALL} --certifier sequential --radii 0,0.25 --out sequential",
    "run --dry-run": f"run --methods gaussian {SMALL} --dry-run",
    "plan": "plan --images 20 --gpus 1,8",
    "status": "status",
    "runs list": "runs",
    "runs list DIGEST": "runs DIGEST",
    "runs merge": "runs merge RUN COPY --out merged",
    "runs export": "runs export results/runs --out runs.zip",
    "runs import": "runs import runs.zip --out imported-runs",
    "verify": "verify RUN --rows 2 --seed 1",
    "report": "report",
    "strips": "strips --methods dds --images 1 --out strips",
    "probe": "probe rrcm --weights encoder.safetensors --subset first:20 --epochs 1 --sigma 0,0.5",
    "generate": "generate rrcm --weights generator.safetensors --encoder encoder.safetensors --images 4 --rows 1 "
    "--distance 4 --steps 2 --out generated",
    "compare": "compare RUN OTHER",
    "claims": "claims",
    "methods": "methods",
    "methods NAME": "methods gaussian",
    "datasets": "datasets",
    "latency": f"latency --methods {TOY} --n 100 --repeats 4 --budget 0.2 --batch 50 --out latency.jsonl",
    "latency --claims": "latency --claims",
    "latency --backtest": "latency --backtest",
    "bench": "bench --networks digits-resnet8 --budget 0.1 --out bench",
    "check": f"check {TOY}",
    "doctor": "doctor",
    "train": "train gaussian --sigma 0.5 --set epochs=1 --set batch=64 --dry-run --out trained",
    "study": "study study.toml --dry-run",
    "weights list": "weights list",
    "weights verify": "weights verify gaussian/digits/0.50",
    "weights show": "weights show net.safetensors",
    "weights add": "weights add mine/x net.safetensors --method gaussian --dataset digits",
    "weights remove": "weights remove mine/x",
    "logs audit": "logs audit log.txt",
    "logs import": "logs import log.txt --dataset cifar10 --sigma 0.5 --out imported",
}
# Shown beside the conversion itself (tests/methods/diffusion/test_conversion.py).
WITHOUT = {"weights convert"}
# Objects whose keys are names: of settings, devices, packages, radii, ...
MAPS = re.compile(
    r"(^|\.)(accuracy|params|by_dataset|packages|devices|stopped|calls_per_pass|stages|versions|parts|optional|settings"
    r"|weights|files|flops|calls|kernels)$"
)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Paths and types of all plain values; an empty list or object is one, of no type."""
    if isinstance(value, dict):
        by_name = bool(MAPS.search(path))
        for key, held in value.items():
            yield from leaves(held, f"{path}.{'*' if by_name else key}")
        if not value:
            yield f"{path}.*", "none"
    elif isinstance(value, list):
        for held in value:
            yield from leaves(held, f"{path}[]")
        if not value:
            yield f"{path}[]", "none"
    else:
        yield (
            path,
            {"int": "number", "float": "number", "str": "text", "bool": "truth", "NoneType": "null"}[
                type(value).__name__
            ],
        )


def types_of(document: Any) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path, kind in leaves(document):
        found[path].add(kind)
    return found


def stated(text: str) -> dict[str, set[str]]:
    """The table's lines: `PARENT TYPES: KEYS`."""
    found = {}
    for line in text.strip().splitlines():
        head, _, keys = line.partition(": ")
        parent, kinds = head.split()
        for key in keys.split():
            found[parent.removeprefix("/") + key] = set(kinds.split("|"))
    return found


def call(words: list[str]) -> str:
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["rrcm-bench", *words, "--json"])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code in (0, None), words
    return out.getvalue()


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command prints, all run in one folder, in that order."""
    folder, found = tmp_path_factory.mktemp("json"), {}
    (folder / "log.txt").write_text(published_logs.cohen(published_logs.simulated(60, n=1000, seed=1)))
    shipped = PROJECT / "methods" / "pretrained" / "digits" / "gaussian-0.50.safetensors"
    (folder / "study.toml").write_text('[[train]]\nname = "a"\nmethod = "gaussian"\ndataset = "digits"\nseconds = 9\n')
    (folder / "net.safetensors").write_bytes(shipped.read_bytes())
    generator_file(folder / "generator.safetensors", encoder_file(folder / "encoder.safetensors"))
    with contextlib.chdir(folder), seeded_globals(1), pytest.MonkeyPatch.context() as patch:  # networks are random
        patch.setattr(device_peaks, "SIDES", {"cpu": (32, 64)})
        patch.setattr(device_peaks, "ROUNDS_S", 0.01)
        for name, words in COMMANDS.items():
            places = {}
            if name == "runs list":
                call(f"run --methods gaussian {SMALL}".split())
            if (Path("results") / "runs").is_dir():
                runs = find_runs([Path("results/runs")])
                first, last = runs[0], runs[-1]
                if name == "runs merge":
                    shutil.copytree(first.path, "COPY")
                places = {
                    "DIGEST": first.spec.digest()[:8],
                    "RUN": str(first.path),
                    "OTHER": str(last.path),
                }
            found[name] = json.loads(call([places.get(word, word) for word in words.split()]))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_document_has_the_keys_and_types_of_the_table(name: str, documents: dict[str, Any]) -> None:
    found, expected = types_of(documents[name]), stated(TABLE[name])
    optional = {path.rstrip("?") for path in expected if path.endswith("?")}
    expected = {path.rstrip("?"): kinds for path, kinds in expected.items()}
    empty = {path for path, kinds in found.items() if kinds == {"none"}}
    prefixes = tuple(path.removesuffix(".*") for path in empty)
    assert {path for path in found if path not in expected} - empty == set()
    missing = {path for path in expected if path not in found} - optional
    assert {path for path in missing if not path.startswith(prefixes or "\0")} == set()
    assert {
        path: kinds - expected[path] for path, kinds in found.items() if kinds - expected.get(path, kinds) - {"none"}
    } == {}


def test_every_command_prints_json_and_is_in_the_table() -> None:
    import typer.main

    def named(command: Any, name: str = "") -> Iterator[str]:
        for own, inner in getattr(command, "commands", {}).items():
            yield from named(inner, f"{name} {own}".strip())
        if not hasattr(command, "commands"):
            assert any("--json" in param.opts for param in command.params), name
            yield name

    known = {
        " ".join(word for word in name.partition(",")[0].split() if word.islower() and word[0] != "-")
        for name in COMMANDS
    }
    assert known == set(named(typer.main.get_command(app))) - WITHOUT
    assert TABLE.keys() == COMMANDS.keys()
