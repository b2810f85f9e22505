"""Study files: stages of training with parents, then runs, then a report; read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cli.paths import beside, code_beside
from bench.cli.plan_file import KEYS, as_words, checked, placed, read_toml
from bench.types.errors import UsageError

REFERENCE = "stage:"  # how the weights of a stage are named where a path may stand
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_NUMBERS: Any = float | list[float]
_COUNTS: Any = int | list[int]
_SET: Any = dict[str, str | int | float | bool]
_TABLE: Any = dict[str, Any]

_EITHER: dict[str, tuple[str, Any, str]] = {
    "name": ("name", str, "a text"),
    "seconds": ("seconds", float, "a number"),
    "part": ("part", int, "a whole number"),
    "after": ("after", list[str], "a list of names"),
    "tier": ("tier", _TABLE, "tables of what differs in a tier"),
    "tiers": ("tiers", list[str], "a list of tiers"),
}
STAGE_KEYS: dict[str, tuple[str, Any, str]] = {
    **_EITHER,
    **{key: (key, str, "a text") for key in ("method", "stage", "preset", "init", "device")},
    **{key: KEYS[key] for key in ("dataset", "data_root", "class_order", "seed")},
    "sigma": ("sigma", _NUMBERS, "a number or a list of numbers"),
    "set": ("set", _SET, "a table of plain values"),
    "half": ("half", bool, "true or false"),
    "inherits": ("inherits", bool, "true or false"),
}
RUN_KEYS = {**KEYS, **_EITHER, "listed": ("listed", bool, "true or false")}
_ITEMS = {"train": (STAGE_KEYS, ("name", "method", "dataset")), "run": (RUN_KEYS, ("methods", "dataset", "sigma"))}
TIER_KEYS: dict[str, tuple[str, Any, str]] = {
    "part_seconds": ("part_seconds", float, "a number"),
    "jobs": ("jobs", _COUNTS, "a whole number or a list of whole numbers"),
    "longest_first": ("longest_first", bool, "true or false"),
    "train": ("train", _TABLE, "a table"),
    "run": ("run", _TABLE, "a table"),
}
STUDY_KEYS: dict[str, tuple[str, Any, str]] = {
    "train": ("train", list[_TABLE], "[[train]] tables"),
    "run": ("run", list[_TABLE], "[[run]] tables"),
    "tier": ("tier", dict[str, _TABLE], "[tier.NAME] tables"),
    "report": ("report", list[str], "a list of options of `rrcm-bench report`"),
    "device": ("device", str, "a text"),
    "catalogue": ("catalogue", str, "a text"),
    **{key: KEYS[key] for key in ("dataset", "data_root", "class_order", "seed")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A stage of training or a run of one noise level; what it asks for as words of `train` or a table of a plan."""

    name: str
    parents: tuple[str, ...]  # stages whose weights it takes, or that it is to come after
    seconds: float | None  # as declared
    part: int | None = None  # the part that it is said to be in
    words: tuple[str, ...] = ()  # a stage's, but for its folder; empty for a run
    table: Mapping[str, Any] | None = None  # a run's
    half: bool = False  # whether a stage's weights are kept in half precision
    label: str = ""  # a run's name in a catalogue, or none

    @property
    def trains(self) -> bool:
        """Whether it is a stage of training."""
        return self.table is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study in one tier: parents stand before what needs them."""

    path: Path
    tier: str
    state: Path  # folder of all that it makes
    items: tuple[Item, ...]
    part_seconds: float | None
    jobs: int  # stages at once
    part_jobs: tuple[int, ...]  # for which parts are cut: the tier's, whatever the machine; the last for all further
    longest_first: bool  # stages begin by the seconds of what waits for them, else in order
    report: tuple[str, ...]
    device: str  # of the runs
    catalogue: str  # what its names in a catalogue begin with; none: it lists no weights

    def weights(self, stage: str) -> Path:
        """The file that is there when the stage is done, wherever it was trained."""
        return weights_of(self.state, stage)


def weights_of(state: Path, stage: str) -> Path:
    """Where a stage's weights are."""
    return state / "weights" / f"{stage}.safetensors"


