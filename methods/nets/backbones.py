"""Image side and normaliser that each classifier behind a denoiser was trained with; no torch, no network."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backbone:
    """Images that a classifier was trained on."""

    side: int | None  # of its square images; None: any
    normaliser: str  # a kind of methods.nets.normalisers


_CLIP = "0.48145466,0.4578275,0.40821073/0.26862954,0.26130258,0.27577711"  # Radford et al. 2021, in their code
_NAMED = {
    "beit_large_patch16_512": Backbone(512, "half"),
    "beit_large_patch16_224": Backbone(224, "half"),
    "vit_base_patch16_224": Backbone(224, "half"),
    "vit_base_patch16_224_hf": Backbone(224, "half"),
    # The same network as the ViT, tensor by tensor; only its normaliser differs.
    "deit_base_patch16_224": Backbone(224, "mean_std_imagenet"),
    "mae_vit_base_patch16": Backbone(224, "mean_std"),
    "mae_vit_large_patch16": Backbone(224, "mean_std"),
    "vit_base_patch16_384": Backbone(384, "half"),
    "vit_base_patch16_clip_384": Backbone(384, _CLIP),
    "cifar_small_vit": Backbone(None, "half"),
}
# torchvision's, whatever they are called
_TORCHVISION = re.compile(r"(wide_)?resnet\d+(_2)?|resnext\d+_\d+x\dd")


def backbone(arch: str) -> Backbone:
    """Images that the classifier of that architecture was trained on; convolutional networks take any side."""
    if arch in _NAMED:
        return _NAMED[arch]
    if _TORCHVISION.fullmatch(arch):
        return Backbone(None, "mean_std_imagenet")
    if arch.startswith("cifar_wrn"):
        return Backbone(None, "mean_std_pixels")  # DensePure's, and others': CIFAR-10's own numbers
    # Idelbayev's CIFAR-10 networks were trained with ImageNet's numbers, all others with those of their dataset.
    return Backbone(None, "mean_std_imagenet" if re.match(r"akamaster_resnet\d", arch) else "mean_std")
