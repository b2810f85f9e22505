"""A forecast as a record and a picture, which say what is quoted, what is from logs and what is simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.report import units
from bench.report.figures.accuracy import blank, put_legend, style
from bench.report.tables.forecast import NOTES, SCHEDULES
from bench.timing.forecast.forecast import Forecast, Split
from bench.timing.forecast.simulate import Costs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKED: Mapping[str, Any] = {"linewidth": 1.4, "marker": "o", "markersize": 3}


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
