"""The scales of pixels that networks were trained on, as names and as numbers; no torch, no network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from bench.data.installed import installed_dataset
from bench.types import Scalar
from bench.types.errors import MethodError

Scale = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel, or of all: (0.5,)

NAMED_AFTER = ("cifar10", "imagenet", "digits")  # datasets whose numbers have a name here
DATASETS_OWN = ("mean_std", "mean")  # names whose numbers are those of the dataset at hand, or of the weights' own
_NAMED = ("none", "half", "mean_std_pixels", *(f"{own}_{dataset}" for own in DATASETS_OWN for dataset in NAMED_AFTER))
NAMES = (*DATASETS_OWN, *_NAMED)


@cache
def _scales() -> Mapping[str, Scale]:
    """The numbers of each name but the datasets' own; opening their modules takes numpy."""
    from bench.data.cifar10 import CIFAR10
    from bench.data.digits import DIGITS
    from bench.data.imagenet import IMAGENET

    own = {source.name: source.statistics for source in (CIFAR10, IMAGENET, DIGITS) if source.statistics}
    return {
        "none": ((0.0,), (1.0,)),
        "half": ((0.5,), (0.5,)),
        # CIFAR-10 with the deviation of all its pixels, which others than Cohen et al. divide by: DMAE, wide ResNets.
        "mean_std_pixels": (own["cifar10"][0], (0.2471, 0.2435, 0.2616)),
        **{f"mean_std_{dataset}": scale for dataset, scale in own.items()},
        **{f"mean_{dataset}": (mean, (1.0,) * len(mean)) for dataset, (mean, _) in own.items()},
    }


def scale_of(kind: str, dataset: str) -> Scale:
    """The numbers behind a name, or of a text MEAN,.../STD,...; (x - mean) / std.

    Raises: MethodError for another name, for numbers that are no scale, and for those of a dataset not known.
    """
    if "/" in kind:
        return _parsed(kind)
    own = f"{kind}_{dataset}" if kind in DATASETS_OWN else kind
    if own in _NAMED:
        return _scales()[own]
    if kind in DATASETS_OWN:
        source = installed_dataset(dataset)
        if source and source.statistics:
            mean, std = _parsed(shown(source.statistics))
            return mean, std if kind == "mean_std" else (1.0,) * len(mean)
        raise MethodError(
            f"normaliser {kind!r} needs the channel means of the dataset, known for {', '.join(NAMED_AFTER)}, got "
            f"{dataset!r}; give the one that the network was trained with: {', '.join(_NAMED)}, or its numbers, "
            "MEAN,.../STD,..."
        )
    raise MethodError(f"no normaliser {kind!r}; expected one of {', '.join(NAMES)}, or numbers: MEAN,.../STD,...")


def read(text: str, dataset: str, told_on: str) -> str:
    """A normaliser as it stands in a spec: its name, or its numbers in the shortest decimals of their float32.

    Numbers that a name has too are kept as numbers. `mean_std` said by weights of another dataset, `told_on`, becomes
    the name of that dataset's, or its numbers where none here is named after it: a run is known by them.
    Raises: as `scale_of`.
    """
    text = text.strip()
    if "/" in text:
        return shown(_parsed(text))
    scale = scale_of(text, told_on)
    if text in DATASETS_OWN and told_on not in NAMED_AFTER:
        return shown(scale)
    return f"{text}_{told_on}" if text in DATASETS_OWN and told_on != dataset else text


def meaning(params: Mapping[str, Scalar], dataset: str) -> str:
    """The numbers of a method's normaliser, to be printed beside its name.

    Raises: as `scale_of`.
    """
    return shown(scale_of(str(params["normaliser"]), dataset))


def shown(scale: Scale) -> str:
    """Mean and deviation as a text that `read` takes."""
    return "/".join(",".join(map(_shortest, part)) for part in scale)


def _parsed(text: str) -> Scale:
    parts = text.split("/")
    try:
        mean, std = (tuple(_float32(word) for word in part.split(",")) for part in parts)
    except (ValueError, OverflowError):
        raise MethodError(
            f"normaliser {text!r}: expected numbers of each channel, MEAN,.../STD,..., as 0.49,0.48,0.45/0.25,0.24,0.26"
        ) from None
    if len(mean) != len(std):
        raise MethodError(
            f"normaliser {text!r}: expected as many means as deviations, got {len(mean)} and {len(std)}; "
            "give one of each a channel"
        )
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise MethodError(f"normaliser {text!r}: expected finite means and deviations above 0")
    if max(map(abs, mean)) > 1 or max(std) > 1:
        # In pixels of [0, 1] no mean is above 1 and no deviation above 0.5; 1 stands for none.
        raise MethodError(
            f"normaliser {text!r}: expected the means and deviations of pixels in [0, 1], these are beyond 1; "
            "divide them by 255 if they are of pixels in 0 to 255"
        )
    return mean, std


def _float32(word: str) -> float:
    """The number as a network computes with it; ValueError for what is none."""
    import numpy as np

    value = float(word)
    with np.errstate(over="ignore"):
        return float(np.float32(value)) + 0.0  # -0 is 0


def _shortest(value: float) -> str:
    import numpy as np

    return np.format_float_positional(np.float32(value), trim="-")
