"""A feature probe: accuracies of a linear layer by sigma and a distance along the trajectory, measured and kept.

The record of a probe is `features.json` in a folder of its own; what is measured so far lies beside it until then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.subset import subset_fingerprint
from bench.runs.execution.environment import environment
from bench.runs.representation.linear_probe import Head, ProbeSettings, fit_head
from bench.smoothing.noise import NOISE_VERSION, NoiseKey
from bench.types import Dataset, Representation
from bench.types.atomic_file import atomic_write
from bench.types.errors import StoreError

if TYPE_CHECKING:
    from torch import Tensor

RECORD, PARTIAL, HEAD = "features.json", "partial.json", "head.safetensors"
FORMAT = 1
BATCH = 256
_CLEAN, _PROBE, _TRAJECTORY = 0.0, "probe", "trajectory"  # stages of noise, none of which is the certifier's


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is measured, and on what."""

    method: str
    encoder: Representation
    train: Dataset
    test: Dataset
    dataset: str  # the name that records have
    subset: str  # of the test images
    indices: Sequence[int]  # of the test images
    sigmas: tuple[float, ...]
    settings: ProbeSettings
    seed: int
    device: str

    def spec(self) -> dict[str, Any]:
        """All that the numbers depend on, as plain values."""
        return {
            "method": self.method,
            "weights": self.encoder.sha256,
            "layer": self.encoder.layer,
            "trajectory": [self.encoder.cleanest, self.encoder.noisiest],
            "dataset": self.dataset,
            "preprocessing": self.test.preprocessing,
            "shape": list(self.test.shape),
            "train_images": len(self.train),
            "train_fingerprint": subset_fingerprint(self.train, range(len(self.train))),
            "subset": self.subset,
            "images": len(self.indices),
            "subset_fingerprint": subset_fingerprint(self.test, self.indices),
            "sigmas": list(self.sigmas),
            "probe": self.settings.as_json(),
            "seed": self.seed,
            "noise": NOISE_VERSION,
        }


