"""Tensors out of checkpoint files, without running what may be hidden in them; knows no catalogue and no method."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.types import Scalar
from bench.types.errors import WeightsError, first_line
from bench.weights.containers import network_of
from bench.weights.file_kinds import check_regular, damaged, kind_of
from bench.weights.folder_configs import stated_normaliser
from bench.weights.inert import asked_names, code_among, inert_classes
from bench.weights.wrappers import shapes_of, split_normaliser, strip_prefixes, tidied

if TYPE_CHECKING:
    from torch import Tensor

PRETRAINED = "nnet.pth"  # the online network in a pre-training folder of rRCM, `{step}.ckpt/`
# What a folder may hold its network as, the first of them that is there: rRCM's, then Hugging Face's (transformers,
# timm, diffusers), in the order in which those look.
_IN_FOLDERS = (
    *(PRETRAINED, "model.safetensors", "model.safetensors.index.json"),
    *("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_CONFIGURED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SHARDED = ".index.json"
_MARK = "#"
_REPEATED = 4 * 2**30  # bytes that numbers stored once may fill

# What torch.load raises on a damaged file depends on where the damage is (tests/bench/weights cuts at every place).
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, NameError),
    *(ArithmeticError, MemoryError, ImportError, struct.error, zipfile.BadZipFile),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was read from a file."""

    tensors: Mapping[str, Tensor]  # of the network, by their names as stored but for those of compilers
    meta: Mapping[str, Scalar]  # what the file says of itself: arch, epoch, ...
    normaliser: str | None  # of a layer in front that came with the network, "m,m,m/s,s,s"; in `meta` as well
    key: str  # under which the network was taken, where the file has several; else ""
    notes: tuple[str, ...]  # what a user should know of the choice


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


def with_key(path: Path) -> tuple[Path, str]:
    """A path and the key behind its last `#` that leaves a path to something: FILE#state_dict; "" without one.

    A file that has the sign in its name is that file.
    """
    text = str(path)
    if _MARK not in text or exists(path):
        return path, ""
    parts = text.split(_MARK)
    for i in range(len(parts) - 1, 0, -1):
        file, key = Path(_MARK.join(parts[:i])), _MARK.join(parts[i:])
        if parts[i - 1] and exists(file):
            if not key:
                raise WeightsError(
                    f"weights {text!r}: expected a key behind {_MARK}, found none; write FILE#state_dict"
                )
            return file, key
    return path, ""


def checkpoint_file(path: Path) -> Path:
    """The file that holds the network: the path itself, without its key, or that of a folder as trainers leave it.

    Raises: WeightsError where nothing is there, a folder without such a file, or what is no file: a pipe, a device.
    """
    path = with_key(path)[0]
    if not exists(path):
        raise WeightsError(f"weights {str(path)!r}: expected a checkpoint, found nothing there; check the path")
    if not path.is_dir():
        check_regular(path)
        return path
    for name in _IN_FOLDERS:
        if exists(path / name):
            check_regular(path / name)
            return path / name
    raise WeightsError(f"weights {str(path)!r}: expected a checkpoint, got a folder {_contents(path)}")


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hex; of a sharded checkpoint by its index, the hash of the list of all its files'."""
    try:
        check_regular(path)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        raise WeightsError(
            f"weights {str(path)!r}: cannot be read ({problem.strerror}); check its permissions"
        ) from problem
    if not path.name.endswith(_SHARDED):
        return sha256
    return sha256_of_list([sha256, *map(sha256_of, _shards(path))])


def sha256_of_network(path: Path) -> str:
    """Hash of the file that a path stands for, and the key behind it."""
    file, key = with_key(path)
    return sha256_of(checkpoint_file(file)) + (f"{_MARK}{key}" if key else "")


