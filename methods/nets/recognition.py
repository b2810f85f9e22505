"""Which network a file of weights belongs to, told from the names and shapes of its tensors; no torch.

A normaliser has no tensors, and a final layer norm may be skipped or not with the same tensors: those stay options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from methods.nets.sizes import SIZES

Shapes = Mapping[str, tuple[int, ...]]

_FFDNETS = {96: "ffdnet", 32: "ffdnet_digits"}  # by width
_WRAPPERS = ("1.", "module.")  # Sequential(normaliser, network), DataParallel: in either order


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
    if stem and "layer1.0.conv3.weight" in tensors:
        return "resnet50" if stages == [3, 4, 6, 3] and tensors.get("fc.weight", (0, 0))[1] == 2048 else None
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
        return "vit_base_patch16_224_hf" if width == 768 and "classifier.weight" in tensors else None
    patches = tensors.get("patch_embed.proj.weight", ())
    if "head.weight" in tensors and patches[1:] == (3, 16, 16):
        return _transformer(tensors, width=patches[0], depth=_count(tensors, "blocks"))
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
    return "vit_base_patch16_224" if size == "base" else None


def _count(names: Iterable[str], stem: str) -> int:
    """How many numbered children `stem` has."""
    pattern = re.compile(rf"{re.escape(stem)}\.(\d+)\.")
    return len({match.group(1) for name in names if (match := pattern.match(name))})
