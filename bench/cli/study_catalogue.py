"""A study's weights listed in a catalogue: copied beside it, an entry for each role of each run, found by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.output import remark
from bench.cli.study_budget import training_of
from bench.types.errors import UsageError

if TYPE_CHECKING:
    from bench.cli.study_file import Item, Study
    from bench.weights.resolve import Entry

LARGEST = 5_000_000  # bytes of one file that is shipped; more is said
OF_THE_DENOISER, OF_THE_CLASSIFIER = ("denoiser",), ("classifier", "normaliser")


def list_weights(made: Study, catalogue: Path) -> list[Entry]:
    """Copy the weights of runs that are listed beside a catalogue, and write their entries there; those entries.

    An entry of the same name gives way. Of a run that is named as its method, an entry is that method's default at its
    noise level: another default there without a file gives way, one with a file stays, which is said.
    Raises: UsageError where the study has no `catalogue`, or no weights yet.
    """
    import tomlkit

    from bench.types.atomic_file import atomic_write
    from bench.weights.resolve import as_toml

    if not made.catalogue:
        raise UsageError(f'study {str(made.path)!r}: no catalogue = "PREFIX" in it; expected what names begin with')
    found = [(entry, source) for item in made.items for entry, source in _entries(made, item)]
    if not found:
        raise UsageError(f"study {str(made.path)!r}: no weights of a named [[run]] are there yet; train them first")
    before = tomlkit.parse(catalogue.read_text(encoding="utf-8")) if catalogue.is_file() else tomlkit.document()
    names = {entry.name for entry, _ in found}
    tables = before.get("weights", [])
    for place in reversed([place for place, table in enumerate(tables) if table["name"] in names]):
        del tables[place]
    made_default = {_place(vars_of(entry)) for entry, _ in found if entry.default}
    taken = set()
    for table in tables:
        if table.get("default", True) and _place(table) in made_default:
            if table.get("sha256"):
                taken.add(_place(table))
                remark(f"note  {table['name']} stays the default of its place")
            else:
                table["default"] = False
                remark(f"note  {table['name']}, which has no file, is no default any more")
    of_others = {table.get("file"): table["name"] for table in tables}
    if strange := next((entry.file for entry, _ in found if entry.file in of_others), None):
        raise UsageError(
            f"study {str(made.path)!r}: {strange} is the file of {of_others[strange]!r} in {str(catalogue)!r}; name "
            "the stage otherwise"
        )
    text = tomlkit.dumps(before)
    entries = []
    for entry, source in found:
        entry = replace(entry, default=entry.default and _place(vars_of(entry)) not in taken)
        target = catalogue.parent / str(entry.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, source.read_bytes())
        text = as_toml(entry, text)
        entries.append(entry)
        if (entry.bytes or 0) > LARGEST:
            remark(f"! {entry.file} has {entry.bytes} bytes, more than {LARGEST}")
    atomic_write(catalogue, text)
    return entries


def vars_of(entry: Entry) -> dict[str, Any]:
    """What says an entry's place."""
    return {key: getattr(entry, key) for key in ("method", "role", "dataset", "sigma")}


def _place(table: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(table.get(key) for key in ("method", "role", "dataset", "sigma"))


def _entries(made: Study, item: Item) -> Iterator[tuple[Entry, Path]]:
    """An entry for each role of a run whose weights a stage made."""
    from bench.runs import registry
    from bench.weights.resolve import Entry, read_checkpoint, said_by, sha256_of

    if item.table is None or not item.label:
        return
    methods, sigma = item.table["methods"], float(item.table["sigma"])
    if len(methods) != 1:
        remark(f"left out  {item.name}: of {len(methods)} methods, no one of which its weights are named after")
        return
    method = registry.method(methods[0])
    settings = dict(_pairs(item.table.get("set", {})))
    given = [word.partition("=") for word in item.table.get("weights", ())]
    stages = {str(made.weights(each.name)): each for each in made.items if each.trains}
    for role, _, text in given:
        if text not in stages or not Path(text).is_file():  # half of a method's networks would be no method
            why = f"waits for {stages[text].name}" if text in stages else "is no stage's"
            remark(f"left out  {item.name}: its {role} {why}")
            return
    for role, _, text in given:
        stage = stages[text]
        said, _ = said_by(method, role, Path(text).name, read_checkpoint(Path(text)))
        of_role = {key: value for key, value in settings.items() if _belongs(key, role)}
        several = f"/{role}" if len(given) > 1 else ""
        entry = Entry(
            name=f"{made.catalogue}/{item.label}{several}/{sigma:.2f}",
            method=method.name,
            role=role,
            dataset=str(item.table["dataset"]),
            sigma=sigma,
            params={**said, **of_role},
            default=item.label == method.name,
            file=f"pretrained/{item.table['dataset']}/{stage.name}.safetensors",
            sha256=sha256_of(Path(text)),
            bytes=Path(text).stat().st_size,
            licence="Apache-2.0",
            source=f"trained here: rrcm-bench study {made.path.name}"
            f"{f' --tier {made.tier}' if made.tier else ''}, stage {stage.name}",
            note=_note(Path(text)),
        )
        yield entry, Path(text)


def _belongs(key: str, role: str) -> bool:
    """Whether a setting of a run tells of the network of a role, where a method has several."""
    if role in ("network", "members"):
        return key in ("arch", "normaliser", "size", "final_norm", "members")
    return key in (OF_THE_DENOISER if role == "denoiser" else OF_THE_CLASSIFIER)


def _pairs(words: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(words, Mapping):
        yield from words.items()
        return
    for word in words:
        key, _, value = word.partition("=")
        yield key, value


def _note(path: Path) -> str:
    said = training_of(path)
    if said is None:  # of networks that are packed together
        return ""
    settings, data = said["settings"], said["data"]
    pixels = f" as {data['preprocessing']}" if data.get("preprocessing") not in ("", "none", None) else ""
    return (
        f"{said['steps']} steps of {settings['batch']} images"
        + (f" in {settings['copies']} copies" if settings.get("copies", 1) > 1 else "")
        + f"; {data['images']} training images{pixels}; on {said['device']}"
    )
