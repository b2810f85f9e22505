"""DDS: one step of a diffusion model in front of an off-the-shelf classifier, certified as one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.types import BaseClassifier, Method, Noise, Param, Setting
from bench.types.errors import MethodError
from methods.noise_trained import crop_side, stage
from methods.purification import (
    BY_TRACK,
    OFF_THE_SHELF,
    PUBLISHED,
    ROLES,
    MethodDefaults,
    build_parts,
    declines,
    denoised,
    normaliser,
    recognise,
    renormalised,
    shared_params,
)

if TYPE_CHECKING:
    from torch import Tensor

    from methods.diffusion.unets import UNet
    from methods.nets.normalisers import Normaliser
    from methods.nets.resized import Resized

PADDED = 256  # the side that adm_256 was trained on

DEFAULTS = MethodDefaults(
    method="dds",
    classifiers=OFF_THE_SHELF,
    resize={"imagenet": "bicubic_antialias"},
    side=224,
)


@dataclass(slots=True, eq=False, kw_only=True)
class DenoisedOnce:
    """Noisy pixels -> one-shot estimate of the clean ones -> classifier -> argmax."""

    num_classes: int
    unet: UNet
    head: Resized
    t: int  # level that the network is given
    top_up: float  # noise added to the certifier's own, l2 in [0, 1] pixels; 0: none
    padding: int  # pixels of reflection around the image while it is denoised
    calls: Mapping[str, int]
    make_normaliser: Callable[[str], Normaliser]

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies; deterministic unless noise is topped up.

        Shapes: x (B, C, H, W) float32; result (B,) int64.
        """
        import torch

        from methods.nets.hard_labels import labels_of

        with torch.no_grad():
            labels: Tensor = labels_of(self.head(self.denoised(x, noise)))
            return labels

    @property
    def replayable(self) -> bool:
        """Whether predict draws nothing from its noise: none is topped up."""
        return self.top_up == 0

    def denoised(self, x: Tensor, noise: Noise) -> Tensor:
        """The pixels that the classifier is given, before its resize, to be looked at.

        Shapes: x and result (B, C, H, W) float32, the result in [0, 1].
        """
        import torch

        with torch.no_grad():
            if self.top_up > 0:
                x = x + self.top_up * noise.randn(*x.shape[1:])
            return denoised(self.unet, x, self.t, padding=self.padding)

    adjusted = renormalised


def build(setting: Setting) -> BaseClassifier:
    """Diffusion model -> resize -> normaliser -> classifier -> argmax, on the setting's device.

    Source: Carlini et al. 2023, Algorithm 1 and Section 3; the padding, Jeong & Shin 2023 (multi-scale denoising).
    Differs: the authors draw their own noise, of the level r_t / 2 >= sigma; here the certifier draws sigma, and
    noise=grid tops it up to theirs. No reverse-step noise is drawn to be thrown away.
    Raises: MethodError for settings that do not go together, WeightsError for weights that do not fit.
    """
    from methods.diffusion.schedules import level, level_sigma

    padding = _padding(setting)
    channels, side = setting.shape[0], setting.shape[1] + 2 * padding
    parts = build_parts(setting, DEFAULTS, shape=(channels, side, side) if padding else None)
    rounding: Literal["first", "nearest"] = "nearest" if setting.params["level"] == "nearest" else "first"
    t = level(parts.unet.schedule, setting.sigma, rounding)
    return DenoisedOnce(
        num_classes=setting.num_classes,
        unet=parts.unet,
        head=parts.head,
        t=t,
        top_up=_top_up(setting, level_sigma(parts.unet.schedule, t)),
        padding=padding,
        calls={"unet": 1, "classifier": 1},
        make_normaliser=lambda kind: normaliser(setting, DEFAULTS, kind),
    )


def _top_up(setting: Setting, grid: float) -> float:
    """Standard deviation that lifts the certifier's noise to the grid's level.

    The sum is one Gaussian, and the added part is independent of the certifier's: f stays a random base classifier, and
    the certificate for the nominal sigma holds. It is conservative, for the noise that f withstands is larger.
    """
    kind = str(setting.params["noise"])
    if kind == BY_TRACK:
        kind = "grid" if setting.params["track"] == PUBLISHED else "exact"
    if kind == "exact":
        return 0.0
    if grid < setting.sigma:
        raise MethodError(
            f"dds: noise=grid adds noise up to the level's, which is {grid:.6g} and below sigma {setting.sigma:g}; set "
            "level=first, or noise=exact"
        )
    return float((grid**2 - setting.sigma**2) ** 0.5)


def _padding(setting: Setting) -> int:
    if setting.params["geometry"] == "native":
        return 0
    _, height, width = setting.shape
    if height != width or not PADDED // 2 < height <= PADDED or height % 2:
        raise MethodError(
            f"dds: geometry=pad256 reflects images of 224x224 out to {PADDED}x{PADDED}, got {height}x{width}; set "
            "geometry=native"
        )
    return (PADDED - height) // 2


DDS = Method(
    name="dds",
    title="Diffusion denoised smoothing",
    cite="Carlini et al. 2023, (Certified!!) Adversarial Robustness for Free!",
    build=build,
    params=(
        *shared_params(DEFAULTS, classifier="trained on clean images"),
        Param(
            name="level",
            default="first",
            choices=("first", "nearest"),
            help="which level of the schedule stands for sigma: the first with no less noise, or the closest",
        ),
        Param(
            name="noise",
            default=BY_TRACK,
            choices=(BY_TRACK, "exact", "grid"),
            help="exact: the certifier's sigma as it is (size_matched); grid: topped up to the level's noise, which "
            "the authors draw (as_published): up to 0.7 % more, so that the certificate, of sigma, is conservative",
        ),
        Param(
            name="geometry",
            default="native",
            choices=("native", "pad256"),
            help="denoise the image at its own size, or reflected out to 256, which adm_256 was trained on",
        ),
    ),
    roles=ROLES,
    size=crop_side,
    declines=declines,
    recognise=recognise,
    train={"diffusion": stage("diffusion", "diffusion"), "finetune": stage("denoised_finetune", "finetune")},
)
