"""A run's files as they are written and read back: run.json and lines of rows, sealed, typed; opens no file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bench.certification.sequential import MODES
from bench.certification.stopping_rule import CERTIFIERS, is_sequential
from bench.types import FORCED, WRONG, Counts, Row, RunSpec, Scalar

FORMAT = 1
RUN_FILE = "run.json"
Seal = Literal["fits", "none", "broken"]  # of a row: it fits; from before rows had one; of another row or run
SEAL = 16  # hex digits of a seal: none of 10**19 changes passes by chance

# Far above what can be drawn, below what arithmetic on it would refuse.
Whole = Annotated[int, Meta(ge=0, le=10**15)]
Positive = Annotated[int, Meta(ge=1, le=10**15)]
NotNegative = Annotated[float, Meta(ge=0, le=1e100)]
Share = Annotated[float, Meta(gt=0, lt=1)]


class _Spec(msgspec.Struct):
    """The types and ranges of a stored spec."""

    method: str
    params: dict[str, Scalar]
    weights: dict[str, str]
    dataset: str
    split: str
    subset: str
    subset_fingerprint: str
    images: Positive
    shape: tuple[Positive, Positive, Positive]
    preprocessing: str
    sigma: Annotated[float, Meta(gt=0, le=1e100)]
    n0: Whole
    n: Positive
    alpha: Share
    certifier: str
    seed: int
    precision: str
    noise: str
    radii: list[NotNegative] = []
    looks: list[Positive] = []
    alphas: list[NotNegative] = []
    beta: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    mode: str = ""

    def __post_init__(self) -> None:
        if self.certifier not in CERTIFIERS:
            raise ValueError(f"certifier {self.certifier!r}")
        if not (self.looks or is_sequential(self.certifier)):
            return
        if self.mode not in MODES or not self.radii or not self.looks or self.looks[-1] != self.n:
            raise ValueError("no mode, no radii, or looks that do not end with n")
        if any(sorted(set(values)) != values for values in (self.radii, self.looks)):
            raise ValueError("radii or looks that do not ascend")
        # A test by betting spends nothing at its looks.
        if self.certifier not in ("cohen", "betting") and len(self.alphas) != len(self.looks):
            raise ValueError(f"{len(self.alphas)} alphas for {len(self.looks)} looks")


class _Execution(msgspec.Struct):
    devices: list[str] = []
    batch: int | None = None
    executor: str = ""
    workers: int | None = None
    options: list[str] = []
    compile: str = ""
    compiled: bool = False  # before there was a choice


class _Worker(msgspec.Struct):
    host: str = ""
    device: str = ""
    batch: int = 0
    torch: str | None = None
    compile: str = ""


class _Environment(msgspec.Struct):
    python: str = ""
    platform: str = ""
    packages: dict[str, str] = {}
    git_commit: str | None = None
    cpu: str = ""
    threads: int = 0
    devices: dict[str, str] = {}
    cuda: str | None = None
    cudnn: int | None = None
    precision: str = ""
    tf32: bool = False
    cudnn_benchmark: bool = False
    deterministic: bool = False
    compile: str = ""
    kernels: list[str] = []
    workers: list[_Worker] = []


class _Rows(msgspec.Struct):
    """The rows of a run that was sealed when it was complete."""

    images: Positive
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Part(msgspec.Struct):
    digest: str
    n: Positive
    images: Positive
    rows_sha256: str
    environment: _Environment = msgspec.field(default_factory=_Environment)


class _MadeFrom(msgspec.Struct):
    """The runs whose votes a run took over."""

    how: Literal["top-up", "merge"]
    runs: Annotated[list[_Part], Meta(min_length=1)]


class _Run(msgspec.Struct):
    digest: str
    spec: _Spec
    created: str = ""
    execution: _Execution = msgspec.field(default_factory=_Execution)
    environment: _Environment = msgspec.field(default_factory=_Environment)
    num_classes: Positive | None = None
    table_radii: list[NotNegative] = []
    made_from: _MadeFrom | None = None
    rows: _Rows | None = None
    seal: str | None = None

    def __post_init__(self) -> None:
        if sorted(set(self.table_radii)) != self.table_radii:
            raise ValueError("table_radii that do not ascend")


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    index: Whole
    fingerprint: Annotated[str, Meta(min_length=1)]
    label: Whole
    selection: list[tuple[Whole, Whole]]
    estimation: list[tuple[Whole, Whole]]
    seconds: NotNegative
    looks: list[list[tuple[Whole, Whole]]] = []
    stopped: Literal["", "wrong", "forced"] = ""
    seal: str | None = None


assert {"", WRONG, FORCED} == {"", "wrong", "forced"}  # noqa: S101  of the type above, which takes literals alone
_ROW = msgspec.json.Decoder(_Row)


def run_text(record: dict[str, Any]) -> str:
    """What run.json holds of a record, with a seal over all of it at its end."""
    body = json.dumps(record, indent=1, allow_nan=False)
    return body.removesuffix("\n}") + _run_end(_seal(body))


def rows_sha256(rows: Iterable[Row]) -> str:
    """sha256 over rows by index, one an image, as they are stored: of any files that hold them, the same."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda each: each.index):
        digest.update(_body(row).encode() + b"\n")
    return digest.hexdigest()


