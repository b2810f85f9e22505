"""A run's specification (what is measured) and its execution (how; it moves no noise)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from bench.types.classifier import Scalar

COMPILE = AUTO, ALWAYS, NEVER = ("auto", "always", "never")
EXECUTORS = LOCAL, RAY, SLURM = ("local", "ray", "slurm")  # who computes: this machine, a Ray cluster, a Slurm queue


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
    certifier: str  # "cohen", "randomised": n samples an image; others: up to n, a verdict at each of the radii
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
    """How it is measured; moves no noise, and no vote but of a copy that ties, where arithmetic rounds otherwise."""

    devices: tuple[str, ...]  # local: one worker each; else what each worker has: "cpu", "cuda" or "auto"
    batch: int | None = None  # copies a forward pass; None: found by the run
    executor: str = LOCAL
    workers: int | None = None  # not local: how many; None: as many as there is room for
    options: tuple[str, ...] = ()  # slurm: "partition=gpu", as submitit names them
    compile: str = AUTO  # full passes by torch.compile: it rounds as another device does, and may tip a copy that ties
