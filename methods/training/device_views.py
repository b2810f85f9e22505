"""Views of a batch of decoded pictures, made on its device as Pillow makes them one by one.

Resizing, cropping, shifting and blurring are two products with banded matrices, of all pictures at once; colours are
changed with the roundings of Pillow's 8-bit arithmetic. Own code: torchvision's functions take one region or factor a
call, some thousands of calls a step.
Error: none after a change of colour, a level of 255 at most after a resize, two after a blur. Some versions of Pillow
mix the rows of some shapes before the columns, which differs by 0.25 levels on average, seldom by more than 4
(tests/methods/training/test_device_views.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from bench.data.centre_crops import CentreCrop
from methods.training.views import HALF, ViewDraw

PLANE = 2**25  # pixels of the padded pictures that are resized together: 0.4 GB as float32
Filter = Literal["box", "bilinear", "bicubic"]


def unpack(flat: Tensor, sizes: Tensor) -> Tensor:
    """Pictures that lie one after the other as one batch, black below and to the right of each.

    Shapes: flat uint8, each picture (H, W, 3); sizes (B, 2) int64 on the CPU; result (B, 3, max H, max W) float32.
    """
    areas = sizes.prod(dim=1)
    starts = (areas.cumsum(0) - areas).to(flat.device).view(-1, 1, 1)
    H, W = sizes.amax(dim=0).tolist()
    own = sizes.to(flat.device)
    heights, widths = own[:, 0].view(-1, 1, 1), own[:, 1].view(-1, 1, 1)
    y = torch.arange(H, device=flat.device).view(1, -1, 1)
    x = torch.arange(W, device=flat.device).view(1, 1, -1)
    inside = (y < heights) & (x < widths)
    at = torch.where(inside, starts + y * widths + x, 0)
    pixels = torch.where(inside.unsqueeze(-1), flat.view(-1, 3)[at], 0)
    return pixels.permute(0, 3, 1, 2).float()


def make_views(
    flat: Tensor, sizes: Tensor, draws: Tensor, side: int, crop: CentreCrop | None, *, bicubic: bool
) -> list[Tensor]:
    """Each view of each picture.

    Shapes: flat and sizes as of `unpack`; draws (B, views, fields of a ViewDraw) float64 on the CPU; result one
    (B, 3, side, side) uint8 a view.
    """
    B, views = draws.shape[:2]
    made = [torch.empty((B, 3, side, side), dtype=torch.uint8, device=flat.device) for _ in range(views)]
    lengths = (sizes.prod(dim=1) * 3).tolist()
    ends = list(accumulate(lengths))
    for some in _together(sizes):
        own = flat
        if len(some) < B:
            own = torch.cat([flat[ends[i] - lengths[i] : ends[i]] for i in some.tolist()])
        pictures, there = unpack(own, sizes[some]), some.to(flat.device)
        for view, out in enumerate(made):
            drawn = _Drawn(draws[some, view])
            out[there] = _view(pictures, sizes[some], drawn, side, crop, "bicubic" if bicubic else "bilinear")
    return made


class _Drawn:
    """Columns of a batch of draws, by field; on the CPU, so that nothing waits for the device."""

    def __init__(self, draws: Tensor) -> None:
        at = 0
        self._columns: dict[str, Tensor] = {}
        for name in ViewDraw.__slots__:
            width = len(value) if isinstance(value := getattr(ViewDraw(), name), tuple) else 1
            self._columns[name] = draws[:, at : at + width] if width > 1 else draws[:, at]
            at += width

    def __getitem__(self, name: str) -> Tensor:
        return self._columns[name]

    def having(self, name: str) -> Tensor:
        """Places in the batch where a field is not 0."""
        return self[name].nonzero().flatten()


def _together(sizes: Tensor) -> Iterator[Tensor]:
    """Places of pictures of like size, so that few pixels are padding; all of them in order where they fit."""
    H, W = sizes.amax(dim=0).tolist()
    if len(sizes) * H * W <= PLANE:
        yield torch.arange(len(sizes))
        return
    some: list[int] = []
    tall = wide = 0
    for place in sizes.prod(dim=1).argsort(descending=True).tolist():
        h, w = sizes[place].tolist()
        if some and (len(some) + 1) * max(tall, h) * max(wide, w) > PLANE:
            yield torch.tensor(some)
            some, tall, wide = [], 0, 0
        some.append(place)
        tall, wide = max(tall, h), max(wide, w)
    yield torch.tensor(some)


def _view(pictures: Tensor, sizes: Tensor, drawn: _Drawn, side: int, crop: CentreCrop | None, way: Filter) -> Tensor:
    if bool(drawn["height"].any()):
        regions = torch.stack([drawn[name] for name in ("top", "left", "height", "width")], dim=1).long()
        x = _resize(pictures, regions, torch.full((len(sizes), 2), side), side, way)
    elif crop is not None:
        x = _centre(pictures, sizes, crop)
    else:
        x = pictures.clone()
    if bool(drawn["down"].any()) or bool(drawn["right"].any()):
        x = _linear(x, *(_shift(drawn[name], side, x.device) for name in ("down", "right")))
    _jitter(x, drawn)
    _change(x, drawn.having("grey"), _grey)
    radii = drawn["blur"]
    _change(x, drawn.having("blur"), lambda some: _blur(some, radii[radii > 0]))
    _change(x, drawn.having("solarise"), _solarise)
    _change(x, drawn.having("flip"), lambda some: some.flip(-1))
    return x.to(torch.uint8)


def _change(x: Tensor, places: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """Some pictures of a batch, in place."""
    if len(places):
        there = places.to(x.device)
        x[there] = change(x[there])


def _linear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each picture's columns mixed along the width, then its rows along the height; rounded after each, as Pillow does.

    Shapes: x (B, C, H, W), rows (B, h, H), columns (B, w, W); result (B, C, h, w).
    """
    B, C, H, W = x.shape
    narrowed = _rounded(torch.bmm(x.reshape(B, C * H, W), columns.transpose(1, 2))).reshape(B, C, H, -1)
    return _rounded(torch.matmul(rows.unsqueeze(1), narrowed))


