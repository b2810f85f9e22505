"""Figures over settings of training: size, batch and budget as scaling plots, ablations of the pre-training as panels.

Two runs are compared where the weights' own records differ in the figure's settings and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.report import units
from bench.report.accuracy import digest
from bench.report.figures.ablation import Panel, Series, ablation_figure, measured_series, scaling_figure
from bench.report.figures.canvas import SCREEN, Style
from bench.report.figures.registry import Drawing
from bench.report.grouping import Group
from bench.report.tables.table import slug
from bench.report.training_records import Records, settings_of
from bench.runs.store import Run
from bench.types.errors import ReportError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFigure:
    """A figure of the paper whose series are trainings."""

    title: str
    panels: tuple[tuple[str, ...], ...]  # the settings that differ in each
    over: str = ""  # of a scaling plot: what it is drawn over, in words
    size: str = ""  # and the setting that has it
    along: tuple[str, ...] = ()  # settings that may differ with those


# Lei et al., ICLR 2025. "budget" has no number there: pre-training steps, as weights kept on the way have them.
FIGURES: Mapping[str, TrainedFigure] = {
    "3": TrainedFigure(
        title="model size (form of Figure 3)", panels=(("size", "tuned size", "numbers"),), size="numbers",
        over="parameters (millions)",
    ),
    "4": TrainedFigure(
        title="batch of the pre-training (form of Figure 4)", panels=(("batch",),), over="batch (images)", size="batch",
    ),
    "budget": TrainedFigure(
        title="budget of the pre-training", panels=(("steps",), ("steps", "of_steps")), over="pre-training steps",
        size="steps",
    ),
    "9": TrainedFigure(
        title="objective of the pre-training (form of Figure 9)", panels=(("objective",),),
        along=("ema_end",),  # MoCo's target has an average of its own
    ),
    "10": TrainedFigure(
        title="EMA of the consistency target, and tau (form of Figure 10)", panels=(("consistency_ema",), ("tau",)),
    ),
    "11": TrainedFigure(
        title="noise trajectory of the pre-training (form of Figure 11)", panels=(("t_max", "pairing", "levels"),),
    ),
}  # fmt: skip
_ELSEWHERE = {"1": "latency", "6": "schedule"}  # figures that have names of their own


def by_number(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of figures in two lists: those here, and the others, of which a number in the paper becomes its name.

    Raises: ReportError for a number that is no figure of runs.
    """
    own, rest = [], []
    for name in names:
        if name in FIGURES:
            own.append(name)
        elif name.isdecimal() and name not in _ELSEWHERE:
            known = sorted((*_ELSEWHERE, *FIGURES), key=lambda each: _order(int(each) if each.isdecimal() else each))
            raise ReportError(
                f"figure {name} of the paper is not made from runs; expected {', '.join(known)}; "
                "7 and 8 are pictures of `rrcm-bench generate`"
            )
        else:
            rest.append(_ELSEWHERE.get(name, name))
    return own, rest


def training_drawings(
    names: Sequence[str], groups: Sequence[Group], records: Records, style: Style = SCREEN
) -> tuple[Drawing, ...]:
    """The figures of those names.

    Raises: ReportError for one that the runs do not give.
    """
    made: list[Drawing] = []
    for name in dict.fromkeys(names):
        stem = f"figure-{name}" if name.isdecimal() else name
        found = [each for group in groups for each in _figures(stem, FIGURES[name], group, records, style)]
        if not found:
            keys = tuple(dict.fromkeys(key for keys in FIGURES[name].panels for key in _shown(keys)))
            raise ReportError(
                f"no figure {name!r} from these runs: expected two or more whose weights were trained alike but for "
                f"{' or '.join(keys)}; train them with `--set {keys[0]}=...`, run each, and give the folder of their "
                "weights by --trained"
            )
        made += [
            Drawing(each.name if k == 0 else f"{each.name}-{k + 1}", each.title, each.draw)
            for k, each in enumerate(found)
        ]
    return tuple(made)


def _figures(stem: str, figure: TrainedFigure, group: Group, records: Records, style: Style) -> list[Drawing]:
    panels = [panel for keys in figure.panels for panel in _panels(group, keys, figure, records)]
    spec, name = group.runs[0].spec, f"{stem}-{slug(group.dataset)}-{group.bound}"
    of = f"{group.dataset}, {spec.images} images, N={units.count(spec.n)}, alpha={group.alpha:g}"
    words = f"{figure.title}; {of}"
    title = f"{figure.title}\n{of}\nmeasured here, small: no row of the paper"
    if figure.over:
        return [
            Drawing(
                name,
                f"{words}: {panel.title}",
                partial(scaling_figure, panel.series, figure.over, f"{title}; {panel.title}", style),
            )
            for panel in panels
        ]
    return [Drawing(name, words, partial(ablation_figure, panels, title, style))] if panels else []


def _panels(group: Group, keys: Sequence[str], figure: TrainedFigure, records: Records) -> list[Panel]:
    """One panel for each set of runs that differ in these settings alone."""
    sets: dict[Any, list[tuple[Run, dict[str, Any]]]] = {}
    for run in group.runs:
        if (settings := settings_of(run, records)) is None:
            continue
        if keys == ("steps", "of_steps") and settings["steps"] != settings["of_steps"]:
            continue  # weights kept on the way: other rates of learning than at the end of a shorter training
        # The method's own settings that follow from the weights are no second difference.
        rest = frozenset((key, str(value)) for key, value in settings.items() if key not in (*keys, *figure.along))
        fixed = frozenset((key, str(value)) for key, value in run.spec.params.items() if key not in keys)
        sets.setdefault((run.spec.method, run.spec.sigma, rest, fixed), []).append((run, settings))
    made = []
    for (method, sigma, _, _), found in sets.items():
        values = {tuple(str(settings.get(key)) for key in keys) for _, settings in found}
        if len(values) < 2:
            continue
        told = [key for key in (*keys, *figure.along) if len({str(settings.get(key)) for _, settings in found}) > 1]
        ordered = sorted(found, key=lambda each: [_order(each[1].get(key)) for key in keys])
        labels = [_label(settings, told) for _, settings in ordered]
        series = tuple(
            _series(run, settings, f"{label} [{digest(run)}]" if labels.count(label) > 1 else label, figure, group)
            for (run, settings), label in zip(ordered, labels, strict=True)
        )
        what = "weights kept on the way" if keys == ("steps",) else ", ".join(_shown(told))
        made.append(Panel(f"{method}, sigma {units.noise_level(sigma)}: {what}", series))
    return made


def _series(run: Run, settings: Mapping[str, Any], label: str, figure: TrainedFigure, group: Group) -> Series:
    size = None
    if figure.size:
        size = float(settings[figure.size]) / (1e6 if figure.size == "numbers" else 1)
    return measured_series(run, label, group.radii, group.bound, group.alpha, size)


def _label(settings: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(_words(key, settings.get(key)) for key in _shown(keys) if settings.get(key) != "")


def _shown(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(key for key in keys if key not in ("numbers", "of_steps") and not key.startswith("tuned "))


def _words(key: str, value: Any) -> str:
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def _order(value: Any) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (float("inf"), str(value))
