"""DensePure: several reverse-diffusion samples of each noisy copy, and a vote of the classifier on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.types import BaseClassifier, Method, Noise, Param, Setting
from bench.types.errors import MethodError
from methods.noise_trained import crop_side
from methods.purification import (
    OFF_THE_SHELF,
    ROLES,
    MethodDefaults,
    build_parts,
    declines,
    normaliser,
    recognise,
    renormalised,
    shared_params,
)

if TYPE_CHECKING:
    from torch import Tensor

    from methods.diffusion.schedules import Subsequence
    from methods.diffusion.unets import UNet
    from methods.nets.normalisers import Normaliser
    from methods.nets.resized import Resized

DEFAULTS = MethodDefaults(
    method="densepure",
    classifiers=OFF_THE_SHELF,
    resize={"imagenet": "bicubic", "cifar10": "bilinear"},
    resize_published={"cifar10": "bilinear_uint8"},
    side=256,
)


@dataclass(slots=True, eq=False, kw_only=True)
class MajorityOfSamples:
    """Noisy pixels -> K reverse-diffusion samples -> classifier -> their most frequent label."""

    num_classes: int
    unet: UNet
    head: Resized
    sub: Subsequence
    votes: int
    calls: Mapping[str, int]
    make_normaliser: Callable[[str], Normaliser]

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Hard labels of noisy copies; of equally frequent labels, the one that was sampled first.

        The reverse noise is fresh for each copy, vote and step, and independent of the certifier's: the condition under
        which a random base classifier is certified. Votes stay inside one copy; n counts copies.
        Shapes: x (B, C, H, W) float32; result (B,) int64.
        """
        import torch

        from methods.nets.hard_labels import checked_labels, refuse_at_once
        from methods.nets.voting import first_seen_mode, votes_together

        with torch.no_grad():
            start = self.sub.scale * (2 * x - 1)
            together = votes_together(len(x), self.votes)
            answers = []  # (count, B, K) each
            for first in range(0, self.votes, together):
                count = min(together, self.votes - first)
                answers.append(self.head(self._clean(start, count, noise)).reshape(count, len(x), -1))
                refuse_at_once(answers[-1])
            labels = first_seen_mode(torch.cat([logits.argmax(dim=2) for logits in answers]), self.num_classes)
            return checked_labels(labels, *answers)

    @property
    def replayable(self) -> bool:
        """Whether predict draws nothing from its noise, as it does for the steps between the first and the last."""
        return len(self.sub.times) == 1

    def denoised(self, x: Tensor, noise: Noise) -> Tensor:
        """The pixels that the classifier is given for its first vote, before its resize, to be looked at.

        Shapes: x and result (B, C, H, W) float32, the result in [0, 1].
        """
        import torch

        with torch.no_grad():
            return self._clean(self.sub.scale * (2 * x - 1), 1, noise)

    def _clean(self, start: Tensor, count: int, noise: Noise) -> Tensor:
        """Pixels of the next `count` samples of each copy, all copies of the first sample first.

        Shapes: start (B, C, H, W); result (count * B, C, H, W).
        """
        import torch

        from methods.diffusion.denoising import reverse

        steps, shape = len(self.sub.times), start.shape[1:]
        state = start.repeat(count, 1, 1, 1)
        fresh: Iterator[Tensor] = iter(())
        if steps > 1:
            # One draw a vote, with all its steps: how many votes share a pass must not move which noise a vote gets.
            xi = torch.stack([noise.randn(steps - 1, *shape) for _ in range(count)])  # (count, B, steps - 1, C, H, W)
            fresh = iter(xi.flatten(0, 1).unbind(1))
        return (reverse(self.unet, self.sub, state, lambda: next(fresh)) + 1) / 2

    adjusted = renormalised


def build(setting: Setting) -> BaseClassifier:
    """Reverse diffusion from sigma's level, K times -> resize -> normaliser -> classifier -> vote, on the device.

    Source: Xiao et al. 2023, Section 4 and Algorithm 1; the sampler's variances are the network's (Nichol & Dhariwal
    2021, Equation 15).
    Differs: the authors' first vote reuses the smoothing noise of their first batch, their CIFAR-10 classifier is fed
    through picture files; neither is taken over but for the rounding to 256 levels (track as_published).
    Raises: MethodError for settings that do not go together, WeightsError for weights that do not fit.
    """
    from methods.diffusion.schedules import subsequence

    steps, votes = int(setting.params["steps"]), int(setting.params["votes"])
    if votes < 1:
        raise MethodError(f"densepure: votes must be at least 1, got {votes}; published with 40")
    if steps < 1:
        raise MethodError(f"densepure: steps must be at least 1, got {steps}; published with 10")
    if steps == 1 and votes > 1:
        raise MethodError(
            f"densepure: one step draws no noise, so all of its {votes} votes would be equal; set votes=1, or steps=2"
        )
    parts = build_parts(setting, DEFAULTS)
    if steps > 1 and not parts.unet.learned_sigma:
        raise MethodError(
            f"densepure: its sampler needs a denoiser with learned variances, {setting.params['denoiser']!r} has none; "
            "choose another, or use dds"
        )
    return MajorityOfSamples(
        num_classes=setting.num_classes,
        unet=parts.unet,
        head=parts.head,
        sub=subsequence(parts.unet.schedule, setting.sigma, steps),
        votes=votes,
        calls={"unet": steps * votes, "classifier": votes},
        make_normaliser=lambda kind: normaliser(setting, DEFAULTS, kind),
    )


DENSEPURE = Method(
    name="densepure",
    title="DensePure",
    cite="Xiao et al. 2023, DensePure: Understanding Diffusion Models for Adversarial Robustness",
    build=build,
    params=(
        *shared_params(DEFAULTS, classifier="trained on clean images"),
        Param(
            name="steps",
            default=5,
            by_dataset={"digits": 3},
            help="b, steps of the reverse diffusion; 10 as published, 5 in the rRCM paper",
        ),
        Param(
            name="votes",
            default=5,
            by_dataset={"digits": 3},
            help="K, samples of each noisy copy; 40 as published, 1 and 5 in the rRCM paper; ties to the first",
        ),
    ),
    roles=ROLES,
    size=crop_side,
    preprocessing={"imagenet": "bicubic256-crop256"},
    declines=declines,
    recognise=recognise,
)
