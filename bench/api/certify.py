"""`certify` and `predict` for any callable: the same noise, votes and bounds as a run of the command line has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any

from bench.api.certificates import Certificates, certificate_of
from bench.api.classifier import as_classifier, device_of
from bench.api.images import UNKNOWN, Images
from bench.api.progress import shown
from bench.certification.bounds import check_samples
from bench.certification.bounds import predict as decide
from bench.certification.stopping_rule import BETA, CERTIFIERS, is_sequential, register
from bench.runs.batch_size import auto_batch
from bench.runs.batcher import Batcher
from bench.runs.execution.cuda_graphs import replayed
from bench.runs.execution.environment import check_precision, parse_devices, ready_process
from bench.smoothing.noise import NOISE_VERSION
from bench.types import ABSTAIN, RADII, Counts, Row, RunSpec
from bench.types.errors import DataError, SpecError
from bench.types.limits import SAMPLES, check_seed, check_within

if TYPE_CHECKING:
    import pandas as pd


def certify(
    model: Any,
    x: Any,
    sigma: float = 0.5,
    n: int = 100_000,
    alpha: float = 0.001,
    n0: int = 100,
    batch: int | None = None,
    device: Any = None,
    certifier: str = "cohen",
    seed: int = 0,
    *,
    radii: Sequence[float] = RADII,
    precision: str = "fp32",
    progress: bool = True,
) -> Certificates:
    """Certified classes and l2 radii of images under a smoothed model.

    Noise is keyed by (seed, pixels, sigma, copy): neither batch, device nor the other images move a vote, and the
    command line counts the same votes on the same pixels.

    Args:
        model: any callable from float32 pixels (B, C, H, W), noisy and so not confined to [0, 1], to logits (B, K) or
            labels (B,), in eval mode; its normaliser belongs inside. Or what a `bench.types.Method` builds.
        x: one image (C, H, W), a batch (B, C, H, W), or a DataLoader of batches x or (x, y); float, within [0, 1].
        sigma: standard deviation of the noise, l2, in pixels of [0, 1].
        n: copies that each bound is estimated from.
        alpha: probability, per image, that its certificate does not hold.
        n0: copies that choose the class.
        batch: copies a forward pass; None finds one that is fast.
        device: "cpu", "cuda:0"; None: where the model's parameters are.
        certifier: "cohen", "randomised": n copies an image; "sequential" and others stop an image once its verdicts at
            `radii` are decided.
        seed: of the noise.
        radii: l2, ascending; of the sequential certifier, whose radius is the largest of them that is certified.
        precision: arithmetic of the passes: fp32, tf32, bf16, fp16.
        progress: whether to show it, on stderr.

    Raises: BenchError, one line, for what cannot be certified as asked.
    """
    if certifier not in CERTIFIERS:
        raise SpecError(f"no certifier {certifier!r}; expected one of: {', '.join(CERTIFIERS)}")
    n, n0 = _whole("n", n), _whole("n0", n0)
    check_samples(n0, n, alpha, sigma)
    spec = _spec(sigma=sigma, n=n, n0=n0, alpha=alpha, certifier=certifier, seed=seed, precision=precision)
    if is_sequential(certifier):
        made = register(certifier, sigma=sigma, radii=tuple(radii), n=n, alpha=alpha, beta=BETA, mode="deploy")
        spec = replace(spec, **{own.name: getattr(made, own.name) for own in fields(made)})
    spec, rows = _rows(model, x, spec, batch, device, progress=progress)
    return Certificates(tuple(certificate_of(spec, row) for row in rows), spec)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The smoothed model's class of one image."""

    index: int  # among those given, from 0
    label: int  # -1 where it abstains
    counts: Counts  # votes of the n copies
    target: int | None  # the true class, where it was given

    @property
    def abstained(self) -> bool:
        """Whether no class is told."""
        return self.label == ABSTAIN


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions in the order of the images."""

    items: tuple[Prediction, ...]
    spec: RunSpec

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.items)

    @property
    def label(self) -> list[int]:
        """The class of each image; -1 where it abstains."""
        return [item.label for item in self.items]

    def to_pandas(self) -> pd.DataFrame:
        """One row an image: index, label, counts as {class: votes}, target, abstained."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "index": [item.index for item in self.items],
                "label": self.label,
                "counts": [dict(item.counts.votes) for item in self.items],
                "target": pd.array([item.target for item in self.items], dtype="Int64"),
                "abstained": [item.abstained for item in self.items],
            }
        )
        frame.attrs = {name: getattr(self.spec, name) for name in ("sigma", "n", "alpha", "seed", "precision")}
        return frame


