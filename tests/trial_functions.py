"""Trials that tests carry out, in whatever process: a trial is a function that can be imported by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def add(folder: Path, first: int, second: int = 0, secret: str = "") -> dict[str, int]:
    """Count how often it is called, in a file beside its folder."""
    with folder.with_name(f"{folder.name}.calls").open("a") as calls:
        calls.write("called\n")
    print("adding", first, "and", second)
    return {"sum": first + second}


def fails(folder: Path) -> dict[str, int]:
    """Fail once, and then no more, if told so by a file."""
    print("this is written before it fails", file=sys.stderr)
    if not (folder.parent / "mended").exists():
        raise ValueError("no such thing")
    return {"sum": 0}


def leaves(folder: Path) -> dict[str, int]:
    """A user's code that ends its process politely."""
    sys.exit("enough")


def dies(folder: Path) -> dict[str, int]:
    """What the system does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def told_to_stop(folder: Path, number: int) -> dict[str, int]:
    """The signal arrives while the trial runs, which hears nothing of it."""
    signal.raise_signal(number)
    return {"number": number}


def sleeps(place: str, seconds: float = 60.0) -> int:
    """Say which process this is, and stay."""
    Path(place).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()


def where(_: str = "") -> str:
    """The folder in which paths are looked up."""
    return os.getcwd()
