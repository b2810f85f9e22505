"""Mutants of files that others have made: checkpoints, certification logs, pictures."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.changes import pick, text_changed, torn
from tests.fuzz.commands import FIRST, RUN, SMALL, STATED, Mutant
from tests.fuzz.own_files import of_classes
from tests.fuzz.stored import json_changed


class Code:
    """Leaves a folder where a pickle is loaded carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("imported-by-name",)


def checkpoints(rng: Random, folder: Path) -> Mutant:
    """Checkpoints of networks."""
    name = pick(rng, "net.pth", "old.pth", "net.safetensors", "packed.pth")
    path, refuse = folder / name, False
    kind = rng.random()
    if kind < 0.45:
        path.write_bytes(torn(rng, path.read_bytes()))
    elif kind < 0.55 and name == "net.safetensors":
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json_changed(rng, raw[8 : 8 + length])
        claimed = pick(rng, len(header), length, 2**62, 0, 10**9)
        path.write_bytes(claimed.to_bytes(8, "little") + header + raw[8 + length :])
    elif kind < 0.6:
        path.unlink()
        links = [lambda to=to: path.symlink_to(to) for to in (path, "/dev/zero", "/dev/null")]
        pick(rng, path.mkdir, lambda: os.mkfifo(path), path.touch, *links)()
        refuse = True
    else:
        name, path = "net.pth", folder / "net.pth"
        refuse = torch_changed(rng, path)
    if rng.random() < 0.1:
        return Mutant(("weights", "add", "mine/x", name, "--method", "gaussian", "--dataset", "digits"))
    if rng.random() < 0.1:
        own = pick(rng, "improved-diffusion", "hf-vit")
        return Mutant(("weights", "convert", name, "made.safetensors", "--from", own), refuse=True)
    return Mutant((*RUN, *FIRST, "--weights", f"network={name}"), refuse=refuse)


def torch_changed(rng: Random, path: Path) -> bool:
    """Save other content at the path; whether it can hold no network."""
    import argparse
    import collections
    import datetime

    import numpy as np
    import torch

    state = torch.load(path, weights_only=True)["state_dict"]
    key = pick(rng, *state)
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    match rng.randrange(8):
        case 0 | 1 | 2:
            state[key] = odd_tensor(rng, state[key])
            content: Any = pick(rng, {"state_dict": state}, state)
        case 3:
            odd = "extra", "module.x", "", "\x1b[31m", "[bold]", "a" * 5000, 7, None, (1, 2)
            state[pick(rng, *odd)] = state.pop(key)
            content = {"state_dict": state}
        case 4:
            prefix = pick(rng, "module.", "_orig_mod.", "model.", "net.", "0.", "..", "module.module.", "\n")
            holder = pick(rng, "state_dict", "model", "model_state_dict", "net", "weights", 3)
            content = {holder: {prefix + k: v for k, v in state.items()}}
        case 5:
            held = argparse.Namespace(a=1), np.float64(1), np.zeros(3), collections.defaultdict(list), Path("x")
            more = pick(rng, *held, datetime.date(2026, 1, 1), {1, 2}, slice(1), b"x", 1 + 2j, range(3), "x" * 5000)
            told = pick(rng, "arch", "normaliser", "epoch", "mean", "std")
            content = {"state_dict": state, "args": more, told: pick(rng, more, 3, None, "x", -1, [1], state[key])}
        case 6:
            one = {}, [], None, 3, "x", state[key], [state], (state, state)
            content = pick(rng, *one, {"state_dict": {}}, {"state_dict": None}, {"state_dict": [state]}, loop)
        case _:
            named = {"state_dict": state, "x": torch.nn.ReLU}  # of which nothing is made: read as nothing, or refused
            content = pick(rng, {"state_dict": state, "x": Code()}, Code(), torch.nn.ReLU(), named, print)
            torch.save(content, path)
            return content is not named
    torch.save(content, path)
    return False


def odd_tensor(rng: Random, tensor: Any) -> Any:
    """What stands in a state's place of a tensor."""
    import torch

    floats = tensor.is_floating_point()
    made = {
        "none": lambda: None,
        "number": lambda: 1.0,
        "text": lambda: "x",
        "list": tensor.tolist,
        "array": tensor.numpy,
        "empty": lambda: torch.zeros(0),
        "scalar": lambda: torch.tensor(1.0),
        "nan": lambda: torch.full_like(tensor, float("nan")) if floats else tensor,
        "double": tensor.double,
        "integers": tensor.long,
        "bool": tensor.bool,
        "half": lambda: tensor.half() if floats else tensor,
        "complex": lambda: tensor.to(torch.complex64),
        "sparse": lambda: tensor.float().to_sparse(),
        "meta": lambda: tensor.to("meta"),
        "transposed": lambda: tensor.t() if tensor.dim() == 2 else tensor,
        "expanded": lambda: torch.zeros(1).expand(10**6, 10**6),
        "longer": lambda: torch.zeros(10**4),
    }
    return made[pick(rng, *made)]()


def published(rng: Random, folder: Path) -> Mutant:
    """Certification logs."""
    name = pick(rng, "log.txt", "ten.txt", "bare.txt", "macer.mat", "packed.mat")
    path = folder / name
    raw = path.read_bytes()
    if name.endswith(".mat") or rng.random() < 0.25:
        path.write_bytes(torn(rng, raw))
    else:
        text = raw.decode()
        for _ in range(pick(rng, 1, 1, 2, 5)):
            text = text_changed(rng, text)
        path.write_bytes(text.encode(pick(rng, "utf-8", "utf-8", "utf-8", "utf-16"), errors="replace"))
    audits = ("logs", "audit", name), ("logs", "audit", ".", "--json")
    return Mutant(pick(rng, *audits, ("logs", "import", name, *STATED), ("logs", "import", name, "--out", "made")))


NAMES = "x", "é.png", ".hidden.png", "[bold]x.png", "x.PNG", "\x1b[31m.png", "a" * 200, "test_batch", "data_batch_1"


def data(rng: Random, folder: Path) -> Mutant:
    """Pictures and batches."""
    kind = pick(rng, "binary", "pickled", "pictures", "pictures")
    root = f"cifar/{kind}" if kind != "pictures" else kind
    path = pick(rng, *sorted(p for p in (folder / root).rglob("*") if p.is_file()))
    match rng.randrange(6):
        case 0 | 1 | 2:
            path.write_bytes(torn(rng, path.read_bytes()))
        case 3:
            code = b"\x80\x02cos\nmkdir\nX\x10\x00\x00\x00imported-by-name\x85R."
            path.write_bytes(pick(rng, b"", b"GIF89a", rng.randbytes(3073), code))
        case 4:
            path.unlink()
            links = [lambda to=to: path.symlink_to(to) for to in (path, "nowhere", folder / "two.py")]
            pick(rng, path.mkdir, lambda: None, *links)()
        case _:
            path.rename(path.with_name(pick(rng, *NAMES)))
    if kind == "pictures":
        of_classes(folder)
    subset = pick(rng, (), (), ("--subset", pick(rng, "all", "skip:2", "0:2", "first:1", "3:4")))
    read = ("--dataset", "folder" if kind == "pictures" else "cifar10", "--data-root", root, *SMALL, "--limit", "2")
    return Mutant(("run", "--methods", "mine.py:MINE", *read, *subset, *pick(rng, (), ("--dry-run",))))
