"""Methods that certify one forward pass of a network trained on noisy images; they differ in how it was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from bench.data.installed import installed_dataset
from bench.types import BaseClassifier, Method, Param, Role, Scalar, Setting, TrainRequest
from methods.nets.recognition import Shapes, classifier_arch
from methods.nets.scales import NAMED_AFTER, NAMES, meaning, read

ARCHITECTURES: Mapping[str, Scalar] = {
    "cifar10": "cifar_resnet110",
    "imagenet": "resnet50",
    "digits": "digits_resnet",
    "folder": "resnet50",
}

TIMM = "timm:"  # before the name of an architecture of timm's: "timm:convnext_tiny.fb_in1k"


def normaliser_param(by_dataset: Mapping[str, Scalar] | None = None) -> Param:
    """The normaliser, which few checkpoints record: a wrong one costs accuracy, and nothing shows it.

    `by_dataset`: other than mean and deviation; images of another dataset have no default.
    """
    return Param(
        name="normaliser",
        default="half",
        by_dataset=dict.fromkeys(NAMED_AFTER, "mean_std") | dict(by_dataset or {}),
        help="scale it was trained on: (x - mean) / std, x - mean, x, (x - 0.5) / 0.5, by name or as numbers of each "
        "channel, MEAN,.../STD,...",
        choices=NAMES,
        inferred=True,
        must_be_said=True,
        read=read,
        meaning=meaning,
    )


def noise_trained(
    name: str,
    title: str,
    cite: str,
    *,
    normalisers: Mapping[str, Scalar] | None = None,
    arch: str | None = None,
    arch_by_dataset: Mapping[str, Scalar] | None = None,
    declines: Callable[[str, tuple[int, int, int], int], str | None] | None = None,
    train: Mapping[str, Callable[[TrainRequest], Mapping[str, Any]]] | None = None,
    preprocessing: Mapping[str, str] | None = None,
) -> Method:
    """A method whose base classifier is normaliser -> network -> argmax.

    `normalisers` are those of its released networks by dataset, mean and deviation elsewhere; `arch` replaces the
    field's choice for each dataset but those of `arch_by_dataset`.
    """
    network = Param(
        name="arch",
        default=arch or "resnet50",
        by_dataset=arch_by_dataset or {} if arch else ARCHITECTURES,
        help="cifar_resnetN or akamaster_resnetN (N = 6n+2), cifar_wrnN_K (N = 6n+4), kuangliu_resnet18, resnet50 and "
        "torchvision's others, vit_base_patch16_224, mae_vit_base_patch16, mae_vit_large_patch16, cifar_small_vit, "
        "cifar_small_mae_vit, cifar_small_resnet, digits_resnet, timm:NAME for any of timm's",
        read=read_arch,
    )
    return Method(
        name=name,
        title=title,
        cite=cite,
        build=build,
        params=(network, normaliser_param(by_dataset=normalisers)),
        roles=(Role("network", "the classifier, trained on images with Gaussian noise of this sigma"),),
        size=crop_side,
        preprocessing=preprocessing or {},
        declines=declines or (lambda _dataset, _shape, _classes: None),
        recognise=recognise,
        implied=released_normaliser,
        train=train or {},
    )


def build(setting: Setting) -> BaseClassifier:
    """Normaliser -> network -> argmax, on the setting's device.

    The ViTs of masked autoencoders see small images enlarged to 224, after the noise (Wu et al. 2023, CIFAR-10).
    Raises: MethodError for an unknown architecture, WeightsError for weights that do not fit it.
    """
    from torch import nn

    from methods.nets.architectures import build_network
    from methods.nets.backbones import backbone
    from methods.nets.hard_labels import HardLabels
    from methods.nets.load_weights import load_network
    from methods.nets.normalisers import Normaliser
    from methods.nets.resized import Resized

    arch, channels = str(setting.params["arch"]), setting.shape[0]
    side = backbone(arch).side if arch.startswith("mae_vit_") else None
    network = load_network(
        setting,
        "network",
        lambda: build_network(
            arch, num_classes=setting.num_classes, shape=setting.shape if side is None else (channels, side, side)
        ),
        arch=arch,
        recognise=classifier_arch,
    )

    def chain(_name: str, kind: Scalar) -> nn.Module:
        normaliser = Normaliser(str(kind), setting.dataset, channels=channels)
        if side is None:
            return nn.Sequential(normaliser, network)
        return Resized(network, normaliser, side=side, resize="bicubic")

    return HardLabels(
        chain("normaliser", setting.params["normaliser"]),
        num_classes=setting.num_classes,
        device=setting.device,
        adjust=chain,
        optimise_for=setting.precision if setting.tuned else None,
    )


def recognise(role: str, shapes: Shapes, meta: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The architecture that the tensors show, which goes before the file's metadata."""
    del role
    arch = classifier_arch(shapes)
    return {} if arch is None else {"arch": arch, **family_normaliser(arch, meta)}


