"""What the report pages share: how a template is read and filled, and what it may be filled with.

Nothing that comes from the user's data or from a folder is trusted: all text is escaped, and an address is only taken as a web address.
The looks of all pages are in `looks.css`; no page needs another file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def filled(name: str, **content: Any) -> str:
    """Fill a template that lies beside this file.

    Args:
        name: of the file.
        content: what it speaks of.

    Returns:
        HTML that needs no other file.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("tutelage.evaluation")
    loader = FunctionLoader(lambda each: folder.joinpath(each).read_text(encoding="utf-8"))
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["unbroken"] = unbroken
    return environment.get_template(name).render(content)


def unbroken(text: str) -> str:
    """Text in which numbers stay with their units, and minus signs are minus signs."""
    text = re.sub(r"(?<=\d) (?=(?:%|[kMGT]?B|[kMGT]|ms|times|million|billion|trillion)(?:\W|$))", "\u00a0", text)
    return re.sub(r"(?<![\w.\-])-(?=\d)", "\u2212", text)


def breakable(spec: str) -> str:
    """A model's spec, or a path, with places where a line may end."""
    return re.sub(r"(?<=[,:/])", "\u200b", spec)


def cited(paper: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A paper whose address, if it has one, is that of a web page; None where there is no paper."""
    if not isinstance(paper, Mapping):
        return None
    url = str(paper.get("url") or "")
    return {**paper, "url": url if url.startswith(("https://", "http://")) else ""}


def flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Settings within settings as one list of dotted names and values."""
    found = []
    for key, value in settings.items():
        name = f"{before}{key}".replace("_", "-")
        found += (
            flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, str(value) if isinstance(value, str) else json.dumps(value))]
        )
    return found
