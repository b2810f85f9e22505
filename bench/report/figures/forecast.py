"""A forecast as tables, a record and a picture, which say what is quoted, what is from logs and what is simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.report import units
from bench.report.figures.accuracy import blank, put_legend, style
from bench.timing.forecast.forecast import Forecast, Split
from bench.timing.forecast.simulate import Costs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEDULES: Mapping[str, str] = {
    "by_look": "pieces of looks to any device (this package)",
    "by_image": "whole images to the device that is free",
    "by_share": "equal shares of the images, fixed beforehand",
}
MARKED: Mapping[str, Any] = {"linewidth": 1.4, "marker": "o", "markersize": 3}
NOTES = (
    (
        "seconds a sample are quoted from the paper or given by the user, never measured here; where they are quoted, "
        "a GPU is one of the paper's (A800)"
    ),
    (
        "samples an image: every method is taken to ask for those of the log's network; one that is more accurate at a "
        "radius asks for other ones"
    ),
    (
        "an image that is wrong or abstains in a log leaves its true class's probability open: taken evenly below its "
        "bound"
    ),
    (
        "the schedule is simulated with the driver's own code; reading and decoding images and building networks is "
        "not in it"
    ),
    "the two other schedules are priced without a driver and without half-filled passes: what they could reach at best",
)


def record(forecasts: Sequence[Forecast]) -> dict[str, Any]:
    """The forecast as plain values, in seconds, samples and hours of one device."""
    defaults = Costs(sample=0.0, batch=1)
    return {
        "images": forecasts[0].images,
        "n": forecasts[0].n,
        "driver_seconds": {"task": defaults.task, "unit": defaults.unit},
        "demands": [
            {**asdict(demand), "mean_samples": demand.samples}
            for demand in dict.fromkeys(each.demand for each in forecasts)
        ],
        "rows": [
            {
                "method": each.method.key,
                "title": each.method.title,
                "sigma": each.sigma,
                "seconds_per_sample": each.method.seconds,
                "seconds_origin": each.method.origin,
                "seconds_source": each.method.source,
                "fixed_samples": each.fixed_samples,
                "sequential_samples_expected": each.sequential_samples,
                "fixed_gpu_hours": each.fixed_hours,
                "published_n": each.method.own_n,
                "published_n_gpu_hours": each.own_hours,
                "sequential_gpu_hours": each.sequential_hours,
                "devices": [_split_record(split) for split in each.splits],
            }
            for each in forecasts
        ],
        "notes": list(NOTES),
    }


def _split_record(split: Split) -> dict[str, Any]:
    schedules = {name: getattr(split, name) for name in ("fixed", *SCHEDULES)}
    return {
        "devices": split.devices,
        "driver_busy_seconds": split.by_look.driver,
        **{
            name: {"seconds": each.seconds, "efficiency": each.efficiency(split.devices)}
            for name, each in schedules.items()
        },
    }


def hours_rows(forecasts: Sequence[Forecast]) -> list[tuple[str, ...]]:
    """A line a method: hours of all its noise levels together, fixed, at its published n, and sequential."""
    rows: list[tuple[str, ...]] = []
    for key in dict.fromkeys(each.method.key for each in forecasts):
        own = [each for each in forecasts if each.method.key == key]
        fixed, sequential = sum(e.fixed_hours for e in own), sum(e.sequential_hours for e in own)
        published = [e.own_hours for e in own if e.own_hours is not None]
        rows.append(
            (
                own[0].method.title,
                f"{1000 * own[0].method.seconds:.3g} ms",
                own[0].method.origin,
                _hours(fixed),
                f"{_hours(sum(published))} (n = {units.count(own[0].method.own_n)})" if own[0].method.own_n else "",
                _hours(sequential),
                f"{fixed / sequential:.1f}",
            )
        )
    return rows


HOURS_COLUMNS = ("method", "a sample", "origin", "fixed n, GPU-h", "published n, GPU-h", "sequential, GPU-h", "times")


def split_rows(forecasts: Sequence[Forecast]) -> list[tuple[str, ...]]:
    """A line a method, noise level and number of devices: wall time and efficiency of each schedule."""
    return [
        (
            each.method.title,
            f"{each.sigma:g}",
            str(split.devices),
            units.duration(split.fixed.seconds),
            units.duration(split.by_look.seconds),
            *(units.percent(getattr(split, name).efficiency(split.devices)) for name in SCHEDULES),
        )
        for each in forecasts
        for split in each.splits
    ]


SPLIT_COLUMNS = (
    *("method", "sigma", "GPUs", "fixed n", "sequential"),
    *("efficiency, by look", "whole images", "fixed shares"),
)


def efficiency_figure(forecasts: Sequence[Forecast]) -> Figure:
    """Efficiency over devices: one panel a noise level, a line a method, and the other schedules in grey."""
    drawn = [each for each in forecasts if each.splits]
    sigmas = sorted({each.sigma for each in drawn})
    figure = blank(3.2 * len(sigmas) + 0.6, 4.4)
    axes = figure.subplots(1, len(sigmas), sharey=True, squeeze=False).ravel()
    keys = list(dict.fromkeys(each.method.key for each in drawn))
    handles: dict[str, Any] = {}
    for axis, sigma in zip(axes, sigmas, strict=True):
        own = [each for each in drawn if each.sigma == sigma]
        counts = [split.devices for split in own[0].splits]
        for each in own:
            values = [100 * split.by_look.efficiency(split.devices) for split in each.splits]
            look = style(keys.index(each.method.key))
            handles[f"{each.method.title}, {SCHEDULES['by_look']}"] = axis.plot(counts, values, **look, **MARKED)[0]
        for name, grey in (("by_image", "0.35"), ("by_share", "0.65")):
            # Equal for all methods: without a driver a sample's seconds are but the unit of time.
            values = [100 * getattr(split, name).efficiency(split.devices) for split in own[0].splits]
            handles[f"any method, {SCHEDULES[name]}"] = axis.plot(counts, values, color=grey, linestyle=":", **MARKED)[
                0
            ]
        samples = next(each.demand for each in drawn if each.sigma == sigma).samples
        axis.set_title(f"sigma {units.noise_level(sigma)}, {units.count(round(samples))} samples an image", fontsize=9)
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set_ylim(0, 102)
        axis.grid(color="0.9", linewidth=0.6)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("GPUs", fontsize=8.5)
    figure.supylabel("efficiency (%)", fontsize=9)
    figure.suptitle(
        f"{units.count(drawn[0].images)} images, sequential up to n = {units.count(drawn[0].n)}: simulated; "
        "seconds a sample quoted, samples an image from logs",
        fontsize=9,
    )
    put_legend(figure, list(handles.values()), list(handles))
    return figure


def markdown(forecasts: Sequence[Forecast], command: str) -> str:
    """Both tables and what a reader must know."""
    demands = dict.fromkeys(each.demand for each in forecasts)
    lines = [
        f"# {units.count(forecasts[0].images)} images, n = {units.count(forecasts[0].n)}",
        "",
        f"Made by `{command}`. GPU-hours are of all noise levels together.",
        "",
        *_table(HOURS_COLUMNS, hours_rows(forecasts)),
        "",
        *_table(SPLIT_COLUMNS, split_rows(forecasts)),
        "",
        *(
            f"- sigma {demand.sigma:g}: {units.count(round(demand.samples))} samples an image at radii "
            f"{', '.join(f'{r:g}' for r in demand.radii)}, from the {demand.images} images of {demand.network}"
            for demand in demands
        ),
        *(f"- {note}" for note in NOTES),
    ]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def _hours(hours: float) -> str:
    return units.count(round(hours)) if hours >= 10 else f"{hours:.2g}"
