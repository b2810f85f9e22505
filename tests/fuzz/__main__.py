"""Run mutants and tell which of them were not taken as they should be."""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # a process that forks must have no threads

import typer.main  # noqa: E402

from tests.fuzz import child, commands, material, targets  # noqa: E402 - not before the words above

typer.main.get_command = cache(
    typer.main.get_command
)  # built from the signatures of all commands: half a mutant's time

FOREIGN = ("RRCM_BENCH_WEIGHTS", "RRCM_BENCH_DOWNLOAD", "RRCM_BENCH_TRACEBACK", "FORCE_COLOR")
# Commands that import what others import late: each mutant is forked from a process that has done so.
WARM = (
    ("report", "--runs", "plain", "--runs", "imported", "--latency", "latency.jsonl"),
    ("report", "--runs", "plain", "--html", "--out", "made"),
    ("compare", "PLAIN", "OTHER"),
    ("check", "mine.py:MINE"),
    ("plan", "--images", "10"),
    ("logs", "audit", "macer.mat"),
    ("doctor",),
    ("weights", "list"),
    ("methods", "gaussian"),
    ("run", "--plan", "plan.toml", "--dry-run"),
    (
        "run",
        "--methods",
        "gaussian",
        "--dataset",
        "digits",
        "--sigma",
        "0.5",
        "--n",
        "50",
        "--limit",
        "1",
        "--out",
        "made",
    ),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds until a mutant hangs")
    parser.add_argument("--only", help="numbers of mutants, with commas between: run these, and show what they print")
    parser.add_argument("--kind", help="one kind of mutant: options, plans, row_files, ...")
    parser.add_argument("--keep", type=Path, help="folder for what failing mutants read")
    return parser.parse_args()


@dataclass
class Found:
    """What became of the mutants."""

    kinds: Counter[str] = field(default_factory=Counter)
    faults: defaultdict[tuple[str, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    slowest: tuple[float, str] = (0.0, "")


def main() -> int:
    asked, began = arguments(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        top = Path(made).resolve()
        for name in FOREIGN:
            os.environ.pop(name, None)
        own = {"RRCM_BENCH_HOME": "home", "RRCM_BENCH_CACHE": str(top / "cache"), "HOME": str(top)}
        os.environ |= {**own, "MPLBACKEND": "Agg", "COLUMNS": "200"}
        base = top / "base"
        material.make(base, lambda *words: quietly(base, words))
        for words in WARM:
            assert quietly(base, tuple(commands.placed(words, base))) in (0, 3), f"what works fails: {words}"
        for left in ("made", "home"):
            shutil.rmtree(base / left, ignore_errors=True)
        if others := child.threads():
            print(f"! this process has threads ({', '.join(others)}); what is forked from it may hang", file=sys.stderr)
        print(f"ready after {time.monotonic() - began:.0f} s", file=sys.stderr)
        gc.collect()
        gc.freeze()  # objects that no collection touches stay shared with what is forked
        began = time.monotonic()
        chosen = selection(asked)
        found = fuzz(asked, chosen, top, base)
        gc.unfreeze()
    tell(asked, found)
    slowest = f"{found.slowest[0]:.1f} s: {found.slowest[1]}"
    print(f"{len(chosen)} mutants, seed {asked.seed}, {time.monotonic() - began:.0f} s, slowest {slowest}")
    print("  ".join(f"{kind} {count}" for kind, count in found.kinds.most_common()))
    return 1 if found.faults else 0


def quietly(folder: Path, words: tuple[str, ...]) -> int:
    """Run a command in this process and that folder; its exit code."""
    shown, nowhere = (os.dup(1), os.dup(2)), os.open(os.devnull, os.O_WRONLY)
    with contextlib.chdir(folder):
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        try:
            return child.main(words)
        finally:
            sys.stdout.flush()
            for stream, kept in zip((1, 2), shown, strict=True):
                os.dup2(kept, stream)


def selection(asked: argparse.Namespace) -> list[tuple[int, targets.Target]]:
    """Numbers and kinds of the mutants that are asked for."""
    only = {int(word) for word in asked.only.split(",")} if asked.only else None
    everything = enumerate(targets.schedule(asked.count if only is None else max(only) + 1))
    return [
        (number, target)
        for number, target in everything
        if (only is None or number in only) and asked.kind in (None, target.__name__)
    ]


def fuzz(asked: argparse.Namespace, chosen: list[tuple[int, targets.Target]], top: Path, base: Path) -> Found:
    """Run them, each in a process and a folder of its own."""
    found, queue = Found(), iter(chosen)
    running: dict[int, tuple[int, targets.Target, Path, float]] = {}

    def begin(number: int, target: targets.Target) -> None:
        folder = top / str(number) / "here"
        folder.parent.mkdir()
        shutil.copytree(base, folder, copy_function=shutil.copyfile)

        def body() -> int:
            os.chdir(folder)
            mutant = target(Random(f"{asked.seed}/{number}"), folder)
            (top / f"{number}.words").write_text(ascii((mutant.words, mutant.refuse)))
            return child.main(mutant.words)

        running[child.start(body, folder)] = (number, target, folder, time.monotonic())

    def end(pid: int, status: int | None) -> None:
        number, target, folder, since = running.pop(pid)
        child.finish(pid)
        noted = top / f"{number}.words"
        words, refuse = ast.literal_eval(noted.read_text()) if noted.exists() else (("not", "made"), False)
        outcome = child.Outcome("hang", "") if status is None else child.judge(status, folder, words, refuse=refuse)
        found.slowest = max(found.slowest, (time.monotonic() - since, f"{number} {target.__name__}"))
        found.kinds[outcome.kind] += 1
        if asked.only:
            print(f"# {number} {spelt(shlex.join(words))}\n# {outcome.kind}: {spelt(outcome.detail)}")
            for name in ("out", "err"):
                print(
                    (folder.parent / name).read_bytes().decode(errors="replace").encode(errors="replace").decode(),
                    end="",
                )
        if not outcome.fine:
            found.faults[target.__name__, outcome.kind, alike(outcome.detail)].append(
                f"{number} {spelt(shlex.join(words))}"
            )
            if asked.keep:
                kept = asked.keep / f"{asked.seed}-{number}"
                shutil.copytree(folder.parent, kept, symlinks=True, ignore=pipes, dirs_exist_ok=True)
        shutil.rmtree(folder.parent, ignore_errors=True)

    while True:
        while len(running) < asked.jobs and (due := next(queue, None)):
            begin(*due)
        if not running:
            return found
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            end(pid, status)
            continue
        for late in [pid for pid, (*_, since) in running.items() if time.monotonic() - since > asked.limit]:
            child.finish(late)
            os.waitpid(late, 0)
            end(late, None)
        time.sleep(0.002)


def pipes(folder: str, names: list[str]) -> list[str]:
    """Those that cannot be copied."""
    return [name for name in names if (Path(folder) / name).is_fifo()]


def spelt(text: str) -> str:
    """In ASCII and at a length that any terminal shows."""
    return text.encode("ascii", "backslashreplace").decode()[:400]


def alike(detail: str) -> str:
    """A message without what differs from mutant to mutant."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|-?\d[\d.e+-]*", "_", spelt(detail))[:110]


def tell(asked: argparse.Namespace, found: Found) -> None:
    """Faults, the most frequent first, each with an example and how to see it again."""
    for (kind, outcome, detail), lines in sorted(found.faults.items(), key=lambda item: -len(item[1])):
        numbers = ",".join(line.split()[0] for line in lines[:3])
        print(f"{len(lines):5}  {kind}: {outcome}: {detail}\n         {lines[0][:300]}")
        print(f"         python -m tests.fuzz --seed {asked.seed} --only {numbers}")


if __name__ == "__main__":
    sys.exit(main())
