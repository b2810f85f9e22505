"""rRCM: one forward pass of a fine-tuned time-token ViT, conditioned on the certifier's noise level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.types import (
    BaseClassifier,
    GenerateRequest,
    Generator,
    Method,
    Param,
    Representation,
    RepresentRequest,
    Role,
    Scalar,
    Setting,
    TrainRequest,
    WeightsFile,
)
from bench.types.errors import MethodError, WeightsError
from methods.nets.recognition import Shapes, vit_size
from methods.nets.sizes import SIZES
from methods.noise_trained import crop_side

if TYPE_CHECKING:
    from torch import Tensor


def build(setting: Setting) -> BaseClassifier:
    """(x - 0.5) / 0.5 -> ViT at the grid's noise level nearest to 2 sigma -> linear head -> argmax.

    Source: rRCM paper, Section 3.4; Table 3 for the sizes.
    Raises: MethodError for a size that has no patches for these images, WeightsError for weights that do not fit,
    or were never fine-tuned.
    """
    from methods.nets.hard_labels import HardLabels
    from methods.nets.load_weights import load_network
    from methods.nets.vit import AtNoiseLevel, TimeTokenClassifier, nearest_time, time_token_vit

    size, grid = str(setting.params["size"]), int(setting.params["grid"])
    channels, side, _ = setting.shape
    if reason := misfit(size, setting.shape):
        raise MethodError(f"rrcm: {reason}")
    if grid < 2:
        raise MethodError(f"rrcm: grid must hold at least 2 noise levels, got {grid}; the paper fine-tunes at 81")

    def make() -> TimeTokenClassifier:
        encoder = time_token_vit(size, image_size=side, in_channels=channels, projector=False)
        encoder.whole = not setting.tuned
        final_norm = bool(setting.params["final_norm"])
        return TimeTokenClassifier(encoder, num_classes=setting.num_classes, final_norm=final_norm)

    network = load_network(setting, "network", make, arch=size, recognise=vit_size, select=_select)
    t = nearest_time(2 * setting.sigma, grid)  # this net sees [-1, 1]
    return HardLabels(
        AtNoiseLevel(network, t),
        num_classes=setting.num_classes,
        device=setting.device,
        optimise_for=setting.precision if setting.tuned else None,
    )


def misfit(size: str, shape: tuple[int, int, int]) -> str | None:
    """The reason why a size cannot take images of that shape; None if it can."""
    if size not in SIZES:
        return f"size must be one of {', '.join(SIZES)}, got {size!r}"
    _, height, width = shape
    sides = SIZES[size].patch_sizes
    if height == width and height in sides:
        return None
    fitting = [name for name, row in SIZES.items() if height == width and height in row.patch_sizes]
    advice = f"set size to one of: {', '.join(fitting)}" if fitting else "no size fits; crop to 32 or 224"
    return f"size {size!r} is for square images of side {_either(sides)}, got {height}x{width}; {advice}"


def declines(dataset: str, shape: tuple[int, int, int], num_classes: int) -> str | None:
    """The reason why no size can be run on such images; None if one can."""
    del dataset, num_classes
    if any(misfit(size, shape) is None for size in SIZES):
        return None
    sides = {side for row in SIZES.values() for side in row.patch_sizes}
    return f"its sizes are for square images of side {_either(sides)}, got {shape[1]}x{shape[2]}"


def recognise(role: str, shapes: Shapes, meta: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The size that the tensors show."""
    del role, meta
    size = vit_size(shapes)
    return {} if size is None else {"size": size}


def _either(sides: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(sides)))


def _select(state: dict[str, Tensor], file: WeightsFile) -> dict[str, Tensor]:
    """Encoder and head; fine-tuned files also hold the projector of the pre-training, which is left out."""
    if "cls_token" in state and "linear_head.weight" not in state:
        raise WeightsError(
            f"weights {file.name!r}: expected a fine-tuned network (base_model.* and linear_head.*), got an encoder "
            "without a head: pre-trained, not fine-tuned; fine-tune it first"
        )
    return {name: tensor for name, tensor in state.items() if not name.startswith("base_model.projection_head.")}


def _pretrain(request: TrainRequest) -> Mapping[str, Any]:
    from methods.training.rrcm import pretrain

    result: Mapping[str, Any] = pretrain(request)
    return result


def _finetune(request: TrainRequest) -> Mapping[str, Any]:
    from methods.training.rrcm import finetune

    result: Mapping[str, Any] = finetune(request)
    return result


def _represent(request: RepresentRequest) -> Representation:
    from methods.representation import represent

    return represent(request)


def _generate(request: GenerateRequest) -> Generator:
    from methods.diffusion.conditioned import generate

    return generate(request)


def _paper_table(name: str) -> Sequence[Mapping[str, Scalar]]:
    from methods.training import paper_tables

    rows: Sequence[Mapping[str, Scalar]] = getattr(paper_tables, name)()
    return rows


RRCM = Method(
    name="rrcm",
    preprocessing={"imagenet": "short224-box-bicubic"},
    title="rRCM",
    cite="Lei et al. 2025, Robust Representation Consistency Model via Contrastive Denoising",
    build=build,
    params=(
        Param(
            name="size",
            default="B",
            by_dataset={"digits": "tiny"},
            choices=("S", "B", "B-Deep", "XS", "tiny", "nano"),
            help="width and depth of the ViT; XS (32x32 and 8x8), tiny and nano (8x8) are this project's own",
        ),
        Param(
            name="final_norm",
            default=True,
            by_dataset={"cifar10": False},
            help="layer norm before the linear head; the published CIFAR-10 fine-tuning skipped it",
        ),
        Param(
            name="grid",
            default=81,
            help="noise levels of the grid that conditioning is rounded to: 81 at the end of pre-training",
        ),
    ),
    roles=(Role("network", "the fine-tuned network: encoder and linear head"),),
    size=crop_side,
    declines=declines,
    recognise=recognise,
    train={"pretrain": _pretrain, "finetune": _finetune},
    paper_tables={name: partial(_paper_table, name) for name in ("sizes", "pretraining", "augmentation")},
    represent=_represent,
    generate=_generate,
)
