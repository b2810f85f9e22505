"""Mutants of files that a user writes: plans, a catalogue of weights, methods and datasets."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from tests.fuzz.changes import pick, text_changed, torn
from tests.fuzz.commands import FIRST, OWN, RUN, SMALL, Mutant

# Values of TOML, one a line.
TOML = (
    *r"""[]
{}
[[]]
[1, 'a']
[true]
[nan]
[0.5, [1]]
{a = 1}
{a = {b = [1]}}
1979-05-27
07:32:00
nan
inf
-1
0
1e400
0x7fffffffffffffff
''
'x'
true
'''a'''
[{a = 1}]
['a', 'a']
[0.5, 0.5]
'two.py:D'
'../../x'
'[bold]x'
"\u001b[31m"
'sequential'
'table'""".split("\n"),
    "9" * 400,
    "[" * 3000 + "]" * 3000,
)
OTHER_KEYS = "radii mode data_root size weights x [[run]] sigma file".split()


def toml_changed(rng: Random, text: str) -> bytes:
    """A TOML file with a value, a key, a line or bytes of it changed."""
    if rng.random() < 0.15:
        return torn(rng, text.encode())
    if rng.random() < 0.2:
        return text_changed(rng, text).encode(errors="surrogateescape")
    lines = text.split("\n")
    at = pick(rng, *(i for i, line in enumerate(lines) if " = " in line))
    key = lines[at].partition(" = ")[0] if rng.random() < 0.6 else pick(rng, *OTHER_KEYS)
    lines[at] = f"{key} = {pick(rng, *TOML)}"
    return "\n".join(lines).encode()


def plans(rng: Random, folder: Path) -> Mutant:
    """Plan files."""
    path = folder / "plan.toml"
    path.write_bytes(toml_changed(rng, path.read_text()))
    return Mutant(("run", "--plan", "plan.toml", "--limit", "1", "--n", "100", "--n0", "20", "--dry-run"))


def catalogues(rng: Random, folder: Path) -> Mutant:
    """The user's catalogue of weights."""
    text = (folder / "weights.toml").read_text()
    (folder / "home").mkdir()
    (folder / "home" / "weights.toml").write_bytes(toml_changed(rng, text))
    listed = ("weights", "list"), ("weights", "list", "--json"), ("methods", "gaussian"), ("weights", "verify")
    return Mutant(pick(rng, *listed, (*RUN, *FIRST)))


# What a hook may raise or return, one a line.
RAISES = r"""ValueError('no')
KeyError('no')
SystemExit(0)
SystemExit('no')
SystemExit(7)
GeneratorExit()
StopIteration(3)
MemoryError()
RecursionError('no')
OSError(5, 'no', 'file')
BrokenPipeError()
AssertionError()
Odd()
OddBase('no')
ZeroDivisionError('[bold]a\nb\x1b[31m')
UnicodeDecodeError('utf-8', b'x', 0, 1, 'no')
ExceptionGroup('no', [ValueError(1)])
NotImplementedError()
ImportError('no')
TimeoutError()
Warning('no')
EOFError()""".split("\n")
VALUES = r"""None
0
-1
1
1.5
float('nan')
10**30
'x'
''
b'x'
[]
()
{}
object()
lambda *a: 1
True
'10'
[1, 2]
type
iter(())
'../../x'
'[bold]x'
'\x1b[31mred'
'a' * 5000
'a\nb'
'\udcff'
'a/b'
'=1+1'""".split("\n")
TENSORS = """torch.zeros(len(x))
torch.zeros(len(x), 10)
torch.zeros(len(x) + 1, dtype=torch.int64)
torch.zeros(0, dtype=torch.int64)
torch.full((len(x),), 99)
torch.full((len(x),), -1)
torch.zeros(len(x), dtype=torch.bool)
x
x.numpy()
[0] * len(x)
torch.full((len(x),), float('nan'))
torch.zeros(len(x), dtype=torch.int64, device='meta')
torch.zeros(len(x), dtype=torch.int64).to_sparse()
torch.zeros(len(x), dtype=torch.uint8)
torch.zeros(len(x), dtype=torch.cfloat)""".split("\n")
PIXELS = """np.full((1, 8, 8), 128, np.float32)
np.full((1, 8, 8), np.nan, np.float32)
np.full((1, 8, 8), -0.5, np.float32)
np.full((1, 8, 8), np.inf, np.float32)
np.zeros((1, 8, 8), np.uint8)
np.zeros((1, 8, 8))
np.zeros((8, 8), np.float32)
np.zeros((3, 8, 8), np.float32)
np.zeros(0, np.float32)
[[0.0]]""".split("\n")
LABELS = "99", "-1", "1.5", "'a'", "None", "float('nan')"
FAIL = """
class Odd(Exception):
    def __str__(self):
        raise ValueError("of the message itself")


class OddBase(BaseException):
    pass


def fail(*_, **__):
    raise {raises}


"""
BUILD = "build=lambda setting: Mine()"
HOOKS = "size declines recognise facts train params roles".split()


