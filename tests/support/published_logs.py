"""Published logs written by the tests, in every layout, from votes that are drawn here."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.certification.bounds import lower_bound
from bench.types import ABSTAIN

Row = tuple[int, int, int, float, float]  # index, label, predict, radius, seconds


def radius(votes: int, n: int, alpha: float, sigma: float) -> float | None:
    """The certified radius, by the certificate that measured runs have; None where it abstains."""
    from scipy.special import ndtri

    p = lower_bound(votes, n, alpha)
    return None if p < 0.5 else sigma * float(ndtri(p))


def simulated(
    images: int = 200,
    *,
    n: int = 10_000,
    alpha: float = 0.001,
    sigma: float = 0.5,
    seed: int = 0,
    step: int = 20,
    certain: float = 0.3,
    classes: int = 10,
) -> list[Row]:
    """Rows of simulated votes: a share of the images is certain, the others' probabilities spread up to 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(images):
        p = 1.0 if rng.random() < certain else 1.0 - 0.7 * rng.random() ** 3
        found = radius(int(rng.binomial(n, p)), n, alpha, sigma)
        label = int(rng.integers(classes))
        predict = label if rng.random() < 0.8 else (label + 1) % classes
        took = round(float(rng.uniform(1, 4000)), 6)
        rows.append((k * step, label, ABSTAIN, 0.0, took) if found is None else (k * step, label, predict, found, took))
    return rows


def clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=seconds))


def cohen(rows: list[Row], *, header: bool = True, time: Any = clock, form: str = "{:.3}") -> str:
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"] if header else []
    lines += [f"{i}\t{y}\t{p}\t{form.format(r)}\t{int(y == p)}\t{time(s)}" for i, y, p, r, s in rows]
    return "\n".join(lines) + "\n"


def cumulative(rows: list[Row]) -> str:
    lines, total = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"], 0
    for i, y, p, r, s in rows:
        total += y == p
        lines.append(f"{i}\t{y}\t{p}\t{r:.3}\t{total}\t{clock(s)}")
    return "\n".join(lines) + "\n"


def without_index(rows: list[Row]) -> str:
    return "".join(f"{y}\t{p}\t{r:.3}\t{int(y == p)}\t{clock(s)}\n" for _, y, p, r, s in rows)


def without_time(rows: list[Row], *, header: bool = True) -> str:
    lines = ["idx\tlabel\tpredict\tradius\tcorrect"] if header else []
    return "\n".join([*lines, *(f"{i}\t{y}\t{p}\t{r:.3}\t{int(y == p)}" for i, y, p, r, _ in rows)]) + "\n"


def true_or_false(rows: list[Row], *, header: bool = True) -> str:
    lines = ["idx\tlabel\tpredict\tradius\tcorrect_num\tcorrect\ttime"] if header else []
    total = 0
    for i, y, p, r, s in rows:
        total += y == p
        lines.append(f"{i}\t{y}\t{p}\t{r:.3}\t{total}\t{y == p}\t{clock(s)}")
    return "\n".join(lines) + "\n"


def ten_columns(rows: list[Row], *, header: bool = True) -> str:
    names = "idx\tlabel\tpredict\tradius\tr_neg\tcorrect\tpred_uc\tcorr_uc\tstage\ttime"
    lines = [names] if header else []
    lines += [f"{i}\t{y}\t{p}\t{r:.3}\t-1.25\t{int(y == p)}\t{y}\t1\t2\t{clock(s)}" for i, y, p, r, s in rows]
    return "\n".join(lines) + "\n"


def consensus(rows: list[Row]) -> str:
    names = "idx\tlabel\tpredict\tradius\tcorrect\ttime\tearly_stopping_ratio\tadditional_batches\testimated_pr"
    lines = [f"{i}\t{y}\t{p}\t{r:.3}\t{int(y == p)}\t{clock(s)}\t0.75\t3\t0.998" for i, y, p, r, s in rows]
    return "\n".join([names, *lines]) + "\n"


def adaptive(rows: list[Row], proved: float) -> str:
    names = "idx\tlabel\tpredict\tradius proved\tcorrect\tlevels_needed\testimated_pr\ttime"
    lines = [
        f"{i}\t{y}\t{max(p, 0)}\t{1 if r >= proved else -1}\t{int(y == p)}\t1\t0.9\t{clock(s)}"
        for i, y, p, r, s in rows
    ]
    return "\n".join([names, *lines]) + "\n"


def by_name(rows: list[Row]) -> str:
    return "".join(
        f"{i}\t{y == p}\t{r:.3f}\tclass {y}\t{'-1' if p == ABSTAIN else f'class {p}'}\n" for i, y, p, r, _ in rows
    )


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
