"""Architectures recognised from the names and shapes of a file's tensors; no torch.

A normaliser has no tensors, and a final layer norm may be skipped or not with the same tensors: those stay options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from methods.nets.sizes import SIZES

Shapes = Mapping[str, tuple[int, ...]]

COUNTER = "num_batches_tracked"  # inference never reads it, and checkpoints before PyTorch 0.4.1 lack it

_FFDNETS = {96: "ffdnet", 32: "ffdnet_digits"}  # by width
# ImageNet's, by blocks a stage: of basic blocks, and of bottlenecks by their 3x3 convolutions (channels, of a group).
_BASIC = {(2, 2, 2, 2): "18", (3, 4, 6, 3): "34"}
_BOTTLENECKS = {
    ((3, 4, 6, 3), (64, 64)): "resnet50",
    ((3, 4, 23, 3), (64, 64)): "resnet101",
    ((3, 8, 36, 3), (64, 64)): "resnet152",
    ((3, 4, 6, 3), (128, 128)): "wide_resnet50_2",
    ((3, 4, 23, 3), (128, 128)): "wide_resnet101_2",
    ((3, 4, 6, 3), (128, 4)): "resnext50_32x4d",
    ((3, 4, 23, 3), (256, 8)): "resnext101_32x8d",
}
# What else is in circulation, by a name that only its tensors have; named, not loaded.
_ELSEWHERE = (
    (r"resnet\.embedder\.", "a ResNet of Hugging Face's transformers"),
    (r"vit\.embeddings\.", "a ViT of Hugging Face's transformers"),
    (r"features\.denseblock1\.|dense1\.", "a DenseNet"),
    (r"features\.0\.0\.weight|features\.1\.conv\.", "a MobileNet or EfficientNet of torchvision"),
    (r"features\.0\.weight", "a VGG or AlexNet"),
    (r"stages\.0\.(blocks\.)?0\.(conv_)?dw|downsample_layers\.", "a ConvNeXt"),
    (r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table", "a Swin transformer"),
    (r"visual\.|text_model\.|logit_scale", "a CLIP"),
    (r"conv_stem\.", "an EfficientNet or MobileNet of timm"),
    (r"encoder\.layers\.encoder_layer_0\.|conv_proj\.", "a ViT of torchvision"),
    (r"backbone\.body\.|rpn\.", "a detector of torchvision"),
    (r"(input_blocks|down_blocks)\.\d", "a diffusion model's UNet"),
    (r"layer1\.0\.shortcut|layer2\.0\.shortcut", "a residual network for small images in another layout"),
)
_WRAPPERS = ("1.", "module.")  # Sequential(normaliser, network), DataParallel: in either order


def first_difference(expected: Shapes, came: Shapes) -> tuple[str, str, str] | None:
    """The first name whose shapes differ, and both; "none" where it is on one side alone."""
    for name in sorted(expected.keys() | came.keys()):
        if not name.endswith(COUNTER) and expected.get(name) != came.get(name):
            return name, str(expected.get(name, "none")), str(came.get(name, "none"))
    return None


def bare(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The same tensors, without the prefixes that a wrapped network gives to all of them."""
    named = dict(shapes)
    while named:
        for wrapper in _WRAPPERS:
            if all(name.startswith(wrapper) for name in named):
                named = {name.removeprefix(wrapper): shape for name, shape in named.items()}
                break
        else:
            break
    return named


def classifier_arch(shapes: Shapes) -> str | None:
    """The architecture of a classifier, as `build_network` calls it; None where it is not known."""
    tensors = bare(shapes)
    stem = tensors.get("conv1.weight")
    stages = [_count(tensors, f"layer{i}") for i in (1, 2, 3, 4)]
    blocks = (stages[0], stages[1], stages[2], stages[3])
    if stem and "layer1.0.conv3.weight" in tensors:
        middle = tensors.get("layer1.0.conv2.weight", ())[:2]
        small = stem[2:] != (7, 7) or tensors.get("fc.weight", (0, 0))[1] != 2048
        return None if small else _BOTTLENECKS.get((blocks, (*middle,)))  # type: ignore[arg-type]
    if stem and stem[0] == 64 and blocks in _BASIC:
        if stem[2:] == (7, 7) and tensors.get("fc.weight", (0, 0))[1] == 512:
            return f"resnet{_BASIC[blocks]}"
        plain = "layer2.0.shortcut.1.weight" in tensors and tensors.get("bn1.weight") == (64,)
        return (
            f"kuangliu_resnet{_BASIC[blocks]}" if stem[2:] == (3, 3) and plain and "linear.weight" in tensors else None
        )
    if stem and stem[0] == 16 and "block1.layer.0.bn1.weight" in tensors and "fc.weight" in tensors:
        # The head tells the width: its input is the last stage's 64 k channels.
        return f"cifar_wrn{6 * _count(tensors, 'block1.layer') + 4}_{tensors['fc.weight'][-1] // 64}"
    if stem == (32, 3, 3, 3) and stages == [1, 1, 1, 0] and "fc.weight" in tensors:
        return "cifar_small_resnet"
    if stem and stem[0] == 16 and stem[2:] == (3, 3) and stages[0] > 0 and stages == [stages[0]] * 3 + [0]:
        depth = 6 * stages[0] + 2
        if "linear.weight" in tensors:
            return f"akamaster_resnet{depth}"
        if "fc.weight" in tensors:
            # The strided stem of the digits' network leaves no trace in the shapes; its single channel does.
            return "digits_resnet" if (depth, stem[1]) == (8, 1) else f"cifar_resnet{depth}"
    if "vit.embeddings.cls_token" in tensors:
        width = tensors["vit.embeddings.cls_token"][-1]
        fits = side_of(tensors) in (None, 224) and "classifier.weight" in tensors
        return "vit_base_patch16_224_hf" if width == 768 and fits else None
    patches = tensors.get("patch_embed.proj.weight", ())
    if "head.weight" in tensors and patches[1:] == (3, 16, 16):
        return _transformer(tensors, width=patches[0], depth=_count(tensors, "blocks"))
    if "head.weight" in tensors and patches[2:] == (4, 4) and "blocks.0.attn.qkv.bias" in tensors:
        row = SIZES["XS"]
        if (patches[0], _count(tensors, "blocks")) == (row.embed_dim, row.depth):
            return "cifar_small_mae_vit" if "fc_norm.weight" in tensors else "cifar_small_vit"
    return None


