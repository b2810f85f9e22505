"""Networks of timm by name, as its own weights are trained: `arch=timm:NAME`; nothing is downloaded."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.types.errors import MethodError, first_line
from bench.types.suggest import closest
from methods.nets.scales import shown


def check_name(name: str) -> None:
    """Refuse a name that the installed timm does not have.

    Raises: MethodError with the closest.
    """
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise MethodError(f"timm {timm.__version__} has no model {base!r}.{closest(base, timm.list_models())}")
    if tag and name not in timm.list_pretrained(f"{base}.*"):
        known = ", ".join(each.partition(".")[2] for each in timm.list_pretrained(f"{base}.*")) or "none"
        raise MethodError(f"timm {timm.__version__} has no weights {tag!r} of {base!r}; known: {known}")


def normaliser(name: str) -> str:
    """Mean and deviation that its released weights were trained with, as the text of a normaliser.

    Raises: MethodError as `check_name`.
    """
    config = _config(name)
    return shown((tuple(config.mean), tuple(config.std)))


def timm_network(name: str, *, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """The network with fresh weights: (B, C, H, W) -> logits (B, K); for images of that size where it is made for one.

    Raises: MethodError as `check_name`, or for images that it cannot take.
    """
    from timm.models import create_model

    channels, height, width = shape
    config = _config(name)
    sized: dict[str, Any] = {}
    if config.fixed_input_size and config.input_size[1:] != (height, width):
        sized["img_size"] = (height, width)
    try:
        network: nn.Module = create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels, **sized)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as problem:
        raise MethodError(
            f"arch 'timm:{name}' cannot be built for {num_classes} classes of {height}x{width} images with {channels} "
            f"channels: {first_line(problem, 150)}; its own size is {config.input_size[1]}, as --size"
        ) from problem
    return network


def _config(name: str) -> Any:
    from timm.models import get_pretrained_cfg

    check_name(name)
    return get_pretrained_cfg(name)