def sha256_of_list(hashes: Sequence[str]) -> str:
    """Hash of several files' hashes, in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def load_tensors(path: Path, key: str = "") -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    """The tensors of a checkpoint's network by their names as stored, and what the file says of itself.

    As `read_checkpoint`, but a file with several networks is refused where no key chooses one.
    """
    found = read_checkpoint(path, key, averaged=False)
    return dict(found.tensors), dict(found.meta)


def read_checkpoint(path: Path, key: str = "", *, averaged: bool = True, many: bool = False) -> Checkpoint:
    """The network of a checkpoint.

    Reads safetensors, and torch's own format through the restricted unpickler only; the suffix does not decide, the
    content does. A key, here or behind a `#` of the path, chooses the network where the file holds several; with `many`
    those of a list are members of an ensemble, named `0.*`, `1.*`.
    Raises: WeightsError, one line, for a file that is missing, empty, cut short, no checkpoint, holds code, or holds
    NaN or infinity.
    """
    bare, behind = with_key(path)
    file, key = checkpoint_file(bare), key or behind
    try:
        content, said = _content(file)
        found = network_of(content, key, averaged=averaged, many=many)
        del content  # the optimiser's state is three times the network
        _check_tensors(file, found.tensors)
        tensors, normaliser = split_normaliser(tidied(found.tensors))
        stated, doubts = stated_normaliser(file.parent) if file.name in _CONFIGURED else (None, ())
    except WeightsError as refusal:
        raise about(file, refusal) from refusal
    layer, config = ({} if text is None else {"normaliser": text} for text in (normaliser, stated))
    meta = {**config, **layer, **found.beside, **said}
    notes = tuple(f"weights {file.name!r}: {note}" for note in (*found.notes, *doubts))
    return Checkpoint(tensors=tensors, meta=meta, normaliser=normaliser, key=found.choice, notes=notes)


def inspect(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Scalar]]:
    """Shapes by name, wrappers stripped, and what the file says of itself; the file is read and checked whole."""
    tensors, meta = load_tensors(path)
    return shapes_of(strip_prefixes(tensors)), meta


def about(file: Path | str, refusal: WeightsError) -> WeightsError:
    """The refusal with the file's name before it, where it does not begin with one."""
    text = str(refusal)
    return refusal if text.startswith("weights ") else WeightsError(f"weights {str(file)!r}: {text}")


def _contents(folder: Path) -> str:
    """What a folder without a network has instead, and what to do."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as problem:
        return f"that cannot be read ({problem.strerror}); check its permissions"
    if any(name.endswith(".distcp") for name in names):
        return (
            "of torch.distributed.checkpoint; make one file of it with python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    likely = [name for name in names if name.endswith((".pth", ".pt", ".th", ".tar", ".ckpt", ".safetensors", ".bin"))]
    listed = ", ".join(map(repr, likely[:4])) + (", ..." if len(likely) > 4 else "")
    if likely:
        return f"without {PRETRAINED} or model.safetensors; give one of its files: {listed}"
    return f"without {PRETRAINED}, model.safetensors or pytorch_model.bin; give the file"


def _content(file: Path) -> tuple[object, dict[str, Scalar]]:
    """What a file holds, and the metadata of its header."""
    kind = kind_of(file)
    if kind == "safetensors":
        return _read_safetensors(file)
    if kind != "index":
        return _read_torch(file, zipped=kind == "torch zip"), {}
    tensors: dict[Any, Any] = {}
    for shard in _shards(file):
        content, _ = _content(shard)
        if not isinstance(content, Mapping) or tensors.keys() & content.keys():
            raise WeightsError(f"its part {shard.name!r} is no state dict, or repeats names; fetch the folder again")
        tensors.update(content)
    if missing := sorted(_weight_map(file).keys() - tensors.keys()):
        raise WeightsError(f"its parts lack {missing[0]!r}, which the index lists; fetch the folder again")
    return tensors, {}


def _weight_map(index: Path) -> dict[str, str]:
    try:
        table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if isinstance(table, dict) and table and all(isinstance(name, str) for name in table.values()):
            return table
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    raise WeightsError(f"weights {str(index)!r}: expected an index with a weight_map of names; fetch the folder again")


def _shards(index: Path) -> list[Path]:
    """The files of a sharded checkpoint, in the order of their names."""
    names = sorted(set(_weight_map(index).values()))
    if odd := next((name for name in names if Path(name).name != name or name.endswith(_SHARDED)), None):
        raise WeightsError(f"weights {str(index)!r}: expected parts beside it, got {odd!r}; fetch the folder again")
    if gone := next((name for name in names if not exists(index.parent / name)), None):
        raise WeightsError(f"weights {str(index)!r}: its part {gone!r} is not beside it; fetch it too")
    return [index.parent / name for name in names]


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


def _read_torch(file: Path, *, zipped: bool) -> object:
    import torch

    names, protocols, whole = _asked(file, zipped=zipped)
    try:
        # As a stream: given a path, torch goes by the suffix, and reads what is called .safetensors as such.
        with file.open("rb") as stream, warnings.catch_warnings(), inert_classes(names):
            warnings.simplefilter("ignore")  # of the pickle protocol: what it cannot read is refused below
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if whole and (reason := _code(str(problem), names, protocols)):
            raise WeightsError(
                f"holds code, refused ({reason}); where it was made, save the state dict alone with torch.save, best "
                "as safetensors"
            ) from problem
        raise damaged(file, _line(problem)) from problem
    except _DAMAGE as problem:
        if "Invalid magic number" in str(problem) and whole:
            raise WeightsError(
                "expected a checkpoint, got a pickle that torch.save did not write; where it was made, save the state "
                "dict with torch.save, best as safetensors"
            ) from problem
        raise damaged(file, _line(problem)) from problem


def _code(refusal: str, names: set[str], protocols: set[int]) -> str | None:
    """Why a whole pickle was refused, where it was for more than tensors and plain data."""
    if asked := re.search(r"GLOBAL ([\w.]+)", refusal):
        return f"it asks for {asked[1]}"
    beyond = code_among(names)
    if "persistent_load" in refusal:  # how torch stored the classes of whole modules before 1.6
        return f"it asks for {beyond or 'a module'}"
    if max(protocols, default=2) > 2:
        asks = f", asks for {beyond}" if beyond else ""
        return f"a pickle of protocol {max(protocols)}, which goes beyond tensors{asks}"
    return "a pickle that goes beyond tensors" if "Unsupported" in refusal else None


def _asked(file: Path, *, zipped: bool) -> tuple[set[str], set[int], bool]:
    """The names that the file's pickles ask for, their protocols, and whether the pickles are whole."""
    names: set[str] = set()
    protocols: set[int] = set()
    with contextlib.ExitStack() as opened:
        streams: list[Any]
        try:
            if zipped:
                archive = opened.enter_context(zipfile.ZipFile(file))
                pickled = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
                streams = [opened.enter_context(archive.open(name)) for name in pickled]
            else:
                streams = [opened.enter_context(file.open("rb"))] * 4  # magic number, version, system, content
            for stream in streams:
                if not stream.peek(1):
                    break
                asked, protocol = asked_names(stream)
                names |= asked
                protocols.add(protocol)
        except _DAMAGE:
            return names, protocols, False
    return names, protocols, True


