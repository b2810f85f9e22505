"""Which of what a checkpoint holds is the network: its containers, its averaged weights, a key that chooses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.types import Scalar
from bench.types.errors import WeightsError
from bench.weights.wrappers import MEANS, is_averaged, same_tensors, shapes_of, strip_prefixes, tidied

if TYPE_CHECKING:
    from torch import Tensor

# Cohen et al. 2019 and its heirs; MACER; the rest of the field: where no tensors are found, their contents are told of.
_USUAL = ("state_dict", "net", "model")
# What stands beside a network and holds tensors of its own.
_BESIDE = re.compile(
    r"optim|sched|(^|_)scaler|criterion|(^|_)loss|metric|callback|(^|_)rng|hyper_?param|hparam|config|^args$|^amp$"
    r"|^loops$|^state$|^param_groups$|(^|_)queue|(^|_)sampler|dataloader|history|^exp_avg"
)
_DEEPEST = 4
ALL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The network that was taken from a file."""

    tensors: dict[str, Tensor]
    key: str  # where it lay: "state_dict", "model.ema", "0"; "" where it is all of the file
    several: tuple[str, ...] = ()  # the keys of all networks in the file where they differ, this one among them
    beside: Mapping[str, Scalar]  # what stands beside it: arch, epoch, ...
    notes: tuple[str, ...] = ()

    @property
    def choice(self) -> str:
        """The key where it matters: the file has several networks."""
        return self.key if self.several else ""


def network_of(content: object, key: str = "", *, averaged: bool = True, many: bool = False) -> Found:
    """The one network in what was read from a file; of raw and averaged weights the averaged, as timm takes them.

    `key` chooses: dots lead inwards, numbers are places in a list, `*` is all of a list, their names led by their
    places. Without `averaged` several networks are refused; with `many` those of a list are taken together.
    Raises: WeightsError without a file's name: no network, one that is none, or several of which none is the average.
    """
    everything = _distinct(_all(content))
    several = tuple(everything) if len(everything) > 1 else ()
    if many and several and not key:
        key = _whole_list(content)
    if key.rpartition(".")[2] == ALL:
        return _together(content, key)
    if key:
        return _chosen(content, key, several)
    if not everything:
        raise _nothing(content)
    taken, notes = _pick(everything, averaged=averaged) if several else (next(iter(everything)), ())
    return Found(
        tensors=_with_normaliser(content, _tensors(everything[taken], taken)),
        key=taken,
        several=several,
        beside=_beside(content, taken),
        notes=notes + _unread_averages(content, tuple(everything)),
    )


def _chosen(content: object, key: str, several: tuple[str, ...]) -> Found:
    try:
        place = _at(content, key)
    except WeightsError:
        held = _distinct(_all(content))
        only = next(iter(held), "")
        if len(held) != 1 or not only or not any(str(name).startswith(f"{key}.") for name in held[only]):
            raise
        return _chosen(content, f"{only}.{key}", several)  # a part of the one state dict
    inside = _distinct(_all(place))
    if len(inside) != 1:
        keys = ", ".join(f"{key}.{name}" if name else key for name in inside) or "none"
        raise WeightsError(f"expected one network under {key!r}, found {keys}; it has: {_keys(content)}")
    name, state = next(iter(inside.items()))
    full = f"{key}.{name}" if name else key
    # A part of a state dict, by the beginning of its names, is a choice as well.
    alone = not several and any(same is state for same in _all(content).values())
    return Found(
        tensors=_with_normaliser(content, _tensors(state, full)),
        key=full,
        several=() if alone else (several or (full,)),
        beside=_beside(content, full),
    )


def _whole_list(content: object) -> str:
    """The key of the one list that holds all networks; "" where there is none."""
    if isinstance(content, list | tuple):
        return ALL
    if not isinstance(content, Mapping):
        return ""
    holders = {key.partition(".")[0] for key in _all(content)}
    lists = [name for name in holders if isinstance(content.get(name), list | tuple)]
    return f"{lists[0]}.{ALL}" if len(holders) == len(lists) == 1 else ""


