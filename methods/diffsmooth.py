"""DiffSmooth: one step of a diffusion model, then a vote of a noise-trained classifier under small local noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.types import BaseClassifier, Method, Noise, Param, Setting
from bench.types.errors import MethodError
from methods.noise_trained import crop_side
from methods.purification import (
    PUBLISHED,
    ROLES,
    SIZE_MATCHED,
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

DEFAULTS = MethodDefaults(
    method="diffsmooth",
    classifiers={
        PUBLISHED: {"imagenet": "beit_large_patch16_224", "cifar10": "cifar_resnet110"},
        SIZE_MATCHED: {"imagenet": "vit_base_patch16_224", "cifar10": "cifar_resnet110", "digits": "digits_resnet"},
    },
    resize={"imagenet": "bicubic_antialias"},  # of no use at the published sizes, where both networks see the same
    side=224,
)


@dataclass(slots=True, eq=False, kw_only=True)
class LocallySmoothed:
    """Noisy pixels -> one-shot estimate -> m times local noise and the classifier -> their vote."""

    num_classes: int
    unet: UNet
    head: Resized
    t: int  # level that the network is given
    local_sigma: float  # l2, [0, 1] pixels
    local_noises: int
    soft: bool  # mean of the softmax, not the most frequent label
    fixed: Tensor | None  # (m, C, H, W) standard normals, the same for every copy; None: fresh ones
    calls: Mapping[str, int]
    make_normaliser: Callable[[str], Normaliser]

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies.

        Fixed local noise makes a deterministic base classifier, fresh one a random one, drawn for each copy by itself:
        both are certified. One draw for the copies of a batch would not be, so there is none.
        Shapes: x (B, C, H, W) float32; result (B,) int64.
        """
        import torch

        from methods.nets.hard_labels import checked_labels, refuse_at_once
        from methods.nets.voting import first_seen_mode, votes_together

        with torch.no_grad():
            pixels = self.denoised(x, noise)
            together = votes_together(len(x), self.local_noises)
            answers = []  # (count, B, K) each
            for first in range(0, self.local_noises, together):
                count = min(together, self.local_noises - first)
                local = torch.stack([self._local(first + i, x, noise) for i in range(count)])
                logits = self.head((pixels + self.local_sigma * local).flatten(0, 1))
                answers.append(logits.float().reshape(count, len(x), -1))
                refuse_at_once(answers[-1])
            logits = torch.cat(answers)
            if self.soft:
                return checked_labels(logits.softmax(dim=2).mean(dim=0).argmax(dim=1), logits)
            return checked_labels(first_seen_mode(logits.argmax(dim=2), self.num_classes), logits)

    @property
    def replayable(self) -> bool:
        """Whether predict draws nothing from its noise: the local noise is fixed."""
        return self.fixed is not None

    def denoised(self, x: Tensor, noise: Noise) -> Tensor:
        """The pixels that the classifier is given, before the local noise, to be looked at.

        Shapes: x and result (B, C, H, W) float32, the result in [0, 1].
        """
        import torch

        del noise
        with torch.no_grad():
            return denoised(self.unet, x, self.t)

    def _local(self, i: int, x: Tensor, noise: Noise) -> Tensor:
        """The i-th local noise of each copy, (B, C, H, W)."""
        return noise.randn(*x.shape[1:]) if self.fixed is None else self.fixed[i].expand_as(x)

    adjusted = renormalised


def build(setting: Setting) -> BaseClassifier:
    """Diffusion model -> [0, 1] pixels -> local noise, m times -> normaliser -> classifier -> vote, on the device.

    Source: Zhang et al. 2023, Section 4 and Algorithm 1.
    Differs: the fixed local noise is keyed by the run's seed, not 42 for all runs; the local noise that their code can
    draw once a batch is not offered, for copies that share it are no independent draws.
    Raises: MethodError for settings that do not go together, WeightsError for weights that do not fit.
    """
    from bench.smoothing.noise import MethodNoise, NoiseKey
    from methods.diffusion.schedules import level

    local_sigma, m = float(setting.params["local_sigma"]), int(setting.params["local_noises"])
    if not 0 <= local_sigma < float("inf"):
        raise MethodError(
            f"diffsmooth: local_sigma must be a noise level in [0, 1] pixels, 0 or more, got {local_sigma}; published "
            "with 0.25"
        )
    if m < 1:
        raise MethodError(f"diffsmooth: local_noises must be at least 1, got {m}; published with 5")
    parts = build_parts(setting, DEFAULTS)
    fixed = None
    if setting.params["local"] == "fixed":
        # No image has this fingerprint and no stage this name: independent of the certifier's noise.
        key = NoiseKey(setting.seed, "diffsmooth", local_sigma, "local").philox("fixed")
        fixed = MethodNoise(key, 0, m, setting.device).randn(*setting.shape)
    return LocallySmoothed(
        num_classes=setting.num_classes,
        unet=parts.unet,
        head=parts.head,
        t=level(parts.unet.schedule, setting.sigma, "first"),
        local_sigma=local_sigma,
        local_noises=m,
        soft=setting.params["vote"] == "soft",
        fixed=fixed,
        calls={"unet": 1, "classifier": m},
        make_normaliser=lambda kind: normaliser(setting, DEFAULTS, kind),
    )


DIFFSMOOTH = Method(
    name="diffsmooth",
    title="DiffSmooth",
    cite="Zhang, Chen, Zhang, Xiao & Li 2023, DiffSmooth: Certifiably Robust Learning via Diffusion Models",
    build=build,
    params=(
        *shared_params(DEFAULTS, classifier="trained with Gaussian noise of local_sigma"),
        Param(
            name="local_sigma",
            default=0.25,
            help="sigma', the local noise, l2 in [0, 1] pixels; 0.01 or 0.02 above the classifier's own pays, for "
            "denoising blurs",
        ),
        Param(name="local_noises", default=5, help="m, local noises of each noisy copy; 5, 10, 15 in the rRCM paper"),
        Param(
            name="vote",
            default="soft",
            choices=("soft", "hard"),
            help="mean of the softmax, as the authors' code, or the most frequent label, as the papers' text",
        ),
        Param(
            name="local",
            default="fixed",
            choices=("fixed", "fresh"),
            help="the same local noises for every copy, keyed by the seed, or fresh ones for each",
        ),
    ),
    roles=ROLES,
    size=crop_side,
    declines=declines,
    recognise=recognise,
)
