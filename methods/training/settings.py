"""Settings of each training stage, as records; their values are in presets/*.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from methods.training.augment import Name as Augment

# Counts of things that a run cannot do without.
AT_LEAST_ONE = (
    "batch",
    "epochs",
    "cosine_epochs",
    "steps",
    "scales_first",
    "scales_last",
    "lr_every",
    "copies",
    "members",
    "attack_steps",
    "accumulate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """Settings of every stage."""

    augment: Augment
    batch: int  # images a step; views and copies come on top
    hold_out: int  # last training images that are left out and evaluated on: to choose settings without the test split
    workers: int  # processes that decode and augment
    precision: Literal["fp32", "bf16"]  # bf16: autocast
    threads: int  # of torch on a CPU; 0: its own choice. One is fastest for tiny networks, and free of the core count
    clip: float  # largest gradient norm; 0: none
    preprocessing: str = ""  # centre crops of photographs, and of their test images; "": the data set's own
    augment_on: Literal["auto", "cpu", "device"] = "auto"  # who makes colour views; auto: a CUDA device, or workers
    # How steps are executed; no recipe needs to name them.
    accumulate: int = 1  # micro-batches of a step, one after the other; batch norm sees one at a time
    compile: bool = False  # torch.compile
    ema: float = 0.0  # decay of the average of the weights that is exported; 0: the last weights
    sync_bn: bool = True  # whether batch norm sees the images of all processes

    # Whether a stage's loss may be given part of a batch: all that it draws for images must then go by share.
    can_accumulate: ClassVar[bool] = False  # accumulate > 1
    can_distribute: ClassVar[bool] = False  # several processes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSettings(StageSettings):
    """Settings of training a classifier from scratch, whatever its loss."""

    can_accumulate: ClassVar[bool] = True
    can_distribute: ClassVar[bool] = True

    arch: str
    normaliser: str
    optimiser: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    epochs: int
    decay: Literal["step", "cosine"]
    lr_every: int  # epochs between two drops to a tenth ("step")
    warmup_epochs: float  # ("cosine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classical(ClassifierSettings):
    """Gaussian and Consistency."""

    copies: int  # noisy copies of an image in a step
    lbd: float  # unused by Gaussian, as are eta and form
    eta: float
    form: Literal["default", "xent", "kl", "mse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting(Classical):
    """Several networks, trained independently."""

    members: int
    loss: Literal["gaussian", "consistency"]  # of each member


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothAdv(ClassifierSettings):
    """Adversarial training of the smoothed classifier."""

    attack: Literal["pgd", "ddn"]
    attack_steps: int
    radius: float  # l2, pixels in [0, 1]: the authors' 64, 127, 255, 512 are 0.25, 0.496, 0.996, 2.0
    radius_warmup: int  # epochs in which it grows to that
    copies: int  # noises of the attack
    multi_noise: bool  # whether the weights learn from all of them, or from the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Macer(ClassifierSettings):
    """Maximisation of the soft radius."""

    copies: int
    lbd: float
    lbd_from: int  # first epoch that it counts in; 0: from the beginning
    beta: float
    gamma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothMix(ClassifierSettings):
    """Mixing with unrestricted adversaries."""

    copies: int
    attack_steps: int
    attack_length: float  # of a step; l2, pixels in [0, 1]
    clean_after: int  # steps of the attack after which an image counts as clean: 0, or 1 ("one-step adversary")
    max_norm: float  # of the adversary; 0: none
    eta: float
    eta_warmup: int  # epochs in which it grows to that, and the clean end's ball to its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability(ClassifierSettings):
    """Clean images, and noisy ones whose predictions should be equal."""

    lbd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising(StageSettings):
    """A denoiser before a frozen classifier."""

    can_accumulate: ClassVar[bool] = True
    can_distribute: ClassVar[bool] = True

    denoiser: str
    objective: Literal["mse", "clf", "stab", "stab_mse"]  # stab_mse: stab, from a denoiser that mse has trained
    classifier: str  # its architecture
    classifier_weights: str  # a file or a name of the catalogue; empty: the catalogue's own for this data set
    normaliser: str  # of the classifier
    lr: float  # Adam's
    epochs: int
    decay: Literal["step", "cosine"]
    lr_every: int
    warmup_epochs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrain(StageSettings):
    """rRCM's first stage; gradients are clipped after the warm-up only."""

    can_accumulate: ClassVar[bool] = False  # all other images of the batch are negatives
    can_distribute: ClassVar[bool] = True  # negatives are gathered from all processes

    size: str
    projector: int  # hidden width of the projector; 0: the size's own
    lr: float
    weight_decay: float  # on all parameters
    warmup_steps: int
    steps: int
    tau: float
    contrastive: Literal["symmetric", "one_sided"]  # symmetric: authors' later code; one_sided: paper, Algorithm 1
    schedule: Literal["as_coded", "ict"]
    scales_first: int
    scales_last: int
    ema_m: float
    ema_start: float
    ema_end: float
    initialisation: Literal["default", "moco"]
    patch_embed: Literal["trainable", "frozen"]  # frozen: authors' ImageNet code, not in the paper


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune(StageSettings):
    """rRCM's second stage."""

    can_accumulate: ClassVar[bool] = True
    can_distribute: ClassVar[bool] = True

    size: str
    lr: float  # of the top layer
    layer_decay: float
    weight_decay: float
    epochs: int
    cosine_epochs: int  # length of the cosine, where a run is cut off before its end
    warmup_epochs: float
    lr_by: Literal["epoch", "step"]  # epoch: authors' code, whose first epoch has rate 0
    head: Literal["frozen", "trainable"]  # frozen: authors' code; trainable: the paper as written
    head_std: float
    final_norm: bool  # whether the head sees the class token after the last LayerNorm
    lbd: float  # eta_1 of the paper
    eta: float  # eta_2 of the paper
    mixup: float
    cutmix: float
    smoothing: float  # of the labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffusion(StageSettings):
    """A diffusion network, which denoises at every level of its schedule; no labels."""

    can_accumulate: ClassVar[bool] = True
    can_distribute: ClassVar[bool] = True

    arch: str  # which brings its schedule
    prediction: Literal["eps", "v"]  # what the network gives: the noise, or Salimans & Ho's velocity
    largest_sigma: float  # levels above this smoothing sigma, [0, 1] pixels, are not trained; 0: all are
    lbd: float  # weight of the variational bound, whose gradient reaches the variances alone
    dropout: float
    lr: float
    weight_decay: float
    warmup_steps: int
    decay: Literal["constant", "cosine"]
    steps: int
