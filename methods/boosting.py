"""Boosting: an ensemble of independently trained networks, smoothed and certified as one function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.types import BaseClassifier, Method, Param, Role, Scalar, Setting, WeightsFile
from bench.types.errors import MethodError, WeightsError
from methods.nets.recognition import Shapes, classifier_arch
from methods.noise_trained import ARCHITECTURES, crop_side, family_normaliser, normaliser_param, stage

if TYPE_CHECKING:
    from torch import Tensor

_NUMBERED = re.compile(r"(\d+)\.(.+)", re.DOTALL)


def build(setting: Setting) -> BaseClassifier:
    """Normaliser -> k networks -> sum of their answers -> argmax, on the setting's device.

    Raises: MethodError for an architecture or a consensus that does not do, WeightsError for weights that do not fit
    it, or too few members.
    """
    from torch import nn

    from methods.nets.architectures import build_network, damp_batchnorm
    from methods.nets.load_weights import load_weights, seeded
    from methods.nets.normalisers import Normaliser
    from methods.nets.voting import Ensemble

    count, consensus = int(setting.params["members"]), int(setting.params["consensus"])
    if count < 1:
        raise MethodError(f"boosting: members must be at least 1, got {count}")
    if consensus != 0 and not 2 <= consensus <= count:
        raise MethodError(
            f"boosting: consensus must be 0 (off) or 2 to {count}, the number of members, got {consensus}"
        )
    arch = str(setting.params["arch"])
    states = None if setting.random_weights else _members(setting, count)
    normaliser = Normaliser(str(setting.params["normaliser"]), setting.dataset, channels=setting.shape[0])
    members = []
    for i in range(count):
        with seeded(setting.seed, f"members/{i}"):
            network = build_network(arch, num_classes=setting.num_classes, shape=setting.shape)
        if states is None:
            damp_batchnorm(network)
        else:
            file = setting.weights["members"]
            named = replace(file, name=f"{file.name}, member {i}")
            load_weights(network, states[i], named, arch=arch, recognise=classifier_arch)
        members.append(nn.Sequential(normaliser, network))
    return Ensemble(
        members,
        num_classes=setting.num_classes,
        device=setting.device,
        aggregate=str(setting.params["aggregate"]),
        consensus=consensus,
        optimise_for=setting.precision if setting.tuned else None,
    )


def recognise(role: str, shapes: Shapes, meta: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """The architecture that the first member's tensors show; a member of another one is refused when it is loaded."""
    del role
    first = {
        match[2]: shape for name, shape in shapes.items() if (match := _NUMBERED.fullmatch(name)) and match[1] == "0"
    }
    arch = classifier_arch(first)
    return {} if arch is None else {"arch": arch, **family_normaliser(arch, meta)}


def numbered(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The networks of a file that packs several: names `0.*`, `1.*`, ...; empty where it is no such file.

    Raises: WeightsError where a number is missing.
    """
    members: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NUMBERED.fullmatch(name)
        if match is None:
            return []
        members.setdefault(int(match[1]), {})[match[2]] = tensor
    if gaps := sorted(set(range(max(members) + 1)) - members.keys()):
        raise WeightsError(f"expected members 0 to {max(members)}, number {gaps[0]} is missing; pack them again")
    return [members[i] for i in range(len(members))]


def member_tensors(file: WeightsFile, count: int | None = None) -> list[dict[str, Tensor]]:
    """The tensors of each member, bare of prefixes; of the first `count` at most.

    Raises: WeightsError for a file that packs no several networks, or lacks one.
    """
    from bench.weights.resolve import load_tensors, unwrapped
    from methods.nets.load_weights import network_tensors

    if file.parts:
        return [network_tensors(file, classifier_arch, part=part) for part in file.parts[:count]]
    states = numbered(load_tensors(file.path, file.key)[0])[:count]
    if not states:
        raise WeightsError(
            f"weights {file.name!r}: expected several networks in one file (names 0.*, 1.*, ...), got one; give a "
            "path with {member} in it, such as checkpoint-{member}.pth.tar"
        )
    return [unwrapped(state, classifier_arch)[0] for state in states]


def _members(setting: Setting, count: int) -> list[dict[str, Tensor]]:
    if "members" not in setting.weights:
        raise WeightsError(
            "weights for the role 'members' are missing; give a file, or a path with {member}, or random weights to "
            "measure cost"
        )
    file: WeightsFile = setting.weights["members"]
    states = member_tensors(file, count)
    if len(states) < count:
        raise WeightsError(
            f"weights {file.name!r}: expected {count} members, got {len(states)}; add what is missing, or give "
            f"--set members={len(states)}"
        )
    return states


BOOSTING = Method(
    name="boosting",
    title="Boosting",
    cite="Horvath, Mueller, Fischer & Vechev 2022, Boosting Randomized Smoothing with Variance Reduced Classifiers",
    build=build,
    params=(
        Param(
            name="arch",
            default="resnet50",
            by_dataset=ARCHITECTURES,
            help="of every member: cifar_resnetN (N = 6n+2), resnet50, vit_base_patch16_224, digits_resnet",
        ),
        normaliser_param(),
        Param(
            name="members",
            default=3,
            by_dataset={"cifar10": 10, "digits": 5},
            help="how many networks, from the first on; the files may hold more",
        ),
        Param(
            name="aggregate",
            default="logits",
            choices=("logits", "softmax", "votes"),
            help="what is summed over the members: logits, probabilities, or one vote each (ties: lowest class)",
        ),
        Param(
            name="consensus",
            default=0,
            help="K: the first K members answer alone where they agree, all members elsewhere; 0: all, always",
        ),
    ),
    roles=(Role("members", "the networks: one file with names 0.*, 1.*, ..., or a path with {member}", many=True),),
    size=crop_side,
    recognise=recognise,
    train={"train": stage("boosting", "train"), "pack": stage("pack_ensemble", "pack")},
)
