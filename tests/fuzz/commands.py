"""Mutants of what is typed: options and arguments of every command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.changes import pick, word


@dataclass(frozen=True, slots=True)
class Mutant:
    """One command, in a folder that is ready for it."""

    words: tuple[str, ...]
    refuse: bool = False  # whether it must fail: what it reads is wrong beyond doubt


SMALL = ("--sigma", "0.5", "--n0", "20", "--n", "100", "--out", "made")
RUN = ("run", "--methods", "gaussian", "--dataset", "digits", *SMALL)
FIRST = ("--subset", "first:1")
OWN = ("run", "--methods", "mine.py:MINE", "--dataset", "digits", *SMALL)
TRAIN = ("train", "gaussian", "--sigma", "0.5", "--set", "epochs=1", "--set", "batch=1296", "--set", "warmup_epochs=0")
TIMED = ("latency", "--methods", "mine.py:MINE", "--n", "100", "--repeats", "1", "--budget", "0.2", "--batch", "50")
STATED = ("--dataset", "cifar10", "--sigma", "0.5", "--out", "made")

# Commands as they work, and how often each is changed.
SOUND: dict[str, tuple[tuple[str, ...], int]] = {
    "run": ((*RUN, *FIRST), 15),
    "plan": (("plan", "--images", "100"), 1),
    "runs": (("runs", "--runs", "plain"), 1),
    "report": (("report", "--runs", "plain", "--runs", "imported"), 3),
    "strips": (("strips", "--methods", "denoised", "--images", "1", "--out", "made"), 1),
    "compare": (("compare", "PLAIN", "OTHER"), 1),
    "claims": (("claims",), 1),
    "methods": (("methods", "gaussian"), 1),
    "datasets": (("datasets",), 1),
    "latency": ((*TIMED, "--out", "made"), 3),
    "bench": (("bench", "--networks", "nothing"), 1),
    "check": (("check", "mine.py:MINE"), 1),
    "doctor": (("doctor",), 1),
    "train": ((*TRAIN, "--out", "made", "--dry-run"), 2),
    "weights list": (("weights", "list"), 1),
    "weights verify": (("weights", "verify", "gaussian/digits/0.50"), 1),
    "weights show": (("weights", "show", "net.pth"), 1),
    "weights add": (("weights", "add", "mine/x", "net.pth", "--method", "gaussian", "--dataset", "digits"), 3),
    "weights remove": (("weights", "remove", "mine/x"), 1),
    "weights convert": (("weights", "convert", "net.pth", "made.safetensors", "--from", "improved-diffusion"), 1),
    "logs audit": (("logs", "audit", "log.txt"), 1),
    "logs import": (("logs", "import", "log.txt", *STATED), 2),
}
# Options that fetch, that take long by right, or that start a cluster.
LEFT_OUT = {"--download", "--compile", "--executor", "--table", "--claims", "--backtest"}
LONG = re.compile(r"[2-9]\d{2,15}|1\d{4,15}|1_000|1e308|0x10")  # numbers that a fast machine could work off, in hours
KEYS = "network arch normaliser gaussian.network partition epochs lr batch workers x".split()


def options(rng: Random, folder: Path) -> Mutant:
    """Options and arguments of every command."""
    name = rng.choices(list(SOUND), [often for _, often in SOUND.values()])[0]
    words = placed(SOUND[name][0], folder)
    known = [option for option in options_of(name) if option[0] not in LEFT_OUT]
    for _ in range(pick(rng, 1, 1, 1, 2, 3)):
        if rng.random() < 0.2:
            at = rng.randrange(name.count(" ") + 1, len(words) + 1)
            words[at : at + 1] = [] if rng.random() < 0.2 else [given(rng, "", name)]
            continue
        option, takes = pick(rng, *known)
        words += [option, given(rng, option, name)] if takes else [option]
    # Measuring every network takes minutes, and is what `bench` without a name is for.
    return Mutant(SOUND[name][0] if name == "bench" and "nothing" not in words else tuple(words))


def placed(words: tuple[str, ...], folder: Path) -> list[str]:
    """The words with the run folders that two of them stand for."""
    runs = {"PLAIN": "plain", "OTHER": "other"}
    return [str(next(folder.glob(f"{runs[w]}/*")).relative_to(folder)) if w in runs else w for w in words]


def given(rng: Random, option: str, name: str) -> str:
    """A value for an option; nothing that would only take long."""
    made = word(rng).replace("evil.py", "two.py")  # a file that is named here may be imported
    if option in ("--weights", "--set", "--slurm", "--cost") and rng.random() < 0.7:
        made = f"{pick(rng, *KEYS)}={pick(rng, made, 'net.pth', 'a-folder', 'here.txt')}"
    if option in ("--sigma", "--radii", "--gpus") and rng.random() < 0.5:
        made = f"{pick(rng, '0.5', '0', '1')},{made}"
    if name == "bench" and option == "--networks":
        return "nothing"
    return "3" if LONG.fullmatch(made) else made


@cache
def options_of(name: str) -> list[tuple[str, bool]]:
    """A command's options, and whether each takes a value."""
    import typer.main

    from bench.cli.app import app

    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    return [(p.opts[0], not p.is_flag) for p in command.params if p.param_type_name == "option"]
