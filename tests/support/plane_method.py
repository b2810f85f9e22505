"""A method whose images are easy, wrong and near, as a real one's: a plane between handwritten zeros and ones."""

from __future__ import annotations

import time

from bench.types import Method, Param


class Plane:
    num_classes = 10

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def predict(self, x, noise):
        time.sleep(self.pause)
        # A one is dark at the sides of its middle row, a zero in the centre.
        middle = x[:, 0, 3:5].double().sum(1)
        own = noise.randn().double() * 0.3
        return (middle[:, 3:5].sum(1) - middle[:, [2, 5]].sum(1) + own > 0).long()


PLANE = Method(
    name="plane",
    title="",
    cite="",
    build=lambda setting: Plane(float(setting.params["pause"])),
    params=(Param(name="pause", default=0.0, help="seconds a batch"),),
)
