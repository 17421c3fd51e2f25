"""Where commands print their results: stdout, wide enough for tables also where it is no terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tutelage.errors import printable

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """A console on stdout; 140 columns where it is no terminal. What it prints cannot steer the terminal."""
    from rich.console import Console
    from rich.text import Text

    class Printable(Console):
        """A console that puts question marks for escape sequences in texts; its own styles stay."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str("\n".join(printable(line) for line in text.split("\n")), **options)

    return Printable() if sys.stdout.isatty() else Printable(width=140)