def _rounded(x: Tensor) -> Tensor:
    return x.add_(0.5).floor_().clamp_(0, 255)


def _resize(
    x: Tensor, regions: Tensor, sizes: Tensor, side: int | None, way: Filter, window: Tensor | None = None
) -> Tensor:
    """A region of each picture resized to a size of its own, of which a window of side x side is made.

    Shapes: regions (B, 4) top, left, height, width; sizes (B, 2) height, width; window (B, 2) top and left. Without a
    side, all of each: what is beyond is 0.
    """
    outs = (side, side) if side is not None else tuple(sizes.amax(dim=0).tolist())
    offsets = torch.zeros_like(sizes) if window is None else window
    axes = [
        _axis(regions[:, k], regions[:, k + 2], sizes[:, k], offsets[:, k], outs[k], x.shape[2 + k], way, x.device)
        for k in range(2)
    ]
    return _linear(x, *axes)


def _axis(
    starts: Tensor,
    lengths: Tensor,
    totals: Tensor,
    offsets: Tensor,
    out: int,
    span: int,
    way: Filter,
    device: torch.device,
) -> Tensor:
    """Shares of source pixels in each resized one, (B, out, span), as Pillow's antialiased filters have them."""
    start, length, total, offset = (
        v.to(device, torch.float64).view(-1, 1, 1) for v in (starts, lengths, totals, offsets)
    )
    scale = length / total
    widened = scale.clamp(min=1.0)
    support = {"box": 0.5, "bilinear": 1.0, "bicubic": 2.0}[way] * widened
    place = torch.arange(out, device=device, dtype=torch.float64).view(1, -1, 1) + offset
    centre = (place + 0.5) * scale
    j = torch.arange(span, device=device, dtype=torch.float64).view(1, 1, -1) - start
    first = (centre - support + 0.5).floor().clamp(min=0)
    last = torch.minimum((centre + support + 0.5).floor(), length)
    weights = _filter((j + 0.5 - centre) / widened, way)
    weights = torch.where((j >= first) & (j < last) & (place < total), weights, 0.0)
    return (weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)).float()


def _filter(t: Tensor, way: Filter) -> Tensor:
    if way == "box":
        return ((t > -0.5) & (t <= 0.5)).double()
    t = t.abs()
    if way == "bilinear":
        return (1 - t).clamp(min=0)
    a = -0.5  # Keys 1981
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * a - 4 * a
    return torch.where(t < 1, near, torch.where(t < 2, far, 0.0))


