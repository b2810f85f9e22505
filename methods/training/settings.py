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
    "lora_rank",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """Settings of every stage."""

    augment: Augment
    batch: int  # images a step; views and copies come on top
    hold_out: int  # last training images that are left out and evaluated on: to choose settings without the test split
    workers: int  # processes that decode and augment
    precision: Literal["auto", "fp32", "bf16"]  # bf16: autocast; auto: bf16 on CUDA, fp32 elsewhere
    threads: int  # of torch on a CPU; 0: its own choice. One is fastest for tiny networks, and free of the core count
    clip: float  # largest gradient norm; 0: none
    preprocessing: str = ""  # centre crops of photographs, and of their test images; "": the data set's own
    augment_on: Literal["auto", "cpu", "device"] = "auto"  # who makes colour views; auto: a CUDA device, or workers
    # How steps are executed; no recipe needs to name them.
    accumulate: int = 1  # micro-batches of a step, one after the other; batch norm sees one at a time
    # torch.compile; auto: on CUDA, blocks of transformers and large ResNets in long runs; true, false: always, never;
    # graphs: on CUDA, each network's kernels asked for at once by CUDA graphs: for small ones, which wait for a CPU
    compile: Literal["auto", "never", "true", "false", "graphs"] = "auto"
    checkpoint: bool = False  # whether the blocks of a transformer are computed again in the backward pass: less memory
    ema: float = 0.0  # decay of the average of the weights that is exported; 0: the last weights
    sync_bn: bool = True  # whether batch norm sees the images of all processes
    keep_every: int = 0  # steps between two exports of the weights as they are, STEP in their names; 0: the last alone

    # Whether a stage's loss may be given part of a batch: all that it draws for images must then go by share.
    can_accumulate: ClassVar[bool] = False  # accumulate > 1
    can_distribute: ClassVar[bool] = False  # several processes


Member = Literal["gaussian", "consistency", "stability", "smoothadv", "macer", "smoothmix"]


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
    lr_every: int  # epochs between two drops ("step")
    warmup_epochs: float  # ("cosine")
    lr_gamma: float = 0.1  # what is left of lr after a drop ("step")
    steps: int = 0  # budget: the recipe's epochs take so many steps, whatever the training set; 0: its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Classical(ClassifierSettings):
    """Gaussian and Consistency."""

    copies: int  # noisy copies of an image in a step
    lbd: float  # unused by Gaussian, as are eta and form
    eta: float
    form: Literal["default", "xent", "kl", "mse"]


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


# Several networks, trained independently, by the settings of their loss.


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting(Classical):
    """Members of Gaussian or Consistency."""

    members: int
    loss: Member  # of each member


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingSmoothAdv(SmoothAdv):
    """Members of SmoothAdv."""

    members: int
    loss: Member


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingMacer(Macer):
    """Members of MACER."""

    members: int
    loss: Member


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingSmoothMix(SmoothMix):
    """Members of SmoothMix."""

    members: int
    loss: Member


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingStability(Stability):
    """Members of Stability training."""

    members: int
    loss: Member


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
    initialisation: Literal[
        "default", "orthogonal"
    ]  # orthogonal: and the last convolution zero, the start the identity
    lr: float  # Adam's
    weight_decay: float  # Adam's, added to the gradient (l2)
    epochs: int
    decay: Literal["step", "cosine"]
    lr_every: int
    warmup_epochs: float
    lr_gamma: float = 0.1
    steps: int = 0  # budget, as a classifier's
    surrogates: str = ""  # query access: files or names, "A B C", one a batch in turn; empty: the classifier itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrain(StageSettings):
    """rRCM's first stage; gradients are clipped after the warm-up only."""

    can_accumulate: ClassVar[bool] = False  # all other images of the batch are negatives
    can_distribute: ClassVar[bool] = True  # negatives are gathered from all processes

    size: str
    # Images, each in all views, that go through the encoder at once; the loss sees the batch. 0: all of a process;
    # auto: as many as the device has memory for.
    micro_batch: int | Literal["auto"] = 0
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
    # Ablations of the paper (Appendices E and F); the defaults are the method.
    objective: Literal["rrcm", "moco"] = "rrcm"  # moco: views contrasted under noise, and no trajectory
    t_max: float = 80.0  # noisiest level of the grid, of pixels in [-1, 1]
    pairing: Literal["adjacent", "initial"] = (
        "adjacent"  # initial: each level with the cleanest, not with its neighbour
    )
    levels: str = ""  # levels to draw from, "0.5 1 2"; empty: the grid's, or for moco 0.002, 0.5, 1 and 2
    consistency_ema: float = 0.0  # EMA rate of the consistency target; 0: the network itself, without gradient


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
    steps: int = 0  # budget, as a classifier's


@dataclass(frozen=True, slots=True, kw_only=True)
class DmaeFinetune(StageSettings):
    """A ViT fine-tuned at one noise level, from a masked autoencoder of noisy images."""

    can_accumulate: ClassVar[bool] = True
    can_distribute: ClassVar[bool] = True

    arch: str
    normaliser: str
    start: Literal["pretrained", "random"]  # random: without an autoencoder, which is no result of the paper
    lr: float  # of the top layer
    lr_min: float
    layer_decay: float
    weight_decay: float  # of matrices alone
    drop_path: float  # of the last block; the first has none
    epochs: int
    warmup_epochs: float
    copies: int  # noisy copies of an image in a step; 1: cross-entropy alone
    lbd: float
    eta: float
    mixup: float
    cutmix: float
    smoothing: float  # of the labels
    head_std: float
    steps: int = 0  # budget, as a classifier's


@dataclass(frozen=True, slots=True, kw_only=True)
class DdsFinetune(StageSettings):
    """An off-the-shelf classifier fine-tuned on denoised images (FT-CADIS)."""

    can_accumulate: ClassVar[bool] = True
    can_distribute: ClassVar[bool] = True

    classifier: str  # its architecture
    normaliser: str  # by_classifier: its family's
    denoiser: str  # the diffusion network's architecture
    denoiser_weights: str  # a file or a name of the catalogue; empty: the catalogue's own for this data set
    copies: int  # denoised copies of an image in a step
    attack_steps: int
    radius: float  # l2, pixels in [0, 1]: the authors' 64/256 counts in [-1, 1], so that it is half of that here
    lbd: float  # of the masked adversarial loss
    warm_start: bool  # whether an image without a right copy learns from its least wrong one
    adapter: Literal["full", "lora"]  # lora: rank r on queries and values, and the head
    lora_rank: int
    lora_alpha: float
    lr: float  # of the top layer
    lr_min: float
    layer_decay: float
    weight_decay: float  # of matrices alone, at the start
    weight_decay_end: float  # half a cosine leads there
    attention_dropout: float  # of the last block; the first has none
    epochs: int
    warmup_epochs: float
    steps: int = 0  # budget, as a classifier's


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
    condition: Literal["none", "rrcm"] = "none"  # rrcm: told features of the clean image, to generate from them
    condition_weights: str = ""  # file of the pre-trained encoder whose features they are
