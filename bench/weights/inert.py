"""Classes of plain data that stand beside the tensors of a checkpoint, read as inert stubs; no code of them is run.

The authors' scripts store their options, best accuracies and schedulers with the network. torch's restricted unpickler
refuses them all for their names. Here the names of known data classes lead to stubs that take what the pickle hands
them and do nothing; every other name is refused as before.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Self


class Inert:
    """What stands in the place of an object that was not made; it holds nothing."""

    def __new__(cls, *_args: object, **_words: object) -> Self:
        """An empty one, whatever it is called with."""
        return super().__new__(cls)

    def __init__(self, *_args: object, **_words: object) -> None:
        """Nothing is kept."""

    def __setstate__(self, state: object) -> None:
        """Nothing is kept."""


class _InertMapping:
    """A class derived from dict: the unpickler may set items on what comes out."""

    def __new__(cls, *_args: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _InertList:
    """A class derived from list: the unpickler may append to what comes out."""

    def __new__(cls, *_args: object) -> list[Any]:  # type: ignore[misc]
        return []


class _InertDict:
    """A defaultdict without its default."""

    def __new__(cls, *_args: object) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


_OBJECTS = {
    "argparse": "Namespace",
    "builtins": "bool bytes dict float frozenset int list object range slice str tuple",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "numpy": "ndarray dtype bool bool_ str_ bytes_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 "
    "uint64 longdouble complex64 complex128",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy._core.numeric": "_frombuffer",
    "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64 PCG64DXSM",
    "numpy.random._philox": "Philox",
    "numpy.random._sfc64": "SFC64",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "pathlib": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "pathlib._local": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "torch.torch_version": "TorchVersion",
    "types": "SimpleNamespace",
    "typing": "Any Union Optional Dict List Tuple",
    "uuid": "UUID SafeUUID",
    "omegaconf.base": "ContainerMetadata Metadata SCMode",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode",
    "ml_collections.config_dict.config_dict": "ConfigDict FrozenConfigDict FieldReference",
}
_MAPPINGS = (
    *("addict.Dict", "addict.addict.Dict", "attrdict.AttrDict", "attrdict.dictionary.AttrDict", "box.Box"),
    *("box.box.Box", "easydict.EasyDict", "munch.Munch", "munch._munch.Munch"),
    *("detectron2.config.config.CfgNode", "fvcore.common.config.CfgNode", "yacs.config.CfgNode"),
    *("mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict", "mmengine.logging.history_buffer.Dict"),
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_NUMPY_TYPES = "numpy.dtypes."  # numpy.dtypes.Float64DType and its like: one class a type of number

_STUBS: dict[str, type] = {
    **{f"{module}.{name}": Inert for module, names in _OBJECTS.items() for name in names.split()},
    **dict.fromkeys(_MAPPINGS, _InertMapping),
    "collections.defaultdict": _InertDict,
    "collections.deque": _InertList,
}


@contextmanager
def inert_classes(names: Iterable[str]) -> Iterator[None]:
    """Let torch's restricted unpickler read known data classes, of the names that a file asks for, as stubs."""
    from torch.serialization import safe_globals

    stubs: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    for name in names:
        stub = _STUBS.get(name) or (Inert if name.startswith(_NUMPY_TYPES) else _enumeration(name))
        if stub is not None:
            stubs.append((stub, name))
    # The unpickler sets a state only on objects of classes that it was told of, by whatever name.
    with safe_globals([*stubs, (Inert, f"{__name__}.{Inert.__name__}")]):
        yield


def asked_names(stream: IO[bytes]) -> tuple[set[str], int]:
    """The names that the pickle at the stream's place asks for, and its protocol; reads the opcodes, runs none.

    Raises: what pickletools raises on a pickle that is broken or cut short.
    """
    names, protocol, last = set(), 0, ""
    texts: list[str] = []
    for opcode, value, _ in pickletools.genops(stream):
        if opcode.name == "PROTO":
            protocol = int(value or 0)
        elif opcode.name in ("GLOBAL", "INST"):
            names.add(modern_name(*str(value).split(" ", 1)))
        elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
            names.add(modern_name(texts[-2], texts[-1]))
        elif opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE"):
            texts = [*texts[-1:], str(value)]
        last = opcode.name
    if last != "STOP":
        raise EOFError("no end")
    return names, protocol


def code_among(names: Iterable[str]) -> str | None:
    """The first name that is neither a tensor's nor a known data class's, whole modules before others."""
    plain = re.compile(r"torch\._utils\.|torch\.\w+$|torch\.storage\.|collections\.|_codecs\.|builtins\.(set|complex)$")
    beyond = [name for name in names if name not in _STUBS and not plain.match(name)]
    return min(beyond, key=lambda name: (".nn." not in name, name), default=None)


def modern_name(module: str, name: str) -> str:
    """The full name of a class today, where Python 2 called it otherwise."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _enumeration(name: str) -> type | None:
    """A stub that takes one plain value, as the members of enumerations are stored, and refuses all else.

    Their classes are the authors' own and cannot be listed. A class of the standard library is none of theirs.
    """
    module, _, last = name.rpartition(".")
    if module.partition(".")[0] in sys.stdlib_module_names or not last[:1].isupper():
        return None

    class Member(Inert):
        """A member of that enumeration."""

        def __new__(cls, *args: object, **words: object) -> Self:
            if len(args) != 1 or words or not isinstance(args[0], str | bytes | int | float | tuple | None):
                raise pickle.UnpicklingError(f"GLOBAL {name} is no plain data")
            return super().__new__(cls)

        def __setstate__(self, state: object) -> None:
            raise pickle.UnpicklingError(f"GLOBAL {name} is no plain data")

    return Member
