"""The raw words of a command line, before there is a parser for them, and what only they may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonargparse import ActionYesNo

from tutelage.errors import BadInput

TYPED = ("config", "resume", "print_config", "help", "trust_code")
"""Options that a file cannot give: a config or a run of somebody else must not trust itself."""


def refuse_typed(settings: Iterable[object]) -> None:
    """Refuse settings from a file that are only for the command line.

    Raises:
        BadInput: names the first.
    """
    for name in map(str, settings):
        if name.replace("-", "_") in TYPED:
            raise BadInput(f"{name} stands in a file of options, but is only for the command line")


def value_of(words: Sequence[str], name: str) -> str | None:
    """The last value of an option in raw words, before there is a parser."""
    return next(reversed(every(words, name)), None)


def every(words: Sequence[str], name: str) -> list[str]:
    """All values of an option in raw words."""
    found = []
    for i, word in enumerate(words):
        if word == f"--{name}":
            if i + 1 == len(words):
                raise BadInput(f"option --{name} expects a value")
            found.append(words[i + 1])
        elif word.startswith(f"--{name}="):
            found.append(word.partition("=")[2])
    return found


def typed(words: Sequence[str]) -> set[str]:
    """Whatever was typed as a value."""
    return {w.partition("=")[2] if w.startswith("--") else w for w in words}


def without(words: Sequence[str], name: str) -> list[str]:
    """The words less an option and its values."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == f"--{name}":
            skip = True
        elif not word.startswith(f"--{name}="):
            kept.append(word)
    return kept


def untrusted(what: str, value: str) -> BadInput:
    """The error where a file names code that was not allowed."""
    return BadInput(f"a file names code to run as {what}, {value!r}; look at it, then allow it with --trust-code")


def flag(group: Any, name: str, default: bool, help_of: Mapping[str, str | None]) -> None:
    """Add an option that is on or off: --NAME and --no-NAME."""
    group.add_argument(f"--{name}", action=ActionYesNo(yes_prefix="", no_prefix="no_"), default=default, help=help_of.get(name))
