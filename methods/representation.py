"""rRCM's pre-trained encoder as features of images, at the noise level that they have."""

from __future__ import annotations

from torch import Tensor

from bench.types import RepresentRequest
from bench.types.errors import WeightsError
from bench.weights.checkpoints import load_tensors
from bench.weights.wrappers import shapes_of, strip_prefixes
from methods.nets.karras_grid import T_MAX, T_MIN, nearest_time
from methods.nets.load_weights import seeded
from methods.nets.normalisers import Normaliser
from methods.nets.recognition import vit_size
from methods.nets.sizes import SIZES
from methods.nets.vit import TimeTokenViT, time_token_vit
from methods.training.encoder import PROJECTOR, load_encoder

SCALE = 2.0  # from [0, 1] pixels to [-1, 1]
LEVELS = 81  # of the noise grid at the end of pre-training, where a file does not say


class EncoderFeatures:
    """The class token after the last norm, or the projection made of it.

    Source: rRCM paper, Appendices C and D; whose layer Table 6 measures is said nowhere, that of the condition is "the
    MLP head".
    """

    cleanest, noisiest = T_MIN / SCALE, T_MAX / SCALE

    def __init__(self, encoder: TimeTokenViT, *, title: str, sha256: str, levels: int, projected: bool) -> None:
        self.encoder = encoder
        self.title, self.sha256, self.levels, self.projected = title, sha256, levels, projected
        self.layer = "projection of the class token" if projected else "class token after the last layer norm"
        self._normaliser = Normaliser("half", "any").to(next(encoder.parameters()).device)

    def features(self, x: Tensor, sigma: float) -> Tensor:
        """Features of pixels in [0, 1] with noise of that sigma, conditioned on the nearest level of the grid."""
        z, t = self._normaliser(x), nearest_time(SCALE * sigma, self.levels)
        return self.encoder(z, t)[0] if self.projected else self.encoder.features(z, t, final_norm=True)


def represent(request: RepresentRequest, *, projected: bool = False) -> EncoderFeatures:
    """The encoder of a pre-training's file, frozen: its class token, or the projection that pre-training compares.

    Raises: WeightsError for a file of anything else, of images of another shape, or without the projector asked for.
    """
    name = str(request.weights)
    shapes = shapes_of(strip_prefixes(load_tensors(request.weights)[0]))
    size = vit_size(shapes)
    if size is None:
        raise WeightsError(f"weights {name!r}: expected an encoder that rrcm pretrain left, got none of its sizes")
    channels, side, width = request.shape
    if side != width or side not in SIZES[size].patch_sizes:
        sides = " or ".join(map(str, SIZES[size].patch_sizes))
        raise WeightsError(
            f"weights {name!r}: size {size!r} is for square images of side {sides}, got {side}x{width}; choose other "
            "weights or --size"
        )
    hidden = shapes.get(f"{PROJECTOR}0.weight")
    if projected and hidden is None:
        raise WeightsError(f"weights {name!r}: expected the projector of pre-training too, got an encoder without it")
    with seeded(0, "encoder"):  # first weights, which the file's replace
        encoder = time_token_vit(
            size, image_size=side, in_channels=channels, projector=projected, hidden_dim=hidden[0] if hidden else None
        )
    sha256, levels = load_encoder(encoder, request.weights, size, projector=projected)
    frozen = encoder.to(request.device).eval().requires_grad_(False)
    return EncoderFeatures(frozen, title=f"rRCM-{size}", sha256=sha256, levels=levels or LEVELS, projected=projected)
