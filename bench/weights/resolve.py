"""A verified file of weights for each role of a method; the door through which methods and commands reach weights."""

from __future__ import annotations

import glob
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bench.types import Method, WeightsFile
from bench.types.errors import UsageError, WeightsError
from bench.types.suggest import IN_BRACKETS, closest
from bench.weights.cache import State, add, cache_dir, lies_here, locate, remove, verify
from bench.weights.catalogue import Entry, catalogue, config_dir, find, user_problems
from bench.weights.checkpoints import (
    Checkpoint,
    about,
    checkpoint_file,
    exists,
    inspect,
    load_tensors,
    read_checkpoint,
    sha256_of,
    sha256_of_list,
    with_key,
)
from bench.weights.user_catalogue import as_toml
from bench.weights.wrappers import shapes_of, strip_prefixes, under, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bench.types import Scalar

MEMBER = "{member}"

__all__ = [
    "Entry",
    "State",
    "about",
    "add",
    "as_toml",
    "cache_dir",
    "catalogue",
    "config_dir",
    "find",
    "identity",
    "inspect",
    "lies_here",
    "load_tensors",
    "read_checkpoint",
    "remove",
    "resolve",
    "said_by",
    "sha256_of",
    "strip_prefixes",
    "under",
    "unwrapped",
    "verify",
    "whereabouts",
]

# What a format of `{sigma:...}` may say: a width and a precision that fit a file's name.
_FORMAT = re.compile(r"[<>=^+\- #0]{0,4}\d{0,2}[,_]?(\.\d{1,2})?[eEfFgG]?")


def resolve(
    method: Method, dataset: str, sigma: float, given: Mapping[str, str], *, download: bool
) -> dict[str, WeightsFile]:
    """A verified file for each role of the method.

    `given` has paths or catalogue names by role; `{sigma}` in them becomes "0.25", `{sigma:g}` follows the format. A
    `#` and a key behind it choose among the networks of a file.
    `{member}` in the path of a role with many files stands for whatever differs in their names; they are taken in the
    order of it, numbers as numbers.
    Roles without one take the catalogue's default for (method, role, dataset, sigma): the user's before a package's,
    one for this very sigma before one for any.
    Raises: UsageError for a role that the method does not have, WeightsError for files that are missing or damaged.
    """
    roles = [role.name for role in method.roles]
    if unknown := [role for role in given if role not in roles]:
        raise UsageError(
            f"{method.name} has no weights for {unknown[0]!r}; its roles are: "
            f"{', '.join(roles) or 'none, it takes no weights'}"
        )
    entries = catalogue() if roles else ()
    files: dict[str, WeightsFile] = {}
    missing: dict[str, list[Entry]] = {}
    many = {role.name for role in method.roles if role.many}
    for role in roles:
        if role in given:
            text = with_sigma(given[role], sigma)
            if MEMBER in text and role not in many:
                raise UsageError(f"weights {role}={text!r}: {role!r} of {method.name} is one file; leave {MEMBER} out")
            if MEMBER in text:
                files[role] = _members(method, role, text)
            else:
                files[role] = _given(method, role, text, entries, download=download)
            continue
        if broken := user_problems(method.name, role, dataset):
            # Another file would take the place of the one that was meant, and only a hash would tell.
            raise WeightsError(f"weights for {role!r}: none given, and {broken[0]}; or give --weights {role}=PATH")
        known = _fitting(entries, method.name, role, dataset, sigma)
        chosen = _default(known, role)
        if chosen and (path := locate(chosen, download=download)):
            files[role] = _listed(chosen, role, path)
        else:
            missing[role] = known
    if missing:
        raise WeightsError(_missing(method, dataset, sigma, missing))
    return files


def identity(file: WeightsFile) -> str:
    """What stands for the file in a spec: its hash, and the key where one of several networks was chosen."""
    return f"{file.sha256}#{file.key}" if file.key else file.sha256


