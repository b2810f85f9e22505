"""The classifiers that stand behind a denoiser: the pixels that each of them was trained on; no torch, no network."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backbone:
    """What a classifier wants to see."""

    side: int | None  # of its square images; None: whatever comes
    normaliser: str  # a kind of methods.nets.normalisers


_NAMED = {
    "beit_large_patch16_512": Backbone(512, "half"),
    "beit_large_patch16_224": Backbone(224, "half"),
    "vit_base_patch16_224": Backbone(224, "half"),
    "vit_base_patch16_224_hf": Backbone(224, "half"),
    # The same network as the ViT, tensor by tensor; only its normaliser tells the two apart.
    "deit_base_patch16_224": Backbone(224, "mean_std_imagenet"),
    "mae_vit_base_patch16": Backbone(224, "mean_std"),
    "mae_vit_large_patch16": Backbone(224, "mean_std"),
    "vit_base_patch16_384": Backbone(384, "half"),
}
# torchvision's, whatever they are called
_TORCHVISION = re.compile(r"(wide_)?resnet\d+(_2)?|resnext\d+_\d+x\dd")


def backbone(arch: str) -> Backbone:
    """What the classifier of that architecture wants to see; convolutional networks take any side."""
    if arch in _NAMED:
        return _NAMED[arch]
    if _TORCHVISION.fullmatch(arch):
        return Backbone(None, "mean_std_imagenet")
    if arch.startswith("cifar_wrn"):
        return Backbone(None, "mean_std_pixels")  # DensePure's, and others': CIFAR-10's own numbers
    # Idelbayev's CIFAR-10 networks were trained with ImageNet's numbers, all others with those of their dataset.
    return Backbone(None, "mean_std_imagenet" if re.match(r"akamaster_resnet\d", arch) else "mean_std")
