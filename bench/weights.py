"""A verified file of weights for each role of a method; the door through which methods and commands reach weights."""

from __future__ import annotations

import glob
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench.catalogue import Entry, as_toml, catalogue, closest, config_dir, find
from bench.checkpoints import checkpoint_file, exists, inspect, load_tensors, sha256_of, strip_prefixes
from bench.depot import State, add, cache_dir, locate, verify
from bench.errors import UsageError, WeightsError
from bench.types import Method, WeightsFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEMBER = "{member}"

__all__ = [
    "Entry",
    "State",
    "add",
    "as_toml",
    "cache_dir",
    "catalogue",
    "config_dir",
    "find",
    "inspect",
    "load_tensors",
    "resolve",
    "sha256_of",
    "strip_prefixes",
    "verify",
]


def resolve(
    method: Method, dataset: str, sigma: float, given: Mapping[str, str], *, download: bool
) -> dict[str, WeightsFile]:
    """A verified file for each role of the method.

    `given` has paths or catalogue names by role; `{sigma}` in them becomes "0.25", `{sigma:g}` follows the format.
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
        known = _fitting(entries, method.name, role, dataset, sigma)
        chosen = _default(known, role)
        if chosen and (path := locate(chosen, download=download)):
            files[role] = _listed(chosen, role, path)
        else:
            missing[role] = known
    if missing:
        raise WeightsError(_missing(method, dataset, sigma, missing))
    return files


def with_sigma(text: str, sigma: float) -> str:
    """The text with `{sigma}` filled in, two decimals unless a format is given.

    Raises: UsageError for a format that numbers do not have, or two decimals that would name another sigma.
    """

    def fill(hole: re.Match[str]) -> str:
        try:
            shown = format(sigma, hole[1] or ".2f")
        except ValueError as problem:
            raise UsageError(
                f"weights {text!r}: {hole[0]!r} is no format of a number; write {{sigma}} or {{sigma:g}}"
            ) from problem
        if not hole[1] and float(shown) != sigma:  # 0.125 must not pick the file of 0.12
            raise UsageError(
                f"weights {text!r}: sigma {sigma!r} has more than the two decimals of {{sigma}}; write {{sigma:g}}"
            )
        return shown

    return re.sub(r"\{sigma(?::([^{}]*))?\}", fill, text)


def _given(method: Method, role: str, text: str, entries: Sequence[Entry], *, download: bool) -> WeightsFile:
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if exists(path):
        return _unlisted(method, role, checkpoint_file(path), entries)
    entry = next((entry for entry in entries if entry.name == text), None)
    if entry is None:
        raise WeightsError(
            f"weights {role}={text!r}: expected a file, or a name in the catalogue, found neither"
            f"{closest(text, [entry.name for entry in entries])}; check the path, or see `rrcm-bench weights list`"
        )
    if entry.method == method.name and entry.role != role:
        raise UsageError(f"weights {role}={text!r}: these are for the role {entry.role!r}; give {entry.role}={text}")
    found = locate(entry, download=download)
    if found is None:
        raise WeightsError(f"weights {text!r}: not on this machine ({_whereabouts(entry)}); give --weights {role}=PATH")
    return _listed(entry, role, found)


def _members(method: Method, role: str, text: str) -> WeightsFile:
    """All files that fit a path with `{member}`, as one."""
    before, _, after = text.partition(MEMBER)
    if MEMBER in after:
        raise UsageError(f"weights {role}={text!r}: expected {MEMBER} once; a second one would name another file")
    if before.startswith("~/"):
        before = str(Path(before).expanduser()) + ("/" if before.endswith("/") else "")
    found = {
        name[len(before) : len(name) - len(after)]: name
        for name in glob.glob(f"{glob.escape(before)}*{glob.escape(after)}")  # noqa: PTH207  Path.glob drops "./"
    }
    if not found:
        raise WeightsError(f"weights {role}={text!r}: expected files of that form, found none; check the path")
    order = sorted(found, key=lambda member: (not member.isdecimal(), int(member) if member.isdecimal() else 0, member))
    parts = tuple(checkpoint_file(Path(found[member])) for member in order)
    shapes: dict[str, tuple[int, ...]] = {}
    told = []
    for i, part in enumerate(parts):
        tensors, meta = inspect(part)
        shapes |= {f"{i}.{name}": shape for name, shape in tensors.items()}
        told.append(meta)
    own = {param.name for param in method.params}
    params = {k: v for k, v in told[0].items() if k in own and all(meta.get(k) == v for meta in told)}
    if method.recognise is not None:
        params.update(method.recognise(role, shapes, params))
    sha256 = hashlib.sha256("\n".join(map(sha256_of, parts)).encode()).hexdigest()
    on = {str(meta.get("dataset", "")) for meta in told}
    return WeightsFile(
        role=role, path=parts[0], sha256=sha256, name=Path(text).name, params=params, parts=parts,
        trained_on=on.pop() if len(on) == 1 else "",
    )  # fmt: skip


def _listed(entry: Entry, role: str, path: Path) -> WeightsFile:
    assert entry.sha256 is not None  # noqa: S101  `locate` found it by its hash
    return WeightsFile(
        role=role, path=path, sha256=entry.sha256, name=entry.name, params=entry.params, trained_on=entry.dataset
    )


def _unlisted(method: Method, role: str, path: Path, entries: Sequence[Entry]) -> WeightsFile:
    """A given file: what the catalogue says of its hash, else what the file and its shapes say of themselves."""
    sha256 = sha256_of(path)
    own = {param.name for param in method.params}
    # Params are words of a method: those of another one count only where it is the same role in the same words.
    known = [e for e in entries if sha256 in (e.sha256, *e.also) and e.role == role and e.params.keys() <= own]
    if known:
        entry = min(known, key=lambda e: e.method != method.name)
        on = entry.dataset
        return WeightsFile(role=role, path=path, sha256=sha256, name=entry.name, params=entry.params, trained_on=on)
    shapes, meta = inspect(path)
    params = {key: value for key, value in meta.items() if key in own}
    if method.recognise is not None:
        params.update(method.recognise(role, shapes, meta))
    on = str(meta.get("dataset", ""))
    return WeightsFile(role=role, path=path, sha256=sha256, name=path.name, params=params, trained_on=on)


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
    known = "; ".join(f"{e.name!r} ({_whereabouts(e)})" for role in missing for e in missing[role])
    ways = [" ".join(f"--weights {role}=PATH" for role in missing), "`rrcm-bench weights add`"]
    if method.train:
        ways.append(f"`rrcm-bench train {method.name}`")
    return (
        f"{method.name} on {dataset} at sigma {sigma:g} needs weights for {' and '.join(map(repr, missing))}, none is "
        f"here; known: {known or 'none'}; give {', or '.join(ways)}, or measure cost alone with --random-weights"
    )


def _whereabouts(entry: Entry) -> str:
    if entry.url:
        return f"--download fetches {entry.url}"
    if entry.page:
        return f"fetch it by hand, {entry.page}"
    return "its file is gone"
