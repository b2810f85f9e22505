"""Pages of the site that are made: of the command line's options, the notebook, and documents beside this folder.

A hook of MkDocs (see mkdocs.yml); formulas in pages become MathML here, which browsers show without a script.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parents[1]
_START = """# Command line

Made from the program itself when this site is built. `rrcm-bench COMMAND --help` says the same; an option without a
default in this list is off, or has none.

Exit codes: 0 done; 1 refused, in one line; 2 wrong words; 3 ran, but a check failed or some of what was asked was left
out; 130 and 143 interrupted, and resumable.
"""
_KINDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for name, text in {
        "reference/command-line.md": command_line(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "notebooks/digits.md": notebook(ROOT / "docs" / "notebooks" / "digits.ipynb"),
    }.items():
        files.append(File.generated(config, name, content=text))
    picture = ROOT / "results" / "digits" / "accuracy-digits-pa.png"
    files.append(File.generated(config, "images/accuracy-digits.png", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links between documents of this folder and those beside it, which are pages of one folder here."""
    for there, here in {"../CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}.items():
        markdown = markdown.replace(f"]({there})", f"]({here})")
    return markdown.replace("](docs/", "](")


def on_page_content(page_html: str, **_: Any) -> str:
    """Formulas as MathML."""
    from latex2mathml.converter import convert

    def formula(found: re.Match[str]) -> str:
        display = "block" if found[1] == "div" else "inline"
        return convert(html.unescape(found[2].strip()[2:-2]), display=display)

    return re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', formula, page_html, flags=re.DOTALL)


# ---- the command line ------------------------------------------------------------------------------------------------


def command_line() -> str:
    """Every command with its options, as the program itself has them."""
    import typer.main

    from bench.cli.app import app

    root = typer.main.get_command(app)
    parts = [_START]
    for name, command in sorted(commands(root)):
        parts += _command(name, command)
    return "\n".join(parts)


def commands(command: Any, words: str = "rrcm-bench") -> list[tuple[str, Any]]:
    """The commands below one, each with all its words; a group that holds others is none itself."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(words, command)]
    return [each for name, sub in inner.items() if not sub.hidden for each in commands(sub, f"{words} {name}")]


def _command(words: str, command: Any) -> list[str]:
    parameters = [each for each in command.params if each.name != "help" and not getattr(each, "hidden", False)]
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    usage = " ".join([words, *(f"[{a.name.upper()}]" if not a.required else a.name.upper() for a in arguments)])
    parts = [f"## {words}\n", _text(command.help or "") + "\n", f"```text\n{usage} [OPTIONS]\n```\n"]
    panels: dict[str, list[Any]] = {}
    for each in parameters:
        panel = each.rich_help_panel or ("Arguments" if each in arguments else "Options")
        panels.setdefault(panel, []).append(each)
    if panels:
        parts += ["| option | what | default |", "| --- | --- | --- |"]
    for panel, its in panels.items():
        parts += [f"| **{panel}** | | |", *map(_line, its)]
    parts.append("")
    return parts


def _line(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    else:
        spelled = [*parameter.opts, *parameter.secondary_opts]
        name = " ".join(f"`{each}`" for each in spelled)
        if not parameter.is_flag:
            kind = parameter.type_descriptor.annotation
            name += f" {_KINDS[(get_args(kind) or (kind,))[0]]}"
        if parameter.multiple:
            name += ", repeatable"
    return f"| {name} | {_text(parameter.help or '')} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    shown = parameter.show_default
    if isinstance(shown, str):
        return _text(shown)
    value = parameter.default
    if callable(value) or value is None or value is False or value == [] or value == ():
        return ""
    if value is True:
        return f"`{parameter.opts[0]}`"
    return f"`{value}`"


def _text(text: str) -> str:
    """Plain text in a cell or paragraph of Markdown."""
    joined = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    return re.sub(r"([|<>*_\[\]])", r"\\\1", joined)


# ---- the notebook ----------------------------------------------------------------------------------------------------


def notebook(path: Path) -> str:
    """A notebook's cells, with the outputs that are stored in it."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [_output(each) for each in cell["outputs"]]
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    """The richest form of an output that a page can show."""
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = {kind: "".join(text) for kind, text in output["data"].items()}
    if "image/png" in data:
        return f'<img alt="what the cell above draws" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        table = re.sub(r"<(table|tr) [^>]*>", r"<\1>", "".join(line.strip() for line in table.splitlines()))
        return f'<div class="output">{table}</div>'
    return f"```text\n{data['text/plain']}\n```"
