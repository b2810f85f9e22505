"""Words of strangers (names, titles, file names) made neutral: one function for each place that would obey them."""

from __future__ import annotations

import json

from bench.types.printable import is_shown, printable

_LONGEST = 400  # letters of one word in a message
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what spreadsheets take for the beginning of one

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "σ": r"$\sigma$",
    "α": r"$\alpha$",
    "†": r"$\dagger$",
    "\n": " ",
}
_LATIN = 0x180  # up to here pdflatex reads UTF-8 by itself


def terminal(text: str) -> str:
    """Text that a terminal shows and does not obey; line ends stay."""
    return printable(text, lines=True)


def one_line(text: str) -> str:
    """Text as one line of a message; a word that is too long for one is cut."""
    words = (w if len(w) <= _LONGEST else f"{w[:60]}...({len(w)} letters)" for w in text.split())
    return terminal(" ".join(words))


def markdown(text: str) -> str:
    """Text that Markdown, and the HTML it is made into, show as it is, in one line."""
    for letter in "\\`*_|<~$&":
        text = text.replace(letter, "\\" + letter)
    # Brackets alone are no link, and intervals are full of them.
    return terminal(" ".join(text.replace("](", "]\\(").splitlines()))


def latex(text: str) -> str:
    """Text that LaTeX prints as it is; what pdflatex has no letter for becomes its code point."""
    return "".join(_LATEX.get(c) or (c if ord(c) < _LATIN and is_shown(c) else f"(U+{ord(c):04X})") for c in text)


def spreadsheet(text: str) -> str:
    """Text of a CSV cell that no spreadsheet takes for a formula: an apostrophe stands before what begins as one."""
    if text.startswith(_FORMULA):
        try:
            float(text)
        except ValueError:
            return f"'{terminal(text)}"
    return terminal(text)


def json_text(text: str) -> str:
    """A JSON document that a terminal shows and does not obey, with the same values."""
    return text if text.isascii() else "".join(c if c == "\n" or is_shown(c) else json.dumps(c)[1:-1] for c in text)
