"""Denoised smoothing: an off-the-shelf classifier behind a denoiser, certified as one function."""

from __future__ import annotations

from collections.abc import Mapping

from bench.types import BaseClassifier, Method, Param, Role, Scalar, Setting
from methods.nets.recognition import Shapes, classifier_arch, denoiser_arch
from methods.noise_trained import crop_side, family_normaliser, normaliser_param, stage


def build(setting: Setting) -> BaseClassifier:
    """Denoiser -> normaliser -> classifier -> argmax, on the setting's device.

    Nothing is clipped between them. FFDNet takes sigma, in [0, 1] pixels; the other denoisers have one level or none.
    Raises: MethodError for an unknown architecture, WeightsError for weights that do not fit theirs.
    """
    from torch import nn

    from methods.nets.architectures import build_network
    from methods.nets.denoisers import build_denoiser
    from methods.nets.hard_labels import BehindDenoiser
    from methods.nets.load_weights import load_network
    from methods.nets.normalisers import Normaliser

    channels = setting.shape[0]
    denoiser, classifier = str(setting.params["denoiser"]), str(setting.params["classifier"])
    front = load_network(
        setting,
        "denoiser",
        lambda: build_denoiser(denoiser, in_channels=channels, sigma=setting.sigma),
        arch=denoiser,
        recognise=denoiser_arch,
    )
    back = load_network(
        setting,
        "classifier",
        lambda: build_network(classifier, num_classes=setting.num_classes, shape=setting.shape),
        arch=classifier,
        recognise=classifier_arch,
    )

    def chain(_name: str, kind: Scalar) -> nn.Module:
        return nn.Sequential(front, Normaliser(str(kind), setting.dataset, channels=channels), back)

    return BehindDenoiser(
        chain("normaliser", setting.params["normaliser"]),
        num_classes=setting.num_classes,
        device=setting.device,
        calls={"denoiser": 1, "classifier": 1},
        adjust=chain,
        optimise_for=setting.precision if setting.tuned else None,
    )


def recognise(role: str, shapes: Shapes, meta: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The architecture of either part, from its tensors; with a classifier, the normaliser of its family."""
    arch = denoiser_arch(shapes) if role == "denoiser" else classifier_arch(shapes)
    if arch is None:
        return {}
    if role == "denoiser":
        return {role: arch}
    # CIFAR-10's default normaliser goes with its default classifier, not with another one.
    other = {} if "normaliser" in meta else {"normaliser": "mean_std"}
    return {role: arch, **other, **family_normaliser(arch, meta)}


def declines(dataset: str, shape: tuple[int, int, int], num_classes: int) -> str | None:
    """The reason why it cannot be run on such images; None if it can."""
    del num_classes
    if shape[0] == 3 or dataset == "digits":
        return None
    return f"its denoisers are for 3-channel images, or digits, these have {shape[0]} channels; use gaussian"


DENOISED = Method(
    name="denoised",
    title="Denoised smoothing",
    cite="Salman, Sun, Yang, Kapoor & Kolter 2020, Denoised Smoothing: A Provable Defense for Pretrained Classifiers",
    build=build,
    params=(
        Param(
            name="denoiser",
            default="ffdnet",
            by_dataset={"imagenet": "dncnn", "digits": "ffdnet_digits"},
            choices=("ffdnet", "dncnn", "dncnn_wide", "memnet", "dncnn_blind", "ffdnet_digits"),
            help="the network in front; ffdnet takes sigma and was trained up to 0.294",
        ),
        Param(
            name="classifier",
            default="resnet50",
            by_dataset={"cifar10": "akamaster_resnet56", "digits": "digits_resnet"},
            help="the network behind: akamaster_resnetN or cifar_resnetN (N = 6n+2), cifar_wrnN_K, kuangliu_resnet18, "
            "resnet18, resnet34, resnet50, wide_resnet50_2, vit_base_patch16_224",
        ),
        normaliser_param(by_dataset={"cifar10": "mean_std_imagenet"}),
    ),
    roles=(
        Role("denoiser", "the denoiser, noisy pixels to clean pixels"),
        Role("classifier", "the classifier, trained on clean images"),
    ),
    size=crop_side,
    declines=declines,
    recognise=recognise,
    train={
        "classifier": stage("denoising", "train_clean_classifier"),
        "denoiser": stage("denoising", "train_denoiser"),
    },
)