def denoiser_arch(shapes: Shapes) -> str | None:
    """The architecture of a denoiser, as `build_denoiser` calls it; None where it is not known."""
    tensors = bare(shapes)
    if _count(tensors, "dense_memory") == 3:
        return "memnet"
    if "dncnn.0.weight" in tensors:
        return {64: "dncnn", 128: "dncnn_wide"}.get(tensors["dncnn.0.weight"][0])
    first = tensors.get("model.0.weight", (0, 0))
    if first[0] in _FFDNETS and first[1] % 4 == 1:  # the channels of 2x2 pixels, and the noise level
        return _FFDNETS[first[0]]
    return "dncnn_blind" if first[0] == 64 else None


def vit_size(shapes: Shapes) -> str | None:
    """The size of a time-token ViT, fine-tuned or not; None where it is none of `SIZES`."""
    tensors = bare(shapes)
    encoder = {name.removeprefix("base_model."): shape for name, shape in tensors.items()}
    if "pos_embed" not in encoder or "blocks.0.attn.qkv.bias" in encoder:  # an ordinary ViT has that bias
        return None
    found = (encoder["pos_embed"][-1], _count(encoder, "blocks"))
    return next((name for name, row in SIZES.items() if (row.embed_dim, row.depth) == found), None)


def _transformer(tensors: Shapes, *, width: int, depth: int) -> str | None:
    # DeiT has the ViT's tensors: its name is an option, the ViT's is what they show.
    size = {(768, 12): "base", (1024, 24): "large"}.get((width, depth))
    if bias := tensors.get("blocks.0.attn.relative_position_bias_table"):
        # (2w - 1)^2 offsets between w x w patches, and 3 for the class token
        return {732: "beit_large_patch16_224", 3972: "beit_large_patch16_512"}.get(bias[0]) if size == "large" else None
    if "fc_norm.weight" in tensors:
        return f"mae_vit_{size}_patch16" if size else None
    if size != "base":
        return None
    if "norm_pre.weight" in tensors:
        return "vit_base_patch16_clip_384" if side_of(tensors) == 384 else None
    return "vit_base_patch16_384" if side_of(tensors) == 384 else "vit_base_patch16_224"


def side_of(shapes: Shapes) -> int | None:
    """The side of the images that a transformer of 16x16 patches was trained on, by its places; None for others."""
    names = ("pos_embed", "vit.embeddings.position_embeddings")
    places = next((shapes[name] for name in names if len(shapes.get(name, ())) == 3), None)
    if places is None or places[1] < 2:
        return None
    across = round((places[1] - 1) ** 0.5)
    return 16 * across if across**2 == places[1] - 1 else None


def described(shapes: Shapes) -> str | None:
    """Description of a network that cannot be loaded here, for a message; None where the tensors show nothing known."""
    tensors = bare(shapes)
    stem = tensors.get("conv1.weight", ())
    stages = [_count(tensors, f"layer{i}") for i in (1, 2, 3, 4)]
    patches = tensors.get("patch_embed.proj.weight", ())
    if "block1.layer.0.bn1.weight" in tensors:
        return "a wide residual network"
    if len(patches) == 4 and "blocks.0.attn.qkv.weight" in tensors:
        side = f" for images of {side_of(tensors)}" if patches[2] == 16 and side_of(tensors) else ""
        depth = _count(tensors, "blocks")
        return f"a ViT of {depth} blocks, {patches[0]} wide, patches of {patches[2]}x{patches[3]}{side}"
    if len(stem) == 4 and sum(stages) > 0 and not any(name.startswith("layer2.0.shortcut") for name in tensors):
        where = "ImageNet's" if stem[2:] == (7, 7) else "a small image's"
        return f"a residual network of {'+'.join(map(str, filter(None, stages)))} blocks behind {where} stem"
    return next((what for pattern, what in _ELSEWHERE if any(re.match(pattern, name) for name in tensors)), None)


def _count(names: Iterable[str], stem: str) -> int:
    """Number of numbered children of `stem`."""
    pattern = re.compile(rf"{re.escape(stem)}\.(\d+)\.")
    return len({match.group(1) for name in names if (match := pattern.match(name))})
