"""What a classifier holds: its networks, tensors and arrays, found through plain objects, containers and functions."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from os import PathLike, fsdecode
from pathlib import Path
from threading import Lock, get_ident
from types import BuiltinMethodType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from bench.smoothing.noise import MethodNoise
from bench.types import BaseClassifier, WeightsFile
from bench.types.errors import FAULTS, WeightsError
from bench.types.plugins import FILE_MODULE
from bench.weights.checkpoints import load_tensors
from bench.weights.resolve import sha256_of

if TYPE_CHECKING:
    from torch import nn

BUILT = "built"  # beside the roles of a spec's weights: what none of their files covers

Leaf = tuple[str, str, str]  # dtype, shape, sha256 of the bytes
_FILE = "file"  # in place of the dtype: bytes that are read at every call
_WATCHED = Lock()  # what opens files, by one thread at a time


def networks(classifier: BaseClassifier) -> list[nn.Module]:
    """The outermost networks that a classifier holds, itself included."""
    from torch import nn

    return [
        held
        for _, held in walk(classifier, ends=lambda held: isinstance(held, nn.Module))
        if isinstance(held, nn.Module)
    ]


def walk(root: Any, ends: Callable[[Any], bool], own: str | None = None) -> Iterator[tuple[str, Any]]:
    """Everything that an object holds, itself first, each once and with the way to it; not beyond what `ends` says.

    Of classes and functions of the module `own`, also their attributes and the globals that they name.
    """
    seen: dict[int, Any] = {}  # objects and not only their ids, which would be given again
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, held = todo.pop()
        if id(held) in seen or held is None or isinstance(held, str | bytes | int | float | ModuleType):
            continue
        if isinstance(held, type) and held.__module__ != own:
            continue
        seen[id(held)] = held
        yield path, held
        if not ends(held):
            # Keys that are no text are numbers of hooks or addresses as often as not: another build has others.
            parts = enumerate(_parts(held, own))
            named = [(f"{path}.{key if isinstance(key, str) else k}", part) for k, (key, part) in parts]
            todo += reversed(named)


def _parts(held: Any, own: str | None) -> Iterator[tuple[Any, Any]]:
    import torch

    if isinstance(held, dict | MappingProxyType):
        yield from held.items()
        return
    if isinstance(held, list | tuple | set | frozenset | deque):
        yield from enumerate(held)
        return
    if isinstance(held, type):
        yield from ((key, part) for key, part in vars(held).items() if not key.startswith("__") or callable(part))
        return
    attributes = getattr(held, "__dict__", {})
    yield from attributes.items() if isinstance(attributes, dict) else ()
    for kind in type(held).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield name, getattr(held, name, None)
    yield "class", type(held)
    yield from _compiled_state(held)
    if isinstance(held, torch.jit.ScriptModule):  # held by torch, not by its attributes
        yield from (*held.named_parameters(), *held.named_buffers())
    # A bound method, a partial and a closure hold networks too.
    elif isinstance(held, MethodType | BuiltinMethodType | staticmethod | classmethod):
        yield from (("self", getattr(held, "__self__", None)), ("function", getattr(held, "__func__", None)))
    elif isinstance(held, partial):
        yield from (("function", held.func), ("args", held.args), ("keywords", held.keywords))
    elif isinstance(held, property):
        yield "get", held.fget
    elif isinstance(held, FunctionType):
        yield from (("defaults", held.__defaults__), ("keywords", held.__kwdefaults__))
        yield from ((f"cell{k}", _content(cell)) for k, cell in enumerate(held.__closure__ or ()))
        if held.__module__ == own:
            yield from ((name, held.__globals__.get(name)) for name in _names(held.__code__))


def _compiled_state(held: Any) -> Iterator[tuple[Any, Any]]:
    """State of an object of a compiled type, as of a tree of scikit-learn's; nothing of plain Python's own."""
    kind: Any = type(held)
    if hasattr(held, "__dict__") or kind.__module__ == "builtins" or kind.__getstate__ is object.__getstate__:
        return
    try:
        state = held.__getstate__()
    except FAULTS:
        return
    yield "state", state


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is not bound yet
        return None


def _names(code: CodeType) -> Iterator[str]:
    """Names that a function's code may look up, those of functions inside it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def leaves(classifier: BaseClassifier) -> dict[str, Leaf]:
    """Every tensor and array that a classifier holds, by the way to it."""
    import numpy as np
    import torch

    def ends(held: Any) -> bool:
        return isinstance(held, torch.Tensor | np.ndarray | torch.storage.UntypedStorage)

    found: dict[str, Leaf] = {}
    module = type(classifier).__module__
    # The globals of an installed package may be caches that grow; a stranger's file is run anew for each build.
    for path, held in walk(classifier, ends, own=module if module.startswith(FILE_MODULE) else None):
        if isinstance(held, torch.Tensor):
            found[path] = _leaf(held)
        elif isinstance(held, np.ndarray):
            data = repr(held.tolist()).encode() if held.dtype.hasobject else np.ascontiguousarray(held).tobytes()
            found[path] = str(held.dtype), str(held.shape), hashlib.sha256(data).hexdigest()
    return found