def record_edited(text: bytes, record: dict[str, Any]) -> bool:
    """Whether run.json was changed after it was written, as far as its seal tells.

    A seal is a checksum without a key: who recomputes it goes unnoticed.
    """
    seal = record.get("seal")
    if seal is None:
        return record.get("rows") is not None  # whoever seals the rows seals the record
    end, whole = _run_end(seal), text.decode()
    return not whole.endswith(end) or _seal(whole.removesuffix(end) + "\n}") != seal


def read_record(text: bytes) -> dict[str, Any]:
    """The record in run.json; whether it was edited, `record_edited` tells.

    Raises: ValueError, one line, for what is no JSON object with the right types.
    """
    record = _plain(text)
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object, got {type(record).__name__}")
    if record.get("format") != FORMAT or isinstance(record["format"], bool):
        raise ValueError(f"format {_short(record.get('format'))}, expected {FORMAT}; use the version that wrote it")
    try:
        msgspec.convert(record, _Run)
    except msgspec.ValidationError as error:
        raise ValueError(_short(error, str)) from None
    return record


def read_spec(record: dict[str, Any]) -> RunSpec:
    """The spec in a record that has been read.

    Raises: ValueError where it is not the one that the record's digest is of, or of another version.
    """
    try:
        spec = RunSpec.from_json(record["spec"])
    except TypeError as error:
        raise ValueError(
            f"holds a spec of another version ({_short(error, str)}); use the version that wrote it"
        ) from None
    if spec.digest() != record["digest"]:
        claimed = _short(record["digest"][:10])
        raise ValueError(f"was edited: its spec does not have the digest {claimed} it claims")
    return spec


def row_line(row: Row, digest: str) -> bytes:
    """One line of a rows file, sealed for the run of that digest: moved into another run, its seal does not fit.

    Raises: ValueError for a row that would not be read back as it is.
    """
    body = _body(row)
    line = (body.removesuffix("}") + _row_end(_seal(f"{digest}\n{body}"))).encode()
    if read_row(line, digest) != (row, "fits"):
        raise ValueError("it does not read back as it was")
    return line + b"\n"


def read_row(line: bytes, digest: str) -> tuple[Row, Seal]:
    """A row from its line, and what its seal says of it.

    Raises: ValueError, one line.
    """
    try:
        stored = _ROW.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(_short(error, str)) from None
    seal: Seal = "none" if stored.seal is None else "broken"
    if stored.seal is not None:
        end = _row_end(stored.seal).encode()
        if line.endswith(end) and _seal(f"{digest}\n{line.removesuffix(end).decode()}}}") == stored.seal:
            seal = "fits"
    if seal != "fits":
        _plain(line)  # of two values of one key, the decoder above takes the last
    row = Row(
        index=stored.index,
        fingerprint=stored.fingerprint,
        label=stored.label,
        selection=Counts.of(stored.selection),
        estimation=Counts.of(stored.estimation),
        seconds=stored.seconds,
        looks=tuple(map(Counts.of, stored.looks)),
        stopped=stored.stopped,
    )
    return row, seal


def unlike(row: Row, span: range | None, num_classes: int | None) -> str:
    """What is wrong with a row beside the images and classes of its run; empty where nothing is."""
    if span is not None and row.index not in span:
        return f"image {row.index} is not in the subset"
    classes = [row.label, *(c for counts in (row.selection, row.estimation, *row.looks) for c, _ in counts.votes)]
    if num_classes is not None and max(classes) >= num_classes:
        return f"image {row.index} has class {max(classes)}, the dataset has {num_classes}"
    if row.looks and sum(row.looks[1:], row.looks[0]) != row.estimation:
        return f"the looks of image {row.index} do not add up to its votes"
    return ""


def _body(row: Row) -> str:
    return json.dumps(row.as_json(), separators=(",", ":"), allow_nan=False)


def _plain(text: bytes) -> Any:
    """JSON with each key once, numbers that are some, and text that can be printed.

    Raises: ValueError.
    """
    try:
        found = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except RecursionError:
        raise ValueError("JSON of too many levels") from None
    except ValueError as error:
        raise ValueError(_short(error, str)) from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:SEAL]


def _row_end(seal: str) -> str:
    return f',"seal":"{seal}"}}'


def _run_end(seal: str) -> str:
    return f',\n "seal": "{seal}"\n}}\n'


def _short(value: Any, form: Any = repr) -> str:
    """A value in a message: one line, not long."""
    return " ".join(form(value).split())[:120]
