"""Changes to texts, bytes and JSON values, drawn from a seeded `random.Random`; no word here of what they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

# Numbers, and words that are none, as no user means them, or means them seldom; a blank between, or a line each.
NUMBERS = (
    *"""0 1 -1 2 3 -0 0.5 1e-3 1e-400 1e308 -1e308 1e400 nan -nan inf -inf Infinity NaN 1e18 1000000000000000000 1e25
    9223372036854775807 9223372036854775808 -9223372036854775809 18446744073709551616 \u00b2 \u0663 \u00bd 0x10 1_000
    1,5 1.0.0 +1 1e --1 1j true None""".split(),
    "9" * 5000,
    " 1 ",
    "",
)
TEXTS = (
    *""", ,, a,b ,a a, = x= =x a=b=c . .. / // ~ ~nobody-here/x - -- -x * ? [ ] [/] [bold]x[/bold] [/red] [link=x]y { }
    {} {0} {sigma} {sigma!r:>{sigma}} {sigma.real.__class__} {x} %s %(x)s %n $HOME `id` ' " \\ \u00e9 \u65e5\u672c
    ../x ../../x /nowhere/x nowhere nowhere.toml here.txt a-folder evil.py:D evil.py: :D evil.py nothing.py:X =1+1 @x +x
    all none auto digits gaussian cpu cuda:0 cuda:99 skip:0 skip:-1 first:0 first:-3 5:1 0:0 file:here.txt file:nowhere
    file:a-folder fp32 bf16 fp8 cohen sequential table deploy""".split(),
    "", " ", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "line\nline", "tab\tx", "\r", "\u202eabc", "\ufeff", "\udcff",
    "a" * 5000, "first:" + "9" * 30,
)  # fmt: skip


def pick(rng: Random, *choices: Any) -> Any:
    return choices[rng.randrange(len(choices))]


def word(rng: Random) -> str:
    """A word as no user means it, or means it seldom."""
    return pick(rng, *NUMBERS) if rng.random() < 0.5 else pick(rng, *TEXTS)


def value(rng: Random) -> Any:
    """A JSON value of any type."""
    kind = rng.randrange(12)
    if kind < 3:
        return pick(rng, 0, 1, -1, 2, 10**18, -(10**18), 2**63, 2**64, 10**400, 7)
    if kind < 5:
        return pick(rng, 0.5, -0.5, 1e308, 1e-308, float("nan"), float("inf"), float("-inf"), 0.1, 100.0)
    if kind < 8:
        return word(rng)
    return pick(
        rng, None, True, False, [], {}, [[]], {"": None}, [1, "a"], {"a": [1]}, [[0, 1]], [[1, -5]], [None], ["random"]
    )


def places(document: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a JSON document, its own left out."""
    inner: Any = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = []
    for key, held in inner:
        found += [(*here, key), *places(held, (*here, key))]
    return found


def changed(rng: Random, document: Any) -> Any:
    """The document with one value replaced, retyped, removed, doubled or renamed; the given one is changed in place."""
    known = places(document) if isinstance(document, dict | list) else []
    if not known or rng.random() < 0.02:
        return value(rng)
    path = pick(rng, *known)
    held = document
    for key in path[:-1]:
        held = held[key]
    last, old = path[-1], held[path[-1]]
    match rng.randrange(7):
        case 0 | 1:
            held[last] = value(rng)
        case 2:
            del held[last]
        case 3:
            held[last] = retyped(old)
        case 4:
            held[last] = [old] if rng.random() < 0.5 else {str(last): old}
        case 5:
            held[last] = nudged(rng, old)
        case _:
            if isinstance(held, dict):
                held[word(rng)] = held.pop(last) if rng.random() < 0.5 else old
            else:
                held.insert(last, old)
    return document


def retyped(old: Any) -> Any:
    """The same in another type, as a writer in another language might leave it."""
    if isinstance(old, bool) or old is None:
        return str(old)
    if isinstance(old, int | float):
        return str(old) if old != old or old % 2 else float(old)
    if isinstance(old, str):
        return list(old[:3])
    return dict(enumerate(old)) if isinstance(old, list) else list(old)


def nudged(rng: Random, old: Any) -> Any:
    """Nearly the same."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float):
        return pick(rng, old + 1, old - 1, -old, old * 10, old + 0.5)
    if isinstance(old, str) and old:
        at = rng.randrange(len(old))
        return old[:at] + pick(rng, "", "0", "z", "\x1b[2J", "/") + old[at + 1 :]
    if isinstance(old, list) and old:
        return old[:-1] if rng.random() < 0.5 else old + old
    return value(rng)


def nested(rng: Random) -> str:
    """Brackets deeper than a parser's recursion may go."""
    depth = pick(rng, 300, 3000, 200_000)
    return pick(rng, "[" * depth, "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)


def dumped(document: Any) -> bytes:
    """As Python writes it: NaN and Infinity in words, lone surrogates escaped."""
    return json.dumps(document).encode()


def torn(rng: Random, content: bytes) -> bytes:
    """Bytes with one stretch of them damaged."""
    if not content:
        return pick(rng, b"", b"\x00", b"{")
    at, length = rng.randrange(len(content)), 1 << rng.randrange(9)
    after = at + min(length, len(content) - at)
    match rng.randrange(9):
        case 0 | 1:
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        case 2:
            return content[:at] + rng.randbytes(after - at) + content[after:]
        case 3:
            return content[:at]
        case 4:
            return content[:at] + content[after:]
        case 5:
            return content[:after] + content[at:]
        case 6:
            return content[:at] + bytes(after - at) + content[after:]
        case 7:
            return (
                content[:at]
                + pick(rng, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xef\xbb\xbf", b"\r\n", b"\n", b"\x00")
                + content[at:]
            )
        case _:
            windows = content.replace(b"\n", b"\r\n")
            return pick(rng, b"", content[::-1], content + content, windows, rng.randbytes(200))


def text_changed(rng: Random, text: str, *, separators: Sequence[str] = ("\t", " ", ",", "=", '"')) -> str:
    """A text file with a line or a field changed."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    choices: list[Callable[[], Any]] = [
        lambda: lines.pop(at),
        lambda: lines.insert(at, lines[rng.randrange(len(lines))]),
        lambda: lines.insert(at, word(rng)),
        lambda: lines.__setitem__(at, lines[at] + pick(rng, " ", "\t", "#", "\r", "\x00", word(rng))),
        lambda: lines.sort(key=lambda _: rng.random()),
    ]
    if rng.random() < 0.4:
        choices[rng.randrange(len(choices))]()
        return "\n".join(lines)
    mark = pick(rng, *(s for s in separators if s in text), "\n")
    parts = lines[at].split(mark)
    parts[rng.randrange(len(parts))] = word(rng)
    lines[at] = mark.join(parts)
    return "\n".join(lines)
