"""`rrcm-bench methods`, `datasets`, `check`, `weights`: what there is, and whether it keeps its promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import doubt_lengths, listing, print_json, remark, stdout
from bench.cli.paths import at_home

if TYPE_CHECKING:
    from bench.report.tables.table import Table
    from bench.types import Method
    from bench.weights.resolve import Entry


def methods(
    name: options.AnyMethod = None,
    json: options.Json = False,
) -> None:
    """List the methods, or show one with its parameters, weights and training stages."""
    from bench.report.formats.terminal import terminal
    from bench.runs import registry
    from bench.weights.resolve import catalogue

    records = [method_record(registry.method(n)) for n in ([name] if name else registry.method_names())]
    if json:
        print_json(records[0] if name else {"methods": records})
        return
    console = stdout()
    if name is None:
        console.print(terminal(methods_table(records, catalogue())))
        return
    show_method(records[0])


def methods_table(records: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> Table:
    """Methods, a row each: where each runs as it is, and where known weights are still to be fetched or named."""
    from bench.report.tables.table import stated

    rows = []
    for record in records:
        ready, known = usable(record, entries)
        trains = ", ".join(record["trains"])
        rows.append((record["name"], record["title"], ready, known, trains, record["cite"]))
    columns = ("name", "title", "runs on", "to be fetched or named for", "trains", "source")
    return stated("methods", columns, rows)


def usable(record: Mapping[str, Any], entries: Sequence[Entry]) -> tuple[str, str]:
    """Datasets for which each role's weights lie here and are taken unasked; and those for which some are known."""
    from bench.weights.resolve import lies_here

    roles = [role["name"] for role in record["roles"]]
    if not roles:
        return "any dataset", ""
    own = [entry for entry in entries if entry.method == record["name"] and entry.sha256]

    def filled(some: Sequence[Entry]) -> set[str]:
        return set.intersection(*({e.dataset for e in some if e.role == role} for role in roles))

    ready = filled([entry for entry in own if entry.default and lies_here(entry)])
    return ", ".join(sorted(ready)) or "own weights only", ", ".join(sorted(filled(own) - ready))


def method_record(method: Method) -> dict[str, Any]:
    """A method as plain values."""
    from bench.weights.resolve import catalogue

    return {
        "name": method.name,
        "title": method.title,
        "cite": method.cite,
        "roles": [{"name": role.name, "help": role.help} for role in method.roles],
        "params": [
            {
                "name": p.name,
                "default": None if p.must_be_said else p.default,
                "by_dataset": dict(p.by_dataset),
                "choices": list(p.choices),
                "help": p.help,
            }
            for p in method.params
        ],
        "weights": [
            {
                "name": e.name,
                "role": e.role,
                "dataset": e.dataset,
                "sigma": e.sigma,
                "sha256": e.sha256,
                "source": e.source,
            }
            for e in catalogue()
            if e.method == method.name
        ],
        "trains": list(method.train),
    }


def show_method(record: dict[str, Any]) -> None:
    """A method for people."""
    from bench.weights.resolve import catalogue, whereabouts

    console = stdout()
    console.print(f"{record['name']}: {record['title']}\n{record['cite']}")
    if record["roles"]:
        roles = [(role["name"], role["help"]) for role in record["roles"]]
        console.print(listing("roles of weights: --weights ROLE=PATH", ("role", "what"), roles))
    if record["params"]:
        rows = []
        for p in record["params"]:
            known = [f"{d}: {v}" for d, v in p["by_dataset"].items()]
            default = ", ".join([*known, "others: to be said"] if p["default"] is None else [str(p["default"]), *known])
            rows.append((p["name"], default, " | ".join(p["choices"]), p["help"]))
        columns = ("key", "default", "values", "what")
        console.print(listing("settings: --set KEY=VALUE", columns, rows))
    if record["weights"]:
        entries = []
        where = {entry.name: whereabouts(entry) for entry in catalogue()}
        for w in record["weights"]:
            sigma = "any" if w["sigma"] is None else f"{w['sigma']:g}"
            sha256 = (w["sha256"] or "not published")[:13]
            entries.append((w["name"], w["role"], w["dataset"], sigma, where[w["name"]], sha256, w["source"]))
        fields = ("name", "role", "dataset", "sigma", "where", "sha256", "source")
        console.print(listing("known weights", fields, entries))
    if record["trains"]:
        console.print("trained by: " + "; ".join(f"rrcm-bench train {record['name']} {s}" for s in record["trains"]))


