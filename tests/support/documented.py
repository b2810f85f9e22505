"""Commands and code that documents show: fenced blocks with the note before each, and commands taken apart."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

import typer.main

from bench.cli.app import app

PARSED_ONLY, IN_TESTS, OUTPUT_OF = "parsed only:", "in tests:", "output of:"
_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n)?"
    r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    kind: str  # "bash", "python", "text", ...
    title: str  # a file that it is the content of
    note: (
        str  # "parsed only: REASON", "in tests: WORDS" (added to commands), "output of: WORDS", or of "the code above"
    )
    text: str

    def told(self, what: str) -> str | None:
        """What the note says under that word; None where it does not."""
        return self.note.removeprefix(what).strip() if self.note.startswith(what) else None


def blocks(document: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(found["kind"], found["title"] or "", found["note"] or "", found["text"])
        for found in _FENCE.finditer(document)
    ]


def commands(bash: str) -> list[str]:
    """Every command of a shell text, without the program's name and remarks; other programs' are left out."""
    joined = bash.replace("\\\n", " ")
    found = [part.strip() for line in joined.splitlines() for part in re.split(r"&&|#", line)]
    words = [re.sub(r"^(\S*/)?rrcm-bench ", "", line) for line in found if re.match(r"(\S*/)?rrcm-bench ", line)]
    return [line for line in words if "COMMAND" not in line and not line.startswith("-")]


def spans(document: str) -> list[str]:
    """Commands in the running text."""
    prose = re.sub(r"^```.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL)
    return [line for span in re.findall(r"`(rrcm-bench [^`]*)`", prose.replace("\n", " ")) for line in commands(span)]


def parsed(line: str) -> Any:
    """The command's context, with all its values converted; nothing is run."""
    command, words = typer.main.get_command(app), [word for word in shlex.split(line) if word != "..."]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command.make_context(line, words, resilient_parsing=not words)  # without words it is named, not called
