"""Where commands print their results: stdout, wide enough for tables also where it is no terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """A console on stdout; 140 columns where it is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140)


def printable(text: str) -> str:
    """The text with a question mark for what would steer a terminal or cannot be printed at all: names may come from anywhere."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