def with_sigma(text: str, sigma: float) -> str:
    """The text with `{sigma}` filled in, two decimals unless a format is given.

    Raises: UsageError for a format that numbers do not have, or one that would name another sigma.
    """

    def fill(hole: re.Match[str]) -> str:
        try:
            if not _FORMAT.fullmatch(hole[1] or ""):
                raise ValueError("no format of a file's name")
            shown = format(sigma, hole[1] or ".2f")
        except ValueError as problem:
            raise UsageError(
                f"weights {text!r}: {hole[0]!r} is no format of a number; write {{sigma}} or {{sigma:g}}"
            ) from problem
        if float(shown.strip().replace(",", "")) != sigma:  # 0.125 must not pick the file of 0.12
            full = "{sigma:g}" if float(f"{sigma:g}") == sigma else "{sigma:.17g}"
            raise UsageError(
                f"weights {text!r}: {hole[0]} writes sigma {sigma!r} as {shown!r}, which is the file of another sigma; "
                f"write {full}"
            )
        return shown

    return re.sub(r"\{sigma(?::([^{}]*))?\}", fill, text)


def _given(method: Method, role: str, text: str, entries: Sequence[Entry], *, download: bool) -> WeightsFile:
    path, key = with_key(Path(text).expanduser() if text.startswith("~/") else Path(text))
    if exists(path):
        return _unlisted(method, role, path, key, entries)
    name, _, key = text.partition("#")
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None:
        guess = closest(text, (entry.name for entry in entries), form=IN_BRACKETS)
        raise WeightsError(
            f"weights {role}={text!r}: expected a file, or a name in the catalogue, found neither{guess}; check the "
            "path, or see `rrcm-bench weights list`"
        )
    if entry.method == method.name and entry.role != role:
        raise UsageError(f"weights {role}={text!r}: these are for the role {entry.role!r}; give {entry.role}={text}")
    found = locate(entry, download=download)
    if found is None:
        raise WeightsError(f"weights {name!r}: not on this machine ({whereabouts(entry)}); give --weights {role}=PATH")
    return _listed(entry, role, found) if key in ("", entry.key or "") else _unlisted(method, role, found, key, ())


def _members(method: Method, role: str, text: str) -> WeightsFile:
    """All files that fit a path with `{member}`, as one."""
    before, _, after = text.partition(MEMBER)
    if MEMBER in after:
        raise UsageError(f"weights {role}={text!r}: expected {MEMBER} once; a second one would name another file")
    if before.startswith("~/"):
        before = str(Path(before).expanduser()) + ("/" if before.endswith("/") else "")
    found = _matching(before, after)
    key = ""
    if not found and "#" in after:
        after, _, key = after.rpartition("#")
        found = _matching(before, after)
    if not found:
        raise WeightsError(f"weights {role}={text!r}: expected files of that form, found none; check the path")
    order, notes = _in_order(f"weights {role}={text!r}", list(found))
    parts = tuple(checkpoint_file(Path(found[member])) for member in order)
    hashes = list(map(sha256_of, parts))
    repeated = {sha256 for sha256, times in Counter(hashes).items() if times > 1}
    if repeated:
        same = [member for member, sha256 in zip(order, hashes, strict=True) if sha256 in repeated]
        notes = (*notes, f"weights {role}: members {', '.join(same)} hold the same file more than once")
    shapes: dict[str, tuple[int, ...]] = {}
    told: list[Mapping[str, Scalar]] = []
    keys = set()
    for i, part in enumerate(parts):
        checkpoint = read_checkpoint(part, key)
        keys.add(checkpoint.key)
        told.append(checkpoint.meta)
        notes = (*notes, *checkpoint.notes)
        _check_normaliser(method, role, part.name, checkpoint)
        for name, shape in shapes_of(_bare(method, role, checkpoint, part.name, "0.")[0]).items():
            shapes[f"{i}.{name}"] = shape
    if len(keys) > 1:
        raise WeightsError(
            f"weights {role}={text!r}: the members' networks lie under {' and '.join(sorted(map(repr, keys)))}; give "
            "{member} files of one kind, or #KEY behind them"
        )
    own = {param.name for param in method.params}
    params = {k: v for k, v in told[0].items() if k in own and all(meta.get(k) == v for meta in told)}
    if method.recognise is not None:
        params.update(method.recognise(role, shapes, params))
    on = {str(meta.get("dataset", "")) for meta in told}
    return WeightsFile(
        role=role,
        path=parts[0],
        sha256=sha256_of_list(hashes),
        name=Path(text).name,
        params=params,
        parts=parts,
        trained_on=on.pop() if len(on) == 1 else "",
        key=keys.pop(),
        notes=tuple(dict.fromkeys(notes)),
    )


