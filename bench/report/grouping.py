"""Which runs may stand in one table, and what each is called there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.certification.bounds import off_scale
from bench.certification.stopping_rule import RANDOMISED
from bench.report import units
from bench.report.accuracy import digest, name, table_radii
from bench.runs import registry
from bench.runs.origin import origin_words
from bench.runs.store import Run
from bench.types import RunSpec
from bench.types.errors import BenchError, ReportError

# Facts of a training that no title names: they follow from its settings, or are no words.
_FOLLOWS = ("numbers", "of_steps", "tuned of_steps", "images", "tuned images")
# What a bound assumes of the runner-up; the two are never mixed.
BOUND_WORDS = {"pa": "bound pa (p_B = 1 - p_A)", "papb": "bound papb (p_A and p_B at alpha/2 each)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs on the same images, in the same pixels, with the same n, alpha and bound."""

    runs: tuple[Run, ...]  # by method, then sigma
    alpha: float
    bound: str
    notes: tuple[str, ...] = ()  # on runs found twice, edited or topped up, rows without a seal, other lengths

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.runs[0].spec.dataset

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii of its tables."""
        return table_radii(self.runs[0])

    def caption(self) -> str:
        """All that the numbers depend on and that the rows share."""
        spec = self.runs[0].spec
        size = "x".join(str(side) for side in spec.shape)
        images = f"{units.count(spec.images)} images, fingerprint {spec.subset_fingerprint[:10]}"
        return "; ".join(
            (
                f"{spec.dataset} {spec.split}, subset {spec.subset} ({images})",
                f"{size} pixels in [0, 1], preprocessing {spec.preprocessing}",
                *([f"classes in order {spec.class_order}"] if spec.class_order else []),
                *_normalisers(self.runs),
                f"N={units.count(spec.n)}" if not spec.stops else f"N<={units.count(spec.n)}",
                f"n0={_all(units.count(r.spec.n0) for r in self.runs)}",
                f"alpha={units.level(self.alpha)}",
                BOUND_WORDS[self.bound],
                *_stopping(spec),
                f"precision {_all(r.spec.precision for r in self.runs)}",
            )
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """One method with one set of parameters, over its noise levels."""

    title: str
    runs: tuple[Run, ...]  # by sigma

    @property
    def random_weights(self) -> bool:
        """Whether its networks were never trained."""
        return self.runs[0].spec.random_weights


def groups(runs: Sequence[Run], bound: str, alpha: float | None = None) -> tuple[Group, ...]:
    """The runs split so that each group may stand in one table.

    Raises: ReportError where one index stands for two images within a group.
    """
    notes: dict[str, str] = {}
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda r: (-len(r.rows), str(r.path))):
        key = run.spec.digest()
        if key in found:
            notes[key] = f"{name(run)} was found in more than one folder; the one with the most images is shown"
        found.setdefault(key, run)
    split: dict[tuple[object, ...], list[Run]] = {}
    for run in sorted(found.values(), key=lambda r: (r.spec.method, r.spec.sigma, digest(r))):
        spec = run.spec
        key_of_group = (
            *(spec.dataset, spec.split, spec.subset_fingerprint, spec.shape, spec.preprocessing),
            *(spec.n, spec.alpha if alpha is None else alpha, bound),
            *(spec.certifier, spec.mode, spec.radii),
        )
        split.setdefault(key_of_group, []).append(run)
    made = []
    for members in split.values():
        _check_images(members)
        level = members[0].spec.alpha if alpha is None else alpha
        own = [notes[r.spec.digest()] for r in members if r.spec.digest() in notes]
        own += [
            f"! {name(r)}: {r.unsealed} of {len(r.rows)} rows have no seal, a change in them would not be noticed"
            for r in members
            if 0 < r.unsealed < len(r.rows)
        ]
        own += [line for r in members for line in history(r)]
        own += [f"! {line}" for line in off_scale((r.spec.sigma for r in members), members[0].spec.radii)]
        made.append(Group(runs=tuple(members), alpha=level, bound=bound, notes=tuple(own)))
    return tuple(sorted(made, key=lambda g: (g.dataset, -len(g.runs))))


def history(run: Run) -> list[str]:
    """What a reader of a run's numbers must know of how it came to be: it was edited, or has votes of other runs."""
    said = [f"! {name(run)} was edited after it was drawn: {run.edited}"] if run.edited else []
    return said + ([f"{name(run)}: {origin_words(run.made_from)}"] if run.made_from else [])


def remarks(run: Run) -> list[str]:
    """A run's history, and that it is not whole or was never trained."""
    said = history(run)
    if not run.done:
        said.append(f"! {name(run)} is incomplete: {len(run.rows)} of {run.spec.images} images")
    if run.spec.random_weights:
        said.append(f"! {name(run)} has random weights: never trained, its accuracies mean nothing")
    return said


