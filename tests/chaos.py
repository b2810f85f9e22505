"""Runs that are killed at random moments and resumed, again and again: no row may be lost, changed or made twice.

A real start takes 5 to 10 s, most of it imports. Here each command is forked from a process that has imported
everything and has no threads, so that 500 kills take minutes; a few real starts are interrupted at the end.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # a process that forks must have no threads

from tests.fuzz import child  # noqa: E402 - not before the words above

IMAGES = 30
RUN = (
    "run",
    "--methods",
    "gaussian",
    "--dataset",
    "digits",
    "--sigma",
    "0.5",
    "--n0",
    "20",
    "--subset",
    f"first:{IMAGES}",
)
# Ways to measure 30 images: what is asked for, how many commands at once, and how often of ten.
WAYS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "plain": (("--n", "400"), 1, 5),
    "two processes": (("--n", "400", "--device", "cpu,cpu"), 1, 1),
    "sequential": (("--n", "2000", "--certifier", "sequential", "--radii", "0,0.5"), 1, 2),
    "two at once": (("--n", "400"), 2, 2),
}
SIGNALS = {signal.SIGKILL: 5, signal.SIGTERM: 3, signal.SIGINT: 2}
PATIENCE = 12  # times that a run is killed; then it may end
LIMIT = 120.0  # seconds of a run that nobody kills


@dataclass
class Tally:
    """What was done, and what went wrong."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    runs: int = 0
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def fault(self, kind: str, example: str, count: int = 1) -> None:
        if count:
            self.faults[kind] += count
            self.examples.setdefault(kind, example)


def command(words: tuple[str, ...], folder: Path) -> int:
    """Start a command in a folder; its process id."""

    def body() -> int:
        import multiprocessing

        os.chdir(folder)
        # Workers are forked too: a spawned one would import torch anew.
        forked = multiprocessing.get_context("fork")
        # And a spawned one would not hear SIGTERM as the command does, which ends in order, but die of it.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        multiprocessing.get_context = lambda *_: forked  # type: ignore[assignment]
        return child.main(words)

    return child.start(body, folder)


def votes(out: Path) -> tuple[dict[int, object], int]:
    """What each image's row says, but for its time; and how many whole rows there are."""
    from dataclasses import replace

    from bench.runs.store import find_runs

    (run,) = find_runs([out])
    lines = sum(path.read_bytes().count(b"\n") for path in run.path.glob("rows*.jsonl"))
    return {row.index: replace(row, seconds=0.0) for row in run.rows}, lines


def ends(pids: list[int], until: float) -> dict[int, int]:
    """Those that end before the time, with their status."""
    found: dict[int, int] = {}
    while len(found) < len(pids) and time.monotonic() < until:
        for pid in set(pids) - set(found):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found[pid] = status
        time.sleep(0.001)
    return found


def story(way: str, rng: Random, top: Path, expected: dict[int, object], usual: float, tally: Tally) -> None:
    """One run, killed until it is done, and what it then holds."""
    asked, at_once, _ = WAYS[way]
    words = (*RUN, *asked, "--out", "runs")
    folders = [top / f"{tally.runs}-{k}" / "here" for k in range(at_once)]
    for folder in folders:
        folder.mkdir(parents=True)
        if folder is not folders[0]:
            (folder / "runs").symlink_to(folders[0] / "runs")
    (folders[0] / "runs").mkdir()
    tally.runs += 1
    done = False
    for turn in range(PATIENCE + 1):
        pids = [command(words, folder) for folder in folders]
        last = turn == PATIENCE
        ended = ends(pids, time.monotonic() + (LIMIT if last else rng.uniform(0, 1.2 * usual)))
        for pid, folder in zip(pids, folders, strict=True):
            if pid in ended:
                status = ended[pid]
                done = done or status == 0
                tally.fault("a run that nobody killed failed", said(folder), status != 0)
                continue
            which = rng.choices(list(SIGNALS), list(SIGNALS.values()))[0]
            with contextlib.suppress(ProcessLookupError):
                # Ctrl-C reaches all processes of a terminal; another signal often only the first.
                (os.killpg if which == signal.SIGINT else os.kill)(pid, which)
            left = ends([pid], time.monotonic() + 30)
            tally.fault(f"{which.name} did not end it in 30 s", f"{way}, turn {turn}", not left)
            tally.kills[which.name] += 1
            tally.fault("a traceback", said(folder), b"Traceback" in (folder.parent / "err").read_bytes())
            done = done or left.get(pid) == 0
        for pid in pids:
            child.finish(pid)
        if done:
            break
    found, lines = votes(folders[0] / "runs")
    tally.fault("rows lost", way, len(expected.keys() - found.keys()))
    tally.fault("rows changed", way, sum(found[k] != expected[k] for k in found.keys() & expected.keys()))
    tally.fault("rows of no image", way, len(found.keys() - expected.keys()))
    tally.fault("images counted twice", way, lines - len(found))
    strange = [p.name for p in (folders[0] / "runs").rglob("*") if p.name.startswith(".run.json.")]
    tally.fault("files left behind", f"{way}: {strange[:3]}", len(strange))