def _matching(before: str, after: str) -> dict[str, str]:
    """Paths of that form, by what stands between."""
    return {
        name[len(before) : len(name) - len(after)]: name
        for name in glob.glob(f"{glob.escape(before)}*{glob.escape(after)}")  # noqa: PTH207  Path.glob drops "./"
        if len(name) > len(before) + len(after)
    }


def _in_order(words: str, found: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The members in the order of their numbers; a checkpoint called best or last is none of them.

    Raises: UsageError for files without numbers, or two of one number.
    """
    numbers = [member for member in found if member.isascii() and member.isdecimal() and len(member) < 19]
    others = sorted(set(found) - set(numbers))
    if not numbers:
        raise UsageError(
            f"{words}: expected numbers in place of {MEMBER}, found {', '.join(map(repr, others[:4]))}; put {MEMBER} "
            "where the members' numbers stand"
        )
    order = sorted(numbers, key=int)
    for one, other in pairwise(order):
        if int(one) == int(other):
            raise UsageError(f"{words}: {one!r} and {other!r} are one number; move one of the files away")
    if not others:
        return order, ()
    return order, (f"{words}: {len(order)} numbered members; left out {', '.join(map(repr, others[:4]))}",)


def _listed(entry: Entry, role: str, path: Path) -> WeightsFile:
    assert entry.sha256 is not None  # noqa: S101  `locate` found it by its hash
    return WeightsFile(
        role=role,
        path=path,
        sha256=entry.sha256,
        name=entry.name,
        params=entry.params,
        trained_on=entry.dataset,
        key=entry.key or "",
    )


def _unlisted(method: Method, role: str, given: Path, key: str, entries: Sequence[Entry]) -> WeightsFile:
    """A given file: what the catalogue says of its hash, else what the file and its shapes say of themselves."""
    path = checkpoint_file(given)
    sha256 = sha256_of(path)
    own = {param.name for param in method.params}
    # Params are words of a method: those of another one count only where it is the same role in the same words.
    known = [
        e
        for e in entries
        if sha256 in (e.sha256, *e.also) and e.role == role and e.params.keys() <= own and (e.key or "") == key
    ]
    if known:
        entry = min(known, key=lambda e: e.method != method.name)
        return WeightsFile(
            role=role,
            path=path,
            sha256=sha256,
            name=entry.name,
            params=entry.params,
            trained_on=entry.dataset,
            key=key,
        )
    checkpoint = read_checkpoint(path, key, many=any(known.name == role and known.many for known in method.roles))
    params, notes = said_by(method, role, path.name, checkpoint)
    return WeightsFile(
        role=role,
        path=path,
        sha256=sha256,
        name=path.name,
        params=params,
        trained_on=str(checkpoint.meta.get("dataset", "")),
        key=checkpoint.key,
        notes=notes,
    )


def said_by(method: Method, role: str, name: str, checkpoint: Checkpoint) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """The method's settings that a checkpoint tells of, itself or by its shapes, and what a user should know of it.

    Raises: WeightsError for a normaliser that the method could not put in front of the network.
    """
    _check_normaliser(method, role, name, checkpoint)
    tensors, outside = _bare(method, role, checkpoint, name)
    own = {param.name for param in method.params}
    params = {key: value for key, value in checkpoint.meta.items() if key in own}
    if method.recognise is not None:
        params.update(method.recognise(role, shapes_of(tensors), checkpoint.meta))
    notes = checkpoint.notes
    if outside:
        listed = ", ".join(map(repr, outside[:3])) + (f" and {len(outside) - 3} more" if len(outside) > 3 else "")
        notes = (*notes, f"weights {name!r}: tensors outside of the network were left out: {listed}")
    return params, notes


def _bare(
    method: Method, role: str, checkpoint: Checkpoint, name: str, place: str = ""
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The tensors of the network that the method recognises, and the names that lie outside of it.

    `place` leads the names of one of several files, as the method knows them; a file with all of them stays as it is.
    """
    recognise = method.recognise
    if recognise is None or (not place and any(known.name == role and known.many for known in method.roles)):
        return strip_prefixes(checkpoint.tensors), ()

    def known(shapes: Mapping[str, tuple[int, ...]]) -> object:
        return recognise(role, {f"{place}{name}": shape for name, shape in shapes.items()}, checkpoint.meta)

    try:
        return unwrapped(checkpoint.tensors, known)
    except WeightsError as refusal:
        raise about(name, refusal) from refusal


def _check_normaliser(method: Method, role: str, name: str, checkpoint: Checkpoint) -> None:
    """Refuse to drop a layer that was part of the network, or to put it in front of another one."""
    fits = "normaliser" in {param.name for param in method.params} and role != "denoiser"
    if checkpoint.normaliser is not None and not fits:
        raise WeightsError(
            f"weights {name!r}: come with a normaliser, {checkpoint.normaliser}, which {method.name} has no place for "
            f"in front of its {role}; give the state dict of the network alone, if it was trained as {method.name} "
            "feeds it"
        )


def _fitting(entries: Sequence[Entry], method: str, role: str, dataset: str, sigma: float) -> list[Entry]:
    """What the catalogue has for that place, the best first."""
    place = (method, role, dataset)
    fitting = [e for e in entries if (e.method, e.role, e.dataset) == place and e.sigma in (None, sigma)]
    return sorted(fitting, key=_rank)


def _rank(entry: Entry) -> tuple[bool, bool]:
    return entry.folder != config_dir(), entry.sigma is None


def _default(known: Sequence[Entry], role: str) -> Entry | None:
    ready = [entry for entry in known if entry.default and entry.sha256]
    if len(ready) > 1 and _rank(ready[0]) == _rank(ready[1]):  # two packages; one catalogue cannot do that to itself
        raise WeightsError(
            f"weights for {role!r}: expected one default, {ready[0].name!r} and {ready[1].name!r} both claim to be it; "
            f"give --weights {role}=NAME"
        )
    return ready[0] if ready else None


def _missing(method: Method, dataset: str, sigma: float, missing: Mapping[str, Sequence[Entry]]) -> str:
    known = "; ".join(f"{e.name!r} ({whereabouts(e)})" for role in missing for e in missing[role])
    here = (
        "none is taken unless named" if any(lies_here(e) for role in missing for e in missing[role]) else "none is here"
    )
    ways = [" ".join(f"--weights {role}=PATH" for role in missing), "`rrcm-bench weights add`"]
    if method.train:
        ways.append(f"`rrcm-bench train {method.name}`")
    return (
        f"{method.name} on {dataset} at sigma {sigma:g} needs weights for {' and '.join(map(repr, missing))}, {here}; "
        f"known: {known or 'none'}; give {', or '.join(ways)}, or measure cost alone with --random-weights"
    )


def whereabouts(entry: Entry) -> str:
    """Whether the entry's file is on this machine, and how to get it where it is not."""
    if lies_here(entry):
        return "here" if entry.default else f"here, taken only by --weights {entry.role}={entry.name}"
    if entry.url and entry.sha256:
        return f"--download fetches {entry.url}"
    if entry.page or entry.url:
        return f"fetch it by hand, {entry.page or entry.url}"
    return "its file is gone" if entry.sha256 else "no address is known"