def read_study(
    path: Path,
    tier: str | None,
    out: Path | None,
    *,
    data_root: Path | None = None,
    settings: Sequence[str] = (),
    jobs: int | None = None,
    part: int | None = None,
    longest_first: bool | None = None,
) -> Study:
    """A study in one of its tiers; what is given besides goes over what the file says, `settings` over each stage's.

    `part` says whose jobs count where a tier has several numbers of them; without it the first one.

    Raises: UsageError for one that cannot be read or says something unknown, or where no tier fits.
    """
    document = checked(read_toml(path, "study"), path, STUDY_KEYS, "study")
    tiers = {name: checked(table, path, TIER_KEYS, "study") for name, table in document.get("tier", {}).items()}
    tier = _tier(path, tier, list(tiers))
    own = tiers.get(tier, {})
    state = (out or path.parent / (tier or path.stem)).absolute()
    shared: dict[str, Any] = {
        key: document[key] for key in ("dataset", "data_root", "class_order", "seed") if key in document
    }
    over = {} if data_root is None else {"data_root": str(data_root.absolute())}
    told = own.get("jobs", 1)
    part_jobs = tuple(told) if isinstance(told, list) else (told,)
    if not part_jobs or min(part_jobs) < 1:
        raise UsageError(f"study {str(path)!r}: jobs = {told}; expected at least 1 at once")
    device = {"device": document["device"]} if "device" in document else {}
    train = [_item_table("train", table, shared | device, own, tier, path) for table in document.get("train", [])]
    run = [_item_table("run", table, shared, own, tier, path) for table in document.get("run", [])]
    stages = [(name, sigma, {**table, **over}) for table in train if table for name, sigma in _names(table, path)]
    known = [name for name, _, _ in stages]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise UsageError(f"study {str(path)!r}: two stages are named {twice[0]!r}; name each otherwise")
    items = [_stage(name, sigma, table, known, state, path, settings) for name, sigma, table in stages]
    for number, table in enumerate(filter(None, run), start=1):
        items += _runs(number, {**table, **over}, known, state, path)
    return Study(
        path=path,
        tier=tier,
        state=state,
        items=tuple(_ordered(items, path)),
        part_seconds=own.get("part_seconds"),
        jobs=jobs or jobs_of(part_jobs, part or 1),
        part_jobs=part_jobs,
        longest_first=own.get("longest_first", False) if longest_first is None else longest_first,
        report=tuple(document.get("report", ())),
        device=document.get("device", "auto"),
        catalogue=document.get("catalogue", ""),
    )


def jobs_of(part_jobs: Sequence[int], part: int) -> int:
    """Stages at once in a part, counted from 1."""
    return part_jobs[min(part, len(part_jobs)) - 1]


def _tier(path: Path, tier: str | None, known: Sequence[str]) -> str:
    if tier is None and len(known) <= 1:
        return known[0] if known else ""
    if tier is None or tier not in known:
        raise UsageError(
            f"study {str(path)!r}: no tier {tier!r}; expected --tier with one of: {', '.join(known) or 'none'}"
        )
    return tier


def _item_table(
    kind: str, table: Mapping[str, Any], shared: Mapping[str, Any], own: Mapping[str, Any], tier: str, path: Path
) -> dict[str, Any] | None:
    """What an item says in a tier: its own words for it go over the tier's, those over the item's; None: not in it."""
    keys, needed = _ITEMS[kind]
    checked(table, path, keys, "study")
    if tier and "tiers" in table and tier not in table["tiers"]:
        return None
    whole = own.get(kind, {}) if table.get("inherits", True) else {}
    if kind == "train" and "sigma" not in table:  # some have none
        whole = {key: value for key, value in whole.items() if key != "sigma"}
    at_tier = table.get("tier", {}).get(tier, {})
    made = {**shared, **table, **whole, **at_tier}
    sets = [each["set"] for each in (table, whole, at_tier) if "set" in each]
    if sets and all(isinstance(each, dict) for each in sets):
        made["set"] = {key: value for each in sets for key, value in each.items()}
    made = checked({key: value for key, value in made.items() if key not in ("tier", "tiers")}, path, keys, "study")
    for key in needed:
        if key not in made:
            words = "{}, {} and {}".format(*needed)
            raise UsageError(f"study {str(path)!r}: a [[{kind}]] has no {key}; it needs {words}")
    return made


def _names(table: Mapping[str, Any], path: Path) -> Iterator[tuple[str, float | None]]:
    name = table["name"]
    if not _NAME.fullmatch(name):
        raise UsageError(f"study {str(path)!r}: name = {name!r}; expected letters, digits, '.', '_' and '-'")
    sigma = table.get("sigma")
    if sigma is None:
        yield name, None
    for level in sigma if isinstance(sigma, list) else [] if sigma is None else [sigma]:
        yield f"{name}-s{level:.2f}", float(level)


