"""ImageNet's validation images (1,000 classes, labels in the order of the sorted wnids), cropped as the field does."""

from __future__ import annotations

from pathlib import Path

from bench.data.centre_crops import named_crop
from bench.data.imagenet_layout import Layout, read_layout
from bench.data.pictures import PictureDataset, picture_size
from bench.types import DatasetSource, PublishedLogs
from bench.types.errors import DataError

CROPS = (224, 256)
# The first is Cohen et al. 2019's and that of their successors; methods of other pixels name their own.
PREPROCESSINGS = tuple(f"{way}{side}" for way in ("resize256-crop", "bicubic256-crop") for side in CROPS) + tuple(
    f"short{side}-box-bicubic" for side in CROPS
)
OFFICIAL = {"test": 50_000, "train": 1_281_167}


def open_imagenet(
    root: Path | None, size: int | None, split: str, *, preprocessing: str | None = None
) -> PictureDataset:
    """Validation images ("test", or "val" by its own name) or training images, as RGB crops of 224 or 256.

    Without a preprocessing: short side to 256 (bilinear), centre crop. Differs: images named <label>_<wnid>_<name> that
    are 224x224 already are taken as they are, whatever is asked for: "precropped224".
    Source: Russakovsky et al. 2015; bench.data.centre_crops has those of the crops.
    Raises: DataError for missing classes, labels or images, for labels that disagree, or for another size.
    """
    if root is None:
        raise DataError(
            "imagenet needs --data-root, got none; expected the folder of validation images, one folder a class; "
            "its terms allow no download by others"
        )
    if not root.exists():
        raise DataError(
            f"--data-root {str(root)!r} does not exist; expected ImageNet's val folder, or one that holds it"
        )
    if split not in ("test", "val", "train"):
        raise DataError(f"imagenet has the splits 'test' (its validation set) and 'train', got {split!r}")
    if size not in (None, *CROPS):
        raise DataError(f"imagenet is cropped to {CROPS[0]} or {CROPS[1]}, got size {size}")
    crop = named_crop(preprocessing or PREPROCESSINGS[0], PREPROCESSINGS)
    crop = crop if size is None else crop.of_side(size)
    part = "train" if split == "train" else "test"
    names, descriptions = official_classes()
    layout = read_layout(root, part, names)
    cropped = layout.named and picture_size(layout.stored[0]) == (224, 224)
    if cropped and size not in (None, 224):
        raise DataError(f"{layout.stored[0]} is cropped to 224x224 already, got size {size}; leave the size out")
    side = 224 if cropped else crop.side
    return PictureDataset(
        name="imagenet",
        split=part,
        stored=layout.stored,
        class_names=descriptions,
        crop=None if cropped else crop,
        side=(side, side),
        preprocessing="precropped224" if cropped else crop.name,
        notes=_notes(layout, part),
    )


def official_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The 1,000 wnids in label order, and a name for each."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = tuple(info.label_names())
    if len(names) != 1000 or list(names) != sorted(names):
        raise DataError(
            f"timm's list of ImageNet classes has {len(names)} names out of order; install an official timm"
        )
    return names, tuple(info.index_to_description(label) for label in range(1000))


def _notes(layout: Layout, part: str) -> tuple[str, ...]:
    notes = [*layout.notes, f"order: {layout.order}"]
    if len(layout.stored) != OFFICIAL[part]:
        notes.append(
            f"{len(layout.stored)} images, not the {OFFICIAL[part]} of ImageNet: a subset like skip:100 takes "
            "other images here than in published runs"
        )
    elif layout.order != "class":
        notes.append("published runs count in class order: a subset like skip:100 takes other images here")
    return tuple(notes)


IMAGENET = DatasetSource(
    name="imagenet",
    title="ImageNet (ILSVRC 2012 validation)",
    cite="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge",
    default_subset="skip:100",
    open=open_imagenet,
    num_classes=1000,
    shape=(3, CROPS[0], CROPS[0]),
    crop=CROPS[0],
    preprocessings=PREPROCESSINGS,
    images=OFFICIAL,
    radii=tuple(0.5 * k for k in range(6)),  # 0 to 2.5: Lei et al., ICLR 2025, Table 1
    statistics=(
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),  # as torchvision's networks and Cohen et al.'s
    logs=PublishedLogs(
        names="imagenet(?:[-_]?1k)?|ilsvrc(?:[-_]?2012)?",
        others="(?:tiny|mini|restricted|small|downsampled|sub|stylized|blurred)[-_]?imagenet"
        "|imagenet[-_]?(?:c|p|a|o|r|e|d|x|s|w|v2|lt|100|10|21k|22k|16|32|64|128|sketch|real|hard|bar|cbar|3dcc|nette"
        "|woof|corrupted|mini|tiny|subset|resized|matched[a-z-]*|stylized|dogs)(?![a-z0-9])(?![.][0-9])"
        "|imagenette|imagewoof",
        called="ImageNet's validation set",
        subsets=("skip:100", "skip:50"),
        order="class-sorted",
        class_size=50,
    ),
)
