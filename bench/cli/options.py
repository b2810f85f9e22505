"""The options that commands share, each stated once; a record of them as a command; devices, batch and workers of runs.

An option that one command alone has in these words bears the command's name: `RunDataset` beside `TrainDataset`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from decimal import Decimal
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from bench.cli import completion
from bench.cli.paths import at_home
from bench.types import AUTO, COMPILE, EXECUTORS, LOCAL, SLURM, Execution
from bench.types.errors import UsageError
from bench.types.limits import SAMPLES, WORKERS, check_within, digits

Record = TypeVar("Record")

LATENCY_METHODS = "gaussian,consistency,rrcm"
CLUSTER_DEVICES = ("auto", "cpu", "cuda")


def of_record(function: Callable[[Record], None]) -> Callable[..., None]:
    """The function of one record as one of keywords, so that typer makes each field an argument or option."""
    (parameter,) = signature(function, eval_str=True).parameters.values()
    record = parameter.annotation
    hints = get_type_hints(record, include_extras=True)

    @wraps(function)
    def run(**given: Any) -> None:
        function(record(**given))

    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(record)
    ]
    run.__dict__["__signature__"] = Signature(parameters)  # typer reads it, and the annotations
    run.__annotations__ = hints
    return run


# Options by what they are about: each group is a panel of --help.

images = partial(typer.Option, rich_help_panel="What is certified")
certificate = partial(typer.Option, rich_help_panel="Numbers of the certificate")
network = partial(typer.Option, rich_help_panel="Weights and settings of methods")
computing = partial(typer.Option, rich_help_panel="How it is computed")
tables = partial(typer.Option, rich_help_panel="Tables and figures")
output = partial(typer.Option, rich_help_panel="Output")


def _copies(given: str | int) -> int:
    """A whole number, also written as 1e5, as in a plan file; a default is one already."""
    words = str(given)
    found = Decimal(words) if re.fullmatch(r"[+-]?[0-9]{1,400}(\.[0-9]{1,18})?([eE]\+?[0-9]{1,2})?", words) else None
    if found is None or found != int(found):
        raise typer.BadParameter(f"{words!r}: expected a whole number, as 100000 or 1e5")
    return int(found)


# As a parser is named, so is the type of what it reads in --help.
_copies.__name__ = "int"
copies = partial(certificate, parser=_copies)


# What is certified, and on which images.

RunDigest = Annotated[
    str | None,
    typer.Argument(help="First letters of a run's digest; none lists all.", autocompletion=completion.run_digests),
]
RunFolder = Annotated[
    Path, typer.Argument(help="Run folder.", show_default=False, callback=at_home, autocompletion=completion.run_paths)
]
WeightsNames = Annotated[
    list[str] | None,
    typer.Argument(help="Names; none verifies all that are here.", autocompletion=completion.weights_names),
]
PaperTable = Annotated[
    str | None,
    tables(
        help="The paper's table to stand beside: 1 (ImageNet), 2 (CIFAR-10), 3 to 9, rebuttal1, rebuttal2, raw; "
        "grid (runs by sigma in training); pairs (every two runs); field (others' own rows); "
        "probability (p_A beside ACR).",
        show_default="none",
        autocompletion=completion.paper_tables,
    ),
]
LatencyTable = Annotated[
    int | None,
    images(
        help="1 (ImageNet) or 2 (CIFAR-10): the paper's rows, N and batches.",
        show_default="none",
        autocompletion=lambda incomplete: completion.beginning_with(("1", "2"), incomplete),
    ),
]
OneMethod = Annotated[str, typer.Argument(help="A method, or file.py:NAME.", autocompletion=completion.methods)]
AnyMethod = Annotated[
    str | None, typer.Argument(help="A method, or file.py:NAME; none lists all.", autocompletion=completion.methods)
]
TrainMethod = Annotated[
    str, typer.Argument(help="Method, see `rrcm-bench methods`.", autocompletion=completion.methods)
]
RunMethods = Annotated[
    str | None,
    images(
        help="Methods, with commas between; all; or file.py:NAME.",
        show_default="embedded plan",
        autocompletion=completion.methods,
    ),
]
LatencyMethods = Annotated[
    str | None,
    images(
        help="Methods, with commas between; or file.py:NAME.",
        show_default=LATENCY_METHODS,
        autocompletion=completion.methods,
    ),
]
StripsMethods = Annotated[
    str, images(help="Methods that denoise, with commas between.", autocompletion=completion.methods)
]
RunDataset = Annotated[
    str | None, images(help="Dataset.", show_default="embedded plan", autocompletion=completion.datasets)
]
TrainDataset = Annotated[
    str | None, images(help="Dataset.", show_default="the preset's, or digits", autocompletion=completion.datasets)
]
CheckDataset = Annotated[str, images(help="Dataset whose images it gets.", autocompletion=completion.datasets)]
StripsDataset = Annotated[str, images(help="Whose images.", autocompletion=completion.datasets)]
LatencyDataset = Annotated[
    str | None,
    images(help="Whose image shape and classes.", show_default="digits", autocompletion=completion.datasets),
]
DataRoot = Annotated[
    Path | None,
    images(help="Folder of the dataset, or its file.", show_default="the cache", callback=at_home),
]
ReportDataRoot = Annotated[
    Path | None,
    images(
        help="Folder of the runs' dataset: its images appear on the page.", show_default="the cache", callback=at_home
    ),
]
ClassOrder = Annotated[
    str | None,
    images(help="Labels of class folders: natural | text | FILE with a class a line.", show_default="where both agree"),
]
Size = Annotated[int | None, images(help="Side of the crop, pixels.", show_default="the method's own")]
Preprocessing = Annotated[
    str | None,
    images(
        help="imagenet: from files to pixels, as resize256-crop224 | short224-box-bicubic | bicubic256-crop224.",
        show_default="the method's own",
    ),
]
RunSubset = Annotated[
    str | None,
    images(help="Images: skip:20 | first:500 | 500:1000 | all | file:PATH.", show_default="the dataset's own"),
]
StripsSubset = Annotated[str | None, images(help="As for `run`.", show_default="the dataset's own")]
RunLimit = Annotated[int | None, images(help="Only the first K images of the subset.", show_default="all")]

# The numbers of a certificate.

Sigma = Annotated[float, certificate(help="Noise level, l2 in [0, 1] pixels.")]
TrainSigma = Annotated[
    float | None,
    certificate(help="Noise level, l2 in [0, 1] pixels.", show_default="none: the stage may not need it"),
]
RunSigmas = Annotated[
    str | None,
    certificate(help="Noise levels, l2 in [0, 1] pixels, with commas between.", show_default="0.25,0.5,1.0"),
]
StripsSigmas = Annotated[str, certificate(help="Noise levels, l2 in [0, 1] pixels, with commas between.")]
RunN0 = Annotated[int | None, copies(help="Samples an image for choosing the class.", show_default="100")]
LatencyN0 = Annotated[int, copies(help="Samples an image for choosing the class.")]
N = Annotated[int | None, copies(help="Samples an image for the bound.", show_default="100000")]
RunAlpha = Annotated[
    float | None, certificate(help="Chance that an image's certificate is wrong.", show_default="0.001")
]
LatencyAlpha = Annotated[float, certificate(help="Chance that an image's certificate is wrong.")]
CompareAlpha = Annotated[
    float | None, certificate(help="Re-read the votes of both at another alpha.", show_default="the runs' own")
]
ReportAlpha = Annotated[
    float | None, certificate(help="Re-read the same votes at another alpha.", show_default="the runs' own")
]
CompareBound = Annotated[str, certificate(help="pa (the field's) | papb (runner-up bounded too).")]
ReportBound = Annotated[str, certificate(help="pa (the field's) | papb (runner-up bounded too) | both, apart.")]
RunCertifier = Annotated[
    str | None,
    certificate(
        help="cohen, randomised: n samples an image; sequential, betting, union, adaptive: up to n, until "
        "its verdicts at --radii are settled.",
        show_default="cohen",
        autocompletion=completion.certifiers,
    ),
]

# The method's weights and settings.

RunWeights = Annotated[
    list[str] | None,
    network(help="[METHOD.]ROLE=PATH; {sigma} in PATH becomes 0.25 and so on.", show_default="the catalogue"),
]
Weights = Annotated[list[str] | None, network(help="[METHOD.]ROLE=PATH.", show_default="the catalogue")]
CheckWeights = Annotated[list[str] | None, network(help="ROLE=PATH.", show_default="the catalogue")]
RunRandomWeights = Annotated[
    bool | None,
    network("--random-weights", help="Random networks: for cost, never for accuracy.", show_default="off"),
]
LatencyRandomWeights = Annotated[
    bool, network("--random-weights", help="Random networks: the time is the same, and the record says so.")
]
CheckRandomWeights = Annotated[bool, network("--random-weights", help="Random networks.")]
Settings = Annotated[
    list[str] | None,
    network("--set", help="[METHOD.]key=value: a method's setting.", show_default="see `methods NAME`"),
]
StripsSettings = Annotated[list[str] | None, network("--set", help="[METHOD.]key=value.", show_default="none")]
CheckSettings = Annotated[list[str] | None, network("--set", help="key=value.", show_default="none")]
AddSettings = Annotated[
    list[str] | None, network("--set", help="key=value: arch, normaliser, ...", show_default="from the file")
]
TrainSettings = Annotated[list[str] | None, network("--set", help="key=value over the preset.", show_default="none")]
Converter = Annotated[
    str,
    network(
        "--from",
        help="Whose checkpoint it is: guided-diffusion, improved-diffusion, hf-vit, or file.py:NAME.",
        autocompletion=completion.converters,
    ),
]

# How it is computed.

RunPrecision = Annotated[
    str | None,
    computing(help="fp32 | tf32 | bf16 | fp16.", show_default="fp32", autocompletion=completion.precisions),
]
Precision = Annotated[str, computing(help="fp32 | tf32 | bf16 | fp16.", autocompletion=completion.precisions)]
AllowSlowPrecision = Annotated[
    bool | None,
    computing(
        "--allow-slow-precision",
        help="Half precision on a CPU without instructions for it too.",
        show_default="off",
    ),
]
Device = Annotated[str, computing(help="auto | cpu | cuda:0.")]
RunDevice = Annotated[
    str | None,
    computing(
        help="auto | cpu | cuda: all here | cuda:0,cuda:1, one worker each; of a cluster: auto | cpu | cuda.",
        show_default="auto",
    ),
]
TrainDevice = Annotated[str, computing(help="auto | cpu | cuda:0; under torchrun auto or cuda is one GPU a process.")]
RunCompile = Annotated[
    str | None,
    computing(
        "--compile",
        help="Full passes by torch.compile, which rounds as another GPU does: auto (where it pays) | always (tried) | "
        "never.",
        show_default="auto",
        autocompletion=completion.compile_choices,
    ),
]
BenchCompile = Annotated[
    str,
    computing(
        "--compile",
        help="Both by torch.compile: auto (as a run of 500 images would) | always (tried) | never.",
        autocompletion=completion.compile_choices,
    ),
]
RunBatch = Annotated[str | None, computing(help="Copies a forward pass: auto | K. Moves no vote.", show_default="auto")]
LatencyBatch = Annotated[
    str | None,
    computing(help="auto (searched) | paper | K copies a pass.", show_default="auto; with --table: paper"),
]
RunExecutor = Annotated[
    str | None,
    computing(
        help="local: this machine; ray: the cluster of RAY_ADDRESS, or one started here; slurm: a job array.",
        show_default="local",
        autocompletion=completion.executors,
    ),
]
DryRun = Annotated[bool, output("--dry-run", help="Print the plan and its cost, and stop.")]
RunDryRun = Annotated[
    bool | None, output("--dry-run", help="Print the plan and its cost, and stop.", show_default="off")
]
RunJson = Annotated[
    bool | None,
    output("--json", help="Print one JSON document on stdout and nothing else there.", show_default="off"),
]
Json = Annotated[bool, output("--json", help="Print one JSON document on stdout and nothing else there.")]


def execution_of(executor: str, device: str, batch: str, workers: int | None, slurm: tuple[str, ...]) -> Execution:
    """How a run is computed, from the words of its options.

    Raises: UsageError for words that do not fit each other; DeviceError for a device that is not here.
    """
    if executor not in EXECUTORS:
        raise UsageError(f"no executor {executor!r}; expected one of: {', '.join(EXECUTORS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1")
    check_within("--workers", workers, 1, WORKERS)
    if slurm and executor != SLURM:
        raise UsageError(f"--slurm {slurm[0]} is for --executor slurm; give that too, or leave it out")
    if executor == LOCAL:
        from bench.runs.execution.environment import parse_devices

        devices = parse_devices(device)
        if workers is not None and workers < len(devices):
            raise UsageError(f"--workers {workers} for {len(devices)} devices: expected one for each, or fewer devices")
        # More workers than devices share them in turn.
        return Execution(tuple(devices[k % len(devices)] for k in range(workers or len(devices))), parse_batch(batch))
    if device not in CLUSTER_DEVICES:
        raise UsageError(
            f"--device {device!r} with --executor {executor}: expected one of {', '.join(CLUSTER_DEVICES)}; "
            "each worker has one device, and the cluster says which"
        )
    return Execution((device,), parse_batch(batch), executor, workers, slurm)


def compile_of(words: str | None) -> str:
    """When to compile; None is auto.

    Raises: UsageError.
    """
    if words is not None and words not in COMPILE:
        raise UsageError(f"--compile {words!r}: expected one of {', '.join(COMPILE)}")
    return words or AUTO


def parse_batch(words: str) -> int | None:
    """None for auto.

    Raises: UsageError.
    """
    if words == "auto":
        return None
    copies = digits(words)
    if copies is None or copies < 1:
        raise UsageError(f"--batch {words!r}: expected auto or a positive number of copies")
    check_within("--batch", copies, 1, SAMPLES)
    return copies