def _centre(x: Tensor, sizes: Tensor, crop: CentreCrop) -> Tensor:
    """The centre crops of `bench.data.centre_crops`."""
    side = crop.side
    if crop.kind != "box-bicubic":
        h, w = sizes[:, 0], sizes[:, 1]
        # In whole numbers as in floating point: the long side is cut.
        resized = [
            (crop.short, int(crop.short * b / a)) if a <= b else (int(crop.short * a / b), crop.short)
            for a, b in sizes.tolist()
        ]
        window = [(round((a - side) / 2.0), round((b - side) / 2.0)) for a, b in resized]
        whole = torch.stack([torch.zeros_like(h), torch.zeros_like(w), h, w], dim=1)
        way: Filter = "bicubic" if crop.kind == "bicubic" else "bilinear"
        return _resize(x, whole, torch.tensor(resized), side, way, torch.tensor(window))
    sizes = sizes.clone()
    zeros = torch.zeros_like(sizes)
    while len(some := (sizes.amin(dim=1) >= 2 * side).nonzero().flatten()):
        there = some.to(x.device)
        halves = sizes[some] // 2
        halved = _resize(x[there], torch.cat([zeros[some], sizes[some]], dim=1), halves, None, "box")
        x = x.clone() if x.shape[0] > len(some) else torch.zeros_like(x)
        x[there, :, : halved.shape[2], : halved.shape[3]] = halved
        sizes[some] = halves
    scaled = [tuple(round(v * (side / min(pair))) for v in pair) for pair in sizes.tolist()]
    window = [tuple((v - side) // 2 for v in pair) for pair in scaled]
    return _resize(x, torch.cat([zeros, sizes], dim=1), torch.tensor(scaled), side, "bicubic", torch.tensor(window))


def _shift(by: Tensor, side: int, device: torch.device) -> Tensor:
    at = torch.arange(side, device=device)
    return (at.view(1, -1, 1) - by.to(device, torch.int64).view(-1, 1, 1) == at.view(1, 1, -1)).float()


def _jitter(x: Tensor, drawn: _Drawn) -> None:
    changed = drawn["jitter"] > 0
    for turn in range(4):
        for which, change in enumerate((_brighten, _contrast, _saturate, _turn_hue)):
            some = (changed & (drawn["order"][:, turn] == which)).nonzero().flatten()
            factor = drawn["factors"][some, which].to(x.device, torch.float32).view(-1, 1, 1, 1)
            _change(x, some, partial(change, factor=factor))


def _blend(degenerate: Tensor | float, x: Tensor, factor: Tensor) -> Tensor:
    """Between two pictures, or beyond; cut off, not rounded, as Pillow's blend."""
    return (degenerate + factor * (x - degenerate)).clamp(0, 255).floor()


def _brighten(x: Tensor, factor: Tensor) -> Tensor:
    return _blend(0.0, x, factor)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    mean = _luminance(x).double().mean(dim=(1, 2, 3), keepdim=True)
    return _blend((mean + 0.5).floor().float(), x, factor)


def _saturate(x: Tensor, factor: Tensor) -> Tensor:
    return _blend(_luminance(x), x, factor)


def _luminance(x: Tensor) -> Tensor:
    """ITU-R 601-2 luma in 16 bits, rounded: Pillow's mode L."""
    whole = x.to(torch.int32)
    return ((whole[:, :1] * 19595 + whole[:, 1:2] * 38470 + whole[:, 2:] * 7471 + 0x8000) >> 16).float()


def _grey(x: Tensor) -> Tensor:
    return _luminance(x).expand_as(x)


def _solarise(x: Tensor) -> Tensor:
    return torch.where(x < HALF, x, 255 - x)


def _turn_hue(x: Tensor, factor: Tensor) -> Tensor:
    """Hue turned in 8-bit HSV, as Pillow stores it (Smith 1978)."""
    red, green, blue = x.unbind(dim=1)
    high, low = x.amax(dim=1), x.amin(dim=1)
    spread = (high - low).clamp(min=1)
    # In single precision where Pillow is, and in double where it is: hues at the edge of a level go either way.
    r, g, b = (((high - one) / spread).double() for one in (red, green, blue))
    sixths = torch.where(red == high, b - g, torch.where(green == high, 2 + r - b, 4 + g - r))
    grey = high == low
    turn = (sixths.float().double() / 6 + 1).remainder(1.0).float()
    hue = torch.where(grey, 0.0, (turn.double() * 255).floor())
    saturation = torch.where(grey, 0.0, ((high - low) / high.clamp(min=1) * 255).floor())
    hue = (hue + (factor * 255).trunc().view(-1, 1, 1)).remainder(256).float()
    sixths, share = hue * 6 / 255, saturation / 255
    whole = sixths.floor()
    part = sixths - whole
    p, q, t = ((high * (1 - share * f)).add(0.5).floor().clamp(0, 255) for f in (torch.ones_like(part), part, 1 - part))
    sector = whole.to(torch.int64) % 6
    table = torch.stack([high, q, p, t])  # what red, green and blue are in each sector, by place in this
    picks = torch.tensor([[0, 1, 2, 2, 3, 0], [3, 0, 0, 1, 2, 2], [2, 2, 3, 0, 0, 1]], device=x.device)
    return torch.stack([table.gather(0, row[sector].unsqueeze(0)).squeeze(0) for row in picks], dim=1)


def _blur(x: Tensor, radii: Tensor) -> Tensor:
    """Three box blurs in each direction, whose edges are weighted so that the variance is right.

    Source: Gwosdek et al. 2011, Eq. 2-5, as Pillow's GaussianBlur; borders are repeated.
    """
    variance = radii.double() ** 2 / 3  # of radii on the CPU
    whole = (((12 * variance + 1).sqrt() - 1) / 2).floor()
    edge = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    inner = 1 / (2 * (whole + edge) + 1)
    outer = (1 - (2 * whole + 1) * inner) / 2
    side, most = x.shape[2], int(whole.max()) + 1
    at = torch.arange(side, device=x.device)
    matrix = torch.zeros((len(x), side, side), dtype=torch.float64, device=x.device)
    for away in range(-most, most + 1):
        weight = torch.where(whole >= abs(away), inner, torch.where(whole + 1 == abs(away), outer, 0.0))
        matrix[:, at, (at + away).clamp(0, side - 1)] += weight.view(-1, 1).to(x.device)
    thrice = (matrix @ matrix @ matrix).float()
    return _linear(x, thrice, thrice)
