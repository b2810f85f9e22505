"""A network's weights: read from a file that must fit exactly, or drawn at random from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.types import Setting, WeightsFile
from bench.types.errors import WeightsError
from bench.weights.resolve import about, read_checkpoint, under, unwrapped
from bench.weights.wrappers import shapes_of
from methods.nets.architectures import damp_batchnorm
from methods.nets.recognition import COUNTER, Shapes, described, first_difference, side_of

META = "meta"


def load_network(
    setting: Setting,
    role: str,
    make: Callable[[], nn.Module],
    *,
    arch: str,
    recognise: Callable[[Mapping[str, tuple[int, ...]]], str | None],
    select: Callable[[dict[str, Tensor], WeightsFile], dict[str, Tensor]] | None = None,
) -> nn.Module:
    """The network that `make` builds, holding the setting's weights for that role.

    `select` leaves out the tensors of a file that inference does not use, or refuses the file. On the device "meta" the
    network has shapes but no numbers, whatever the weights: enough to count its cost.
    Raises: WeightsError where there is no file for the role, or one of another architecture.
    """
    if setting.device == META:
        with torch.device(META):
            return make()
    # A CPU takes 7 s for the 552 M weights of a UNet, and a benchmark builds them five times.
    fast = setting.random_weights and setting.timed_alone
    with seeded(setting.seed, role, setting.device if fast else "cpu"):
        network = make()
    if setting.random_weights:
        damp_batchnorm(network)
        return network
    if role not in setting.weights:
        raise WeightsError(
            f"weights for the role {role!r} ({arch}) are missing; give a file, or random weights to measure cost"
        )
    file = setting.weights[role]
    state = network_tensors(file, recognise, expected=() if select else list(network.state_dict()))
    if select is not None:
        state = select(state, file)
    load_weights(network, state, file, arch=arch, recognise=recognise)
    return network


def network_tensors(
    file: WeightsFile,
    recognise: Callable[[Mapping[str, tuple[int, ...]]], str | None],
    *,
    part: Path | None = None,
    expected: Sequence[str] = (),
) -> dict[str, Tensor]:
    """A file's tensors out from under what their network was wrapped in, by what `recognise` knows or by their names.

    `part`: one of the role's several files. Raises: WeightsError for a file that holds several such networks.
    """
    checkpoint = read_checkpoint(part or file.path, file.key, averaged=False)
    tensors = checkpoint.tensors
    if checkpoint.normaliser is not None and "normaliser" not in file.params:
        # As of an entry in a catalogue that does not say it, or of members that differ: none other may take its place.
        raise WeightsError(
            f"weights {file.name!r}: come with a normaliser, {checkpoint.normaliser}, which is not known to be used; "
            "give the file itself with --weights, or add it again"
        )
    try:
        state, _ = unwrapped(tensors, recognise)
    except WeightsError as refusal:
        raise about(file.name, refusal) from refusal
    if expected and recognise(shapes_of(state)) is None:
        return under(tensors, [name for name in expected if not name.endswith(COUNTER)])
    return state


def load_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    file: WeightsFile,
    *,
    arch: str,
    recognise: Callable[[Mapping[str, tuple[int, ...]]], str | None],
) -> None:
    """Load tensors that match the network's one to one, in name and shape.

    Raises: WeightsError, naming the first that does not.
    """
    shapes = shapes_of(state)

    def differs(name: str, want: str, came: str) -> str:
        both = "none" not in (want, came)
        want, came = (said if said != "none" else "none of that name" for said in (want, came))
        advice = _advice(arch, recognise(shapes), shapes, name, both=both)
        return f"expected the tensors of {arch!r}; {name!r} should be {want}, got {came}; {advice}"

    load_state(network, state, file.name, differs)


def load_state(
    network: nn.Module, state: Mapping[str, Tensor], label: str, differs: Callable[[str, str, str], str]
) -> None:
    """Load tensors that match the network's one to one, in name and shape.

    Raises: WeightsError with what `differs` says of the first that does not: its name, expected shape, and own shape.
    """
    expected = network.state_dict()
    if found := first_difference(shapes_of(expected), shapes_of(state)):
        raise WeightsError(f"weights {label!r}: {differs(*found)}")
    for name, tensor in state.items():
        # Whole numbers would be taken for the weights whose scale lies elsewhere, or nowhere.
        if name in expected and expected[name].is_floating_point() and not tensor.is_floating_point():
            raise WeightsError(
                f"weights {label!r}: expected floating-point numbers under {name!r}, got {tensor.dtype}; give the "
                "weights before they were quantised"
            )
    network.load_state_dict({name: state.get(name, tensor) for name, tensor in expected.items()}, strict=True)


@contextmanager
def seeded(seed: int, role: str, device: str = "cpu") -> Iterator[None]:
    """Draw initial weights from a seed and a role; the global generators are left as they were.

    On a CUDA device networks are built there, and their numbers are others; on any other, on the CPU.
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}/{role}".encode()).digest()[:8], "big") % 2**63
    if device.startswith("cuda"):
        with torch.random.fork_rng(devices=[device]), torch.device(device):
            torch.cuda.default_generators[torch.device(device).index or 0].manual_seed(key)
            yield
        return
    # torch.manual_seed would reseed the accelerators as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        yield


def _advice(arch: str, looks: str | None, shapes: Shapes, name: str, *, both: bool) -> str:
    if looks is None:
        known = described(shapes)
        return (
            f"these look like {known}, which is not loaded here; give other weights"
            if known
            else "these weights are of no architecture that is known here; give other weights"
        )
    if looks != arch:
        return f"these look like {looks!r}; choose that one, or give other weights"
    if not both:
        return f"a variant of {arch!r} with other parts; give weights of the plain one"
    if name.rpartition(".")[2] == "pos_embed" and (side := side_of(shapes)):
        return f"these are for images of {side}x{side}; give --size {side}, or weights for this size"
    return "same architecture, so the number of classes or of channels differs; give weights of this dataset"
