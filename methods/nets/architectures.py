"""Classifiers by name: the values of `arch`, and a builder of the network for each."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import nn

from bench.types.errors import MethodError
from bench.types.suggest import closest
from methods.nets.cifar_resnet import akamaster_resnet, cifar_resnet
from methods.nets.sizes import SIZES

KNOWN = (
    "akamaster_resnet20",
    "akamaster_resnet32",
    "akamaster_resnet44",
    "akamaster_resnet56",
    "akamaster_resnet110",
    "beit_large_patch16_224",
    "beit_large_patch16_512",
    "cifar_resnet20",
    "cifar_resnet110",
    "cifar_small_mae_vit",
    "cifar_small_resnet",
    "cifar_small_vit",
    "cifar_wrn28_10",
    "deit_base_patch16_224",
    "digits_resnet",
    "kuangliu_resnet18",
    "kuangliu_resnet34",
    "mae_vit_base_patch16",
    "mae_vit_large_patch16",
    "resnet101",
    "resnet152",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext101_32x8d",
    "resnext50_32x4d",
    "vit_base_patch16_224",
    "vit_base_patch16_224_hf",
    "vit_base_patch16_384",
    "vit_base_patch16_clip_384",
    "wide_resnet101_2",
    "wide_resnet50_2",
)

# timm's have torchvision's key set, so the published checkpoints fit as they are.
_TORCHVISION = re.compile(r"(wide_)?resnet\d+(_2)?|resnext\d+_32x\dd")
_KUANGLIU = {"kuangliu_resnet18": (2, 2, 2, 2), "kuangliu_resnet34": (3, 4, 6, 3)}

# Transformers of 16x16 patches: timm's name, and how ours differs from it.
_PATCHES_16: dict[str, tuple[str, dict[str, Any]]] = {
    "beit_large_patch16_224": ("beit_large_patch16_224", {}),
    "beit_large_patch16_512": ("beit_large_patch16_512", {}),
    "deit_base_patch16_224": ("deit_base_patch16_224", {}),
    # Mean of the patch tokens, then a norm: the classifier of masked autoencoders (He et al. 2022), DMAE among them.
    "mae_vit_base_patch16": ("vit_base_patch16_224", {"global_pool": "avg"}),
    "mae_vit_large_patch16": ("vit_large_patch16_224", {"global_pool": "avg"}),
    "vit_base_patch16_224": ("vit_base_patch16_224", {}),
    "vit_base_patch16_384": ("vit_base_patch16_384", {}),
    "vit_base_patch16_clip_384": ("vit_base_patch16_clip_384", {}),
    # Hugging Face's ViT: with timm's eps of 1e-6 its logits are off by 3e-4.
    "vit_base_patch16_224_hf": ("vit_base_patch16_224", {"norm_layer": partial(nn.LayerNorm, eps=1e-12)}),
}


def build_network(arch: str, *, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """The network of that name, with fresh weights: (B, C, H, W) -> logits (B, K).

    `cifar_resnetN` and `akamaster_resnetN` exist for every N = 6n+2, `cifar_wrnN_K` for every N = 6n+4 and width K.
    Raises: MethodError for an unknown name, or a shape that the network cannot take.
    """
    channels, height, width = shape
    family, depth = _split(arch)
    if family in ("cifar_resnet", "akamaster_resnet"):
        if depth < 8 or (depth - 2) % 6:
            raise MethodError(f"arch {arch!r}: depth must be 6n+2, such as 8, 20, 56, 110; got {depth}")
        make = cifar_resnet if family == "cifar_resnet" else akamaster_resnet
        return make(depth, num_classes, channels)
    if arch == "digits_resnet":
        # Strided stem, 8x8 to 4x4 at once: 75,000 copies a second on one core, without it 25,000; 77,754 parameters.
        return cifar_resnet(8, num_classes, channels, stem_stride=2)
    if arch == "cifar_small_resnet":
        # Strided stem, 308,650 parameters: 820 copies a second trained on one core, ResNet-20 has 64. The weights'
        # layout makes every convolution channels-last, which is worth a factor of 1.8.
        small: nn.Module = cifar_resnet(8, num_classes, channels, width=32, stem_stride=2)
        return small.to(memory_format=torch.channels_last)
    if arch in ("cifar_small_vit", "cifar_small_mae_vit"):
        return _small_vit(arch, num_classes, shape)
    if wide := re.fullmatch(r"cifar_wrn(\d{1,3})_(\d{1,2})", arch):
        from methods.nets.wide_resnet import WideResNet

        try:
            return WideResNet(int(wide[1]), int(wide[2]), num_classes=num_classes, in_channels=channels)
        except ValueError as problem:
            raise MethodError(f"arch {arch!r}: {problem}") from problem
    if arch in _KUANGLIU:
        from methods.nets.wide_resnet import KuangliuResNet

        return KuangliuResNet(_KUANGLIU[arch], num_classes=num_classes, in_channels=channels)
    if arch in KNOWN and _TORCHVISION.fullmatch(arch):
        from timm.models import create_model

        resnet: nn.Module = create_model(arch, pretrained=False, num_classes=num_classes, in_chans=channels)
        return resnet
    if arch in _PATCHES_16:
        if height != width or height % 16:
            raise MethodError(f"arch {arch!r} takes square images of a side divisible by 16, got {height}x{width}")
        from timm.models import create_model

        name, changes = _PATCHES_16[arch]
        vit: nn.Module = create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=channels, img_size=height, **changes
        )
        return vit
    if arch.startswith("timm:"):
        from methods.nets.timm_models import timm_network

        return timm_network(arch.removeprefix("timm:"), num_classes=num_classes, shape=shape)
    raise MethodError(f"no architecture named {arch!r}.{closest(arch, KNOWN)} Known: {', '.join(KNOWN)}, or timm:NAME")


def _small_vit(arch: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """timm's ViT with 4x4 patches, as wide and deep as rRCM's size XS; 809,354 parameters at 32x32 and 10 classes."""
    channels, height, width = shape
    if height != width or height % 4:
        raise MethodError(f"arch {arch!r} takes square images of a side divisible by 4, got {height}x{width}")
    from timm.models.vision_transformer import VisionTransformer

    row = SIZES["XS"]
    vit: nn.Module = VisionTransformer(
        img_size=height,
        patch_size=4,
        in_chans=channels,
        num_classes=num_classes,
        embed_dim=row.embed_dim,
        depth=row.depth,
        num_heads=row.num_heads,
        global_pool="avg" if arch == "cifar_small_mae_vit" else "token",
    )
    return vit


def damp_batchnorm(network: nn.Module) -> None:
    """Halve every batch norm of a network that was never trained.

    With untouched statistics batch norm does not normalise: each residual block would double the variance, and 54 of
    them overflow float16.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(0.5)


def _split(arch: str) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z_]+_resnet)(\d+)", arch)
    return (match.group(1), int(match.group(2))) if match else (arch, 0)
