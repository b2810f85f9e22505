"""A study's costs of training as a Markdown file: images seen and FLOP of each row and each stage, with all parents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.output import remark
from bench.cli.study_budget import Budget, budgets
from bench.cli.study_order import ancestors
from bench.types.errors import StoreError, UsageError

if TYPE_CHECKING:
    from bench.cli.study_file import Item, Study
    from bench.report.tables.table import Table

_CAPTION = (
    "An image counts each time it is seen, a copy is one image in a loss, noisy where the stage trains with noise. "
    "FLOP are 2 a multiply-add, of losses and their gradients, attacks included; {}. Parents are charged in full."
)


def write_table(made: Study, path: Path) -> None:
    """Write the table of what is trained; what is not is named below.

    Raises: UsageError where no weights are there, StoreError where it cannot be written.
    """
    from bench.report.formats.markdown import markdown
    from bench.types.atomic_file import atomic_write

    spent, parents = budgets(made), {item.name: item.parents for item in made.items}
    needed = {item.name: ancestors(item.name, parents) | ({item.name} if item.trains else set()) for item in made.items}
    trained = {item.name for item in made.items if item.trains and made.weights(item.name).is_file()}
    there = [item for item in made.items if needed[item.name] and needed[item.name] <= trained]
    if not there:
        raise UsageError(f"study {str(made.path)!r}: no weights in {str(made.state)!r}; train first, or give its --out")
    tables = [
        _table(title, [(item, sorted(needed[item.name]), spent.get(item.name)) for item in there if item.trains == own])
        for title, own in (("Rows, with all their stages", False), ("Stages, with their parents", True))
    ]
    late = [item.name for item in made.items if item not in there]
    tier = f", tier {made.tier}" if made.tier else ""
    command = f"rrcm-bench study {made.path.name}{f' --tier {made.tier}' if made.tier else ''} --budget {path.name}"
    text = f"# What the networks of {made.path.name}{tier} took to train\n\nMade by `{command}`, after `--count`.\n\n"
    text += markdown([table for table in tables if table.rows])
    text += f"\nNot trained yet: {', '.join(late)}.\n" if late else ""
    try:
        atomic_write(path, text)
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}; give another --budget") from error
    remark(f"budget  {len(there)} of {len(made.items)}  -> {path}")


def _table(title: str, rows: Sequence[tuple[Item, Sequence[str], Budget | None]]) -> Table:
    from bench.report.tables.table import Cell, Column, Table

    first = next(((item.name, budget.flops) for item, _, budget in rows if budget and budget.flops), None)

    def cells(item: Item, stages: Sequence[str], budget: Budget | None) -> tuple[Cell, ...]:
        flops = None if budget is None else budget.flops
        return (
            Cell(value=item.name.removeprefix("run "), unit="text", source="measured"),
            Cell(value=", ".join(stages), unit="text", source="measured"),
            Cell(value=None if budget is None else budget.images, unit="count", source="measured"),
            Cell(value=None if budget is None else budget.copies, unit="count", source="measured"),
            Cell(value=f"{flops:.3g}" if flops else None, unit="number", source="measured"),
            Cell(value=f"{flops / first[1]:.2f}" if flops and first else None, unit="number", source="measured"),
        )

    columns = (
        *(("row", "Row"), ("stages", "Stages"), ("images", "Images seen"), ("copies", "Copies"), ("flops", "FLOP")),
        ("ratio", f"FLOP / {first[0].removeprefix('run ')}" if first else "FLOP"),
    )
    unknown = sum(budget is None or budget.flops is None for _, _, budget in rows)
    return Table(
        name=title.partition(",")[0].lower(),
        title=title,
        caption=_CAPTION.format(f"{unknown} rows are not counted" if unknown else "all rows are counted"),
        columns=tuple(Column(key, words) for key, words in columns),
        rows=tuple(cells(*row) for row in rows),
    )
