"""`rrcm-bench doctor`: what this machine can do, and what it cannot and why."""

from __future__ import annotations

import importlib
from typing import Any

from bench.cli import options
from bench.cli.output import pairs, print_json, stdout
from bench.types.errors import first_line

OPTIONAL = {
    "xformers": ("xformers", "attention on a GPU, where it is faster there than torch's own"),
    "pynvml": ("gpu", "energy and clocks of NVIDIA GPUs"),
    "jinja2": ("html", "report --html"),
    "plotly": ("html", "plots of report --html"),
    "pyarrow": ("parquet", "Parquet and Arrow files of images"),
    "ray": ("ray", "--executor ray"),
    "submitit": ("slurm", "--executor slurm"),
}


def doctor(json: options.Json = False) -> None:
    """Print versions, devices, caches, and which optional parts are usable and why not."""
    record = examine()
    if json:
        print_json(record)
        return
    console = stdout()
    for title, part in record.items():
        console.print(pairs(title, part))


def examine() -> dict[str, dict[str, Any]]:
    """All that the doctor looks at."""
    import torch

    from bench.data.cache import cache_dir
    from bench.runs import registry
    from bench.runs.execution.environment import environment, parse_devices
    from bench.types.errors import BenchError
    from bench.types.plugins import plugin_errors
    from bench.weights.resolve import catalogue, config_dir, verify

    env = environment(parse_devices("auto"), "fp32")
    packages = env.pop("packages")
    devices: dict[str, Any] = {
        "cpu": f"{env['cpu']}, {env['threads']} threads, {torch.backends.cpu.get_cpu_capability()}"
    }
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            devices[f"cuda:{i}"] = f"{p.name}, {p.total_memory / 2**30:.0f} GiB, compute {p.major}.{p.minor}"
    else:
        devices["cuda"] = "not usable: " + (
            "torch was built without it" if not torch.version.cuda else "no NVIDIA driver or device"
        )
    parts: dict[str, Any] = {}
    for kind, names, load in (
        ("method", registry.method_names(), registry.method),
        ("dataset", registry.dataset_names(), registry.dataset),
    ):
        for name in names:
            try:
                with plugin_errors():
                    load(name)
            except BenchError as error:
                parts[f"{kind} {name}"] = f"broken: {error}"
            else:
                parts[f"{kind} {name}"] = "usable"
    optional = {name: optional_part(name) for name in OPTIONAL}
    known = verify()
    return {
        "versions": {
            "python": env["python"],
            **packages,
            "cuda (of torch)": env["cuda"],
            "git commit": env["git_commit"],
        },
        "devices": devices,
        "folders": {"cache": str(cache_dir()), "configuration": str(config_dir())},
        "parts": parts,
        "optional": optional,
        "weights": {
            "known": len(catalogue()),
            "here": sum(state == "ok" for _, state, _ in known),
            "damaged": ", ".join(e.name for e, state, _ in known if state == "damaged") or "none",
        },
    }


def optional_part(module: str) -> str:
    """Whether an optional package can be used, and if not why."""
    import logging

    extra, use = OPTIONAL[module]
    logging.getLogger(module).setLevel(logging.ERROR)  # xformers prints six lines of warnings
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return f"not installed ({use}): pip install 'rrcm-bench[{extra}]'"
    except Exception as error:  # a broken optional package must not take the doctor down
        return f"installed, cannot be imported: {type(error).__name__}: {first_line(error)}"
    if module == "pynvml":
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return f"installed, not usable: {error}"
    return f"usable ({use})"