def leaves_in_use(classifier: BaseClassifier, shape: tuple[int, int, int], device: str) -> dict[str, Leaf]:
    """As `leaves`, once a blank copy has been classified: some methods load their weights at the first call.

    With the files that are read again at the next one: of what is loaded at every call nothing is held.
    """
    again = _files_of_a_call(classifier, shape, device) and _files_of_a_call(classifier, shape, device)
    files = {f"file{k}": (_FILE, "", sha256_of(file)) for k, file in enumerate(again) if file.is_file()}
    return {**leaves(classifier), **files}


def _files_of_a_call(classifier: BaseClassifier, shape: tuple[int, int, int], device: str) -> list[Path]:
    """Files, but for code, that this thread opens to read while a blank copy is classified.

    By Python's `open`, safetensors or TorchScript; what other libraries open by themselves is not seen.
    """
    import builtins
    import io

    import safetensors.torch
    import torch

    thread, found = get_ident(), dict[Path, None]()

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def opening(*args: Any, **kwargs: Any) -> Any:
            file, mode = (*args, *kwargs.values())[0], str(kwargs.get("mode", (*args, "", "")[1]))
            if get_ident() == thread and isinstance(file, str | PathLike) and mode[:1] not in ("w", "a", "x"):
                path = Path(fsdecode(file)).absolute()
                if path.is_file() and path.suffix != ".py" and path.parts[1] not in ("proc", "sys"):
                    found[path] = None
            return function(*args, **kwargs)

        return opening

    owners = ((builtins, "open"), (io, "open"), (torch.jit, "load"))
    with _WATCHED, ExitStack() as held:
        for owner, name in (*owners, (safetensors, "safe_open"), (safetensors.torch, "safe_open")):
            held.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, watched(getattr(owner, name)))
        try:
            with torch.inference_mode():
                classifier.predict(torch.zeros(1, *shape, device=device), MethodNoise(0, 0, 1, device))
        except FAULTS:  # the run will meet it, and tell whose it is
            pass
    return list(found)


def built_sha256(found: Mapping[str, Leaf], files: Iterable[WeightsFile]) -> str | None:
    """sha256 over what a classifier holds beyond the tensors of the files of its roles; None where that is nothing."""
    covered: set[Leaf] = set()
    for path in (part for file in files for part in file.parts or (file.path,)):
        if any(leaf[0] == _FILE for leaf in found.values()):
            covered.add((_FILE, "", sha256_of(path)))
        try:
            covered.update(map(_leaf, load_tensors(path)[0].values()))
        except WeightsError:  # a file of its own form, which only the method can read
            continue
    lines = [f"{path} {' '.join(leaf)}\n" for path, leaf in found.items() if leaf not in covered]
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest() if lines else None


def _leaf(tensor: Any) -> Leaf:
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    try:
        plain = tensor.detach()
        plain = plain.dequantize() if plain.is_quantized else plain
        plain = plain.to_dense() if plain.layout != torch.strided else plain
        plain = plain.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        data = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return kind, str(tuple(tensor.shape)), hashlib.sha256(data).hexdigest()
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # without numbers yet: lazy, on "meta"
        return kind, "", ""