def said(folder: Path) -> str:
    return (folder.parent / "err").read_text(errors="replace")[-500:]


def early_interrupts(count: int, rng: Random, folder: Path, tally: Tally) -> None:
    """Real starts that get Ctrl-C within their first seconds: one line, no traceback."""
    for _ in range(count):
        words = [sys.executable, "-c", "from bench.cli import main; main()", *RUN, "--n", "1000", "--out", "runs"]
        process = subprocess.Popen(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        time.sleep(rng.uniform(0.05, 4))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
        tally.kills["SIGINT while it starts"] += 1
        tally.fault("a traceback of an early Ctrl-C", err.decode(errors="replace")[-300:], b"Traceback" in err)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starts", type=int, default=5, help="real starts that are interrupted early")
    asked = parser.parse_args()
    rng, tally, began = Random(asked.seed), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as made:
        top = Path(made).resolve()
        os.environ |= {"RRCM_BENCH_HOME": str(top / "home"), "RRCM_BENCH_CACHE": str(top / "cache")}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
        imported(top)
        expected, usual = {}, {}
        for way, (words, _, _) in WAYS.items():
            folder = top / f"reference {way}" / "here"
            folder.mkdir(parents=True)
            since = time.monotonic()
            status = child.wait(command((*RUN, *words, "--out", "runs"), folder), LIMIT)
            assert status == 0, said(folder)
            expected[way], _ = votes(folder / "runs")
            usual[way] = time.monotonic() - since
            assert len(expected[way]) == IMAGES
        assert expected["two processes"] == expected["plain"] == expected["two at once"]
        print("undisturbed: " + ", ".join(f"{way} {seconds:.1f} s" for way, seconds in usual.items()), flush=True)
        while sum(tally.kills.values()) < asked.kills:
            way = rng.choices(list(WAYS), [often for *_, often in WAYS.values()])[0]
            story(way, rng, top, expected[way], usual[way], tally)
        early_interrupts(asked.starts, rng, top, tally)
    kills = ", ".join(f"{count} {name}" for name, count in tally.kills.most_common())
    seconds = time.monotonic() - began
    print(f"{sum(tally.kills.values())} kills ({kills}) in {tally.runs} runs, seed {asked.seed}, {seconds:.0f} s")
    for kind in sorted({"rows lost", "rows changed", "images counted twice"} | tally.faults.keys()):
        print(f"{tally.faults[kind]:6} {kind}")
        for line in tally.examples.get(kind, "").strip().splitlines()[-6:]:
            print(f"         {line}")
    return 1 if tally.faults else 0


def imported(top: Path) -> None:
    """Import in this process what the command imports, by running it once in little."""
    quiet, shown = os.open(os.devnull, os.O_WRONLY), (os.dup(1), os.dup(2))
    for stream in (1, 2):
        os.dup2(quiet, stream)
    code = child.main((*RUN[:-1], "first:1", "--n", "100", "--out", str(top / "first")))
    sys.stdout.flush()
    for stream, kept in zip((1, 2), shown, strict=True):
        os.dup2(kept, stream)
    assert code == 0
    assert not child.threads()


if __name__ == "__main__":
    sys.exit(main())
