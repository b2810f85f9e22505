"""Training cost of a study's networks: images seen and FLOP, of a stage, and of a run with all that came before."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.output import remark
from bench.cli.study_order import ancestors
from bench.cli.study_stages import own_command, own_environment

if TYPE_CHECKING:
    from bench.cli.study_file import Item, Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Training of one stage, or of several in sum."""

    images: int = 0  # seen; an image counts each time
    copies: int = 0  # noisy ones of them, as the stage's settings say
    flops: float | None = 0.0  # 2 x MAC, forwards, backwards and attacks; None: not counted

    def __add__(self, other: Budget) -> Budget:
        flops = None if self.flops is None or other.flops is None else self.flops + other.flops
        return Budget(images=self.images + other.images, copies=self.copies + other.copies, flops=flops)


def budgets(made: Study) -> dict[str, Budget]:
    """What each item took with all its parents; without those that neither their weights nor a count tell of."""
    own = {item.name: found for item in made.items if item.trains and (found := _own(made, item)) is not None}
    parents = {item.name: item.parents for item in made.items}
    total: dict[str, Budget] = {}
    for item in made.items:
        needed = ancestors(item.name, parents)
        if item.trains:
            needed.add(item.name)
        if needed and needed <= own.keys():
            total[item.name] = sum((own[name] for name in sorted(needed)), Budget())
    return total


def count_flops(made: Study, stages: Sequence[Item]) -> None:
    """FLOP of an image of each stage, by a dry run of one of each kind: the noise level changes none.

    A stage that starts from weights is counted once they are there.
    """
    for number, item in enumerate(stages, start=1):
        path = _count_path(made, item)
        if path.is_file():
            continue
        remark(f"count  {number}/{len(stages)}  {item.name}")
        words = ["train", *item.words, "--out", str(path.with_suffix("")), "--dry-run", "--json"]
        ended = subprocess.run(own_command(words), env=own_environment(), capture_output=True, text=True, check=False)  # noqa: S603
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"]
            remark(f"! not counted  {item.name}: {said[-1].removeprefix('rrcm-bench: ')}")
            continue
        found = json.loads(ended.stdout)
        if "steps" in found:
            kept = {key: found[key] for key in ("method", "stage", "preset", "parameters", "flops_per_image")}
            kept |= {"steps": found["steps"] * _members(found["settings"]), "settings": found["settings"]}
        else:  # it puts together what others have trained
            kept = {key: found[key] for key in ("method", "stage", "settings")} | {"steps": 0}
        from bench.types.atomic_file import atomic_write

        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(kept, indent=1) + "\n")


def training_of(path: Path) -> dict[str, Any] | None:
    """What a file of weights says of its making."""
    from bench.cli.weights_show import made

    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return made(header.get("__metadata__", {}))


def _own(made: Study, item: Item) -> Budget | None:
    """From the weights themselves where they are there, else from the count."""
    weights, path = made.weights(item.name), _count_path(made, item)
    counted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if counted is not None and not counted["steps"]:
        return Budget()
    said = training_of(weights) if weights.is_file() else None
    known = said or (None if weights.is_file() else counted)
    if known is None:
        return None
    settings: Mapping[str, Any] = known["settings"]
    images = known["steps"] * settings["batch"]
    flops = None if counted is None else counted["flops_per_image"] * images
    return Budget(images=images, copies=images * _copies(item.words, settings), flops=flops)


def _copies(words: Sequence[str], settings: Mapping[str, Any]) -> int:
    """Images in the loss for one that is seen. rRCM's recipe fixes how many: two copies, or three views, MoCo's two."""
    if words[:1] == ("rrcm",):
        return 3 if settings.get("objective") == "rrcm" else 2
    return int(settings.get("copies", 1))


def _members(settings: Mapping[str, Any]) -> int:
    """Networks that a dry run counts one of."""
    return int(settings.get("members", 1))


def _count_path(made: Study, item: Item) -> Path:
    """Where the count of a stage's kind is: by its words but for the noise level and the paths."""
    words = list(item.words)
    if "--sigma" in words:
        at = words.index("--sigma")
        del words[at : at + 2]
    kept = [word for word in words if "/" not in word and "\\" not in word and not word.startswith("steps=")]
    return made.state / "counts" / f"{hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:12]}.json"
