"""Settings, weights and networks shared by methods that put a diffusion model in front of a classifier.

The way from noise to a label is each method's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench.types import BaseClassifier, Param, Role, Scalar, Setting, WeightsFile
from bench.types.errors import MethodError, WeightsError
from methods.nets.backbones import backbone
from methods.nets.recognition import Shapes, classifier_arch
from methods.nets.scales import NAMED_AFTER, NAMES, read, scale_of, shown
from methods.noise_trained import crop_side

if TYPE_CHECKING:
    from torch import Tensor

    from methods.diffusion.unets import UNet
    from methods.nets.normalisers import Normaliser
    from methods.nets.resized import Resized

PUBLISHED, SIZE_MATCHED = "as_published", "size_matched"
BY_TRACK, BY_CLASSIFIER = "by_track", "by_classifier"
OFF_THE_SHELF = {  # classifiers of DDS and DensePure: track -> dataset -> architecture
    PUBLISHED: {"imagenet": "beit_large_patch16_512", "cifar10": "vit_base_patch16_224_hf"},
    SIZE_MATCHED: {
        "imagenet": "deit_base_patch16_224",
        "cifar10": "vit_base_patch16_224_hf",
        "digits": "digits_resnet",
    },
}
DENOISERS: Mapping[str, Scalar] = {"digits": "digits_unet", "cifar10": "improved_cifar10"}

ROLES = (
    Role("denoiser", "the diffusion model's UNet: the authors' file, or one converted to diffusers' names"),
    Role("classifier", "the classifier behind it"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDefaults:
    """Networks and image sizes of a method where no setting names others."""

    method: str
    classifiers: Mapping[str, Mapping[str, str]]  # track -> dataset -> architecture
    resize: Mapping[str, str]  # dataset -> kind of methods.nets.resized
    side: int  # of the published ImageNet crop
    resize_published: Mapping[str, str] = field(default_factory=dict)  # where the published track differs


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Both networks on the setting's device: frozen, in eval mode."""

    unet: UNet
    head: Resized  # pixels in [0, 1] -> logits


def shared_params(defaults: MethodDefaults, *, classifier: str) -> tuple[Param, ...]:
    """Settings of every method of this kind; `classifier` describes how the classifier was trained."""
    return (
        Param(
            name="track",
            default=SIZE_MATCHED,
            choices=(PUBLISHED, SIZE_MATCHED),
            help="networks and procedure of the method's own paper, or of the rRCM paper's comparison at equal size; "
            "never to be ranked together",
        ),
        Param(
            name="denoiser",
            default="adm_256",
            by_dataset=DENOISERS,
            help="the diffusion model: adm_256, improved_cifar10, cifar10_small_unet, digits_unet",
        ),
        Param(
            name="classifier",
            default=BY_TRACK,
            help=f"the network behind it, {classifier}: by_track, beit_large_patch16_512, deit_base_patch16_224, "
            "vit_base_patch16_224, vit_base_patch16_224_hf, resnet50, wide_resnet50_2, cifar_wrn28_10, "
            "akamaster_resnetN, cifar_resnetN, digits_resnet",
        ),
        Param(
            name="normaliser",
            default="half",
            by_dataset=dict.fromkeys(NAMED_AFTER, BY_CLASSIFIER),
            choices=(BY_CLASSIFIER, *NAMES),
            help="scale that the classifier was trained on, by name or as numbers of each channel, MEAN,.../STD,...; "
            "by_classifier: as its family was",
            inferred=True,
            must_be_said=True,
            read=lambda text, dataset, told_on: text if text == BY_CLASSIFIER else read(text, dataset, told_on),
            meaning=lambda params, dataset: shown(scale_of(_kind(params, dataset, defaults), dataset)),
        ),
    )


def check_track(setting: Setting, defaults: MethodDefaults) -> str:
    """The setting's track.

    Raises: MethodError where nothing was published for these images.
    """
    track = str(setting.params["track"])
    if track != PUBLISHED:
        return track
    if setting.dataset not in defaults.classifiers[PUBLISHED]:
        raise MethodError(
            f"{defaults.method}: track 'as_published' exists for {' and '.join(defaults.classifiers[PUBLISHED])}, got "
            f"{setting.dataset!r}; set track={SIZE_MATCHED}"
        )
    _, height, width = setting.shape
    if crop_side(setting.dataset) is not None and (height, width) != (defaults.side, defaults.side):
        # The radius lives in the crop's pixels: another crop is another certificate.
        raise MethodError(
            f"{defaults.method}: track 'as_published' certifies crops of {defaults.side}x{defaults.side}, got "
            f"{height}x{width}; give --size {defaults.side}, or set track={SIZE_MATCHED}"
        )
    return track