def datasets(json: options.Json = False) -> None:
    """List the datasets."""
    from bench.runs import registry

    sources = [registry.dataset(name) for name in registry.dataset_names()]
    if json:
        print_json(
            {"datasets": [{"name": s.name, "title": s.title, "cite": s.cite, "default_subset": s.default_subset,
                           "num_classes": s.num_classes, "shape": s.shape} for s in sources]}
        )  # fmt: skip
        return
    columns = ("name", "title", "default subset", "classes", "source")
    rows = [(s.name, s.title, s.default_subset, str(s.num_classes or "by folder"), s.cite) for s in sources]
    stdout().print(listing("datasets", columns, rows))


def check(
    method: options.OneMethod,
    dataset: options.CheckDataset = "digits",
    data_root: options.DataRoot = None,
    class_order: options.ClassOrder = None,
    sigma: options.Sigma = 0.5,
    weights: options.CheckWeights = None,
    random_weights: options.CheckRandomWeights = False,
    params: options.CheckSettings = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Run the conformance kit on a method: does it keep the protocol that its certificates rest on?"""
    from bench.data.class_order import read_class_order
    from bench.runs.certify import build, open_dataset
    from bench.runs.execution.environment import parse_devices
    from bench.runs.request import RunRequest, plan
    from bench.testing import check_method

    request = RunRequest(
        methods=(method,), dataset=dataset, sigmas=(sigma,), data_root=data_root,
        class_order=class_order and read_class_order(class_order), weights=tuple(weights or ()),
        random_weights=random_weights, params=tuple(params or ()), subset="first:1",
    )  # fmt: skip
    job = plan(request)[0]
    doubt_lengths([sigma])
    for note in job.notes:
        remark(f"note  {note}")
    place = parse_devices(device)[0]
    images = open_dataset(job)
    findings = check_method(build(job, place, images), images.shape, device=place)
    broken = [f for f in findings if not f.ok]
    if json:
        print_json(
            {
                "method": job.spec.method,
                "findings": [{"claim": f.claim, "ok": f.ok, "detail": f.detail} for f in findings],
            }
        )
    else:
        for f in findings:
            stdout().print(f"{'ok    ' if f.ok else 'BROKEN'}  {f.claim}" + (f": {f.detail}" if f.detail else ""))
    if broken:
        remark(f"rrcm-bench: {method} breaks {len(broken)} of {len(findings)} claims; its certificates would not hold")
        raise typer.Exit(3)


def weights_list(json: options.Json = False) -> None:
    """List the weights that the catalogues know, and whether they are on this machine."""
    from bench.weights.resolve import verify

    states = verify()
    if json:
        print_json({"weights": [entry_record(e, s, p) for e, s, p in states]})
        return
    show_weights(states, "weights")


def weights_verify(
    names: options.WeightsNames = None,
    json: options.Json = False,
) -> None:
    """Hash the files of known weights and compare with the catalogue."""
    from bench.weights.resolve import verify

    states = verify(names or ())
    if json:
        print_json({"weights": [entry_record(e, s, p) for e, s, p in states]})
    else:
        show_weights([t for t in states if names or t[1] != "missing"], "verified")
    bad = [e.name for e, state, _ in states if state == "damaged" or (names and state != "ok")]
    if bad:
        remark(f"rrcm-bench: not as the catalogue says: {', '.join(bad)}")
        raise typer.Exit(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """The words of `rrcm-bench weights add`."""

    name: Annotated[str, typer.Argument(help="A name of your own, as lab/gaussian/cifar10/0.25.")]
    path: Annotated[
        Path,
        typer.Argument(help="The checkpoint: safetensors, or .pth without code in it; FILE#KEY.", callback=at_home),
    ]
    method: Annotated[str, typer.Option(help="Method that it is for.")]
    dataset: Annotated[str, typer.Option(help="Dataset that it was trained on.")]
    role: Annotated[str, typer.Option(help="Role, see `methods NAME`.")] = "network"
    sigma: Annotated[float | None, typer.Option(help="Noise level that it is for.", show_default="any")] = None
    arch: Annotated[str | None, typer.Option(help="Architecture, as --set arch=NAME.", show_default="as it looks")] = (
        None
    )
    params: options.AddSettings = None
    weights: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=PATH of the other roles, to try them together.", show_default="the catalogue"),
    ] = None
    data_root: options.DataRoot = None
    size: options.Size = None
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = ""
    source: Annotated[str, typer.Option(help="Where they come from: citation or address.")] = ""
    json: options.Json = False


def weights_add(given: AddOptions) -> None:
    """Build the method with a checkpoint; if that loads, copy it into the cache and add it to your catalogue."""
    from bench.runs import registry
    from bench.runs.method_settings import assigned_roles, convert
    from bench.runs.weights_trial import try_weights
    from bench.types.errors import UsageError
    from bench.weights.resolve import add, read_checkpoint, said_by

    found, source, role = registry.method(given.method), registry.dataset(given.dataset), given.role
    if role not in [r.name for r in found.roles]:
        raise UsageError(
            f"{given.method} has no role {role!r}; expected one of: {', '.join(r.name for r in found.roles)}"
        )
    known = {p.name: p for p in found.params}
    values, words = {}, {}
    for word in (*(given.params or ()), *((f"arch={given.arch}",) if given.arch else ())):
        key, _, value = word.partition("=")
        if key not in known or not value:
            raise UsageError(f"--set {word!r}: expected KEY=VALUE with KEY one of: {', '.join(known) or 'none'}")
        values[key], words[key] = convert(known[key], value, source.name), value
    said, notes = said_by(found, role, given.path.name, read_checkpoint(given.path))
    for note in notes:
        remark(f"note  {note}")
    others = assigned_roles(tuple(given.weights or ()), {found.name: found})[found.name]
    try_weights(
        found,
        given.dataset,
        {**others, role: str(given.path)},
        words,
        sigma=given.sigma,
        data_root=given.data_root,
        size=given.size,
    )
    entry = add(
        given.name,
        given.path,
        method=found.name,
        role=role,
        dataset=source.name,
        sigma=given.sigma,
        params=values,
        said=said,
        licence=given.licence,
        source=given.source,
    )
    if given.json:
        print_json(entry_record(entry, "ok", given.path))
    else:
        stdout().print(f"added {entry.name}  sha256 {entry.sha256}")


def weights_remove(
    name: Annotated[str, typer.Argument(help="Name in your own catalogue.")],
    json: options.Json = False,
) -> None:
    """Take weights that you added out of your catalogue, and their copy out of the cache."""
    from bench.weights.resolve import remove

    copy = remove(name)
    if json:
        print_json({"name": name, "removed": str(copy) if copy else None})
    else:
        words = f" and its copy {copy}" if copy else "; no copy of it was in the cache"
        stdout().print(f"removed {name}{words}")


def entry_record(entry: Any, state: str, path: Path | None) -> dict[str, Any]:
    """A catalogue entry as plain values."""
    return {
        "name": entry.name, "state": state, "path": str(path) if path else None, "method": entry.method,
        "role": entry.role, "dataset": entry.dataset, "sigma": entry.sigma, "params": dict(entry.params),
        "sha256": entry.sha256,
        "bytes": entry.bytes, "licence": entry.licence, "url": entry.url, "page": entry.page, "source": entry.source,
        "note": entry.note,
    }  # fmt: skip


def show_weights(states: list[Any], title: str) -> None:
    """Entries for people."""
    from bench.report.formats.terminal import terminal

    stdout().print(terminal(weights_table(states, title)))


def weights_table(states: Sequence[Any], title: str) -> Table:
    """Known weights and their states, a row each."""
    from bench.report.tables.table import stated

    columns = ("name", "role", "dataset", "sigma", "state", "sha256", "licence", "source")
    rows = []
    for e, state, _ in states:
        sigma = "any" if e.sigma is None else f"{e.sigma:g}"
        sha256 = (e.sha256 or "not published")[:13]
        rows.append((e.name, e.role, e.dataset, sigma, state, sha256, e.licence, e.source))
    return stated(title, columns, rows)
