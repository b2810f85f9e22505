"""Records and protocols that the layers share; standard library only, so that importing them costs nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ABSTAIN = -1  # the label of a certificate that promises nothing
NOT_FINITE = -2  # the label of a copy whose logits are not numbers: the certifier refuses the image
WRONG, FORCED = "wrong", "forced"  # why a draw stopped before n: another class is selected; more cannot move a verdict

EXECUTORS = LOCAL, RAY, SLURM = ("local", "ray", "slurm")  # who computes: this machine, a Ray cluster, a Slurm queue

Scalar = str | int | float | bool
ClassOrder = str | tuple[str, ...]  # "natural", "text", or the names of all classes in the order of their labels


def family(dataset: str) -> str:
    """A dataset's name without the hash of a stranger's code, which keeps it out of the tables of that name."""
    return dataset.rpartition("@")[0] or dataset


# ---- what a method supplies ------------------------------------------------------------------------------------------


class Noise(Protocol):
    """A method's own randomness, keyed per copy and independent of the smoothing noise."""

    def randn(self, *shape: int) -> Tensor:
        """Fresh standard normals, (B, *shape) float32 on the device of the copies; each call gives new ones."""


class BaseClassifier(Protocol):
    """What randomized smoothing smooths: a function from noisy pixels to a hard label."""

    num_classes: int

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies.

        Shapes: x (B, C, H, W) float32, already noisy, so not confined to [0, 1]; result (B,) int64 in [0, num_classes).
        Must not add smoothing noise: that is the certifier's. Own randomness comes from `noise` alone.
        """


class Counted(Protocol):
    """A base classifier that says what a copy costs it; an attribute more, which none needs to have."""

    calls: Mapping[str, int]  # network -> forward passes that one copy takes: {"unet": 15, "classifier": 3}


class Replayable(Protocol):
    """A base classifier that says whether its passes may be recorded and replayed, or compiled; none needs to.

    True promises that `predict` draws nothing from its noise, keeps nothing from one pass to the next, and neither
    waits for a CUDA device nor copies from the host.
    """

    replayable: bool


class Adjustable(Protocol):
    """A base classifier that can try another value of a setting without loading its networks twice; none needs to."""

    def adjusted(self, name: str, value: Scalar) -> BaseClassifier | None:
        """The same networks under that value of the setting; None where it takes a new build.

        Raises: BenchError for a value that these networks cannot have.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One setting of a method, part of what is measured."""

    name: str
    default: Scalar
    help: str
    choices: tuple[str, ...] = ()
    by_dataset: Mapping[str, Scalar] = field(default_factory=dict)  # defaults that differ by dataset
    untold: bool = False  # no checkpoint records it: its choices are tried on a few noisy images before a run
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """One training run: what, from what, to where."""

    method: str
    stage: str
    dataset: str
    data_root: Path | None
    class_order: ClassOrder | None = None  # of a dataset whose classes are in no published one
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
    declines: Callable[[str, tuple[int, int, int], int], str | None] = lambda _dataset, _shape, _classes: None
    # what a checkpoint tells of itself: role, {tensor name: shape}, {"arch": ...} -> params
    recognise: Callable[[str, Mapping[str, tuple[int, ...]], Mapping[str, Scalar]], Mapping[str, Scalar]] | None = None
    train: Mapping[str, Callable[[TrainRequest], Mapping[str, Any]]] = field(default_factory=dict)  # stage -> trainer
    # what it tells of itself in a paper's tables: "sizes", "pretraining", "augmentation" -> rows, by column
    facts: Mapping[str, Callable[[], Sequence[Mapping[str, Scalar]]]] = field(default_factory=dict)


# ---- what a dataset supplies -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image of a dataset, ready to be smoothed."""

    index: int  # position in the dataset
    pixels: np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W) in [0, 1]
    label: int
    fingerprint: str  # sha256 of shape and pixels: the image's identity across datasets, orders and storage