def _together(content: object, key: str) -> Found:
    place = _at(content, key.rpartition(".")[0])
    if not isinstance(place, list | tuple) or not place:
        raise WeightsError(f"expected a list of networks under {key!r}, got a {type(place).__name__}")
    tensors: dict[str, Tensor] = {}
    for i, part in enumerate(place):
        found = network_of(part, averaged=False)
        tensors |= {f"{i}.{name}": tensor for name, tensor in strip_prefixes(tidied(found.tensors)).items()}
    return Found(tensors=tensors, key=key, several=(key,), beside=_beside(content, key))


def _pick(everything: Mapping[str, Mapping[Any, Any]], *, averaged: bool) -> tuple[str, tuple[str, ...]]:
    keys = tuple(everything)
    listed = " and ".join(map(repr, keys[:6])) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
    averages = [key for key in keys if any(map(is_averaged, key.split(".")))]
    if averaged and len(averages) == 1 and len(keys) == 2:
        average, raw = averages[0], next(key for key in keys if key != averages[0])
        if _names(everything[average]) == _names(everything[raw]):
            note = f"two networks under {listed}: took the averaged weights, {average!r}, as timm does"
            return average, (f"{note}; FILE#{raw or 'KEY'} takes the others",)
    raise WeightsError(
        f"holds {len(keys)} different networks, under {listed}; say which: --weights ROLE=FILE#{(averages or keys)[0]}"
    )


