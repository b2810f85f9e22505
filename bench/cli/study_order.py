"""What of a study is done, and in which order: parts of a tier, the longest chain first, rows by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bench.cli.study_file import jobs_of
from bench.cli.study_stages import seconds_left
from bench.types.errors import UsageError

if TYPE_CHECKING:
    from bench.cli.study_file import Item, Study


def parts(study: Study) -> list[list[Item]]:
    """The parts of a tier, parents first in each; the same on every machine.

    First those that items name by `part`, then the other items in order, cut where the declared seconds of a part would
    be exceeded. A part has its seconds for each of its jobs at once.
    Raises: UsageError where the tier has no seconds of a part, an item says none or more, a part that is named declares
    more, is left out, or comes before a parent's.
    """
    most = study.part_seconds
    if most is None:
        raise UsageError(f"study {str(study.path)!r}: [tier.{study.tier or 'NAME'}] has no part_seconds")
    for item in study.items:
        if item.seconds is None or item.seconds > most:
            raise UsageError(
                f"study {str(study.path)!r}: {item.name} declares {item.seconds} seconds; expected some, at most "
                f"part_seconds = {most:g}"
            )
    made = _named_parts(study, most)
    rest = [item for item in study.items if item.part is None]
    if rest or not made:
        made.append([])
    used = 0.0
    for item in rest:
        share = _share(study, item, len(made))
        if made[-1] and used + share > most:
            made.append([])
            used, share = 0.0, _share(study, item, len(made))
        made[-1].append(item)
        used += share
    _check_order(study, made)
    return made


def longest_first(made: Study, stages: Sequence[Item]) -> list[Item]:
    """Stages by the seconds of the longest chain that each begins, itself and what waits for it; parents first."""
    chain: dict[str, float] = {}
    for item in reversed(stages):  # children stand after their parents
        own = 0.0 if made.weights(item.name).is_file() else seconds_left(made, item) or 0.0
        chain[item.name] = own + max((chain[each.name] for each in stages if item.name in each.parents), default=0.0)
    return sorted(stages, key=lambda item: -chain[item.name])


def rows_named(made: Study, items: Sequence[Item], names: Iterable[str]) -> list[Item]:
    """The runs of those names, at one noise level (`NAME-s0.25`) or all (`NAME`), and the stages that they need.

    Raises: UsageError for a name of no run.
    """
    runs = {item.name: _names_of(item) for item in items if not item.trains}
    asked = [name.strip() for name in names]
    known = {name for each in runs.values() for name in each}
    if strange := [name for name in asked if name not in known]:
        said = ", ".join(dict.fromkeys(each[0] for each in runs.values())) or "none"
        raise UsageError(f"study {str(made.path)!r}: no row is named {strange[0]!r}; there are: {said}")
    parents = {item.name: item.parents for item in made.items}
    kept = {name for name, each in runs.items() if set(asked).intersection(each)}
    kept |= {stage for name in kept for stage in ancestors(name, parents)}
    return [item for item in items if item.name in kept]


def ancestors(name: str, parents: Mapping[str, Sequence[str]]) -> set[str]:
    """An item's parents, theirs, and so on."""
    found: set[str] = set()
    left = list(parents[name])
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            left += parents[each]
    return found


def _named_parts(study: Study, most: float) -> list[list[Item]]:
    last = max((item.part for item in study.items if item.part is not None), default=0)
    made = [[item for item in study.items if item.part == number] for number in range(1, last + 1)]
    if [] in made or any(item.part is not None and item.part < 1 for item in study.items):
        raise UsageError(f"study {str(study.path)!r}: expected part = 1, 2, ... with none left out, up to {last}")
    for number, items in enumerate(made, start=1):
        if (used := sum(_share(study, item, number) for item in items)) > most:
            raise UsageError(
                f"study {str(study.path)!r}: part {number} declares {used:.0f} seconds of each of its jobs; expected "
                f"at most part_seconds = {most:g}"
            )
    return made


def _share(study: Study, item: Item, part: int) -> float:
    """Seconds of a part that an item takes; runs share one pool."""
    return (item.seconds or 0.0) / (jobs_of(study.part_jobs, part) if item.trains else 1)


def _check_order(study: Study, made: Sequence[Sequence[Item]]) -> None:
    place = {item.name: number for number, items in enumerate(made, start=1) for item in items}
    for item in study.items:
        if late := [parent for parent in item.parents if place[parent] > place[item.name]]:
            raise UsageError(
                f"study {str(study.path)!r}: {item.name} is in part {place[item.name]}, its parent {late[0]} in part "
                f"{place[late[0]]}; expected no later one"
            )


def _names_of(item: Item) -> tuple[str, str]:
    """How a run may be asked for: at all noise levels, and at its own."""
    own = item.name.removeprefix("run ")
    return re.sub(r"-s\d+\.\d\d$", "", own), own