def read_arch(text: str, dataset: str, told_on: str) -> str:
    """An architecture's name; of timm's, one that the installed timm has.

    Raises: MethodError.
    """
    del dataset, told_on
    if text.startswith(TIMM):
        from methods.nets.timm_models import check_name

        check_name(text.removeprefix(TIMM))
    return text


def released_normaliser(params: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The normaliser that timm's own weights of an architecture were trained with; nothing for another's."""
    arch = str(params.get("arch", ""))
    if not arch.startswith(TIMM):
        return {}
    from methods.nets.timm_models import normaliser

    return {"normaliser": normaliser(arch.removeprefix(TIMM))}


def family_normaliser(arch: str, meta: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The normaliser that a published family was trained with, where the file records none; empty for other families.

    Source: Idelbayev's resnet56 gives its 92.7 % on the first 1,017 test images with ImageNet's numbers only.
    """
    family = arch.startswith("akamaster_resnet") and "normaliser" not in meta
    return {"normaliser": "mean_std_imagenet"} if family else {}


def crop_side(dataset: str) -> int | None:
    """That of photographs, which every published network was trained on; else the dataset's own."""
    source = installed_dataset(dataset)
    return source.crop if source else None


def _no_patches(dataset: str, shape: tuple[int, int, int], num_classes: int) -> str | None:
    del dataset, num_classes
    channels, height, width = shape
    if (channels, height, width) in ((3, 224, 224), (3, 32, 32)):
        return None
    return (
        f"its ViTs take colour images of 224x224 or 32x32, these are {height}x{width} with {channels} channels; "
        "use gaussian"
    )


def _no_colours(dataset: str, shape: tuple[int, int, int], num_classes: int) -> str | None:
    del dataset, num_classes
    if shape[0] == 3 and shape[1] == shape[2]:
        return None
    return f"its ViT takes square colour images, these are {shape[1]}x{shape[2]} with {shape[0]} channels; use gaussian"


def stage(module: str, name: str) -> Callable[[TrainRequest], Mapping[str, Any]]:
    """A training stage by the place of its code, which is imported when it is called: it needs torch."""

    def run(request: TrainRequest) -> Mapping[str, Any]:
        result: Mapping[str, Any] = getattr(import_module(f"methods.training.{module}"), name)(request)
        return result

    return run


GAUSSIAN = noise_trained(
    "gaussian",
    "Gaussian augmentation",
    "Cohen, Rosenfeld & Kolter 2019, Certified Adversarial Robustness via Randomized Smoothing",
    train={"train": stage("classical", "gaussian")},
)

CONSISTENCY = noise_trained(
    "consistency",
    "Consistency regularisation",
    "Jeong & Shin 2020, Consistency Regularization for Certified Robustness of Smoothed Classifiers",
    train={"train": stage("classical", "consistency")},
)

STABILITY = noise_trained(
    "stability",
    "Stability training",
    "Li, Chen, Wang & Carin 2019, Certified Adversarial Robustness with Additive Noise",
    train={"train": stage("stability", "train")},
)

# Released with x - mean, but for those pre-trained on ImageNet-32 or self-trained, which have (x - mean) / std.
SMOOTHADV = noise_trained(
    "smoothadv",
    "SmoothAdv",
    "Salman et al. 2019, Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers",
    normalisers={"cifar10": "mean", "imagenet": "mean"},
    train={"train": stage("smoothadv", "train")},
)

MACER = noise_trained(
    "macer",
    "MACER",
    "Zhai et al. 2020, MACER: Attack-free and Scalable Robust Training via Maximizing Certified Radius",
    normalisers={"cifar10": "none", "imagenet": "none"},
    train={"train": stage("macer", "train")},
)

SMOOTHMIX = noise_trained(
    "smoothmix",
    "SmoothMix",
    "Jeong et al. 2021, SmoothMix: Training Confidence-calibrated Smoothed Classifiers for Certified Robustness",
    train={"train": stage("smoothmix", "train")},
)

# No weights are published; timm's own, pre-trained on ImageNet-21k, expect (x - 0.5) / 0.5.
VIT_GAUSSIAN = noise_trained(
    "vit_gaussian",
    "Gaussian augmentation, ViT",
    "Cohen, Rosenfeld & Kolter 2019; on a ViT-B/16 by Lei et al. 2025, public review, Rebuttal-Table 2",
    arch="vit_base_patch16_224",
    arch_by_dataset={"cifar10": "cifar_small_vit"},  # ours
    normalisers={"imagenet": "half", "cifar10": "half"},
    declines=_no_patches,
    train={"train": stage("classical", "gaussian")},
)

# Fine-tuned networks are not published, only the autoencoders that they start from: `train dmae finetune --init FILE`.
DMAE = noise_trained(
    "dmae",
    "Denoising masked autoencoder",
    "Wu, Ye, Gu, Zhang, Wang & He 2023, Denoising Masked AutoEncoders Help Robust Classification",
    arch="mae_vit_base_patch16",
    normalisers={"cifar10": "mean_std_pixels"},
    declines=_no_colours,
    preprocessing={"imagenet": "bicubic256-crop224"},
    train={"finetune": stage("dmae", "finetune")},
)
