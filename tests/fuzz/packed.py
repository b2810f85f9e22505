"""Mutants of data as it is downloaded, of the order of classes, of words for weights, and of runs from before seals."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.changes import pick, text_changed, torn, word
from tests.fuzz.commands import FIRST, RUN, SMALL, Mutant
from tests.fuzz.own_files import of_classes
from tests.fuzz.stored import line_changed, reading, unsealed

# Folders of packed data, the dataset that reads each, and how many classes that has.
PACKED = {
    "parquet": ("folder", 2),
    "shards": ("folder", 2),
    "npz": ("folder", 2),
    "npy": ("folder", 2),
    "archive": ("cifar10", 10),
    "kaggle": ("imagenet", 1000),
}
BOXES = "ImageId,PredictionString\n{0},n01443537 1 2 3 4 n01443537 5 6 7 8\n{1},n01440764 1 2 3 4\n"
ODD_ARRAYS = (
    np.zeros((4, 8, 8, 3)),
    np.full((4, 8, 8, 3), 255, np.uint16),
    np.full((4, 8, 8, 3), np.nan, np.float32),
    np.zeros((4, 8, 8), np.uint8),
    np.zeros((0, 8, 8, 3), np.uint8),
    np.zeros((3, 8, 8, 3), np.uint8),
    np.zeros(4, "U3"),
    np.array([0, 1, 2.5, 1]),
    np.array([0, 1, -1, 1]),
    np.array([{}, [], None, 1], dtype=object),
    np.array(["2020-01-01"] * 4, dtype="datetime64[D]"),
    np.array(0),
)


def make(folder: Path) -> None:
    """Four made up pictures of two classes in each form."""
    from pyarrow import parquet, table

    values = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels, coded = [0, 1, 0, 1], list(map(png, values))
    for name in PACKED:
        (folder / name).mkdir(parents=True)
    cells = [{"bytes": data, "path": f"{k}.png"} for k, data in enumerate(coded)]
    names = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    columns = table({"image": cells, "label": labels}).replace_schema_metadata({"huggingface": json.dumps(names)})
    parquet.write_table(columns, folder / "parquet" / "test-00000-of-00001.parquet", row_group_size=2)
    pieces = {f"{k}.{end}": data for k in range(4) for end, data in (("png", coded[k]), ("cls", b"%d" % labels[k]))}
    (folder / "shards" / "test-0000.tar").write_bytes(tar_of(pieces))
    np.savez(folder / "npz" / "test.npz", images=values, labels=np.array(labels))
    np.save(folder / "npy" / "images.npy", values)
    np.save(folder / "npy" / "labels.npy", np.array(labels))
    records = (folder.parent / "cifar" / "pickled" / "test_batch").read_bytes()
    packed = tar_of({"cifar-10-batches-py/test_batch": records}, "w:gz")
    (folder / "archive" / "cifar-10-python.tar.gz").write_bytes(packed)
    inside = [f"ILSVRC2012_val_{k:08d}" for k in (1, 2)]
    for name, data in zip(inside, coded, strict=False):
        (folder / "kaggle" / f"{name}.JPEG").write_bytes(data)
    (folder / "kaggle" / "LOC_val_solution.csv").write_text(BOXES.format(*inside))


def png(values: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            told = tarfile.TarInfo(name)
            told.size = len(data)
            tar.addfile(told, io.BytesIO(data))
    return buffer.getvalue()


def packed(rng: Random, folder: Path) -> Mutant:
    """Parquet, shards, arrays, archives, and Kaggle's table of classes."""
    kind = pick(rng, *PACKED)
    dataset, classes = PACKED[kind]
    root = folder / "packed" / kind
    path = pick(rng, *sorted(root.iterdir()))
    match rng.randrange(6):
        case 0:
            path.unlink()
            links = [lambda to=to: path.symlink_to(to) for to in (path, "/dev/zero", folder / "two.py")]
            pick(rng, path.mkdir, lambda: os.mkfifo(path), path.touch, *links)()
        case 1:
            path.rename(path.with_name(pick(rng, "x", f"x{path.suffix}", f"{path.name}.gz", "test_batch", ".hidden")))
        case 2 if path.suffix == ".csv":
            path.write_text(text_changed(rng, path.read_text()), errors="surrogateescape")
        case 2 | 3 if kind in ("npz", "npy"):
            odd = pick(rng, *ODD_ARRAYS)
            key = pick(rng, "images", "labels", "x", "\x1b[31m")
            held = {"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.array([0, 1, 0, 1]), key: odd}
            (np.savez if kind == "npz" else np.save)(path, **held) if kind == "npz" else np.save(path, odd)
        case 2 | 3 if kind in ("shards", "archive"):
            odd_names = "../../outside", "/tmp/outside", "0.cls", "0.json", "9.png", "", "a" * 300, "\x1b[31m.png"
            more = {pick(rng, *odd_names): pick(rng, b"", b"x", b"9", b"-1", b"0", rng.randbytes(600))}
            told = {"0.png": png(np.zeros((8, 8, 3), np.uint8)), "0.cls": b"0", **more}
            path.write_bytes(tar_of(told, "w:gz" if kind == "archive" else pick(rng, "w", "w", "w:xz")))
        case _:
            path.write_bytes(torn(rng, path.read_bytes()))
    of_classes(folder, classes)
    where = pick(rng, root, root, path).relative_to(folder)
    read = ("--dataset", dataset, "--data-root", str(where), *SMALL, "--limit", "2")
    return Mutant(("run", "--methods", "mine.py:MINE", *read, *pick(rng, (), ("--dry-run",))))


def class_orders(rng: Random, folder: Path) -> Mutant:
    """Words and files for the order of classes."""
    order = folder / "order.txt"
    order.write_text("b\na\n")
    for name in pick(rng, (), ("A",), ("a1", "a01"), ("a10", "a9"), ("e\u0301", "\u00e9")):
        (folder / "pictures" / name).mkdir(exist_ok=True)
        (folder / "pictures" / name / "0.png").write_bytes((folder / "pictures" / "a" / "0.png").read_bytes())
    if rng.random() < 0.6:
        order.write_bytes(torn(rng, order.read_bytes()) if rng.random() < 0.4 else bytes(changed_names(rng)))
    of_classes(folder, len([p for p in (folder / "pictures").iterdir() if p.is_dir()]))
    asked = pick(rng, "order.txt", "order.txt", "natural", "text", word(rng).replace("evil.py", "two.py"))
    dataset = pick(rng, "folder", "folder", "folder", "digits")
    read = ("--dataset", dataset, "--data-root", "pictures", "--class-order", asked, *SMALL, "--limit", "2")
    return Mutant(("run", "--methods", "mine.py:MINE", *read))


def changed_names(rng: Random) -> bytes:
    names = [pick(rng, "a", "b", "A", "a ", "", "c", word(rng)) for _ in range(rng.randrange(5))]
    return "\n".join(names).encode(errors="surrogateescape")


def given_weights(rng: Random, folder: Path) -> Mutant:
    """Keys behind a file's name, and normalisers as texts."""
    words: tuple[str, ...] = ()
    if rng.random() < 0.6:
        key = pick(rng, "state_dict", "epoch", "arch", "state_dict.fc", "0", "*", "state_dict.*", "#", "", word(rng))
        file = pick(rng, "net.pth", "net.pth", "old.pth", "net.safetensors", "a-folder", "nowhere")
        words += ("--weights", f"network={file}#{key}")
    if rng.random() < 0.6:
        numbers = [pick(rng, "0.3", "0.4", "1", "0", "-0.1", "255", word(rng)) for _ in range(pick(rng, 2, 2, 2, 4, 6))]
        half = len(numbers) // 2
        text = f"{','.join(numbers[:half])}{pick(rng, '/', '/', '/', '//', ',', '')}{','.join(numbers[half:])}"
        words += ("--set", f"normaliser={text}")
    return Mutant((*RUN, *FIRST, *words))


def old_runs(rng: Random, folder: Path) -> Mutant:
    """Runs from before seals, and what locks leave behind."""
    run = pick(rng, "plain", "sequential", "early")
    record = next(folder.glob(f"{run}/*/run.json"))
    rows = next(record.parent.glob("rows*.jsonl"))
    told = json.loads(record.read_bytes())
    record.write_text(json.dumps({key: held for key, held in told.items() if key not in ("seal", "num_classes")}))
    lines = [unsealed(line) for line in rows.read_bytes().splitlines()]
    rows.write_bytes(b"\n".join(pick(rng, lines, lines, lines[:1])) + b"\n")
    if rng.random() < 0.6:
        rows.write_bytes(line_changed(rng, rows.read_bytes()))
    for name in (".lock", ".holder", ".run.json.1-abcdef"):
        left = record.with_name(name)
        if rng.random() < 0.3:
            links = [lambda to=to, left=left: left.symlink_to(to) for to in (left, "/nowhere/x", "/dev/null")]
            pick(rng, left.mkdir, left.touch, lambda left=left: left.write_text("{"), *links)()
    return Mutant(reading(rng, run))