def _check_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what is no plain array of finite numbers, and what claims more of them than the file holds."""
    import torch

    size = sum(check_regular(part) for part in ([*_shards(file)] if file.name.endswith(_SHARDED) else [file]))
    total = 0
    for name, tensor in tensors.items():
        kind = (
            "sparse" if tensor.layout is not torch.strided
            else "without numbers (meta)" if tensor.device.type != "cpu"
            else "quantised" if tensor.is_quantized
            else "complex" if tensor.is_complex()
            else "nested" if tensor.is_nested
            else f"a {type(tensor).__name__}" if type(tensor) not in (torch.Tensor, torch.nn.Parameter)
            else ""
        )  # fmt: skip
        if kind:
            raise WeightsError(
                f"expected plain numbers, got a tensor that is {kind} under {name!r}; where it was made, save it as "
                "an ordinary float tensor"
            )
        stored = tensor.untyped_storage().nbytes()
        total += tensor.nbytes
        if _once(tensor).nbytes > stored or stored > size:
            raise WeightsError(f"{name!r} of shape {tuple(tensor.shape)} claims more numbers than the file holds")
    if total > 4 * size + _REPEATED:  # tied weights are stored once, and so is a number that fills a tensor
        raise WeightsError(f"its tensors claim {total} bytes, the file has {size}; give a file that holds them")
    for name, tensor in tensors.items():
        once = _once(tensor)
        # float32 is what networks are filled with: a double may be too large for it
        wide = once if not once.is_floating_point() or once.element_size() in (2, 4) else once.float()
        if not bool(torch.isfinite(wide).all()):
            raise WeightsError(
                f"expected finite numbers, got NaN or infinity in {name!r}; fetch it again, or train it again"
            )


def _once(tensor: Tensor) -> Tensor:
    """The numbers of a tensor without their repetitions along dimensions of stride 0."""
    repeated = (size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor[tuple(slice(1) if again else slice(None) for again in repeated)]


def _line(problem: BaseException) -> str:
    """The first line of what a library said, short."""
    if "Weights only load failed" in str(problem):  # torch's advice to switch the protection off is not ours to pass on
        return "its pickle is broken"
    return first_line(problem, 100)
