"""Bytes that a process needs to train: weights, gradients, moments, and what the backward pass keeps; trains nothing.

What an allocator rounds up, and what kernels borrow for a moment, is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from methods.nets.blocks import Block
from methods.nets.vit import TimeTokenViT
from methods.training.distributed import BUCKET

if TYPE_CHECKING:
    from methods.training.run_stage import TrainingContext

CARD = 79 * 2**30  # bytes that a GPU of "80 GB" tells of itself: the one that is asked about where there is none
FILLED = 0.8  # of its bytes: allocators round up, and kernels borrow
MOMENTS = {torch.optim.SGD: 1, torch.optim.Adam: 2, torch.optim.AdamW: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of one of so many processes."""

    processes: int
    weights: int  # of all networks, averages and targets too
    gradients: int  # and the buckets that they travel in
    optimiser: int  # moments
    activations: int  # what the backward pass keeps at once
    features: int  # rows of all processes that a contrastive loss sees, and their similarities
    images: int  # views and noise

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.features + self.images


def held(modules: Iterable[nn.Module], optimiser: torch.optim.Optimizer, processes: int) -> tuple[int, int, int]:
    """Bytes of weights, gradients and moments, whatever the batch."""
    weights = sum(t.nbytes for module in modules for t in module.state_dict().values())
    trained = [p for group in optimiser.param_groups for p in group["params"] if p.requires_grad]
    gradients = sum(p.nbytes for p in trained)
    # Buckets on their way are a second copy, and so is the one that is unpacked.
    sent = gradients + min(gradients, 4 * BUCKET) if processes > 1 else 0
    moments = next((n for kind, n in MOMENTS.items() if isinstance(optimiser, kind)), 2)
    return weights, gradients + sent, moments * gradients


def needed(
    modules: Collection[nn.Module],
    optimiser: torch.optim.Optimizer,
    context: TrainingContext,
    processes: int,
    kept: Callable[[int], tuple[int, int]],
) -> Memory:
    """What one of so many processes needs; `kept` tells activations and features of so many images of a batch."""
    settings = context.settings
    whole = settings.batch // settings.accumulate
    images = whole // processes
    weights, gradients, moments = held(modules, optimiser, processes)
    if settings.ema > 0:
        weights += sum(t.nbytes for module in modules for t in module.state_dict().values())
    pixels = 4 * math.prod(context.dataset.shape)
    activations, features = kept(images)
    return Memory(
        processes=processes,
        weights=weights,
        gradients=gradients,
        optimiser=moments,
        activations=activations,
        features=features,
        # Views, as many normalised or noisy ones, their noise, and that which is drawn for the whole batch.
        images=pixels * ((2 * context.views + 1) * images + whole * (processes > 1)),
    )


def fitting(total: Callable[[int], int], images: int, room: float) -> int:
    """The largest micro-batch, a power of two, of which `total` fits the room; 0, no micro-batches, where that does.

    1 where nothing fits: what is left is then not the micro-batch's.
    """
    if total(0) <= room or images < 2:
        return 0
    micro = 1 << (images - 1).bit_length() - 1
    while micro > 1 and total(micro) > room:
        micro //= 2
    return micro


def room_of(device: str) -> float:
    """Bytes that a run may plan with on a CUDA device; on another, those of a GPU that it is asked about."""
    card = torch.cuda.get_device_properties(device).total_memory if device.startswith("cuda") else CARD
    return FILLED * card


def encoder_bytes(encoder: TimeTokenViT, rows: int, *, half: bool, checkpoint: bool = False) -> int:
    """What the backward pass of a time-token ViT keeps of so many images.

    With T tokens of width D, a block keeps of each image: its input and the sum after attention (float32, T D each),
    the normalised tokens before both linear maps, query, key, value and what attention makes of them (T D each), and
    the MLP's hidden layer before and after GELU (T M each); the scale and shift of both norms (2 T each) and the
    log-sum-exp of each head. The last block computes the class token alone, from the keys and values of all.
    With checkpoints, the inputs of all blocks and the rest of one.
    """
    wide, narrow = 4, 2 if half else 4
    T, D = encoder.pos_embed.shape[1:]
    block = cast("Block", encoder.blocks[0])
    heads, M = block.attn.num_heads, block.mlp.fc1.out_features
    residual = wide * T * D
    inner = residual + narrow * (6 * T * D + 2 * T * M) + wide * (4 * T + T * heads)
    # The class token's own rows are a T-th of the others'.
    last = residual + narrow * 3 * T * D + wide * 2 * T + narrow * (4 * D + 2 * M) + wide * 4 * D
    full = len(encoder.blocks) - 1
    blocks = full * residual + inner if checkpoint and full else full * (residual + inner)
    patches = encoder.patch_embed.proj
    pixels = narrow * patches.in_channels * encoder.patch_embed.image_size**2 if patches.weight.requires_grad else 0
    return rows * (blocks + last + pixels) + (_half_copies(encoder.blocks, encoder.patch_embed) if half else 0)


def projector_bytes(projector: nn.Module, rows: int, *, half: bool, shared: bool = False) -> int:
    """What the backward pass of a projector keeps of so many features: the inputs of all its layers.

    Batch norms that are `shared` among processes keep what they have centred, in float32, as well.
    """
    size = 2 if half else 4
    widths = [layer.in_features for layer in projector.modules() if isinstance(layer, nn.Linear)]
    norms = [layer.num_features for layer in projector.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    each = size * sum(widths) + (size + 4 * shared) * sum(norms)
    return rows * each + (_half_copies(projector) if half else 0)


def _half_copies(*modules: nn.Module) -> int:
    """The copies of linear maps that autocast computes with, made once a step."""
    maps = [m for module in modules for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return sum(2 * p.numel() for m in maps for p in m.parameters())


def contrastive_bytes(
    encoder: TimeTokenViT, images: int, batch: int, *, views: int, micro_batch: int, half: bool, checkpoint: bool
) -> tuple[int, int]:
    """What rRCM's pre-training keeps of so many images of a batch: activations at once, and features.

    `views` passes through the online network, of which all but one are contrasted through its projector.
    """
    chunked = 0 < micro_batch < images
    dim = encoder.embed_dim
    assert encoder.projection_head is not None  # noqa: S101 - pre-training builds it
    at_once = views * (micro_batch if chunked else images)
    activations = encoder_bytes(encoder, at_once, half=half, checkpoint=checkpoint)
    activations += projector_bytes(encoder.projection_head, (views - 1) * images, half=half, shared=images < batch)
    out = cast("nn.Linear", encoder.projection_head[-1]).out_features
    features = similarity_bytes(images, batch, dim) + (views - 1) * similarity_bytes(images, batch, out)
    return activations, features + (4 * views * images * dim if chunked else 0)


def similarity_bytes(rows: int, of: int, dim: int) -> int:
    """What a contrastive loss keeps of so many rows against all: features, similarities and their softmax."""
    return 4 * (2 * rows * of + 3 * (rows + of) * dim)


@contextmanager
def counted(ignored: Iterable[Tensor] = ()) -> Iterator[list[int]]:
    """Bytes that autograd keeps of what is computed inside, each storage once; the last item is the sum so far."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in ignored}
    kept = [0]
    alive: list[Tensor] = []  # else another tensor takes the place of one that is gone

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in storages:
            storages.add(place)
            alive.append(tensor)
            kept.append(kept[-1] + tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def shown(size: float) -> str:
    """Bytes for people, in units of 1000."""
    power = min(4, int(math.log(max(size, 1), 1000)))
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