def _names(state: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    return shapes_of(strip_prefixes(tidied({str(n): v for n, v in state.items() if _is_tensor(v)})))


def _networks(
    content: object, seen: set[int], path: str = "", depth: int = _DEEPEST
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Every state dict by its key, each object once."""
    if depth < 0 or id(content) in seen or not isinstance(content, Mapping | list | tuple):
        return
    seen.add(id(content))
    inner = False
    for name, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        if isinstance(name, str | int) and not _BESIDE.search(str(name).lower()):
            for found in _networks(value, seen, f"{path}.{name}" if path else str(name), depth - 1):
                inner = True
                yield found
    if not isinstance(content, Mapping):
        return
    own = [name for name, value in content.items() if isinstance(name, str) and _is_tensor(value)]
    # Beside a container plain names are remarks, such as "best_score" or a normaliser's "mean"; dotted ones are parts.
    if inner and not any("." in name for name in own):
        return
    if own and (not path or any(content[name].ndim > 0 for name in own)):
        yield path, content


def _all(content: object) -> dict[str, Mapping[Any, Any]]:
    return dict(_networks(content, set()))


def _distinct(found: dict[str, Mapping[Any, Any]]) -> dict[str, Mapping[Any, Any]]:
    """Without those that hold the same numbers under the same names as an earlier one."""
    kept: dict[str, Mapping[Any, Any]] = {}
    for key, state in found.items():
        if not any(_same(state, other) for other in kept.values()):
            kept[key] = state
    return kept


def _same(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    plain = all(_is_plain(value) for state in (one, other) for value in state.values())
    return plain and same_tensors(one, other)


def _is_number(value: object) -> bool:
    return _is_tensor(value) and getattr(value, "ndim", 1) == 0


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_plain(value: object) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
    )


def _tensors(state: Mapping[Any, Any], key: str) -> dict[str, Tensor]:
    """The state dict's tensors; remarks beside them are left out where they hold no tensor."""
    made: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(name, str) and _is_tensor(value):
            made[name] = value.detach()
        elif not (isinstance(name, str) and (name.endswith("_extra_state") or (not key and _may_go(name, value)))):
            raise WeightsError(
                f"expected a state dict of tensors, got {type(value).__name__} under {name!r}; "
                "give the file with the network, not with the optimiser"
            )
    return made


def _with_normaliser(content: object, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors, and a mean and deviation that stand beside its container."""
    if not isinstance(content, Mapping):
        return tensors
    for mean, std in MEANS.items():
        found = [_column(content.get(name)) for name in (mean, std)]
        if not {mean, std} & tensors.keys() and found[0] is not None and found[1] is not None:
            return {mean: found[0], std: found[1], **tensors}
    return tensors


def _column(value: object) -> Tensor | None:
    """Numbers of the channels, as a tensor or as a list of them; None for anything else."""
    import torch

    if isinstance(value, list | tuple) and 0 < len(value) <= 4 and all(isinstance(v, float) for v in value):
        return torch.tensor(value)
    return value if isinstance(value, torch.Tensor) and _is_plain(value) else None


def _may_go(name: str, value: object) -> bool:
    """Whether it is left out without a word: a remark, or the optimiser's state."""
    return _is_remark(value) or _BESIDE.search(name.lower()) is not None


def _is_remark(value: object) -> bool:
    """Whether no tensor is in it."""
    import torch

    waiting, seen = [value], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list | tuple | set):
            waiting += part
        elif isinstance(part, torch.Tensor | torch.UntypedStorage | torch.TypedStorage):
            return False
    return True


def _beside(content: object, key: str) -> dict[str, Scalar]:
    if not isinstance(content, Mapping):
        return {}
    first = key.partition(".")[0]
    said = {str(name): _plain(value) for name, value in content.items() if str(name) != first}
    return {name: value for name, value in said.items() if isinstance(value, Scalar)}


def _plain(value: object) -> object:
    import torch

    if isinstance(value, torch.Tensor) and value.ndim == 0 and _is_plain(value):
        number = value.item()
        return number if isinstance(number, Scalar) else None
    return value


def _unread_averages(content: object, keys: tuple[str, ...]) -> tuple[str, ...]:
    """A word on averaged weights that cannot be taken: torch_ema and others keep them as a list without names."""
    if not isinstance(content, Mapping):
        return ()
    tops = {key.partition(".")[0] for key in keys}
    unread = [
        str(name)
        for name, value in content.items()
        if str(name) not in tops and is_averaged(str(name)) and not _is_remark(value) and not _is_number(value)
    ]
    return tuple(
        f"averaged weights under {name!r} have no names and were left out: the raw network is taken" for name in unread
    )


def _at(content: object, key: str) -> object:
    """What lies under a key; of a state dict, the tensors whose names begin with it."""
    if not key:
        return content
    if isinstance(content, Mapping):
        if key in content:
            return content[key]
        parts = key.split(".")
        for i in range(len(parts) - 1, 0, -1):
            first = ".".join(parts[:i])
            if first in content and isinstance(content[first], Mapping | list | tuple):
                return _at(content[first], ".".join(parts[i:]))
        begun = f"{key}."
        part = {n[len(begun) :]: v for n, v in content.items() if isinstance(n, str) and n.startswith(begun)}
        if part:
            return part
    first, _, rest = key.partition(".")
    if isinstance(content, list | tuple) and first.isdecimal() and len(first) < 9 and int(first) < len(content):
        return _at(content[int(first)], rest)
    raise WeightsError(f"has nothing under {key!r}; it has: {_keys(content)}")


def _keys(content: object) -> str:
    found = [key or "the network alone" for key in _all(content)]
    return ", ".join(found[:8]) or "no network"


def _nothing(content: object) -> WeightsError:
    """The refusal of a content without a network, by what stands where it should be."""
    if isinstance(content, Mapping):
        for key in _USUAL:
            inner = content.get(key)
            if isinstance(inner, Mapping) and inner:
                name, value = next(iter(inner.items()))
                return WeightsError(
                    f"expected a state dict of tensors, got {type(value).__name__} under {name!r}; "
                    "give the file with the network, not with the optimiser"
                )
        return WeightsError("expected a state dict, got no tensor in it; give the file with the network")
    return WeightsError(f"expected a state dict, got a {type(content).__name__}; give the network's file")