def build_parts(setting: Setting, defaults: MethodDefaults, *, shape: tuple[int, int, int] | None = None) -> Parts:
    """The denoiser, for images of `shape` if it sees others than the certifier's, and the classifier.

    Raises: MethodError for names or images that do not go together, WeightsError for weights that do not fit.
    """
    from methods.diffusion.conversion import as_unet_state
    from methods.diffusion.unets import UNet, build_unet, check_trained, prediction_of, unet_arch
    from methods.nets.architectures import build_network
    from methods.nets.inference.optimise import optimise_denoiser, optimise_for_inference
    from methods.nets.load_weights import load_network
    from methods.nets.resized import Resized

    track, channels = check_track(setting, defaults), setting.shape[0]
    arch, name = str(setting.params["denoiser"]), classifier_name(setting.params, setting.dataset, defaults)
    unet = load_network(
        setting,
        "denoiser",
        lambda: build_unet(arch, shape=shape or setting.shape),
        arch=arch,
        recognise=unet_arch,
        select=lambda state, file: _named(as_unet_state, state, arch, file),
    )
    assert isinstance(unet, UNet)  # noqa: S101  load_network returns what its `make` built
    if "denoiser" in setting.weights:
        unet.prediction = prediction_of(setting.weights["denoiser"].path)
        check_trained(setting.weights["denoiser"].path, setting.sigma)
    side = backbone(name).side
    if side is not None and channels != 3:
        raise MethodError(
            f"classifier {name!r} takes colour images of {side}x{side}, these have {channels} channels, which no "
            "resize changes; set classifier=digits_resnet, or another that takes them"
        )
    seen = setting.shape if side is None else (channels, side, side)
    network = load_network(
        setting,
        "classifier",
        lambda: build_network(name, num_classes=setting.num_classes, shape=seen),
        arch=name,
        recognise=classifier_arch,
        select=as_timm,
    )
    kinds = {**defaults.resize, **(defaults.resize_published if track == PUBLISHED else {})}
    resize = kinds.get(setting.dataset, kinds["imagenet"])
    head = Resized(network, normaliser(setting, defaults), side=side, resize=resize)
    for part in (unet, head):
        part.to(setting.device).eval().requires_grad_(False)
    if setting.tuned:
        optimise_for_inference(head, setting.device, setting.precision)
        optimise_denoiser(unet, setting.device, setting.precision)
    return Parts(unet, head)


def classifier_name(params: Mapping[str, Scalar], dataset: str, defaults: MethodDefaults) -> str:
    """The architecture behind the denoiser: the setting's, or the track's for the dataset."""
    name = str(params["classifier"])
    if name != BY_TRACK:
        return name
    by_dataset = defaults.classifiers[str(params["track"])]
    return by_dataset.get(dataset, by_dataset["imagenet"])


def normaliser(setting: Setting, defaults: MethodDefaults, kind: str | None = None) -> Normaliser:
    """The normaliser in front of the classifier: of that kind, else the setting's, else its family's."""
    from methods.nets.normalisers import Normaliser

    params = setting.params if kind is None else {**setting.params, "normaliser": kind}
    return Normaliser(_kind(params, setting.dataset, defaults), setting.dataset, channels=setting.shape[0])


def _kind(params: Mapping[str, Scalar], dataset: str, defaults: MethodDefaults) -> str:
    """The normaliser that the settings mean, as methods.nets.scales names it."""
    kind = str(params["normaliser"])
    return backbone(classifier_name(params, dataset, defaults)).normaliser if kind == BY_CLASSIFIER else kind


def renormalised(classifier: Any, name: str, value: Scalar) -> BaseClassifier | None:
    """The same networks behind another normaliser; None for other settings. A method of all classifiers here."""
    if name != "normaliser":
        return None
    made: BaseClassifier = replace(
        classifier, head=classifier.head.renormalised(classifier.make_normaliser(str(value)))
    )
    return made


def denoised(unet: UNet, x: Tensor, t: int, *, padding: int = 0) -> Tensor:
    """Noisy pixels -> clean ones in one step, both in [0, 1] units; the result is clamped to [0, 1].

    The state is sqrt(abar_t) (2x - 1): the image keeps its gain, and the network is given a noise level too large by
    at most one level, 0.7 %. By 1 / sqrt(1 + 4 sigma^2) it would be the other way round: the noise right, the contrast
    off by as much.
    Shapes: (B, C, H, W) -> (B, C, H, W).
    """
    import torch.nn.functional as F

    from methods.diffusion.denoising import one_shot

    z = 2 * x - 1
    if padding:
        z = F.pad(z, (padding,) * 4, mode="reflect")
    z = one_shot(unet, float(unet.schedule.alphas_bar[t]) ** 0.5 * z, t)
    if padding:
        z = z[:, :, padding:-padding, padding:-padding]
    return (z + 1) / 2


def recognise(role: str, shapes: Shapes, meta: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The architecture of either part, from its tensors."""
    if role == "denoiser":
        from methods.diffusion.architectures import unet_arch

        arch = unet_arch(shapes)
        return {} if arch is None else {"denoiser": arch}
    found = classifier_arch(shapes)
    if found == "vit_base_patch16_224" and meta.get("converter") == "hf-vit":
        found = "vit_base_patch16_224_hf"  # the same tensors; its norms have another eps
    return {} if found is None else {"classifier": found}


def declines(dataset: str, shape: tuple[int, int, int], num_classes: int) -> str | None:
    """The reason why no diffusion model here can be run on such images; None if one can."""
    del num_classes
    channels, height, width = shape
    if dataset == "digits" or (channels == 3 and height == width and height % 32 == 0):
        return None
    return (
        "its diffusion models are for digits and for square colour images of a side divisible by 32, these are "
        f"{height}x{width} with {channels} channels; use gaussian, or another --size"
    )


def _named(
    convert: Callable[[Mapping[str, Tensor], str], dict[str, Tensor]],
    state: Mapping[str, Tensor],
    arch: str,
    file: WeightsFile,
) -> dict[str, Tensor]:
    """A file's tensors converted; a refusal names the file."""
    try:
        return convert(state, arch)
    except WeightsError as refusal:
        raise WeightsError(f"weights {file.name!r}: {refusal}") from None


def as_timm(state: dict[str, Tensor], file: WeightsFile) -> dict[str, Tensor]:
    """Hugging Face's names as timm's; without the index tables that BEiT's authors stored and timm computes."""
    if "vit.embeddings.cls_token" in state:
        from methods.diffusion.vit_conversion import convert_hf_vit

        return _named(lambda tensors, _arch: convert_hf_vit(tensors), state, "", file)
    return {key: tensor for key, tensor in state.items() if not key.endswith(".relative_position_index")}
