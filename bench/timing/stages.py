"""Where the time of a forward pass goes: a classifier whose parts leave marks and whose labels are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.types import BaseClassifier, Noise
from bench.types.classifier import Around

if TYPE_CHECKING:
    from torch import Tensor, nn

Switch = Callable[[str], None]  # told the stage that begins: "noise", "denoise", "classify", "count"


@dataclass(slots=True)
class Marked(Around):
    """A base classifier that tells when it begins, draws its own noise, denoises, and ends.

    It is not replayable, whatever the inner one is: marks are left by a pass, not by its recording.
    """

    switch: Switch

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """The wrapped one's labels."""
        self.switch("classify")
        labels = self.inner.predict(x, _MarkedNoise(noise, self.switch))
        self.switch("count")
        return labels


@dataclass(slots=True)
class _MarkedNoise:
    inner: Noise
    switch: Switch

    def randn(self, *shape: int) -> Tensor:
        self.switch("noise")
        values = self.inner.randn(*shape)
        self.switch("classify")
        return values


@contextmanager
def marked(classifier: BaseClassifier, denoisers: tuple[nn.Module, ...], switch: Switch) -> Iterator[Marked]:
    """The classifier with marks, its denoising networks hooked while inside."""

    def enter(*_: Any) -> None:
        switch("denoise")

    def leave(*_: Any) -> None:
        switch("classify")

    hooks = [hook for m in denoisers for hook in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        yield Marked(classifier, switch)
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(slots=True)
class _Calls:
    """The modules being run, and which of them turned an image into an image."""

    shape: tuple[int, int, int]
    running: list[nn.Module] = field(default_factory=list)
    found: list[tuple[nn.Module, tuple[nn.Module, ...]]] = field(default_factory=list)  # and what it ran inside of

    def enter(self, module: nn.Module, _args: Any) -> None:
        self.running.append(module)

    def leave(self, module: nn.Module, args: Any, result: Any) -> None:
        self.running.pop()
        if self._image_to_image(args, result) and any(True for _ in module.parameters()):
            self.found.append((module, tuple(self.running)))

    def _image_to_image(self, args: Any, result: Any) -> bool:
        channels, *_ = self.shape
        first = args[0] if args else None
        shape, made = tuple(getattr(first, "shape", ())), tuple(getattr(result, "shape", ()))
        # Twice the channels: noise and its variance. Sides are the input's own: an image may have been padded.
        return len(shape) == len(made) == 4 and made[1] in (channels, 2 * channels) and made[2:] == shape[2:]


def denoisers(run: Callable[[], object], shape: tuple[int, int, int]) -> tuple[nn.Module, ...]:
    """The networks that make images of images in one run of a classifier: outermost modules with parameters.

    Found by the shapes that pass through, since methods name their networks as they like: a stage is what it does.
    """
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    calls = _Calls(shape)
    hooks = (register_module_forward_pre_hook(calls.enter), register_module_forward_hook(calls.leave))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    modules = [module for module, _ in calls.found]
    outermost = [m for m, inside in calls.found if not any(outer is other for outer in inside for other in modules)]
    return tuple(dict.fromkeys(outermost))
