"""A log with what the user states of it, made ready to be stored; refused where its numbers would mislead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.certification.bounds import check_samples
from bench.published.logs.audit import Audited, audit_one
from bench.published.logs.infer_sampling import Radii, Sampling, beyond, misfit
from bench.published.logs.layouts import second_bound
from bench.published.logs.reading import each_log
from bench.published.logs.records import Log, NotALogError, Precision, printed_radii
from bench.published.logs.sampling import infer
from bench.published.logs.store import Origin, write
from bench.published.logs.subsets import Datasets, facts_of, subset_of
from bench.types.errors import DataError, SpecError
from bench.types.printable import printable

# Said by fields of the record, computed again on reading, or about other logs.
_ELSEWHERE = ("alpha", "sampling", "incomplete", "subset", "rounding", "torn", "unit")
_LARGEST_SIGMA = 10.0  # l2, pixels in [0, 1]: ten times the field's largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the user says of logs that do not say it themselves; None: to be read off them."""

    method: str | None = None  # None: the name of the path that was given
    dataset: str | None = None
    sigma: float | None = None
    n: int | None = None
    alpha: float | None = None


def import_logs(
    paths: Sequence[Path],
    stated: Stated,
    out: Path,
    datasets: Datasets,
    *,
    refused: dict[Path, str],
    others: dict[Path, str],
    radius: float | None = None,
) -> Iterator[tuple[Path, Origin]]:
    """The logs among files and in folders, each stored under `out` as soon as it is read: its folder and origin.

    One that cannot be imported stops no other: why is put into `refused`.
    Raises: StoreError where nothing can be written under `out`, DataError for a path that is not there.
    """
    for path in paths:
        own = replace(stated, method=stated.method or path.resolve().name)
        try:
            for log in each_log([path], radius, refused, others):
                try:
                    origin = origin_of(log, own, datasets)
                except (DataError, SpecError) as error:
                    refused[log.path] = str(error)
                else:
                    yield write(out, origin, log.rows), origin
        except NotALogError as error:
            refused[path] = str(error)


def origin_of(log: Log, stated: Stated, datasets: Datasets) -> Origin:
    """All that is known of a log, with how; `datasets`: what is known of each, by name.

    What is stated is held against the radii: those that the stated sampling cannot give are refused.
    Raises: DataError where rows are missing or doubled, where sigma, N, alpha or the dataset is not known, or where the
    radii are of another norm or unit.
    """
    audited = audit_one(log, datasets)
    where = repr(str(log.path))
    if log.torn:
        raise DataError(f"{where}: {log.torn}; fetch the whole log: the images after that line are missing too")
    subset = subset_of(log, datasets, stated.dataset)
    if subset.contrary:
        raise DataError(f"{where}: {subset.contrary}; give the --dataset that it is of")
    if not subset.dataset:
        raise DataError(f"{where}: neither its path nor its labels tell the dataset; give --dataset")
    if subset.repeated:
        raise DataError(
            f"{where}: {subset.repeated} rows are of an image that came before, as of two runs; give each its own file"
        )
    if not any(row.certified for row in log.rows) and None in (stated.n, stated.alpha):
        raise DataError(f"{where}: no image is certified, so its radii do not tell N and alpha; give --n and --alpha")
    sigma = stated.sigma if stated.sigma is not None else audited.sigma
    if sigma is None:
        raise DataError(f"{where}: neither its path nor its radii tell the noise level; give --sigma")
    if not 0 < sigma <= _LARGEST_SIGMA:
        raise DataError(
            f"{where}: sigma {sigma:g} is no noise level of pixels in [0, 1]; expected more than 0 and at most "
            f"{_LARGEST_SIGMA:g} (of 0 to 255: divide it, and the radii, by 255)"
        )
    if reason := beyond(Radii.of(log.rows), sigma):
        raise DataError(f"{where}: {reason}; give --sigma, or the log, in that unit")
    norm = next((f.text for f in audited.findings if f.kind == "norm"), "")
    if norm and audited.reading.sampling is None:
        raise DataError(f"{where}: {norm}; leave it out, or give it a path that does not say so")
    sampling, by = _sampling(log, audited, sigma, stated)
    # A path that names a dataset like a known one contradicts the user only where he names the known one.
    apart = () if facts_of(datasets, stated.dataset or "") else ("dataset",)
    findings = [f.text for f in audited.findings if f.kind not in (*_ELSEWHERE, *apart)]
    told = audited.reading.sampling
    if by == "stated" and told not in (None, sampling) and told.sigma == sigma:
        findings.append(
            f"N={sampling.n}, alpha={sampling.alpha:g} as stated can give its radii, but these say N={told.n}, "
            f"alpha={told.alpha:g}: {audited.reading.reason}"
        )
    precision = Precision.of(printed_radii(log.rows))
    return Origin(
        source=printable(str(log.path)),
        sha256=log.sha256,
        layout=log.layout,
        method=stated.method or log.path.stem,
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
        bound="papb" if second_bound(log.layout) else "pa",
        findings=tuple(findings),
    )


def _sampling(log: Log, audited: Audited, sigma: float, stated: Stated) -> tuple[Sampling, str]:
    where = repr(str(log.path))
    n, alpha = stated.n, stated.alpha
    reading = audited.reading
    if n is not None and alpha is not None:
        check_samples(1, n, alpha, sigma)
        sampling = Sampling(n, alpha, sigma)
        if second_bound(log.layout) or not (reason := misfit(Radii.of(log.rows), sampling)):
            return sampling, "stated"
        told = reading.sampling
        hint = f"they say N={told.n}, alpha={told.alpha:g}" if told else "mend --n, --alpha or --sigma"
        raise DataError(f"{where}: {reason} n={n}, alpha={alpha:g}, sigma={sigma:g}; {hint}")
    if not second_bound(log.layout) and (stated.sigma, n, alpha) != (None, None, None):
        reading = infer(log.rows, sigma, n, alpha)
    if reading.sampling is not None:
        return reading.sampling, "radii"
    missing = " and ".join(f"--{name}" for name, value in (("n", n), ("alpha", alpha)) if value is None)
    hint = f" (fitting: {'; '.join(f'{s.n}, {s.alpha:g}' for s in reading.fits[:4])})" if reading.fits else ""
    raise DataError(
        f"{where}: its radii do not tell N and alpha, {reading.reason}{hint}; give {missing} of its certifier"
    )
