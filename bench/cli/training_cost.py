"""The cost that `rrcm-bench train --dry-run` prints: on this device, on GPUs by name, in bytes, for the loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cli.output import listing, remark, stdout

# Of a GPU's bf16 peak (datasheet), as dry runs on an H200 measured them in bf16 (results/h200): rRCM-S's pre-training,
# ResNet-50's training, both at 224. Convolutions between batch norms wait for memory. Assumed of all GPUs.
SHARE_OF_TRANSFORMERS, SHARE_OF_CONVOLUTIONS = 0.24, 0.12
GIB = 2**30


def with_gpus(record: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The record of a dry run with hours on GPUs that are known by name, and this one's share of its peak."""
    from bench.timing.latency.devices import profiles, recognise

    if "flops" not in record:
        return dict(record)
    share = _share(record)
    gpus = [
        {
            "key": each.key,
            "name": each.name,
            "share": share,
            "images_per_second": share * each.peak["bf16"] / record["flops_per_image"],
            "gpu_hours": record["flops"] / (share * each.peak["bf16"]) / 3600,
        }
        for each in profiles()
        if each.family == "datacentre" and "bf16" in each.peak
    ]
    own = None
    if device.startswith("cuda"):
        import torch

        found = recognise(torch.cuda.get_device_name(device))
        if found and "bf16" in found.peak:
            own = record["images_per_second"] * record["flops_per_image"] / found.peak["bf16"]
    return {**record, "gpus": gpus, "device": device, "share": own}


def _share(record: Mapping[str, Any]) -> float:
    """The share of the peak that a network's training is taken to reach, by its kind."""
    settings = record["settings"]
    named = str(settings.get("arch", settings.get("denoiser", "")))
    transformer = record["method"] in ("rrcm", "dmae") or "vit" in named or "beit" in named
    return SHARE_OF_TRANSFORMERS if transformer else SHARE_OF_CONVOLUTIONS


def show_cost(record: Mapping[str, Any]) -> None:
    """The record for people."""
    from bench.report.units import duration

    screen, loader = stdout(), record["loader"]
    screen.print(
        f"{record['method']} {record['stage']}  {record['dataset']}  preset {record['preset']}: "
        f"{record['steps']} steps of {record['settings']['batch']} images, {record['parameters'] / 1e6:.3g} M weights, "
        f"{record['flops']:.3g} FLOP"
    )
    own = "" if record["share"] is None else f", {100 * record['share']:.1f} % of its bf16 peak"
    screen.print(
        f"here ({record['device']}, {record['micro_batch']} images at once): {record['images_per_second']:.4g} images/s"
        f"{own}; the run takes {duration(record['seconds'])}"
    )
    rows = [(each["name"], f"{each['images_per_second']:,.0f}", f"{each['gpu_hours']:,.1f}") for each in record["gpus"]]
    share = next((each["share"] for each in record["gpus"]), 0.0)
    title = f"on one GPU at {share:.0%} of its bf16 peak, as an H200 reached with such a network"
    screen.print(listing(title, ("GPU", "images/s", "GPU-hours"), rows, words=1))
    columns = ("processes", "weights", "gradients", "moments", "activations", "inputs", "total")
    kinds = (("weights",), ("gradients",), ("optimiser",), ("activations",), ("features", "images"), ("total",))
    needed = [
        (str(row["processes"]), *(f"{sum(row[key] for key in keys) / GIB:.2f}" for keys in kinds))
        for row in record["memory"]
    ]
    screen.print(listing("GiB a process, tensors alone", columns, needed, words=0))
    images = "random images, nothing decoded" if record["synthetic"] else "decoded and augmented"
    screen.print(
        f"the loader must give each GPU its images/s above; here {loader['gives']:,.0f}/s ({images}, "
        f"{loader['workers']} workers, {loader['cores']} cores)"
    )
    if not record["synthetic"] and loader["gives"] < record["images_per_second"]:
        remark("! the loader is slower than the network here: give --set workers=..., or more cores")
