"""A log with what the user states of it, made ready to be stored; refused where its numbers would mislead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.certificate import check_samples
from bench.errors import DataError
from bench.logs.archive import Origin
from bench.logs.audit import Audited, audit
from bench.logs.grid import Sampling, infer, misfit
from bench.logs.records import Log, Precision, printed_radii
from bench.logs.subsets import subset_of

# Said by fields of the record, computed again on reading, or about other logs.
_ELSEWHERE = ("alpha", "sampling", "incomplete", "subset", "rounding", "duplicate", "images", "torn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the user says of logs that do not say it themselves; None: to be read off them."""

    method: str
    dataset: str | None = None
    sigma: float | None = None
    n: int | None = None
    alpha: float | None = None


def origin_of(audited: Audited, stated: Stated) -> Origin:
    """All that is known of a log, with how.

    What is stated is held against the radii: those that the stated sampling cannot give are refused.
    Raises: DataError where rows are missing or doubled, or where sigma, N, alpha or the dataset is not known.
    """
    log = audited.log
    where = repr(str(log.path))
    if log.torn:
        raise DataError(f"{where}: {log.torn}; delete that line to import the {len(log.rows)} rows before it")
    subset = subset_of(log, stated.dataset)
    if not subset.dataset:
        raise DataError(f"{where}: neither its path nor its labels tell the dataset; give --dataset")
    if subset.repeated:
        raise DataError(f"{where}: {subset.repeated} rows are of an image that came before; keep one row an image")
    if not log.rows or not any(row.certified for row in log.rows):
        raise DataError(f"{where}: no image is certified, so no N and alpha can be told from it; leave it out")
    sigma = stated.sigma if stated.sigma is not None else audited.sigma
    if sigma is None:
        raise DataError(f"{where}: neither its path nor its radii tell the noise level; give --sigma")
    sampling, by = _sampling(audited, sigma, stated)
    precision = Precision.of(printed_radii(log.rows))
    return Origin(
        source=str(log.path),
        sha256=log.sha256,
        layout=log.layout,
        method=stated.method,
        dataset=subset.dataset,
        split=subset.split,
        subset=subset.words,
        expected=subset.expected,
        order=subset.order,
        rows=len(log.rows),
        sigma=sigma,
        n=sampling.n,
        alpha=sampling.alpha,
        sigma_by="stated" if stated.sigma is not None else "path" if audited.sigma_in_path else "radii",
        sampling_by=by,
        significant=precision.significant,
        decimals=precision.decimals,
        findings=tuple(f.text for f in audited.findings if f.kind not in _ELSEWHERE),
    )


def _sampling(audited: Audited, sigma: float, stated: Stated) -> tuple[Sampling, str]:
    log = audited.log
    where = repr(str(log.path))
    reading = audited.reading if stated.sigma is None else infer(log.rows, sigma)
    if stated.n is None and stated.alpha is None and reading.sampling is not None:
        return reading.sampling, "radii"
    n, alpha = stated.n, stated.alpha
    if n is None or alpha is None:
        # One of the two pins the other where only one of the round pairs that fit has it.
        fits = [s for s in reading.fits if n in (None, s.n) and alpha in (None, s.alpha)]
        if len(fits) == 1 and (n is not None or alpha is not None):
            return fits[0], "radii"
        missing = " and ".join(f"--{name}" for name, value in (("n", n), ("alpha", alpha)) if value is None)
        hint = f" (fitting: {'; '.join(f'{s.n}, {s.alpha:g}' for s in reading.fits[:4])})" if reading.fits else ""
        raise DataError(
            f"{where}: its radii do not tell N and alpha, {reading.reason}{hint}; give {missing} of its certifier"
        )
    check_samples(1, n, alpha, sigma)
    sampling = Sampling(n, alpha, sigma)
    if reason := misfit(log.rows, sampling):
        told = reading.sampling
        hint = f"they say N={told.n}, alpha={told.alpha:g}" if told else "mend --n, --alpha or --sigma"
        raise DataError(f"{where}: {reason} n={n}, alpha={alpha:g}, sigma={sigma:g}; {hint}")
    return sampling, "stated"


def origins(logs: Sequence[Log], stated: Stated, radii_of: Callable[[str], tuple[float, ...]]) -> list[Origin]:
    """All that is known of each log; `radii_of`: the table's radii of a dataset, for what rounding may have moved.

    Raises: DataError as `origin_of`, for the first log that cannot be imported.
    """
    return [origin_of(each, stated) for each in audit(logs, radii_of).logs]
