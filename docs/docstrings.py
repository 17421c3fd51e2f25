"""Docstrings of the project read for the site: as parts for the generated pages, and brought into a form that napoleon knows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from docstring_parser import parse

from tutelage.errors import printable

SECTIONS = ("Returns", "Source", "Relations", "Cost", "Data", "Default")
"""Sections that are text, not lists of names. Ours may begin on the line of their title: "Source: Hinton, 2015"."""

_TITLE = re.compile(rf"({'|'.join(SECTIONS)}):(?: (.+))?")


@dataclass
class Described:
    """A docstring in parts.

    Args:
        summary: the first line.
        text: what follows up to the first section, paragraphs parted by empty lines.
        arguments: what is said of each.
        sections: the sections of text, by title.
    """

    summary: str = ""
    text: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)


def described(thing: Callable[..., Any]) -> Described:
    """The docstring of a function in parts."""
    lines = (inspect.getdoc(thing) or "").split("\n")
    found = Described(summary=lines[0])
    title, paragraphs = "", []
    for line in lines[1:]:
        starts = _TITLE.fullmatch(line)
        other = re.fullmatch(r"[A-Z]\w+:", line)
        if starts or other:
            title = starts.group(1) if starts else line
            if starts:
                found.sections[title] = starts.group(2) or ""
        elif title in found.sections:
            found.sections[title] = f"{found.sections[title]} {line.strip()}".strip()
        elif not title:
            paragraphs.append(line)
    found.text = "\n".join(paragraphs).strip()
    found.arguments = {p.arg_name: " ".join((p.description or "").split()) for p in parse("\n".join(lines)).params}
    return found


def arrange(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Give sections that begin on the line of their title a line of their own, as napoleon reads them."""
    arranged: list[str] = []
    inside = False
    for line in lines:
        starts = _TITLE.fullmatch(line)
        if starts:
            arranged += ["", f"{starts.group(1)}:", *([f"    {starts.group(2)}"] if starts.group(2) else [])]
        else:
            arranged.append(f"    {line.strip()}" if inside and line.strip() else line)
        inside = bool(starts) or (inside and line.startswith(" "))
    lines[:] = arranged


def default_of(parameter: inspect.Parameter) -> str:
    """A parameter's default as a user would type it; empty where there is none worth showing."""
    value = parameter.default
    if value in (inspect.Parameter.empty, None, "", ()):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def escaped(text: str) -> str:
    """Text of a docstring as Markdown: what is code in it stays so, all else means itself."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>|\[\]$#])", r"\\\1", part) for part in parts)


def plain(text: str) -> str:
    """Text that comes from a file as Markdown in which nothing but the text itself has a meaning, in one line."""
    words = printable(" ".join(text.split()))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", words)
