"""What a file that should be a checkpoint is by its first bytes, and whether it may be opened; reads no tensor."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import Literal

from bench.types.errors import WeightsError

Kind = Literal["safetensors", "torch zip", "torch legacy", "index"]

_SAVE = "where it was made, save the state dict alone, best as safetensors"
_UNPACK = "unpack it, and give the checkpoint inside"
# By their first bytes: what it is, and what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a file compressed by gzip", _UNPACK),
    (b"\xfd7zXZ\x00", "a file compressed by xz", _UNPACK),
    (b"BZh", "a file compressed by bzip2", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a file compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, TensorFlow)", f"load it there, and {_SAVE}"),
    (b"\x93NUMPY", "a numpy array", f"{_SAVE}"),
    (b"GGUF", "a GGUF file", "give the safetensors or .pth file that it was made from"),
    (b"%PDF", "a PDF", "give the file with the network"),
    (b"\x89PNG", "a picture", "give the file with the network"),
    (b"\xff\xd8\xff", "a picture", "give the file with the network"),
)
_MSGPACK = (*range(0x81, 0x90), 0xDE, 0xDF)  # a map of 1 to 15 entries, or of more


def check_regular(file: Path) -> int:
    """The size of a file that may be opened: pipes, devices and sockets would block, or never end.

    Raises: WeightsError.
    """
    try:
        found = file.stat()
    except OSError as problem:
        raise WeightsError(
            f"weights {str(file)!r}: cannot be read ({problem.strerror}); check its permissions"
        ) from problem
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    what = kinds.get(stat.S_IFMT(found.st_mode), "a device")
    raise WeightsError(f"weights {str(file)!r}: expected a file, got {what}; copy the checkpoint into a file")


def kind_of(file: Path) -> Kind:
    """The kind of checkpoint, by its content and not by its name.

    Raises: WeightsError that names what else it is; a zip that would unpack to more than it holds is refused here.
    """
    check_regular(file)
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
    except OSError as problem:
        raise WeightsError(
            f"weights {str(file)!r}: cannot be read ({problem.strerror}); check its permissions"
        ) from problem
    if not head:
        raise _refused(file, "an empty file", "fetch it again")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise _refused(file, "a web page saved under its name", "fetch the file itself")
    if text.startswith(b"version https://git-lfs"):
        raise _refused(file, "a git-lfs pointer", "run `git lfs pull` at its origin")
    # safetensors: 8 bytes of length, then JSON; torch: a zip, or (before 1.6) pickles of protocol 2 and up
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        _check_zip(file)
        return "torch zip"
    if head.startswith(b"\x80") and head[1:2] <= b"\x05":
        return "torch legacy"
    if text.startswith(b"{"):
        if file.name.endswith(".index.json"):
            return "index"
        raise _refused(file, "a JSON file", "give the file or the folder with the network")
    for magic, what, advice in _OTHERS:
        if head.startswith(magic):
            raise _refused(file, what, advice)
    if head[257:262] == b"ustar":
        raise _refused(file, "a tar archive", _UNPACK)
    if text.startswith(b"model_checkpoint_path:") or ".data-0000" in file.name or file.suffix == ".pb":
        raise _refused(file, "a TensorFlow checkpoint", f"load it there, and {_SAVE}")
    if head[4:8] == b"TFL3" or file.suffix == ".tflite":
        raise _refused(file, "a TensorFlow Lite model", "give the checkpoint that it was made from")
    if file.suffix == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:32]):
        raise _refused(file, "an ONNX graph", "give the checkpoint that it was made from")
    if file.suffix == ".msgpack" or (head[0] in _MSGPACK and 0xA0 <= head[1] <= 0xD9):
        raise _refused(file, "a msgpack file (JAX, Flax)", f"load it there, and {_SAVE}")
    if head.startswith((b"(dp", b"(lp", b"ccollections", b"cnumpy", b"ctorch", b"}q", b"]q")):
        raise _refused(file, "a pickle of protocol 0 or 1, which torch.save does not write", _SAVE)
    raise damaged(file, "neither safetensors nor torch's format")


def damaged(file: Path, why: str) -> WeightsError:
    """The refusal of a file that is nothing known, or torn."""
    return WeightsError(
        f"weights {str(file)!r}: expected a checkpoint (safetensors, .pth, .pt, .th, .tar, .ckpt), got something else, "
        f"or one cut short ({why}); fetch it again"
    )


def _refused(file: Path, what: str, advice: str) -> WeightsError:
    return WeightsError(f"weights {str(file)!r}: expected a checkpoint, got {what}; {advice}")


def _check_zip(file: Path) -> None:
    """Refuse a zip that torch.save did not write, or whose members claim more bytes than the file has."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile, EOFError) as problem:
        raise damaged(file, str(problem).strip() or type(problem).__name__) from problem
    names = [member.filename for member in members]
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        raise _refused(file, "a TorchScript archive, which is code", _SAVE)
    if not any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
        if any(name.endswith(".npy") for name in names):
            raise _refused(file, "a numpy archive (npz)", _SAVE)
        if "model.weights.h5" in last:
            raise _refused(file, "a Keras model", f"load it there, and {_SAVE}")
        if any("exported_program" in name or name.startswith("archive_format") for name in last):
            raise _refused(file, "a program of torch.export, which is code", _SAVE)
        inside = next((name for name in names if not name.endswith("/")), "nothing")
        raise _refused(file, f"a zip archive with {inside[:80]!r} in it", _UNPACK)
    # torch.save stores as is: what is compressed, or overlaps, was made to unpack to more than it holds.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise _refused(
            file, "a zip whose members are compressed, which torch.save never does", "save it again by torch"
        )
    if sum(member.file_size for member in members) > file.stat().st_size:
        raise _refused(file, "a zip that claims to hold more than its own size", "fetch it again from its authors")
