"""The page's first lines: in words, which method is ahead of which, by paired tests on common images; no layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.report import units
from bench.report.envelope import Envelope, envelope, in_common
from bench.report.figures.method_looks import EMPHASISED
from bench.report.grouping import Group, Variant, variants
from bench.report.hypothesis_tests import LEVEL, Discordance, holm, mcnemar
from bench.report.method_titles import printed
from bench.report.per_image import common, of_run
from bench.types.errors import ReportError

_BASELINE = "gaussian"
_STEPS = (0.001, 0.01, 0.05)  # that a p-value is said to lie below


@dataclass(frozen=True, slots=True)
class Difference:
    """Two methods at one radius, each at its best sigma there."""

    radius: float
    points: float  # accuracy of the first minus that of the second, on common images, as a fraction
    p: float  # exact McNemar, corrected by Holm over all that the summary tests


def summary(group: Group) -> tuple[str, ...]:
    """One sentence a comparison: rRCM, or else the method that is best on average, against Gaussian and the best other.

    Each at its best sigma per radius; random weights, and methods without common images, are not compared.
    """
    known = [(each, _best(group, each)) for each in variants(group) if not each.random_weights]
    ranked = sorted(((v, best) for v, best in known if best), key=lambda pair: -_mean(pair[1]))
    if len(ranked) < 2:
        return ()
    # The best of its variants where there are several.
    subject = next((pair for pair in ranked if _method(pair[0]) == EMPHASISED), ranked[0])
    others = [pair for pair in ranked if pair[0] is not subject[0]]
    baseline = next((pair for pair in others if _method(pair[0]) == _BASELINE), others[0])
    rivals = [baseline] if baseline is others[0] else [baseline, others[0]]
    tested = [differences(group, subject[1], best) for _, best in rivals]
    # One family: a reader takes in all that the summary says at once.
    corrected = iter(holm([each.p for own in tested for each in own]))
    said = []
    for (variant, _), own in zip(rivals, tested, strict=True):
        final = [Difference(each.radius, each.points, next(corrected)) for each in own]
        if final:
            said.append(sentence(_title(subject[0]), _title(variant), final))
    return tuple(said)


def differences(group: Group, first: Envelope, second: Envelope) -> tuple[Difference, ...]:
    """At each radius at which either certifies any image, on the images that both have; p-values as they come.

    Raises: ReportError as `certified_accuracy`.
    """
    found = []
    for one, two in zip(first.best, second.best, strict=True):
        a, b = (of_run(best.run, (best.radius,), group.bound, group.alpha) for best in (one, two))
        shared = common(a, b)
        pair = Discordance.of(*([each.by_image[key].certified[0] for key in shared] for each in (a, b)))
        if pair.both + pair.only_a + pair.only_b:
            found.append(Difference(one.radius, pair.difference, mcnemar(pair)))
    return tuple(found)


def sentence(first: str, second: str, found: Sequence[Difference]) -> str:
    """What corrected differences say: "rRCM is ahead of Gaussian at r = 0.25..0.75 by 3.0 to 5.0 points (p < 0.01)"."""
    ahead = [each for each in found if each.p <= LEVEL and each.points > 0]
    behind = [each for each in found if each.p <= LEVEL and each.points < 0]
    parts = [
        f"{word} {second} at r = {_spans(own, found)} by {_points(own)} points ({_below(max(each.p for each in own))})"
        for word, own in (("ahead of", ahead), ("behind", behind))
        if own
    ]
    if not parts:
        least, most = min(each.points for each in found), max(each.points for each in found)
        return (
            f"{first} and {second}: no significant difference at r = {_spans(found, found)} "
            f"({100 * least:+.1f} to {100 * most:+.1f} points)"
        )
    rest = [each for each in found if each.p > LEVEL]
    tail = f"; no significant difference at r = {_spans(rest, found)}" if rest else ""
    return f"{first} is {' and '.join(parts)}{tail}"


def _spans(own: Sequence[Difference], all_of: Sequence[Difference]) -> str:
    """Neighbouring radii as one span: "0.00, 0.50..1.00"."""
    texts = dict(zip([each.radius for each in all_of], units.grid([each.radius for each in all_of]), strict=True))
    chosen = {each.radius for each in own}
    words = []
    for kept, span in groupby(texts, key=lambda radius: radius in chosen):
        ends = [texts[radius] for radius in span]
        if kept:
            words.append(ends[0] if len(ends) == 1 else f"{ends[0]}..{ends[-1]}")
    return ", ".join(words)


def _points(own: Sequence[Difference]) -> str:
    least, most = (f"{100 * end(abs(each.points) for each in own):.1f}" for end in (min, max))
    return least if least == most else f"{least} to {most}"


def _below(p: float) -> str:
    return next((f"p < {step:g}" for step in _STEPS if p < step), f"p = {p:.2g}")


def _best(group: Group, variant: Variant) -> Envelope | None:
    if not in_common(variant.runs)[1]:
        return None
    try:
        return envelope(variant.runs, group.radii, group.bound, group.alpha)
    except ReportError:  # runs that may not compete with each other are compared by nothing here
        return None


def _mean(best: Envelope) -> float:
    return sum(each.certified for each in best.best) / best.images


def _method(variant: Variant) -> str:
    return variant.runs[0].spec.method


def _title(variant: Variant) -> str:
    return printed(variant.title, _method(variant))
