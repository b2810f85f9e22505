"""A checkpoint of another project rewritten under this one's names, as a safetensors file; knows no architecture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.types.atomic_file import atomic_path
from bench.types.errors import WeightsError, first_line
from bench.weights.checkpoints import about, checkpoint_file, exists, read_checkpoint, sha256_of, with_key
from bench.weights.wrappers import strip_prefixes

if TYPE_CHECKING:
    from torch import Tensor

    # Tensors by the source's names -> tensors by the names here, and what the file shall say of itself: {"arch": ...}
    Converter = Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Tensor], Mapping[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A checkpoint that was rewritten."""

    source: Path
    source_sha256: str
    path: Path
    sha256: str  # the same for the same source, wherever it is converted
    parameters: int
    tensors: int
    meta: Mapping[str, str]  # as written into the file
    notes: tuple[str, ...] = ()  # what a user should know of the source

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": str(self.source),
            "source_sha256": self.source_sha256,
            "path": str(self.path),
            "sha256": self.sha256,
            "parameters": self.parameters,
            "tensors": self.tensors,
            "meta": dict(self.meta),
        }


def convert_file(source: Path, target: Path, name: str, converter: Converter, *, force: bool) -> Conversion:
    """Read a checkpoint without running code in it, convert it, and write it whole or not at all.

    Raises: WeightsError for a source that does not load or that the converter refuses, or a target that cannot be
    written, or is there already without `force`.
    """
    source, key = with_key(source)
    file = checkpoint_file(source)
    _check_target(file, target, force=force)
    read = read_checkpoint(file, key)
    if read.normaliser is not None:
        raise WeightsError(
            f"weights {str(file)!r}: come with a normaliser, {read.normaliser}, which no converter here carries over; "
            "give the network's state dict alone"
        )
    try:
        tensors, said = converter(strip_prefixes(read.tensors))
    except WeightsError as refusal:
        raise about(file, refusal) from refusal
    source_sha256 = sha256_of(file)
    meta = {**said, "converter": name, "source_sha256": source_sha256, **({"source_key": read.key} if read.key else {})}
    _write(target, tensors, meta)
    return Conversion(
        source=file,
        source_sha256=source_sha256,
        path=target,
        sha256=sha256_of(target),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        tensors=len(tensors),
        meta=meta,
        notes=read.notes,
    )


def _check_target(source: Path, target: Path, *, force: bool) -> None:
    if target.suffix != ".safetensors":
        raise WeightsError(f"output {str(target)!r}: expected a name that ends in .safetensors; give another")
    if not exists(target):
        return
    if target.is_dir() or target.samefile(source):
        what = "is a folder" if target.is_dir() else "is the checkpoint to be converted"
        raise WeightsError(f"output {str(target)!r} {what}; give another name")
    if not force:
        raise WeightsError(f"output {str(target)!r} is there already; give another name, or --force to replace it")


def _write(target: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_path(target) as part:
            part.touch()  # a folder that is not there is told better by this than by safetensors
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata=dict(meta))
            _sort_header(part)
    except (OSError, SafetensorError) as problem:
        reason = getattr(problem, "strerror", None) or first_line(problem)
        raise WeightsError(
            f"output {str(target)!r}: cannot be written ({reason}); give a folder that exists, with room in it"
        ) from problem


def _sort_header(path: Path) -> None:
    """Order the header's keys: safetensors writes metadata in another order each time, and a sha256 names the file."""
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        ordered = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(ordered) <= length  # noqa: S101  the same values without blanks
        stream.seek(8)
        stream.write(ordered.ljust(length))
