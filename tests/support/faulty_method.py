"""A stranger's method with a fault of its own: while it votes, always or until a file is there."""

from __future__ import annotations

from pathlib import Path

from bench.types import Method, Param


class Faulty:
    num_classes = 10

    def __init__(self, fails: str, marker: str) -> None:
        self.fails, self.marker = fails, marker

    def predict(self, x, noise):
        if self.fails == "in predict":
            raise ValueError("my own fault")
        if self.fails == "until it is mended" and not Path(self.marker).exists():
            raise ValueError("my own fault")
        return x.new_zeros(len(x)).long()


FAULTY = Method(
    name="faulty",
    title="",
    cite="",
    build=lambda setting: Faulty(str(setting.params["fails"]), str(setting.params["marker"])),
    params=(Param(name="fails", default="never", help="when"), Param(name="marker", default="", help="a file")),
)
