"""`rrcm-bench weights convert`: a checkpoint of another project as a file that the methods here load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import print_json, remark, stdout
from bench.cli.paths import at_home


def weights_convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="The checkpoint, without code in it; FILE#KEY where it holds several networks.", callback=at_home
        ),
    ],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.", callback=at_home)],
    converter: options.Converter,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    json: options.Json = False,
) -> None:
    """Rewrite a published checkpoint under the names that the methods here know."""
    from bench.runs import registry
    from bench.weights.convert import convert_file

    done = convert_file(source, target, converter, registry.converter(converter), force=force)
    for note in done.notes:
        remark(f"note  {note}")
    if json:
        print_json(done.as_json())
        return
    arch = done.meta.get("arch", "network")
    stdout().print(
        f"{arch}  {done.parameters:,} parameters  {done.tensors} tensors   -> {done.path}\nsha256 {done.sha256}",
    )
