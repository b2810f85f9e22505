"""Methods and their training: what a method supplies, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.types.classifier import BaseClassifier, Scalar
from bench.types.dataset import ClassOrder
from bench.types.representation import GenerateRequest, Generator, Representation, RepresentRequest


def family(dataset: str) -> str:
    """A dataset's name without the hash of a stranger's code, which keeps it out of the tables of that name."""
    return dataset.rpartition("@")[0] or dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One setting of a method, part of what is measured."""

    name: str
    default: Scalar
    help: str
    choices: tuple[str, ...] = ()
    by_dataset: Mapping[str, Scalar] = field(default_factory=dict)  # defaults that differ by dataset
    inferred: bool = False  # no checkpoint records it: its choices are tried on a few noisy images before a run
    must_be_said: bool = False  # outside `by_dataset` the user or the weights say it; the default is for random weights
    # (text, dataset, dataset whose words it is in) -> value, where there is more than `choices`; raises a BenchError
    read: Callable[[str, str, str], Scalar] | None = None
    meaning: Callable[[Mapping[str, Scalar], str], str] | None = None  # (params, dataset) -> what stands behind it

    def default_for(self, dataset: str) -> Scalar:
        """The default on that dataset."""
        return self.by_dataset.get(dataset, self.default)


@dataclass(frozen=True, slots=True)
class Role:
    """A file of weights that a method needs, named by what it is used for."""

    name: str  # "network", "denoiser", "classifier"
    help: str
    many: bool = False  # several files may fill it: a path with `{member}`, or one file with names `0.*`, `1.*`, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """A verified file of weights on this machine."""

    role: str
    path: Path
    sha256: str
    name: str  # the catalogue's name, or the file's own
    params: Mapping[str, Scalar] = field(default_factory=dict)  # what the file says of itself: arch, normaliser, ...
    parts: tuple[Path, ...] = ()  # of a role with many files: all of them, in order; sha256 is then that of their list
    trained_on: str = ""  # dataset, where the file or a catalogue says it
    key: str = ""  # under which the network lies, where one was chosen of several: "state_dict_ema"
    notes: tuple[str, ...] = ()  # what a user should know of the choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All that a method is built from."""

    dataset: str
    num_classes: int
    shape: tuple[int, int, int]  # (C, H, W) of an image
    sigma: float
    params: Mapping[str, Scalar]  # complete: every Param of the method has a value
    weights: Mapping[str, WeightsFile]  # by role; empty when random_weights
    random_weights: bool  # build with random weights, the same for the same seed
    seed: int
    device: str  # "cpu", "cuda:0"; "meta": shapes without numbers, to count what a sample costs
    precision: str = "fp32"  # arithmetic of the run, which the certifier sets; networks may be laid out for it
    tuned: bool = True  # False: the networks as their authors run them, to be compared with
    timed_alone: bool = False  # for its speed: random weights may be others on another device, drawn where that is fast


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """One training run: what, from what, to where."""

    method: str
    stage: str
    dataset: str
    data_root: Path | None
    class_order: ClassOrder | None = None  # of a dataset whose classes are in no published one
    size: int | None = None  # side of the images; None: the preset's, else the dataset's own
    preset: str
    sigma: float | None  # None where the stage has no noise level (pre-training)
    init: Path | None  # weights to start from (the pre-trained network, for fine-tuning)
    out: Path  # folder of the run: metrics.jsonl, checkpoint, final weights
    overrides: Mapping[str, str]  # --set key=value over the preset
    device: str
    seed: int
    resume: bool
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to certify, as a value: found by entry point or `file.py:NAME`."""

    name: str
    title: str
    cite: str
    build: Callable[[Setting], BaseClassifier]
    params: tuple[Param, ...] = ()
    roles: tuple[Role, ...] = ()
    size: Callable[[str], int | None] = lambda _dataset: None  # crop side that it wants; None: the dataset's own
    preprocessing: Mapping[str, str] = field(
        default_factory=dict
    )  # dataset -> its authors' way; else the dataset's own
    declines: Callable[[str, tuple[int, int, int], int], str | None] = lambda _dataset, _shape, _classes: None
    # what a checkpoint tells of itself: role, {tensor name: shape}, {"arch": ...} -> params
    recognise: Callable[[str, Mapping[str, tuple[int, ...]], Mapping[str, Scalar]], Mapping[str, Scalar]] | None = None
    # params that nobody has said, from those before them: "arch" -> {"normaliser": ...}
    implied: Callable[[Mapping[str, Scalar]], Mapping[str, Scalar]] | None = None
    train: Mapping[str, Callable[[TrainRequest], Mapping[str, Any]]] = field(default_factory=dict)  # stage -> trainer
    # what it tells of itself in a paper's tables: "sizes", "pretraining", "augmentation" -> rows, by column
    paper_tables: Mapping[str, Callable[[], Sequence[Mapping[str, Scalar]]]] = field(default_factory=dict)
    # its pre-trained network as features, for `rrcm-bench probe`, and images sampled from them, for `generate`
    represent: Callable[[RepresentRequest], Representation] | None = None
    generate: Callable[[GenerateRequest], Generator] | None = None
