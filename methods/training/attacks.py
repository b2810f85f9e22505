"""Adversarial examples for a classifier under noise, found inside a training step: PGD, DDN, and SmoothMix's ascent.

All attack the smoothed soft classifier (1/m) sum_i F(x + delta_i), whose m noises are drawn once, fixed over the
attack, and used again by the step that learns from the example. Images stay in [0, 1]; the noises do not.
Units: radius and step are l2 lengths of [0, 1] pixels. SmoothAdv's own `--epsilon 64, 127, 255, 512` is divided by 256,
so that it means 0.25, 0.496, 0.996, 2.0 (its README says 255).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from methods.training.losses import at_least_float32

Logits = Callable[[Tensor], Tensor]  # noisy pixels in [0, 1] -> (B, K)

GAMMA = 0.05  # share by which DDN's norm grows or shrinks a step
STEP_FIRST, STEP_LAST = 1.0, 0.01  # of DDN's cosine
LEVELS = 256  # of an 8-bit pixel


def pgd(
    logits: Logits, x: Tensor, labels: Tensor, noises: Tensor, *, radius: float, steps: int, source: torch.Generator
) -> Tensor:
    """Projected gradient ascent from the image itself: `steps` steps of length 2 * radius / steps.

    Each step: along the normalised gradient (a random direction where it is 0), into [0, 1], into the ball. Shrinking
    towards x keeps the pixels in [0, 1], so both hold in the end.
    Source: Salman et al. 2019, SmoothAdv-PGD. No random start, as in their code.
    """
    moved = x
    for _ in range(steps):
        _, gradient = _ascent(logits, moved, labels, noises)
        moved = moved + (2 * radius / steps) * unit(gradient, source)
        moved = within(moved.clamp(0.0, 1.0), x, radius)
    return moved


def ddn(
    logits: Logits, x: Tensor, labels: Tensor, noises: Tensor, *, radius: float, steps: int, source: torch.Generator
) -> Tensor:
    """Decoupled direction and norm: the smallest perturbation seen to fool it, cut to the ball; x itself where none.

    The norm begins at `radius`, so that a warm-up of one is a warm-up of the other. Every perturbation but the last is
    tried, the first of them being none. Fooled is whose m hard labels have another class most often; of several, the
    lowest. Pixels are rounded to 8 bits on the way, and the perturbation again after the cut, which may leave the ball
    by the rounding: sqrt(C H W) / 510 at most.
    Source: Rony et al. 2019, Algorithm 1, on the smoothed classifier as Salman et al. 2019, SmoothAdv-DDN; hard labels
    and rounding as in their code.
    """
    B = len(x)
    delta = torch.zeros_like(x)
    best = torch.zeros_like(x)
    farthest = torch.maximum(x, 1 - x).flatten(1).norm(dim=1)  # no image is farther away
    smallest, norm = farthest.clone(), x.new_full((B,), radius)
    for step in range(steps):
        length = STEP_LAST + (STEP_FIRST - STEP_LAST) * (1 + math.cos(math.pi * step / steps)) / 2
        copies, gradient = _ascent(logits, x + delta, labels, noises)
        fooled = copies.argmax(dim=2).mode(dim=0).values != labels
        size = delta.flatten(1).norm(dim=1)
        better = fooled & (size < smallest)
        smallest = torch.where(better, size, smallest)
        best = torch.where(_per_image(better), delta, best)
        delta = delta + length * unit(gradient, source)
        norm = torch.minimum(norm * torch.where(fooled, 1 - GAMMA, 1 + GAMMA), farthest)
        delta = delta * _per_image(norm / delta.flatten(1).norm(dim=1).clamp_min(1e-12))
        delta = ((x + delta) * (LEVELS - 1)).round().div(LEVELS - 1).clamp(0.0, 1.0) - x
    best = ((within(x + best, x, radius) - x) * (LEVELS - 1)).round() / (LEVELS - 1)
    return (x + best).clamp(0.0, 1.0)  # 8-bit images are in the range already


def mixing_ends(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    noises: Tensor,
    *,
    length: float,
    steps: int,
    clean_after: int,
    warmup: float,
    max_norm: float | None = None,
) -> tuple[Tensor, Tensor]:
    """SmoothMix's two ends: what counts as clean, and the adversary after `steps` steps of `length`.

    No ball around x, unless `max_norm` is given: then every step ends in it. The clean end is x, or, for `clean_after`
    = 1 ("one-step adversary"), where the ascent is after so many steps, projected to the ball of warmup * length *
    clean_after. Where the gradient is 0 an image stays.
    Source: Jeong et al. 2021, Algorithm 1; the ball at every step, before the range of pixels, as in their code.
    """
    if not 0 <= clean_after <= steps:
        raise ValueError(f"clean_after must be within the {steps} steps, got {clean_after}")
    moved = clean = x
    for step in range(1, steps + 1):
        _, gradient = _ascent(logits, moved, labels, noises)
        moved = moved + length * unit(gradient, None)
        if max_norm is not None:
            moved = within(moved, x, max_norm)
        moved = moved.clamp(0.0, 1.0)
        if step == clean_after:
            clean = within(moved, x, warmup * length * clean_after)
    return clean, moved


def within(moved: Tensor, x: Tensor, radius: float) -> Tensor:
    """The nearest point of the l2 ball around each image."""
    delta = moved - x
    size = _per_image(delta.flatten(1).norm(dim=1))
    # Twice rounded, the sum may be outside by its last bit; only what is outside is touched.
    return torch.where(size > radius, x + delta * (radius / size.clamp_min(1e-12)), moved)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """The network in eval mode and without gradients of its own, as an attack sees it; afterwards as it was."""
    training = network.training
    learning = [p for p in network.parameters() if p.requires_grad]
    network.eval()
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
        network.train(training)


def _ascent(logits: Logits, x: Tensor, labels: Tensor, noises: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of the noisy copies, and the gradient of -log p of the label by the smoothed classifier.

    Shapes: x (B, C, H, W), labels (B,), noises (m, B, C, H, W); result (m, B, K) and (B, C, H, W).
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        copies = _log_copies(logits, x, noises)
        loss = -_log_average(copies).gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(loss, x)
    return copies.detach(), gradient


def _log_copies(logits: Logits, x: Tensor, noises: Tensor) -> Tensor:
    m, B = noises.shape[:2]
    return torch.log_softmax(at_least_float32(logits((x + noises).flatten(0, 1))), dim=1).view(m, B, -1)


def _log_average(copies: Tensor) -> Tensor:
    # Averaged in the log domain: a plain mean underflows to log(0) where no copy believes in the label.
    return torch.logsumexp(copies, dim=0) - math.log(len(copies))


def unit(gradient: Tensor, source: torch.Generator | None) -> Tensor:
    """Each image's gradient at length 1; where it is 0, a random direction from `source`, or 0 without one."""
    size = _per_image(gradient.flatten(1).norm(dim=1))
    unit = gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)
    if source is None:
        return unit
    flat = size == 0
    # Where a look would wait for the device, directions are drawn unseen.
    if gradient.device.type == "cpu" and not bool(flat.any()):
        return unit
    drawn = torch.randn(gradient.shape, generator=source, device=gradient.device, dtype=gradient.dtype)
    return torch.where(flat, drawn / _per_image(drawn.flatten(1).norm(dim=1)), unit)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
