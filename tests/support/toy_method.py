"""A method as a stranger would write it: votes by the sign of a projection, slowly if asked to."""

from __future__ import annotations

import time

from bench.types import Method, Param


class Projection:
    num_classes = 10

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def predict(self, x, noise):
        time.sleep(self.pause)
        return (x.flatten(1).sum(1) + noise.randn().mul(0.1)).long() % 10


def _build(setting):
    return Projection(float(setting.params["pause"]))


TOY = Method(
    name="toy",
    title="Toy",
    cite="nobody",
    build=_build,
    params=(Param(name="pause", default=0.0, help="seconds a batch"),),
)
