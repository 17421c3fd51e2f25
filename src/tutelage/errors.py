"""What goes wrong, in one sentence each: what was wrong, what was expected, what to do.

Every error of ours is a `TutelageError` and also the built-in that fits, so that callers may catch either.
The command line prints them without a traceback; bad input exits with 2, a failure while working with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """Base of all errors raised on purpose; the message is meant for the user."""

    exit_code = 2


class BadInput(TutelageError, ValueError):
    """Something the user gave cannot be used: a knob, a name, a column, a combination."""


class ShapeMismatch(TutelageError, ValueError):
    """Two tensors that must agree in shape do not."""


class UnknownTap(TutelageError, KeyError):
    """A tap names nothing in the model."""

    def __str__(self) -> str:
        """KeyError would quote the message."""
        return str(self.args[0]) if self.args else ""


class MissingFile(TutelageError, FileNotFoundError):
    """A path that must exist does not."""


class Mismatch(TutelageError, ValueError):
    """A saved run and the plan at hand are not the same."""


class NotFinite(TutelageError, ArithmeticError):
    """A loss term or a weight became NaN or infinite; the last good checkpoint is kept."""

    exit_code = 1


class Failed(TutelageError, RuntimeError):
    """Work that was begun could not be done; what was finished before is kept."""

    exit_code = 1


class Interrupted(TutelageError, RuntimeError):
    """The run was asked to stop; it is saved and can be resumed."""

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def in_short(error: BaseException, most: int = 200) -> str:
    """What another library's error says, on one line, its first letters."""
    return " ".join(str(error).split())[:most]


def printable(text: str) -> str:
    """The text with a question mark for what would steer a terminal or cannot be printed at all: names may come from anywhere."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def nearest(word: str, among: Iterable[str]) -> str:
    """Give "; nearest: 'x'" for the name closest to `word`, or an empty string where nothing is close."""
    close = difflib.get_close_matches(word, list(among), n=1, cutoff=0.5)
    return f"; nearest: {close[0]!r}" if close else ""
