"""The cost that `rrcm-bench train --dry-run` prints: on this device, on GPUs by name, in bytes, for the loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cli.output import listing, remark, stdout

# Of a GPU's bf16 peak (datasheet), as an H200 reached them (results/h200): rRCM-S's pre-training on an eighth of a
# batch, and ResNet-50's training, compiled, both at 224. Convolutions between batch norms wait for memory. Assumed of
# all GPUs.
SHARE_OF_TRANSFORMERS, SHARE_OF_CONVOLUTIONS = 0.35, 0.16
GIB = 2**30


def with_gpus(record: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The record of a dry run with hours on GPUs that are known by name, and this one's share of its peak."""
    from bench.timing.latency.devices import profiles, recognise

    if "flops" not in record:
        return dict(record)
    share = SHARE_OF_CONVOLUTIONS if record["convolutions"] > 0.5 else SHARE_OF_TRANSFORMERS
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
    own = product = None
    if device.startswith("cuda"):
        import torch

        from bench.timing.device_peaks import peak

        product = peak(device, "bf16").flops_s
        rate = record["images_per_second"] * record["flops_per_image"]
        found = recognise(torch.cuda.get_device_name(device))
        own = {"product": rate / product}
        if found and "bf16" in found.peak:
            own["datasheet"] = rate / found.peak["bf16"]
    return {**record, "gpus": gpus, "device": device, "product_flops": product, "share": own}


def show_cost(record: Mapping[str, Any]) -> None:
    """The record for people."""
    from bench.report.units import duration

    screen, loader = stdout(), record["loader"]
    screen.print(
        f"{record['method']} {record['stage']}  {record['dataset']}  preset {record['preset']}: "
        f"{record['steps']} steps of {record['settings']['batch']} images, {record['parameters'] / 1e6:.3g} M weights, "
        f"{record['flops']:.3g} FLOP"
    )
    own, shares = "", record["share"]
    if shares is not None:
        own = f", {shares['product']:.1%} of its bf16 product of this minute"
        own += f", {shares['datasheet']:.1%} of the datasheet's" if "datasheet" in shares else ""
    screen.print(
        f"here ({record['device']}, {record['micro_batch']} images at once): {record['images_per_second']:.4g} images/s"
        f"{own}; the run takes {duration(record['seconds'])}"
    )
    if record.get("left_uncompiled"):
        screen.print("the run compiles the whole network first, which is not timed here")
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
