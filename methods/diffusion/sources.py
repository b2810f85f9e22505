"""The project that given tensors come from, checked before any is converted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bench.types.errors import WeightsError
from bench.weights.wrappers import shapes_of
from methods.diffusion.architectures import Source, recognise_source


def check_source(state: Mapping[str, Tensor], source: Source) -> None:
    """Refuse tensors that have other names than that source gives.

    Raises: WeightsError, with the source that they look like.
    """
    found = recognise_source(shapes_of(state))
    if found != source:
        what = (
            f"these look like {found!r}; give --from {found}"
            if found
            else "these tensors have other names; give its file"
        )
        raise WeightsError(f"expected a checkpoint of {source!r}; {what}")