def variants(group: Group) -> tuple[Variant, ...]:
    """The group's methods, apart where they differ in more than sigma and weights; titles say in what.

    Where several have one noise level, weights that are known to be trained otherwise tell them apart too.
    """
    settings = [_settings(run) for run in group.runs]
    kinds: dict[tuple[str, bool, frozenset[tuple[str, str]]], list[Run]] = {}
    for run, setting in zip(group.runs, settings, strict=True):
        key = (run.spec.method, run.spec.random_weights, frozenset(setting.items()))
        kinds.setdefault(key, []).append(run)
    made = []
    for (method, random, own), members in kinds.items():
        siblings = [s for r, s in zip(group.runs, settings, strict=True) if r.spec.method == method]
        # Only what tells siblings apart: a title with every parameter would be read by nobody.
        words = [
            f"{key} {value}"
            for key, value in sorted(own)
            if len({s.get(key) for s in siblings}) > 1 or (key == "precision" and len({s[key] for s in settings}) > 1)
        ]
        for trained, alike in _by_training(members).items():
            all_words = [*words, *trained]
            title = f"{method} ({', '.join(all_words)})" if all_words else method
            title = f"{title} (random weights)" if random else title
            edited = any(run.edited for run in alike)  # in every table, format and legend
            made.append(Variant(f"{title} (edited)" if edited else title, tuple(alike)))
    return tuple(made)


def _by_training(runs: Sequence[Run]) -> dict[tuple[str, ...], list[Run]]:
    """Runs by words for what their trainings differ in at one noise level; all of them together where nothing does."""
    by_sigma: dict[float, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run.training is not None:
            by_sigma.setdefault(run.spec.sigma, []).append(run.training)
    differing: dict[str, None] = {}  # in the order of the settings
    for twins in by_sigma.values():
        for key in dict.fromkeys(key for own in twins for key in own):
            if key not in _FOLLOWS and len({str(own.get(key)) for own in twins}) > 1:
                differing[key] = None
    # What more than half have goes without saying, unless a run that nothing is known of would seem to have it too.
    usual: dict[str, str] = {}
    if all(run.training is not None for run in runs):
        for key in differing:
            value, count = Counter(str((run.training or {}).get(key)) for run in runs).most_common(1)[0]
            usual |= {key: value} if 2 * count > len(runs) else {}
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        own = run.training or {}
        words = tuple(
            setting_words(key, own.get(key))
            for key in differing
            if own and str(own.get(key)) != usual.get(key) and (own.get(key, "") != "" or key in usual)
        )
        found.setdefault(words, []).append(run)
    return found


def setting_words(key: str, value: Any) -> str:
    """A setting of a training, in few words; its seed is not the run's."""
    name = key.replace("seed", "training seed") if key.rpartition(" ")[2] == "seed" else key
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def _settings(run: Run) -> dict[str, str]:
    spec = run.spec
    own = {key: str(value) for key, value in spec.params.items()}
    return own | {"precision": spec.precision, "n0": str(spec.n0), "seed": str(spec.seed), "noise": spec.noise}


def _check_images(runs: Sequence[Run]) -> None:
    seen: dict[int, tuple[str, int, Run]] = {}
    for run in runs:
        for row in run.rows:
            fingerprint, label, first = seen.setdefault(row.index, (row.fingerprint, row.label, run))
            if (fingerprint, label) != (row.fingerprint, row.label):
                raise ReportError(
                    f"image {row.index} has other pixels or another label in {name(run)} than in {name(first)}, "
                    "though both name the same subset; certify one of them again"
                )


def _stopping(spec: RunSpec) -> tuple[str, ...]:
    """How images of a run may end before N, or by which other bound they are read; nothing for the field's own."""
    if spec.certifier == RANDOMISED:
        return ("certifier randomised: one uniform number an image, of its seed",)
    if not spec.stops:
        return ()
    rule = "stopped once settled" if spec.certifier == "cohen" else f"{spec.certifier}, {len(spec.looks)} looks"
    return (f"certifier {rule}", f"mode {spec.mode}")


def _normalisers(runs: Iterable[Run]) -> tuple[str, ...]:
    """The scales that the classifiers were given, by name and in numbers; with their methods where they differ."""
    by_method: dict[str, set[str]] = {}
    for run in runs:
        if "normaliser" in run.spec.params:
            by_method.setdefault(run.spec.method, set()).add(_normaliser(run.spec))
    words = {method: " and ".join(sorted(own)) for method, own in by_method.items()}
    if len(set(words.values())) <= 1:
        return tuple(f"normaliser {own}" for own in set(words.values()))
    of: dict[str, list[str]] = {}
    for method, own in sorted(words.items()):
        of.setdefault(own, []).append(method)
    return ("normalisers " + ", ".join(f"{own} ({', '.join(methods)})" for own, methods in of.items()),)


def _normaliser(spec: RunSpec) -> str:
    own = str(spec.params["normaliser"])
    if spec.method not in registry.method_names():  # a stranger's file, which a report does not run
        return own
    param = next((p for p in registry.method(spec.method).params if p.name == "normaliser" and p.meaning), None)
    try:
        numbers = param.meaning(spec.params, spec.dataset) if param and param.meaning else own
    except (BenchError, LookupError):  # settings of another version
        return own
    return own if numbers == own else f"{own} = {numbers}"


def _all(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))