def predict(
    model: Any,
    x: Any,
    sigma: float = 0.5,
    n: int = 1_000,
    alpha: float = 0.001,
    batch: int | None = None,
    device: Any = None,
    seed: int = 0,
    *,
    precision: str = "fp32",
    progress: bool = True,
) -> Predictions:
    """Classes of images under a smoothed model, without a radius (Cohen et al. 2019, PREDICT).

    Each is wrong with probability at most alpha. The copies are the first n that `certify` estimates from.
    Arguments, Raises: as `certify`.
    """
    n = _whole("n", n)
    check_samples(1, n, alpha, sigma)
    spec = _spec(sigma=sigma, n=n, n0=0, alpha=alpha, certifier="cohen", seed=seed, precision=precision)
    spec, rows = _rows(model, x, spec, batch, device, progress=progress)
    return Predictions(
        tuple(
            Prediction(
                row.index,
                decide(row.estimation, alpha=alpha),
                row.estimation,
                None if row.label == UNKNOWN else row.label,
            )
            for row in rows
        ),
        spec,
    )


def _whole(what: str, value: Any) -> int:
    """A whole number, also as 1e5.

    Raises: SpecError.
    """
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool):
        raise SpecError(f"{what} must be a whole number, got {value!r}; for example 100_000 or 1e5")
    return int(value)


def _spec(*, sigma: float, n: int, n0: int, alpha: float, certifier: str, seed: int, precision: str) -> RunSpec:
    check_seed(seed)
    check_precision(precision)
    return RunSpec(
        method="callable",
        params={},
        weights={},
        dataset="pixels",
        split="none",
        subset="all",
        subset_fingerprint="",
        images=0,
        shape=(0, 0, 0),
        preprocessing="none",
        sigma=float(sigma),
        n0=n0,
        n=n,
        alpha=alpha,
        certifier=certifier,
        seed=seed,
        precision=precision,
        noise=NOISE_VERSION,
    )


def _rows(
    model: Any, x: Any, spec: RunSpec, batch: int | None, device: Any, *, progress: bool
) -> tuple[RunSpec, list[Row]]:
    """The rows of all images, in their order, and the spec with their number and shape."""
    check_within("batch", batch, 1, SAMPLES)
    classifier = as_classifier(model)
    place = parse_devices(device_of(classifier, device))[0]
    images = Images(x)
    waiting = iter(images)
    first = next(waiting, None)
    if first is None or images.shape is None:
        raise DataError("no image was given; expected at least one")
    spec = replace(spec, shape=images.shape)
    with _settings(spec.precision):
        copies = batch or auto_batch(spec, classifier, place)
        batcher = Batcher(spec=spec, classifier=replayed(classifier, place), device=place, batch=copies)
        rows = sorted(
            shown(batcher.rows(chain([first], waiting)), len(images), progress=progress), key=lambda row: row.index
        )
    return replace(spec, images=len(rows)), rows


@contextmanager
def _settings(precision: str) -> Iterator[None]:
    """The arithmetic and threads of a run, and those of the caller afterwards."""
    import torch

    cudnn: Any = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, torch.get_num_threads()
    try:
        ready_process(precision)
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]
        torch.set_num_threads(before[2])