class Dataset(Protocol):
    """Labelled images in a fixed order."""

    name: str
    split: str
    shape: tuple[int, int, int]  # (C, H, W)
    num_classes: int
    class_names: tuple[str, ...]
    notes: tuple[str, ...]  # what a user should know of these images: "indices 0 to 1016 only"
    preprocessing: str  # "resize256-crop224"; part of what is measured: the l2 radius lives in these pixels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image: ...

    def label(self, index: int) -> int:
        """The true class, without decoding the image."""

    def digest(self, index: int) -> str:
        """sha256 of the image as stored, without decoding it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSource:
    """A dataset as a value: where it comes from and how it is opened."""

    name: str
    title: str
    cite: str
    default_subset: str  # the field's own: "skip:20" for CIFAR-10
    open: Callable[..., Dataset]  # (root, size, split), and the class order where it takes one
    num_classes: int | None = None  # known without opening it; None: depends on the folder
    shape: tuple[int, int, int] | None = None
    takes_class_order: bool = False
    side: Callable[[Path | None, str, int], int | None] | None = None  # (root, split, a method's wish): what to open at


# ---- what is measured, and how ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is measured. Equal specs are the same run: resumable, comparable."""

    method: str
    params: Mapping[str, Scalar]
    weights: Mapping[str, str]  # role -> sha256 of the file, or "random"
    dataset: str
    split: str
    subset: str  # canonical words: "skip:20"
    subset_fingerprint: str  # sha256 over index, label and stored image of each
    images: int
    shape: tuple[int, int, int]  # (C, H, W)
    preprocessing: str
    sigma: float  # l2, pixels in [0, 1]
    n0: int
    n: int
    alpha: float
    certifier: str  # "cohen": n samples an image; "sequential": up to n, a verdict at each of the radii
    seed: int
    precision: str  # fp32, tf32, bf16, fp16
    noise: str  # version of the noise source: other noise, other votes
    # Of a run that may stop before n, and registered before its first sample; empty where every image takes n.
    radii: tuple[float, ...] = ()  # l2, ascending: where there are verdicts, and nowhere between
    looks: tuple[int, ...] = ()  # samples after which an image may stop; the last is n
    alphas: tuple[float, ...] = ()  # sequential: what of alpha each look spends
    beta: float = 0.0  # sequential: the loss of power by giving up early
    mode: str = ""  # "table": of the true label, for certified accuracy alone; "deploy": of the selected class
    class_order: str = ""  # where it was to be chosen: "natural", "text" or "file:" and a hash of the names

    @property
    def stops(self) -> bool:
        """Whether an image may stop before n samples, so that its row holds verdicts at the radii only."""
        return bool(self.looks)

    def as_json(self) -> dict[str, Any]:
        """Plain values, tuples as lists; fields at their defaults are left out, so that digests outlive new fields."""
        record: dict[str, Any] = asdict(self)
        for own in fields(self):
            if own.default is not MISSING and record[own.name] == own.default:
                del record[own.name]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}

    def digest(self) -> str:
        """sha256 of the canonical JSON: the run's name everywhere."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def random_weights(self) -> bool:
        """Whether any network of the run has random weights; such a run measures cost, never accuracy."""
        return "random" in self.weights.values()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RunSpec:
        """The inverse of `as_json`."""
        channels, height, width = record["shape"]
        registered = {
            name: tuple(kind(value) for value in record[name])
            for name, kind in (("radii", float), ("looks", int), ("alphas", float))
            if name in record
        }
        return cls(**{**record, "shape": (int(channels), int(height), int(width)), **registered})


@dataclass(frozen=True, slots=True)
class Execution:
    """How it is measured; cannot change a vote."""

    devices: tuple[str, ...]  # local: one worker each; else what each worker has: "cpu", "cuda" or "auto"
    batch: int | None = None  # copies a forward pass; None: found by the run
    executor: str = LOCAL
    workers: int | None = None  # not local: how many; None: as many as there is room for
    options: tuple[str, ...] = ()  # slurm: "partition=gpu", as submitit names them
    compiled: bool = False  # passes by torch.compile, where that pays: as another device, it may tip a copy that ties


@dataclass(frozen=True, slots=True)
class Counts:
    """Votes per class of one stage; they add up over batches, processes and machines."""

    votes: tuple[tuple[int, int], ...]  # (class, votes), by class, none of them 0
    n: int

    def __post_init__(self) -> None:
        if sum(v for _, v in self.votes) != self.n:
            raise ValueError(f"votes {self.votes!r} do not add up to n={self.n}")
        if any(v <= 0 for _, v in self.votes) or [c for c, _ in self.votes] != sorted({c for c, _ in self.votes}):
            raise ValueError(f"votes must be positive and sorted by class, got {self.votes!r}")

    @classmethod
    def of(cls, votes: Sequence[tuple[int, int]] | Sequence[Sequence[int]]) -> Counts:
        """From (class, votes) pairs in any order."""
        pairs = tuple(sorted((int(c), int(v)) for c, v in votes if v))
        return cls(pairs, sum(v for _, v in pairs))

    def __add__(self, other: Counts) -> Counts:
        total = dict(self.votes)
        for c, v in other.votes:
            total[c] = total.get(c, 0) + v
        return Counts(tuple(sorted(total.items())), self.n + other.n)

    def __getitem__(self, label: int) -> int:
        return dict(self.votes).get(label, 0)

    def ranked(self) -> tuple[tuple[int, int], ...]:
        """(class, votes) from most to least; ties go to the lower class, as argmax does."""
        return tuple(sorted(self.votes, key=lambda cv: (-cv[1], cv[0])))


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a run: the votes, from which all else is computed."""

    index: int
    fingerprint: str  # of the pixels
    label: int
    selection: Counts
    estimation: Counts
    seconds: float  # its share of the passes that it was in
    looks: tuple[Counts, ...] = ()  # sequential: what each look added; they add up to the estimation
    stopped: str = ""  # why a draw of fixed size ended before n: WRONG or FORCED; "" where it did not

    @property
    def samples(self) -> int:
        """Noisy copies drawn, in both stages."""
        return self.selection.n + self.estimation.n

    def as_json(self) -> dict[str, Any]:
        """What a line of the store holds of it, before its seal."""
        record: dict[str, Any] = {
            "index": self.index,
            "fingerprint": self.fingerprint,
            "label": self.label,
            "selection": [list(cv) for cv in self.selection.votes],
            "estimation": [list(cv) for cv in self.estimation.votes],
            "seconds": self.seconds,
        }
        if self.looks:
            record["looks"] = [[list(cv) for cv in look.votes] for look in self.looks]
        if self.stopped:
            record["stopped"] = self.stopped
        return record

    def same_votes(self, other: Row) -> bool:
        """Whether two rows say the same of the same image; the time may differ."""
        return replace(self, seconds=0.0) == replace(other, seconds=0.0)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the certifier promises of one image: the smoothed label is constant within the open l2 ball."""

    label: int  # ABSTAIN where nothing is promised
    radius: float  # l2, pixels in [0, 1]; 0.0 where it abstains
    p_lower: float  # lower confidence bound on the selected class's probability

    @property
    def abstained(self) -> bool:
        """Whether it promises nothing."""
        return self.label == ABSTAIN

    def certifies(self, label: int, radius: float) -> bool:
        """Whether it counts as certified accurate there: right class, radius at least r (Cohen et al. 2019)."""
        return self.label == label and self.radius >= radius