def methods(rng: Random, folder: Path) -> Mutant:
    """Methods of a user's own whose hooks raise or return nonsense."""
    path = folder / "mine.py"
    odd, text = pick(rng, *VALUES), path.read_text()
    refuse = (kind := rng.randrange(11)) < 7
    match kind:
        case 0:
            text += "\nfail()\n"
        case 1:
            text = text.replace(BUILD, f"{BUILD}, {pick(rng, 'size', 'declines')}=lambda *a: fail()")
        case 2:
            text = text.replace(BUILD, "build=lambda setting: fail()")
        case 3:
            text = text.replace("        return (x", "        fail()\n        return (x")
        case 4:
            text = text.replace(BUILD, f"build=lambda setting: {odd}")
        case 5:
            text = text.replace("        return (x", f"        return {pick(rng, *TENSORS, odd)}\n        return (x")
        case 6:
            text = text.replace("MINE = Method", f"MINE = {odd}\nOTHER = Method")
        case 7:
            text = text.replace("num_classes = 10", f"num_classes = {odd}")
        case 8:
            text = text.replace(BUILD, f"{BUILD}, {pick(rng, *HOOKS)}={pick(rng, odd, f'lambda *a, **k: {odd}')}")
        case 9:
            part = pick(rng, 'name="mine"', 'title="Mine"', 'cite="me"', 'name="k"', "default=1", 'help="-"')
            text = text.replace(part, f"{part.partition('=')[0]}={odd}")
        case _:
            text = torn(rng, text.encode()).decode(errors="surrogateescape")
    text = text.replace("MINE = ", f"{FAIL.format(raises=pick(rng, *RAISES))}MINE = ", 1)
    path.write_bytes(text.encode(errors="surrogateescape"))
    run = (*OWN, *FIRST)
    read = pick(rng, run, run, (*run, "--dry-run"), ("check", "mine.py:MINE"), ("methods", "mine.py:MINE"))
    return Mutant(read, refuse=refuse and read is run)


def datasets(rng: Random, folder: Path) -> Mutant:
    """Datasets of a user's own whose hooks raise or return nonsense."""
    path = folder / "two.py"
    odd, text = pick(rng, *VALUES), path.read_text()
    hook = pick(rng, "__len__", "__getitem__", "label", "digest")
    refuse = (kind := rng.randrange(7)) < 4 or (kind == 4 and hook == "__getitem__")
    match kind:
        case 0:
            text = re.sub(rf"def {hook}\(.*\n", lambda m: f"{m[0]}        fail()\n", text)
        case 1:
            text = text.replace("root, size, split: Two()", "root, size, split: fail()")
        case 2:
            text = text.replace("np.full((1, 8, 8), index / 2, np.float32)", pick(rng, *PIXELS, odd))
        case 3:
            text = text.replace("np.float32), index,", f"np.float32), {pick(rng, *LABELS)},")
        case 4:
            text = re.sub(rf"def {hook}\(.*\n", lambda m: f"{m[0]}        return {odd}\n", text)
        case 5:
            part = pick(rng, "name", "split", "shape", "num_classes", "class_names", "notes", "preprocessing")
            text = re.sub(rf"    {part} = .*", lambda _: f"    {part} = {odd}", text)
        case _:
            part = pick(rng, 'name="two"', 'title=""', 'default_subset="all"', "num_classes=2", "shape=(1, 8, 8)")
            text = text.replace(part, f"{part.partition('=')[0]}={odd}")
    text = text.replace("D = DatasetSource", f"{FAIL.format(raises=pick(rng, *RAISES))}D = DatasetSource")
    path.write_text(text)
    of_classes(folder)
    words = ("run", "--methods", "mine.py:MINE", "--dataset", "two.py:D", *SMALL)
    dry = rng.random() < 0.3
    return Mutant((*words, "--dry-run") if dry else words, refuse=refuse and not dry)


def of_classes(folder: Path, count: int = 2) -> None:
    """Let the folder's method tell so many classes apart, not ten."""
    path = folder / "mine.py"
    text = path.read_text().replace("num_classes = 10", f"num_classes = {count}")
    path.write_text(text.replace("% 10", f"% {count}"))
