"""Tensors out of checkpoint files, without running what may be hidden in them; knows no catalogue and no method."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import re
import struct
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import WeightsError
from bench.types import Scalar

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PRETRAINED = "nnet.pth"  # the online network in a pre-training folder of rRCM, `{step}.ckpt/`
CONTAINERS = ("state_dict", "net", "model")  # Cohen et al. 2019 and its heirs; MACER; the rest of the field
PREFIXES = ("1.", "module.")  # Sequential(normalise, network), and DataParallel in either order

# What torch.load raises on a damaged file depends on where the damage is (tests/test_weights.py cuts at every place).
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, NameError),
    *(ArithmeticError, MemoryError, ImportError, struct.error),
)


def exists(path: Path) -> bool:
    """Whether something is there.

    Raises: WeightsError where the path cannot be followed: a name too long, a folder that may not be entered.
    """
    try:
        return path.exists()
    except OSError as problem:
        raise WeightsError(
            f"weights {str(path)!r}: cannot be reached ({problem.strerror}); check the path"
        ) from problem


def checkpoint_file(path: Path) -> Path:
    """The file that holds the network: the path itself, or `nnet.pth` in a pre-training folder.

    Raises: WeightsError where nothing is there, or a folder without that file.
    """
    if not exists(path):
        raise WeightsError(f"weights {str(path)!r}: expected a checkpoint, found nothing there; check the path")
    if not path.is_dir():
        return path
    if not exists(path / PRETRAINED):
        raise WeightsError(
            f"weights {str(path)!r}: expected a checkpoint, got a folder without {PRETRAINED}; give the file"
        )
    return path / PRETRAINED


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hex."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        raise WeightsError(
            f"weights {str(path)!r}: cannot be read ({problem.strerror}); check its permissions"
        ) from problem


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    """The tensors of a checkpoint by their names as stored, and what else it says of itself (arch, epoch, ...).

    Reads safetensors, and torch's own format through the restricted unpickler only; the suffix does not decide, the
    content does. Containers `{"state_dict": ...}`, `{"net": ...}`, `{"model": ...}` and bare state dicts.
    Raises: WeightsError, one line, for a file that is missing, empty, cut short, no checkpoint, holds code, or holds
    NaN or infinity.
    """
    file = checkpoint_file(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as problem:
        raise WeightsError(
            f"weights {str(file)!r}: cannot be read ({problem.strerror}); check its permissions"
        ) from problem
    _check_head(file, head)
    tensors, meta = _read_safetensors(file) if head[8:9] == b"{" else _read_torch(file)
    if not tensors:
        raise WeightsError(
            f"weights {str(file)!r}: expected a state dict, got no tensor in it; give the file with the network"
        )
    _check_finite(file, tensors)
    return tensors, meta


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names without the wrappers `1.` and `module.`, each taken off while every name carries it."""
    names = list(state)
    while prefix := next((p for p in PREFIXES if names and all(n.startswith(p) and n != p for n in names)), None):
        names = [name[len(prefix) :] for name in names]
    return dict(zip(names, state.values(), strict=True))


def inspect(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Scalar]]:
    """Shapes by name, wrappers stripped, and what the file says of itself; the file is read and checked whole."""
    tensors, meta = load_tensors(path)
    return {name: tuple(tensor.shape) for name, tensor in strip_prefixes(tensors).items()}, meta


def _check_head(file: Path, head: bytes) -> None:
    if not head:
        raise WeightsError(f"weights {str(file)!r}: expected a checkpoint, got an empty file; fetch it again")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise WeightsError(
            f"weights {str(file)!r}: expected a checkpoint, got a web page saved under its name; fetch the file itself"
        )
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"weights {str(file)!r}: expected a checkpoint, got a git-lfs pointer; run `git lfs pull` at its origin"
        )
    # safetensors: 8 bytes of length, then JSON; torch: a zip, or (before 1.6) pickles of protocol 2 and up
    if not (head[8:9] == b"{" or head.startswith((b"PK\x03\x04", b"\x80"))):
        raise _damaged(file, ValueError("neither safetensors nor torch's format"))


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except (SafetensorError, *_DAMAGE) as problem:
        raise WeightsError(
            f"weights {str(file)!r}: expected a whole safetensors file, got one that is cut short or damaged "
            f"({_line(problem)}); fetch it again"
        ) from problem


def _read_torch(file: Path) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    import torch

    try:
        # As a stream: given a path, torch goes by the suffix, and reads what is called .safetensors as such.
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle protocol: what it cannot read is refused below
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        asked = re.search(r"GLOBAL ([\w.]+)", str(problem))
        if (asked or "Unsupported" in str(problem)) and _pickles_are_whole(file):
            what = f"it asks for {asked[1]}" if asked else "a pickle that goes beyond tensors"
            raise WeightsError(
                f"weights {str(file)!r}: holds code, refused ({what}); where it was made, save the state dict alone, "
                "best as safetensors"
            ) from problem
        raise _damaged(file, problem) from problem
    except _DAMAGE as problem:
        raise _damaged(file, problem) from problem
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"weights {str(file)!r}: expected a state dict, got a {type(content).__name__}; give the network's file"
        )
    key = next((k for k in CONTAINERS if isinstance(content.get(k), Mapping)), None)
    state = content if key is None else content[key]
    said = {str(k): _plain(v) for k, v in content.items() if k != key}
    meta = {k: v for k, v in said.items() if isinstance(v, Scalar)}
    return {name: value for name, value in state.items() if _is_tensor(file, name, value, bare=key is None)}, meta


def _pickles_are_whole(file: Path) -> bool:
    """Whether what asks for code is not just the torn end of a name; reads the opcodes, runs none."""
    with file.open("rb") as stream:
        if stream.read(2) == b"PK":  # a zip is whole or does not open
            return True
        stream.seek(0)
        try:
            for _ in range(4):  # magic number, version, system, content
                for _ in pickletools.genops(stream):
                    pass
                if not stream.peek(1):
                    break
        except _DAMAGE:
            return False
    return True


def _is_tensor(file: Path, name: object, value: object, *, bare: bool) -> bool:
    import torch

    if isinstance(name, str) and isinstance(value, torch.Tensor):
        return True
    if bare and isinstance(value, Scalar):  # a remark beside the tensors: {"step": 600000, ...}
        return False
    raise WeightsError(
        f"weights {str(file)!r}: expected a state dict of tensors, got {type(value).__name__} under {name!r}; "
        "give the file with the network, not with the optimiser"
    )


def _plain(value: object) -> object:
    import torch

    return value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value


def _check_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    import torch

    for name, tensor in tensors.items():
        wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
        if not bool(torch.isfinite(wide).all()):
            raise WeightsError(
                f"weights {str(file)!r}: expected finite numbers, got NaN or infinity in {name!r}; fetch it again, or "
                "train it again"
            )


def _damaged(file: Path, problem: BaseException) -> WeightsError:
    return WeightsError(
        f"weights {str(file)!r}: expected a checkpoint (safetensors, .pth, .pt, .th, .tar, .ckpt), got something else, "
        f"or one cut short ({_line(problem)}); fetch it again"
    )


def _line(problem: BaseException) -> str:
    """The first line of what a library said, short."""
    if "Weights only load failed" in str(problem):  # torch's advice to switch the protection off is not ours to pass on
        return "its pickle is broken"
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:100]
