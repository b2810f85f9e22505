"""Names of tensors out from under what their network was wrapped in: parallelism, compilers, trainers, normalisers.

Works on names and shapes; the tensors go along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.types.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

PREFIXES = ("1.", "module.")  # Sequential(normalise, network), and DataParallel in either order
# What libraries put between any two parts of a name: torch.compile, FSDP, activation checkpointing, Lightning Fabric.
_BETWEEN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_AVERAGED = re.compile(r"(^|_)(ema|swa|averaged|polyak)(_|$)")
_TIMES = "n_averaged"  # torch.optim.swa_utils.AveragedModel counts beside `module.*`
# Under these a trainer or an evaluation wrapper keeps its network, and other things beside it.
HOLDERS = ("model", "net", "network", "module", "classifier", "backbone", "encoder", "student", "teacher", "base_model",
           "ema", "ema_model", "model_ema", "wrapped_model", "_model", "0", "1")  # fmt: skip
_DEEPEST = 4
_COUNTS = ("total_ops", "total_params")  # thop's, of each module

MEANS = {"mean": "std", "mu": "sigma", "new_mean": "new_std", "means": "stds", "_mean": "_std"}

Shapes = Mapping[str, tuple[int, ...]]


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names without the wrappers `1.` and `module.`, each taken off while every name carries it."""
    names = list(state)
    while prefix := next((p for p in PREFIXES if names and all(n.startswith(p) and n != p for n in names)), None):
        names = [name[len(prefix) :] for name in names]
    return dict(zip(names, state.values(), strict=True))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def tidied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what compilers, averaging and counts of operations put among the names.

    Raises: WeightsError where two names become one.
    """
    made = {".".join(part for part in name.split(".") if part not in _BETWEEN): value for name, value in state.items()}
    if len(made) < len(state):
        raise WeightsError("two tensors have one name without those of compilers; save the plain module's state dict")
    others = [name for name in made if name != _TIMES]
    if _TIMES in made and others and all(name.startswith("module.") for name in others):
        del made[_TIMES]
    return {name: value for name, value in made.items() if name.rpartition(".")[2] not in _COUNTS}


def is_averaged(name: str) -> bool:
    """Whether a name is that of averaged weights: "ema", "model_ema", "swa_model"."""
    return _AVERAGED.search(name.lower()) is not None


def unwrapped(
    state: Mapping[str, Tensor], known: Callable[[Shapes], object]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the network that `known` recognises by names and shapes, and the names that lie outside of it.

    Without one that is recognised: all tensors, bare of the prefixes that they share.
    Raises: WeightsError where several parts of the file are such networks, with different tensors.
    """
    whole = strip_prefixes(state)
    if known(shapes_of(whole)):
        return whole, ()
    found = [(holder, part) for holder, part in _held(state) if known(shapes_of(part))]
    if not found:
        return whole, ()
    first, network = found[0]
    for holder, other in found[1:]:
        if not same_tensors(network, other):
            raise WeightsError(
                f"holds two networks, under {first!r} and under {holder!r}; say which: --weights ROLE=FILE#{first}"
            )
    held = tuple(f"{holder}." for holder, _ in found)
    return network, tuple(name for name in state if not name.startswith(held))


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts hold the same numbers under the same names."""
    import torch

    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def under(state: Mapping[str, Tensor], expected: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of a network whose names are known, from under the one holder that has them all; else all of them."""
    whole = strip_prefixes(state)
    if whole.keys() >= set(expected):
        return whole
    found = [part for _, part in _held(state) if part.keys() >= set(expected)]
    return found[0] if found and all(same_tensors(found[0], part) for part in found[1:]) else whole


def split_normaliser(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """The network's tensors, and the mean and deviation of a normaliser that stood in front: "m,m,m/s,s,s".

    A normaliser is a module with a mean and a deviation of each channel and nothing else, or buffers of the wrapper
    itself; as RobustBench, the robustness library and the authors of Sequential(normalise, network) store them.
    Raises: WeightsError for several that differ, or for numbers that are not for pixels in [0, 1].
    """
    bare = dict(zip(strip_prefixes(state), state, strict=True))  # name -> as stored
    said: set[str] = set()
    gone: set[str] = set()
    for name, stored in bare.items():
        parent, _, last = name.rpartition(".")
        deviation = f"{parent}.{MEANS.get(last)}" if parent else MEANS.get(last)
        if last not in MEANS or deviation not in bare or not _in_front(parent, bare):
            continue
        mean, std = state[stored], state[bare[str(deviation)]]
        if not (mean.numel() == std.numel() and mean.numel() <= 4 and _is_column(mean) and _is_column(std)):
            continue
        said.add("/".join(",".join(f"{float(v):.9g}" for v in t.float().flatten()) for t in (mean, std)))
        gone |= {stored, bare[str(deviation)]}
        if not all(-2 <= float(m) <= 2 for m in mean.flatten()) or not all(0 < float(s) <= 4 for s in std.flatten()):
            raise WeightsError(
                f"its normaliser {next(iter(said))} is not for pixels in [0, 1]; give the network's state dict alone, "
                "and the normaliser for [0, 1] with --set"
            )
    if len(said) > 1:
        raise WeightsError(f"holds several normalisers, {' and '.join(sorted(said))}; give the network's part alone")
    if len(gone) == len(state):
        return dict(state), None
    return {name: tensor for name, tensor in state.items() if name not in gone}, next(iter(said), None)


def _in_front(parent: str, names: Mapping[str, str]) -> bool:
    """Whether a module of that name can be the layer in front of a network: it has two tensors, or is the wrapper."""
    if not parent:
        return True
    inside = [name for name in names if name.startswith(f"{parent}.")]
    parts = [part for part in parent.split(".") if part not in (*HOLDERS, "attacker")]
    if len(inside) == 2:
        return len(parts) == 0 or (len(parts) == 1 and re.search(r"norm|scal|preproc|transform", parts[0]) is not None)
    return not parts and len(inside) > 2 and parent.rpartition(".")[2] not in ("0", "1")


def _is_column(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim in (1, 3, 4) and max(tensor.shape) == tensor.numel()


def _held(
    state: Mapping[str, Tensor], depth: int = _DEEPEST, path: str = ""
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The parts of a state dict under the names that wrappers use, or all of it under any one, the outer ones first."""
    groups: dict[str, dict[str, Tensor]] = {}
    alone = len({name.partition(".")[0] for name in state}) == 1
    for name, tensor in state.items():
        first, dot, rest = name.partition(".")
        if dot and (alone or first in HOLDERS or is_averaged(first)):
            groups.setdefault(first, {})[rest] = tensor
    for first, group in groups.items():
        yield f"{path}{first}", group
    if depth > 1:
        for first, group in groups.items():
            yield from _held(group, depth - 1, f"{path}{first}.")
