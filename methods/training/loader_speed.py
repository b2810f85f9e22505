"""Images a second that a core decodes and sends for views on the device: `python -m methods.training.loader_speed`."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bench.data.centre_crops import CentreCrop
from bench.data.pictures import PictureDataset, Stored
from methods.training.loader import PIECE, BatchLoader

SIZE = (500, 375)  # width and height of most of ImageNet's photographs
FILES, BATCH = 64, 512  # each file is read several times a batch
PIECES = 24


@dataclass(frozen=True, slots=True)
class LoaderSpeed:
    """Decoding and sending, by times on the core, in which other programs do not count."""

    images_per_core_second: float  # of workers and main process together; what workers made ahead is not counted
    main_seconds: float  # of the main process, a batch


def measure(loader: BatchLoader, pieces: int = PIECES) -> LoaderSpeed:
    """The speed of a loader's workers, and what the main process does meanwhile."""
    before, packer = _children(), loader.packer()
    sent = iter(loader.pieces(0, packer))
    images = len(next(sent)[1])  # workers start by then
    started = time.process_time()
    images += sum(len(labels) for _, labels in islice(sent, pieces - 1))
    main = time.process_time() - started
    del sent  # joins the workers, whose times count from then on
    return LoaderSpeed(images / (_children() - before + main), main / (pieces - 1) * -(-loader.batch // PIECE))


def photographs(folder: Path) -> PictureDataset:
    """JPEGs of smooth colours and noise, which take as many bytes as photographs of that size (110 kB)."""
    from PIL import Image

    for number in range(FILES):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        values = np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)) + rng.normal(0, 9, (SIZE[1], SIZE[0], 3))
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.jpg", quality=92)
    stored = tuple(Stored(number % 10, folder / f"{number % FILES:02d}.jpg") for number in range(BATCH))
    crop = CentreCrop("box-bicubic", 224, 224)
    return PictureDataset(
        name="photographs", split="train", stored=stored, class_names=tuple("0123456789"), crop=crop, side=(224, 224),
        preprocessing=crop.name,
    )  # fmt: skip


def main() -> None:
    """Measure on synthetic photographs and print."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = photographs(Path(folder))
        size = np.mean([stored.path.stat().st_size for stored in dataset.stored if isinstance(stored, Stored)]) / 1e3
        loader = BatchLoader(
            dataset=dataset, count=BATCH, batch=BATCH, augment="moco", seed=0, workers=1, device="cpu", on_device=True
        )
        found = measure(loader)
    print(f"{SIZE[0]}x{SIZE[1]} JPEGs of {size:.0f} kB, views on the device, one worker:")
    print(f"{found.images_per_core_second:.0f} images/s a core")
    print(f"{found.main_seconds * 1e3:.2f} ms of the main process for a batch of {BATCH}")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
