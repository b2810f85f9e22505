"""Labels of points in a plot, put where they cover neither points nor each other; no drawing of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle, in pixels of the canvas."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: Box) -> float:
        """The area that lies outside the frame."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(frame)


@dataclass(frozen=True, slots=True)
class Point:
    """A marker and the size of its label, in pixels of the canvas."""

    x: float
    y: float
    radius: float  # of the marker
    width: float  # of the label
    height: float


_ANGLES = tuple(math.radians(a) for a in (0, 180, 30, -30, 150, -150, 60, -60, 120, -120, 90, -90))
_DISTANCES = (3.0, 9.0, 18.0, 30.0, 45.0, 65.0, 90.0, 120.0)  # from the marker's rim, in label heights / 10


def place(points: Sequence[Point], frame: Box) -> tuple[Box, ...]:
    """A box for each label, near its point; the same for the same points.

    Greedy, most crowded point first: each takes the nearest of 96 places that covers nothing, or else covers least.
    """
    markers = [Box(p.x - p.radius, p.y - p.radius, p.x + p.radius, p.y + p.radius) for p in points]
    crowd = [sum(math.hypot(p.x - q.x, p.y - q.y) < 4 * p.height for q in points) for p in points]
    boxes: dict[int, Box] = {}
    for k in sorted(range(len(points)), key=lambda k: (-crowd[k], -points[k].y)):
        taken = [*boxes.values(), *markers]
        leaders = [(points[j], box) for j, box in boxes.items()]
        costs: list[tuple[float, int, Box]] = []
        for box, distance in _candidates(points[k]):
            covered = sum(box.overlap(other) for other in taken) + 4 * box.outside(frame)
            crossed = sum(_crosses(points[k], box, q, other) for q, other in leaders)
            beside = sum(_closeness(box, q, points[k].height) for j, q in enumerate(points) if j != k)
            costs.append((covered + (crossed + beside) * points[k].height ** 2 + distance, len(costs), box))
        boxes[k] = min(costs)[2]  # of equal cost the first
    return tuple(boxes[k] for k in range(len(points)))


def nearest(point: Point, box: Box) -> tuple[float, float]:
    """The place on the box's rim that is nearest to the point: where a leader line ends."""
    return min(max(point.x, box.left), box.right), min(max(point.y, box.bottom), box.top)


def _closeness(box: Box, other: Point, height: float) -> float:
    """From 0 to 1, how much a label seems to be that of another point than its own."""
    x, y = nearest(other, box)
    return max(0.0, 1 - max(0.0, math.hypot(x - other.x, y - other.y) - other.radius) / height)


def _candidates(point: Point) -> list[tuple[Box, float]]:
    found = []
    for step in _DISTANCES:
        away = point.radius + step * point.height / 10
        for angle in _ANGLES:
            x, y = point.x + away * math.cos(angle), point.y + away * math.sin(angle)
            # The box hangs from the side that faces its point.
            left = x - point.width * (1 - math.cos(angle)) / 2
            bottom = y - point.height * (1 - math.sin(angle)) / 2
            found.append((Box(left, bottom, left + point.width, bottom + point.height), away))
    return found


def _crosses(point: Point, box: Box, other: Point, other_box: Box) -> bool:
    """Whether the leader line of one label cuts that of the other."""
    a, b = (point.x, point.y), nearest(point, box)
    c, d = (other.x, other.y), nearest(other, other_box)

    def side(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