def _named(words: str, sigma: float | None, known: Sequence[str], path: Path) -> tuple[str, list[str]]:
    """The stage that a reference names at that noise level, as it stands in a path; and all stages that it may mean."""
    name = words.removeprefix(REFERENCE)
    if sigma is not None:
        name = name.replace("{sigma}", f"{sigma:.2f}")
        if name not in known and (at := f"{name}-s{sigma:.2f}") and _meant(at, known):
            name = at
    if not (found := _meant(name, known)):
        raise UsageError(f"study {str(path)!r}: {words!r} names no stage; there are: {', '.join(known) or 'none'}")
    return name, found


def _meant(name: str, known: Sequence[str]) -> list[str]:
    """Stages that a name with {member} or another hole may stand for."""
    pattern = ".*".join(re.escape(piece) for piece in re.split(r"\{\w+\}", name))
    return [each for each in known if re.fullmatch(pattern, each)]


def _stage(
    name: str,
    sigma: float | None,
    table: Mapping[str, Any],
    known: Sequence[str],
    state: Path,
    path: Path,
    settings: Sequence[str],
) -> Item:
    parents = list(table.get("after", ()))
    words = [code_beside(table["method"], path.parent)]
    words += [table["stage"]] if "stage" in table else []

    def filled(value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith(REFERENCE):
            return value
        stage, meant = _named(value, sigma, known, path)
        parents.extend(meant)
        return str(weights_of(state, stage))

    words += ["--dataset", code_beside(table["dataset"], path.parent)]
    for key in ("data_root", "init"):
        if key in table:
            value = filled(table[key])
            words += [f"--{key.replace('_', '-')}", value if Path(value).is_absolute() else beside(value, path.parent)]
    for key in ("class_order", "preset", "seed", "device"):
        if key in table:
            words += [f"--{key.replace('_', '-')}", str(table[key])]
    words += [] if sigma is None else ["--sigma", f"{sigma:g}"]
    over = settings if table.get("inherits", True) else ()
    for word in (*as_words({key: filled(value) for key, value in table.get("set", {}).items()}), *over):
        words += ["--set", word]
    _check_parents(name, parents, known, path)
    return Item(
        name=name,
        parents=_unique(parents),
        seconds=table.get("seconds"),
        part=table.get("part"),
        words=tuple(words),
        half=table.get("half", False),
    )


def _runs(number: int, table: Mapping[str, Any], known: Sequence[str], state: Path, path: Path) -> Iterator[Item]:
    levels = table["sigma"] if isinstance(table["sigma"], list) else [table["sigma"]]
    methods = table["methods"] if isinstance(table["methods"], str) else ",".join(table["methods"])
    for sigma in levels:
        parents = list(table.get("after", ()))
        weights = []
        for word in as_words(table.get("weights", {})):
            key, _, value = word.partition("=")
            if value.startswith(REFERENCE):
                stage, meant = _named(value, float(sigma), known, path)
                parents.extend(meant)
                value = str(weights_of(state, stage))
            weights.append(f"{key}={value}")
        asked = {key: value for key, value in table.items() if key not in (*_EITHER, "listed")}
        asked |= {"sigma": sigma, "methods": methods} | ({"weights": weights} if weights else {})
        _check_parents(f"run {number}", parents, known, path)
        yield Item(
            name=f"run {table.get('name', number)}-s{sigma:.2f}",
            parents=_unique(parents),
            seconds=None if table.get("seconds") is None else table["seconds"] / len(levels),
            part=table.get("part"),
            table=placed(asked, path.parent),
            label=table.get("name", "") if table.get("listed", True) else "",
        )


def _check_parents(name: str, parents: Sequence[str], known: Sequence[str], path: Path) -> None:
    if strange := [parent for parent in parents if parent not in known]:
        raise UsageError(f"study {str(path)!r}: {name} comes after {strange[0]!r}; there are: {', '.join(known)}")


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _ordered(items: Sequence[Item], path: Path) -> Iterator[Item]:
    """Parents first, else as they stand in the file."""
    done: set[str] = set()
    left = list(items)
    while left:
        ready = next((item for item in left if done.issuperset(item.parents)), None)
        if ready is None:
            raise UsageError(f"study {str(path)!r}: {left[0].name} needs itself, by {', '.join(left[0].parents)}")
        left.remove(ready)
        done.add(ready.name)
        yield ready
