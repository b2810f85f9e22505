"""`rrcm-bench runs export`, `import` and `merge`: runs that travel, and parts of one that come together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.cli.output import print_json, remark, stdout
from bench.cli.paths import RUNS, at_home

if TYPE_CHECKING:
    from bench.runs.merge import Whole
    from bench.runs.store import Run

Runs = Annotated[
    list[Path],
    typer.Argument(help="Run folders, or folders of them.", show_default=False, callback=at_home),
]


def runs_export(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="The archive: FILE.zip or FILE.tar.", show_default=False, callback=at_home)],
    json: options.Json = False,
) -> None:
    """Pack runs, their report, environments, weights' hashes and a citation into one file, ready to be published."""
    from bench.report.bundle import bundle
    from bench.runs.archive import FORMS, pack
    from bench.runs.store import find_runs
    from bench.types.errors import StoreError, UsageError

    if out.suffix not in FORMS:
        raise UsageError(f"--out {str(out)!r}: expected a name that ends with {' or '.join(FORMS)}")
    found = find_runs(runs)
    if not found:
        raise StoreError(f"no run in {', '.join(map(repr, map(str, runs)))}; expected folders made by `rrcm-bench run`")
    for run in found:
        if not run.done:
            remark(f"! run {run.spec.digest()[:10]} is incomplete: {len(run.rows)} of {run.spec.images} images")
    sha256 = pack(bundle(found), [run.spec.digest() for run in found], out)
    if json:
        print_json({"archive": str(out), "runs": len(found), "manifest_sha256": sha256})
        return
    stdout().print(f"{len(found)} runs in {out} ({out.stat().st_size:,} bytes); sha256 of its manifest {sha256}")


def runs_import(
    file: Annotated[Path, typer.Argument(help="An archive.", show_default=False, callback=at_home)],
    out: Annotated[Path, typer.Option(help="Folder of run folders.", callback=at_home)] = RUNS,
    json: options.Json = False,
) -> None:
    """Check every file of an archive by its hash, and add its runs."""
    from bench.runs.archive import add_runs

    made = add_runs(file, out)
    if json:
        print_json({"runs": [{"digest": r.spec.digest(), "path": str(r.path), "added": new} for r, new in made]})
        return
    for run, new in made:
        stdout().print(f"{run.path}" + ("" if new else "  (there already, with the same votes)"))


def runs_merge(
    runs: Runs,
    out: Annotated[
        Path, typer.Option(help="Folder of run folders for the merged one.", show_default=False, callback=at_home)
    ],
    subset: Annotated[
        str | None,
        typer.Option(help="The whole, where the runs are of several subsets: first:500.", show_default="the runs' own"),
    ] = None,
    data_root: options.DataRoot = None,
    json: options.Json = False,
) -> None:
    """Join parts of one run that were certified apart; where two hold an image, their votes must be equal."""
    from bench.cli.runs import run_record
    from bench.runs.merge import merge, of_one_subset
    from bench.runs.seals import seal_words
    from bench.runs.store import find_runs
    from bench.types.errors import UsageError

    parts = find_runs(runs)
    if subset is None and len(parts) > 1 and not of_one_subset(parts):
        raise UsageError("the runs are of several subsets; give the whole by --subset, as first:500")
    made = merge(parts, out, None if subset is None else _whole(parts[0], subset, data_root))
    if json:
        print_json(run_record(made))
        return
    stdout().print(f"{made.path}  {len(made.rows)}/{made.spec.images} images, {seal_words(made)}")


def _whole(run: Run, words: str, data_root: Path | None) -> Whole:
    """The subset of the merged run, from the images themselves: a row does not say which file it was."""
    from bench.data.subset import fingerprint_of, identities, parse_subset
    from bench.runs.merge import Whole
    from bench.runs.redraw import opened_as

    dataset = opened_as(run.spec, data_root)
    canonical, indices = parse_subset(words, len(dataset))
    known = identities(dataset, indices)
    return Whole(canonical, fingerprint_of(known), {index: label for index, (label, _) in known.items()})
