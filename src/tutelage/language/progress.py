"""How far the splitting of texts is, on stderr: nothing for a few seconds, then a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tutelage.errors import printable

T = TypeVar("T")
PATIENCE = 2.0
"""Seconds of work before anything is shown."""
EVERY = 10.0
"""Seconds between lines, where there is no terminal."""


def tracked(things: Iterable[T], total: int, what: str, shown: bool = True) -> Iterator[T]:
    """Give things one by one, and show how many were given.

    Args:
        things: what to give.
        total: how many there are.
        what: how the bar calls them.
        shown: whether to show anything.
    """
    bar: Any = None
    begun = told = time.monotonic()
    try:
        for done, thing in enumerate(things, 1):
            yield thing
            now = time.monotonic()
            if not shown or now - begun < PATIENCE:
                continue
            if sys.stderr.isatty():
                bar = bar or _opened(total, what)
                bar.update(bar.task_ids[0], completed=done)
            elif now - told >= EVERY:
                told = now
                print(f"{printable(what)}: {done:,} of {total:,}", file=sys.stderr, flush=True)
    finally:
        if bar is not None:
            bar.stop()


def _opened(total: int, what: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    bar.add_task(printable(what), total=total)
    return bar