def digest_of(spec: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_of(probe: Probe, out: Path) -> Path:
    """The folder of a probe: another one for other numbers."""
    return out / f"{_plain(probe.dataset)}-{_plain(probe.method)}-{digest_of(probe.spec())[:10]}"


def measure(
    probe: Probe, out: Path, *, training: Mapping[str, Any] | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure what is missing, and write the record; one that is there already is returned as it is.

    `training`: what the file of the network says of its making. Killed, the same call goes on after the last number
    that was written.
    Source: rRCM paper, Appendix D, Table 6; Li et al. 2023 (RCG) for the distance.
    Raises: StoreError where the folder holds something else, or cannot be written.
    """
    spec = probe.spec()
    folder, digest = folder_of(probe, out), digest_of(spec)
    if (folder / RECORD).exists():
        tell(f"it is there already: {folder / RECORD}")
        return _read(folder / RECORD, digest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = {"digest": digest, "accuracy": {}}
        if (folder / PARTIAL).exists():
            found = _read(folder / PARTIAL, digest)
        head = _head(probe, folder / HEAD, tell)
        for sigma in probe.sigmas:
            if f"{sigma:g}" not in found["accuracy"]:
                found["accuracy"][f"{sigma:g}"] = _accuracy(probe, head, sigma, tell)
                _write(folder / PARTIAL, found)
        if "rfd" not in found:
            found["rfd"] = _trajectory_distance(probe, tell)
            _write(folder / PARTIAL, found)
        record = {
            "format": FORMAT,
            "digest": digest,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "dataset": probe.dataset,
            "model": probe.encoder.title,
            "rfd": found["rfd"],
            "accuracy": found["accuracy"],
            "note": f"{probe.encoder.title}, {probe.dataset}: {len(probe.indices):,} test images, one draw of noise "
            f"each; head trained on {len(probe.train):,} clean images; features: {probe.encoder.layer}",
            "spec": spec,
            "training": training,
            "environment": environment((probe.device,), "fp32"),
        }
        _write(folder / RECORD, record)
        (folder / PARTIAL).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r}: {error.strerror}; give --out another folder") from error
    return record


def _head(probe: Probe, path: Path, tell: Callable[[str], None]) -> Head:
    """The trained layer, from its file where there is one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    if path.exists():
        try:
            tensors = load_file(path)
            return Head(tensors["weight"].to(probe.device), tensors["bias"].to(probe.device))
        except (SafetensorError, KeyError) as damage:
            raise StoreError(f"{str(path)!r} is no head of a probe ({damage}); delete it") from damage
    import torch

    parts = [
        (_features(probe, x, _CLEAN), labels)
        for x, labels, _ in _batches(probe.train, range(len(probe.train)), probe.device, "training set", tell)
    ]
    features, labels = torch.cat([part for part, _ in parts]), torch.cat([part for _, part in parts])
    tell(f"linear layer on {features.shape[1]} features, {probe.settings.epochs} epochs")
    head = fit_head(features, labels.to(probe.device), probe.test.num_classes, probe.settings, probe.seed)
    atomic_write(path, save({"weight": head.weight.cpu().contiguous(), "bias": head.bias.cpu().contiguous()}))
    return head


def _accuracy(probe: Probe, head: Head, sigma: float, tell: Callable[[str], None]) -> float:
    right = 0
    for x, labels, fingerprints in _batches(probe.test, probe.indices, probe.device, f"sigma {sigma:g}", tell):
        noisy = x + sigma * _noise(x, fingerprints, probe.seed, sigma, _PROBE) if sigma else x
        found = head.predict(_features(probe, noisy, sigma)).cpu()
        right += int((found == labels).sum())
    return right / len(probe.indices)


def _trajectory_distance(probe: Probe, tell: Callable[[str], None]) -> float | None:
    """Between features at the two ends of the noise trajectory of each image; None for fewer than two images."""
    import torch

    from bench.runs.representation.frechet import frechet_distance

    if len(probe.indices) < 2:
        return None
    ends: dict[float, list[Tensor]] = {probe.encoder.noisiest: [], probe.encoder.cleanest: []}
    for x, _, fingerprints in _batches(probe.test, probe.indices, probe.device, "trajectory", tell):
        eps = _noise(x, fingerprints, probe.seed, _CLEAN, _TRAJECTORY)  # one draw for both ends, as on a trajectory
        for sigma, parts in ends.items():
            parts.append(_features(probe, x + sigma * eps, sigma).cpu())
    noisy, clean = (torch.cat(parts).numpy() for parts in ends.values())
    return frechet_distance(noisy, clean)


def _features(probe: Probe, x: Tensor, sigma: float) -> Tensor:
    import torch

    with torch.no_grad():  # not inference_mode: the head is trained on these
        return probe.encoder.features(x, sigma)


def _noise(x: Tensor, fingerprints: Sequence[str], seed: int, sigma: float, stage: str) -> Tensor:
    """Standard normals, keyed by each image: order and batch move none."""
    import torch

    from bench.smoothing.philox import normals

    keys = [NoiseKey(seed, each, sigma, stage).philox("smoothing") for each in fingerprints]
    return torch.cat([normals(key, 0, 0, 1, tuple(x.shape[1:]), str(x.device)) for key in keys])


def _batches(
    dataset: Dataset, indices: Sequence[int], device: str, what: str, tell: Callable[[str], None]
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Pixels, labels and fingerprints of the images, a few at a time."""
    import numpy as np
    import torch

    tell(f"{what}: {len(indices):,} images")
    tenth = max(10, len(indices) // BATCH // 10)
    for k, first in enumerate(range(0, len(indices), BATCH)):
        if k and k % tenth == 0:
            tell(f"{what}: {first:,} of {len(indices):,}")
        images = [dataset[index] for index in indices[first : first + BATCH]]
        pixels = torch.from_numpy(np.stack([image.pixels for image in images])).to(device)
        yield pixels, torch.tensor([image.label for image in images]), [image.fingerprint for image in images]


def _read(path: Path, digest: str) -> dict[str, Any]:
    """A record of that probe.

    Raises: StoreError for anything else.
    """
    try:
        record = json.loads(path.read_bytes())
        fits = record["digest"] == digest and isinstance(record["accuracy"], dict)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as problem:
        raise StoreError(f"{str(path)!r} is no record of a probe: {problem!r}; delete it") from problem
    if not fits:
        raise StoreError(f"{str(path)!r} is of another probe than its folder says; delete it, or give --out another")
    found: dict[str, Any] = record
    return found


def _write(path: Path, record: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
