"""Start-up: whole processes, from the start of Python to its end, each command in turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from timing import Row, compared, turns
from tutelage.cli.main import COMMANDS

TITLE = "start-up"
NOTE = (
    "Whole processes, with all files in the system's cache and compiled to bytecode, each command in turn. `distill --help` lists "
    "what the signatures of recipes say, which takes importing torch; the row of `import torch` shows what that alone costs."
)

BARE = "python -c pass"
ROUNDS = 8


def commands() -> dict[str, Sequence[str]]:
    """What is started, by name."""
    ours = {"tutelage --help": ["--help"], "tutelage --version": ["--version"]}
    ours |= {f"tutelage {verb} --help": [verb, "--help"] for verb in COMMANDS}
    return {
        BARE: ["-c", "pass"],
        'python -c "import torch"': ["-c", "import torch"],
        **{name: ["-m", "tutelage", *words] for name, words in ours.items()},
    }


def start(words: Sequence[str]) -> str:
    """Run Python with some words, to its end; gives what it printed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    return subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True).stdout


def note() -> str:
    """How it was measured."""
    return NOTE


def rows(rounds: int = ROUNDS) -> list[Row]:
    """The rows of the table."""
    taken = turns({name: lambda words=words: start(words) for name, words in commands().items()}, rounds, warm=1)  # type: ignore[misc]
    return [
        compared(
            f"`{name}`",
            f"`{BARE}`",
            taken[BARE],
            seconds,
            target={"ms": 500} if name.endswith("--help") else None,
            brief=name in ("tutelage --help", "tutelage distill --help"),
        )
        for name, seconds in taken.items()
        if name != BARE
    ]
